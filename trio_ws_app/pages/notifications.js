// Notifications: a token first, then events.

import { append, connect } from "./socket.js";

const find = (id) => document.getElementById(id);

function show(text, kind) {
  const item = document.createElement("li");
  item.className = kind;
  item.textContent = text;
  append(find("log"), item);
}

function receive(message) {
  let content;
  try {
    content = JSON.parse(message);
  } catch {
    content = null; // an event that is not JSON is shown as it is
  }
  if (content?.type === "welcome") show(`you are ${content.user}, events: ${content.may.join(", ") || "your own"}`, "notice");
  else if (content?.type === "gap") show("events may be missing here", "notice");
  else show(message, "event");
}

find("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = find("token").value.trim();
  find("enter").hidden = true;
  const socket = connect({ onOpen: () => socket.send(token), onMessage: receive });
});
