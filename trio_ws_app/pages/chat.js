// The chat: text messages both ways, described in apps/chat.py.

import { make, messageItem, openLog, showCommand, timeNow, writeIn } from "./log.js";
import { connect, tabSecret } from "./socket.js";

const GROUPED = 5 * 60_000; // milliseconds within which the messages of one person are one group
const find = (id) => document.getElementById(id);
const log = openLog(find("log"));
const people = new Set();
let name;
let last = {}; // the newest entry: its author and when it came; a notice has no author
let missed; // the heading of what comes before "you are NAME"; undefined once that has come

function notice(text) {
  last = {};
  log.append(make("li", "notice", text));
}

function message(author, text) {
  if (missed) notice(missed);
  const isEarlier = missed !== undefined;
  missed &&= "";
  const follows = author === last.author && performance.now() - last.at < GROUPED;
  last = { author, at: performance.now() };
  const time = isEarlier ? undefined : timeNow();
  log.append(messageItem({ name: author, mine: author === name, follows, time, text }));
}

function showPeople() {
  find("here").textContent = people.size ? `Here (${people.size})` : "Here";
  const items = [...people].sort((a, b) => a.localeCompare(b)).map((person) => (
    make("li", "", person === name ? `${person} (you)` : person)
  ));
  find("people").replaceChildren(...(items.length ? items : [make("li", "facts", "not known now")]));
}

function told(text) {
  const [, you] = text.match(/^you are (\S+)$/) ?? [];
  const [, here] = text.match(/^here: (.*)$/) ?? [];
  const [, who, what] = text.match(/^(\S+) (joined|left)$/) ?? [];
  if (you) {
    name = you;
    missed = undefined;
    notice(text);
  } else if (here) {
    people.clear();
    here.split(", ").forEach((person) => people.add(person));
  } else if (text !== "your name?") {
    if (what === "joined") people.add(who);
    if (what === "left") people.delete(who);
    notice(text);
  }
  showPeople();
}

// A line is "@POSITION NAME: TEXT", without a position if it is not kept, and without a name if a program has
// published it. What was said here comes back like all others.
const LINE = /^(?:@(\w+-\d+-\w+) )?(?:(\S+?): )?([^]*)$/;

function received(line) {
  if (line.startsWith("* ")) return told(line.slice(2));
  const [, , author, text] = line.match(LINE);
  if (author) message(author, text);
  else notice(text);
}

function join(wanted) {
  find("join").hidden = true;
  find("room").hidden = false;
  find("text").focus();
  const button = find("say").querySelector("button");
  const socket = connect({
    query: { id: tabSecret() },
    positionOf: (line) => line.match(LINE)[1],
    onOpen: () => {
      missed = name === undefined ? "earlier" : "while you were away";
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
showCommand(find("command"), `trio-ws-app connect ${new URL(".", location.href).href.replace(/^http/, "ws")}`);
find("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const wanted = find("name").value.trim();
  localStorage.setItem("name", wanted);
  if (wanted) join(wanted);
});
writeIn(find("text"));
document.querySelector(".status").textContent = "not joined";
