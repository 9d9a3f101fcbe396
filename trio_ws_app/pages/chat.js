// The chat: text messages both ways, described in apps/chat.py.

import { append, connect, sendOnEnter } from "./socket.js";

const find = (id) => document.getElementById(id);
const people = new Set();
let name;

function line(className, text, author) {
  const item = document.createElement("li");
  item.className = className;
  if (author !== undefined) {
    const label = document.createElement("b");
    label.textContent = author;
    item.append(label);
  }
  item.append(text);
  append(find("log"), item);
}

function showPeople() {
  const items = [...people].sort((a, b) => a.localeCompare(b)).map((person) => {
    const item = document.createElement("li");
    item.textContent = person === name ? `${person} (you)` : person;
    return item;
  });
  find("people").replaceChildren(...items);
}

function notice(text) {
  const [, you] = text.match(/^you are (\S+)$/) ?? [];
  const [, here] = text.match(/^here: (.*)$/) ?? [];
  const [, who, what] = text.match(/^(\S+) (joined|left)$/) ?? [];
  if (you) {
    name = you;
    line("notice", text);
  } else if (here) {
    people.clear();
    here.split(", ").forEach((person) => people.add(person));
  } else if (text !== "your name?") {
    if (what === "joined") people.add(who);
    if (what === "left") people.delete(who);
    line("notice", text);
  }
  showPeople();
}

// A line is "@POSITION NAME: TEXT"; what was said here comes back like all others.
const LINE = /^@(\S+) (\S+?): ([^]*)$/;

function received(message) {
  if (message.startsWith("* ")) return notice(message.slice(2));
  const [, , author, text] = message.match(LINE);
  if (author === name) line("message mine", text);
  else line("message", text, author);
}

// This tab's own secret: with it the name is kept while the tab is away.
function secret() {
  const known = sessionStorage.getItem("secret") ?? [...crypto.getRandomValues(new Uint32Array(4))].join("-");
  sessionStorage.setItem("secret", known);
  return known;
}

function join(wanted) {
  find("join").hidden = true;
  find("room").hidden = false;
  find("text").focus();
  const button = find("say").querySelector("button");
  const socket = connect({
    query: { id: secret() },
    positionOf: (message) => message.match(LINE)?.[1],
    onOpen: () => {
      socket.send(name ?? wanted);
      button.disabled = false;
    },
    onClose: () => {
      button.disabled = true;
      people.clear();
      showPeople();
    },
    onMessage: received,
  });
  find("say").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = find("text").value.trim();
    if (!text || !socket.isOpen()) return;
    socket.send(text);
    find("text").value = "";
  });
}

find("name").value = localStorage.getItem("name") ?? "";
find("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = find("name").value.trim();
  localStorage.setItem("name", wanted);
  if (wanted) join(wanted);
});
sendOnEnter(find("text"));
document.querySelector(".status").textContent = "not joined";
