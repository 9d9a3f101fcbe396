// The counter: a shared value; "+1" and "-1" change it, and all are told.

import { connect } from "./socket.js";

const find = (id) => document.getElementById(id);
const buttons = { less: "-1", more: "+1" };
const keys = { "+": "more", "ArrowUp": "more", "-": "less", "ArrowDown": "less" };
const enable = (yes) => Object.keys(buttons).forEach((id) => { find(id).disabled = !yes; });

const socket = connect({
  onOpen: () => enable(true),
  onClose: () => enable(false),
  onMessage: (message) => {
    const { value, people, error = "" } = JSON.parse(message);
    find("problem").textContent = error;
    if (value === undefined) return;
    find("value").textContent = String(value).replace("-", "−");
    find("people").textContent = people === 1 ? "Only you are here." : `${people} people are here.`;
  },
});

for (const [id, change] of Object.entries(buttons)) {
  find(id).addEventListener("click", () => socket.isOpen() && socket.send(change));
}
addEventListener("keydown", (event) => {
  const id = keys[event.key];
  if (!id || event.ctrlKey || event.metaKey || event.altKey) return; // with those "+" and "-" are the browser's
  event.preventDefault();
  find(id).click();
});
