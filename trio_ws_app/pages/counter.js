// The counter: a shared value; "+1" and "-1" change it, and all are told.

import { connect } from "./socket.js";

const find = (id) => document.getElementById(id);
const buttons = { less: "-1", more: "+1" };
const enable = (yes) => Object.keys(buttons).forEach((id) => { find(id).disabled = !yes; });

const socket = connect({
  onOpen: () => enable(true),
  onClose: () => enable(false),
  onMessage: (message) => {
    const { value, people } = JSON.parse(message);
    if (value === undefined) return;
    find("value").textContent = value;
    find("people").textContent = people === 1 ? "Only you are here." : `${people} people are here.`;
  },
});

for (const [id, change] of Object.entries(buttons)) {
  find(id).addEventListener("click", () => socket.isOpen() && socket.send(change));
}
addEventListener("keydown", (event) => {
  const id = { "+": "more", "ArrowUp": "more", "-": "less", "ArrowDown": "less" }[event.key];
  if (id) {
    event.preventDefault();
    find(id).click();
  }
});
