// Jobs: HTTP starts and stops them, the WebSocket tells how they get on.

import { connect } from "./socket.js";

const find = (id) => document.getElementById(id);
const rows = new Map(); // by job

async function ask(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: { "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const { detail } = answer.ok ? {} : await answer.json();
  find("problem").textContent = typeof detail === "string" ? detail : "";
  return answer.ok;
}

function addRow(job, title) {
  const row = document.createElement("li");
  const [name, state] = [document.createElement("b"), document.createElement("span")];
  const [bar, button] = [document.createElement("progress"), document.createElement("button")];
  name.textContent = title;
  bar.max = 100;
  bar.ariaLabel = title;
  button.className = "plain";
  button.textContent = "Stop";
  button.ariaLabel = `Stop ${title}`;
  button.addEventListener("click", () => ask("DELETE", `jobs/${job}`));
  row.append(name, bar, state, button);
  find("jobs").prepend(row);
  find("empty").hidden = true;
  rows.set(job, { row, state, bar, button });
  return rows.get(job);
}

function show({ gap, job, title, state, percent }) {
  if (gap) {
    rows.clear();
    find("jobs").replaceChildren();
    return;
  }
  const { row, state: text, bar, button } = rows.get(job) ?? addRow(job, title);
  const isRunning = state === "running";
  row.dataset.state = state;
  text.textContent = isRunning ? `${percent} %` : state;
  bar.value = percent;
  bar.hidden = button.hidden = !isRunning;
}

function watch() {
  find("login").hidden = true;
  find("mine").hidden = false;
  find("title").focus();
  connect({
    url: "progress",
    positionOf: (message) => JSON.parse(message).at,
    onMessage: (message) => show(JSON.parse(message)),
  });
}

find("start").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await ask("POST", "jobs", { title: find("title").value.trim() })) find("title").value = "";
});

find("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await ask("POST", "login", { name: find("name").value.trim() })) watch();
});

if ((await fetch("me")).ok) {
  watch();
} else {
  find("login").hidden = false;
  find("name").focus();
}
