// The market: asks for symbols, and shows the newest price of each.

import { connect } from "./socket.js";

const SHOWN = 120; // prices in a trend
const find = (id) => document.getElementById(id);
const watched = new Set(JSON.parse(localStorage.getItem("watched") ?? '["ACME", "GOLD"]'));
const rows = new Map(); // by symbol

const socket = connect({
  onMessage: (message) => {
    const news = JSON.parse(message);
    if (news.symbols) showSymbols(news.symbols);
    else if (news.stale) rows.get(news.symbol)?.row.classList.add("stale");
    else if (news.symbol) showPrice(news);
  },
});

// The server begins with the symbols, on every new connection: then the page asks for those that it shows.
function showSymbols(symbols) {
  const buttons = symbols.map((symbol) => {
    const button = document.createElement("button");
    button.textContent = symbol;
    press(button, watched.has(symbol));
    button.addEventListener("click", () => toggle(symbol, button));
    return button;
  });
  find("symbols").replaceChildren(find("symbols").firstElementChild, ...buttons);
  symbols.filter((symbol) => watched.has(symbol)).forEach((symbol) => ask("watch", symbol));
}

function toggle(symbol, button) {
  const watch = !watched.has(symbol);
  watched[watch ? "add" : "delete"](symbol);
  localStorage.setItem("watched", JSON.stringify([...watched]));
  press(button, watch);
  ask(watch ? "watch" : "unwatch", symbol);
  if (!watch) remove(symbol);
}

function press(button, isPressed) {
  button.ariaPressed = isPressed;
  button.classList.toggle("plain", !isPressed);
}

function ask(what, symbol) {
  if (socket.isOpen()) socket.send(JSON.stringify({ [what]: symbol }));
}

function remove(symbol) {
  rows.get(symbol)?.row.remove();
  rows.delete(symbol);
  find("empty").hidden = rows.size > 0;
}

function add(symbol) {
  const place = [...rows.keys()].filter((other) => other < symbol).length;
  const row = find("prices").insertRow(place);
  const [name, price, today, trend] = [1, 2, 3, 4].map(() => row.insertCell());
  name.textContent = symbol;
  price.className = "price";
  trend.className = "trend";
  trend.innerHTML = '<svg viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true"><polyline/></svg>';
  const parts = { row, price, today, line: trend.querySelector("polyline"), prices: [] };
  rows.set(symbol, parts);
  find("empty").hidden = true;
  return parts;
}

function showPrice({ symbol, price, open }) {
  if (!watched.has(symbol)) return; // what was on its way when it was unwatched
  const { row, price: cell, today, line, prices } = rows.get(symbol) ?? add(symbol);
  const change = (price / open - 1) * 100;
  const direction = change < 0 ? "down" : "up";
  row.classList.remove("stale");
  cell.textContent = price.toFixed(2);
  today.textContent = `${change < 0 ? "▼" : "▲"} ${Math.abs(change).toFixed(2)} %`;
  today.className = direction;
  prices.push(price);
  if (prices.length > SHOWN) prices.shift();
  const low = Math.min(...prices);
  const span = Math.max(...prices) - low || 1;
  const point = (value, index) => `${(index * 100) / Math.max(1, prices.length - 1)},${28 - ((value - low) * 26) / span}`;
  line.setAttribute("points", prices.map(point).join(" "));
  line.parentElement.setAttribute("class", direction);
}
