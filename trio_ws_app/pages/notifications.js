// Notifications: a token first, then events, described in apps/notifications.py.

import { make, openLog, showCommand, timeNow } from "./log.js";
import { connect } from "./socket.js";

const WRONG_TOKEN = 4401;
const WRONG = "The token is wrong: is it whole, and signed with the secret of this server?";
const OLD = "The token is out of date.";
const AWAY = "The server has lost its Redis. It goes on as soon as that is back; events until then may be missed.";
const find = (id) => document.getElementById(id);
const log = openLog(find("log"));
let socket;

function show(topic, text) {
  const [, kind, name] = topic.match(/^(event|user):([^]*)$/) ?? [undefined, "event", topic];
  const head = make("p", "head", make("b", "", kind === "user" ? "to you" : name), " ", timeNow());
  const looksLikeJson = /^\s*[[{]/.test(text);
  log.append(make("li", "event", head, make("p", looksLikeJson ? "code" : "", text)));
}

function welcome({ user, may }) {
  const kinds = may.length ? `events about ${may.join(", ")}, and those for you alone` : "events for you alone";
  find("pass").replaceChildren(make("b", "", user), ` sees ${kinds}.`);
  const topic = may.length ? `event:${may[0]}` : `user:${user}`;
  showCommand(find("command"), `trio-ws-app publish ${topic} '{"order":7}' --broker redis://localhost:6379`);
  find("session").hidden = false;
  find("log").hidden = false;
  if (find("enter").hidden) return;
  find("enter").hidden = true;
  find("log").focus();
}

function setAway(away) {
  find("away").textContent = away ? AWAY : "";
  find("away").hidden = !away;
}

const received = {
  welcome(content) {
    setAway(false);
    welcome(content);
  },
  event: ({ topic, message }) => show(topic, message),
  gap: () => log.append(make("li", "notice", "events may be missing here")),
  away: () => setAway(true),
  back: () => setAway(false),
};

// Ask for a token, saying what is wrong with the last one, if anything.
function ask(problem) {
  setAway(false);
  const status = document.querySelector(".status");
  delete status.dataset.state;
  status.textContent = "not connected";
  find("session").hidden = true;
  find("enter").hidden = false;
  find("problem").textContent = problem;
  find("token").setAttribute("aria-invalid", String(problem !== ""));
  find("token").focus();
  find("token").select();
}

// The form stays until the token is found good: it may be given anew also while the server is away.
function enter(token) {
  socket?.close();
  find("problem").textContent = "";
  socket = connect({
    query: { topics: 1 },
    onOpen: () => socket.send(token),
    onMessage: (text) => {
      const content = JSON.parse(text);
      received[content.type](content);
    },
    onClose: ({ code, reason }) => code === WRONG_TOKEN && ask(/out of date|expired/i.test(reason) ? OLD : WRONG),
  });
}

find("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = find("token").value.trim();
  if (token) enter(token);
});
showCommand(find("token-command"), find("token-command").textContent);
find("change").addEventListener("click", () => {
  socket.close();
  ask("");
});
