// Four in a row: plays the moves of the table as they come, by the rules of game.py.

import { connect, tabSecret } from "./socket.js";

const COLUMNS = 7;
const ROWS = 6;
const WAYS = [[1, 0], [0, 1], [1, 1], [1, -1]];
const find = (id) => document.getElementById(id);

let me;
let socket;
let game = newGame();
const people = new Map(); // those who are present: their names, by player
const names = new Map(); // all who have made a move

function newGame() {
  return { seats: [], columns: Array.from({ length: COLUMNS }, () => []), count: 0, four: [], over: false };
}

function onTurn() {
  return game.seats.length === 2 && !game.over ? game.seats[game.count % 2] : undefined;
}

// The four discs that win with the one at this place, or more; else none.
function fourAt(column, row) {
  const player = game.columns[column][row];
  const along = ([x, y]) => {
    const line = [[column, row]];
    for (const sign of [1, -1]) {
      for (let n = sign; game.columns[column + n * x]?.[row + n * y] === player; n += sign) {
        line.push([column + n * x, row + n * y]);
      }
    }
    return line;
  };
  return WAYS.map(along).filter((line) => line.length >= 4).flat();
}

function play({ type, player, name, column }) {
  names.set(player, name);
  if (type === "new") {
    game = newGame();
  } else if (type === "sit" && game.seats.length < 2 && !game.seats.includes(player)) {
    game.seats.push(player);
  } else if (type === "drop" && player === onTurn() && game.columns[column].length < ROWS) {
    game.columns[column].push(player);
    game.count += 1;
    game.four = fourAt(column, game.columns[column].length - 1);
    game.over = game.four.length > 0 || game.count === COLUMNS * ROWS;
  }
}

const receive = {
  you: ({ player }) => { me = player; },
  gap: () => { game = newGame(); },
  here: ({ people: present }) => {
    people.clear();
    present.forEach(({ player, info }) => people.set(player, info.name));
  },
  join: ({ person }) => people.set(person.player, person.info.name),
  leave: ({ person }) => people.delete(person.player),
  sorry: ({ why }) => console.info(why),
};

function explain() {
  const [first, second] = game.seats.map((player) => names.get(player));
  const turn = onTurn();
  if (game.four.length) return `${names.get(game.seats[(game.count + 1) % 2])} has won`;
  if (game.over) return "A draw";
  if (turn === me && turn) return "Your turn";
  if (turn) return `${names.get(turn)}’s turn`;
  return first && !second ? `${first} waits for an opponent` : "Both seats are free";
}

function showBoard() {
  const four = new Set(game.four.map(String));
  for (const [column, button] of [...find("board").children].entries()) {
    button.disabled = onTurn() !== me || game.columns[column].length === ROWS;
    for (const [row, hole] of [...button.children].entries()) {
      const player = game.columns[column][row];
      hole.dataset.seat = player === undefined ? "" : game.seats.indexOf(player);
      hole.classList.toggle("won", four.has(String([column, row])));
    }
  }
}

function showPeople() {
  const away = game.seats.filter((player) => !people.has(player));
  const items = [...people.keys(), ...away].map((player) => {
    const item = document.createElement("li");
    const isAway = !people.has(player);
    item.dataset.seat = game.seats.indexOf(player);
    item.classList.toggle("away", isAway);
    item.textContent = `${people.get(player) ?? names.get(player)}${player === me ? " (you)" : ""}${isAway ? ", away" : ""}`;
    return item;
  });
  find("people").replaceChildren(...items);
}

function show() {
  const player = game.four.length ? game.seats[(game.count + 1) % 2] : onTurn();
  find("turn").textContent = explain();
  find("turn").dataset.seat = game.seats.indexOf(player);
  find("sit").hidden = game.seats.length === 2 || game.seats.includes(me);
  const mayEnd = game.over || game.seats.includes(me) || game.seats.some((seated) => !people.has(seated));
  find("new").hidden = !game.seats.length || !mayEnd;
  showBoard();
  showPeople();
}

const send = (move) => socket.isOpen() && socket.send(JSON.stringify(move));

function join(name, table) {
  find("join").hidden = true;
  find("game").hidden = false;
  socket = connect({
    url: `table/${table}`,
    query: { id: tabSecret(), name },
    positionOf: (message) => JSON.parse(message).at,
    onMessage: (message) => {
      const event = JSON.parse(message);
      (receive[event.type] ?? play)(event);
      show();
    },
  });
}

for (let column = 0; column < COLUMNS; column += 1) {
  const button = document.createElement("button");
  button.ariaLabel = `Column ${column + 1}`;
  button.append(...Array.from({ length: ROWS }, () => document.createElement("i")));
  button.addEventListener("click", () => send({ type: "drop", column }));
  find("board").append(button);
}
find("sit").addEventListener("click", () => send({ type: "sit" }));
find("new").addEventListener("click", () => send({ type: "new" }));

// A tab that is loaded anew is still the same player; a new tab begins with the name that was used last.
find("name").value = sessionStorage.getItem("name") ?? localStorage.getItem("name") ?? "";
find("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = find("name").value.trim();
  for (const storage of [sessionStorage, localStorage]) storage.setItem("name", name);
  if (name) join(name, find("table").value);
});
