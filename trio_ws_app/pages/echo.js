// The echo: what is sent comes back, with the time it took.

import { make, openLog, writeIn } from "./log.js";
import { connect } from "./socket.js";

const find = (id) => document.getElementById(id);
const log = openLog(find("log"));
const button = find("say").querySelector("button");
let sentAt = [];
let count = 0;

const socket = connect({
  onOpen: () => { button.disabled = false; },
  onClose: () => {
    button.disabled = true;
    sentAt = [];
  },
  onMessage: (message) => {
    const time = `${(performance.now() - sentAt.shift()).toFixed(1)} ms`;
    log.append(make("li", "exchange", make("span", "", message), make("span", "took", time)));
    count += 1;
    find("facts").textContent = `${count} came back, the last one in ${time}.`;
  },
});

find("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = find("text").value;
  if (!text || !socket.isOpen()) return;
  sentAt.push(performance.now());
  socket.send(text);
  find("text").value = "";
});
writeIn(find("text"));
