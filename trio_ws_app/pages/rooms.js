// The page with rooms: what apps/rooms.py describes, by channels.js.

import { connect } from "./channels.js";
import { openConversation } from "./conversation.js";
import { make, writeIn } from "./log.js";
import { tabSecret } from "./socket.js";

const TYPING_EVERY = 2_000;
const TYPING_FOR = 4_000;
const FIRST_ROOM = "lobby";
const find = (id) => document.getElementById(id);
const nameOf = (info) => info?.conn_info?.name ?? info?.user ?? "?";

const conversations = new Map(); // by key, "room:NAME" or "user:ID", in the order in which they are listed
let client;
let me = {};
let active;

// -- the conversations

function show(key) {
  active = key;
  const conversation = conversations.get(key);
  conversation.unread = 0;
  for (const [other, { element }] of conversations) element.hidden = other !== key;
  find("text").placeholder = `Message ${conversation.title}`;
  showPlaces();
  showPeople();
  showTyping();
  find("text").focus();
}

function showPlaces() {
  find("places").replaceChildren(...[...conversations].map(([key, { title, unread }]) => {
    const link = make("a", "place", make("span", "", title));
    link.href = `#${encodeURIComponent(title)}`;
    if (unread) link.append(make("span", "unread", `${unread}`, make("span", "visually-hidden", " unread")));
    if (key === active) link.setAttribute("aria-current", "page");
    link.addEventListener("click", (event) => {
      event.preventDefault();
      show(key);
    });
    const item = make("li", "row", link);
    if (key === active && conversations.size > 1) item.append(leaveButton(key));
    return item;
  }));
}

function leaveButton(key) {
  const { title } = conversations.get(key);
  const button = make("button", "plain leave", "×");
  button.setAttribute("aria-label", `Leave ${title}`);
  button.addEventListener("click", () => leave(key));
  return button;
}

function add(key, conversation) {
  conversations.set(key, conversation);
  find("conversation").append(conversation.element);
  conversation.element.hidden = true;
  return conversation;
}

function leave(key) {
  const { element, channels = [] } = conversations.get(key);
  channels.forEach((channel) => channel.unsubscribe());
  element.remove();
  conversations.delete(key);
  show(conversations.keys().next().value);
  rememberRooms();
}

function received(key, { data: { text, at }, info }) {
  const conversation = conversations.get(key);
  conversation.typing?.delete(nameOf(info));
  const { user } = info ?? {};
  conversation.message({ user, name: nameOf(info), mine: user === me.user, text, at });
  if (key === active && document.visibilityState === "visible") return showTyping();
  conversation.unread += 1;
  return showPlaces();
}

// -- rooms

function openRoom(name) {
  const key = `room:${name}`;
  if (conversations.has(key)) return show(key);
  const room = add(key, openConversation(`#${name}`, `Messages in ${name}`));
  const people = (room.people = new Map()); // by client: info
  room.typing = new Map(); // by name: when it is forgotten
  let held = []; // what is said before the history has come, which is shown first
  const messages = client.subscribe(key, {
    joinLeave: true,
    onPublication: (publication) => (held ? held.push(publication) : received(key, publication)),
    onGap: () => room.notice("messages may be missing here"),
    onSubscribed: async ({ was_recovering: isBack }) => {
      if (held) {
        const kept = await messages.history(100);
        const last = kept.at(-1)?.offset ?? 0;
        const rest = held.filter(({ offset }) => offset > last);
        held = undefined;
        kept.concat(rest).forEach((publication) => received(key, publication));
      }
      people.clear();
      for (const info of await messages.presence()) people.set(info.client, info);
      if (!isBack) room.unread = 0;
      room.notice(isBack ? "connected again" : `you are ${me.name}`);
      room.channels[1] ??= subscribeToTyping(room, name, key);
      showPlaces();
      showPeople();
    },
    onJoin: (info) => {
      people.set(info.client, info);
      showPeople();
    },
    onLeave: ({ client: gone }) => {
      people.delete(gone);
      showPeople();
    },
    onUnsubscribed: ({ message }) => {
      room.notice(message);
      room.isOver = true;
      people.clear();
      showPeople();
    },
  });
  room.channels = [messages];
  room.say = (text) => messages.publish({ text });
  show(key);
  return rememberRooms();
}

function subscribeToTyping(room, name, key) {
  const channel = client.subscribe(`typing:${name}`, {
    onPublication: ({ info }) => {
      if (info.user === me.user) return;
      room.typing.set(nameOf(info), performance.now() + TYPING_FOR);
      if (key === active) showTyping();
    },
  });
  let said = -Infinity;
  room.isTyping = () => {
    if (performance.now() - said < TYPING_EVERY) return;
    said = performance.now();
    channel.publish({}).catch(() => {});
  };
  room.hasSaid = () => (said = -Infinity);
  return channel;
}

function rememberRooms() {
  const rooms = [...conversations.keys()].filter((key) => key.startsWith("room:")).map((key) => key.slice(5));
  sessionStorage.setItem("rooms", JSON.stringify(rooms));
}

function showTyping() {
  const { typing = new Map() } = conversations.get(active) ?? {};
  typing.forEach((until, name) => until < performance.now() && typing.delete(name));
  const names = [...typing.keys()];
  const who = names.length > 2 ? "several people are" : names.length > 1 ? `${names.join(" and ")} are` : `${names[0]} is`;
  find("typing").textContent = names.length ? `${who} typing…` : "";
}

// -- people

function showPeople() {
  const { people } = conversations.get(active) ?? {};
  const users = new Map([...(people?.values() ?? [])].map((info) => [info.user, info]));
  const sorted = [...users.values()].sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
  find("rooms").classList.toggle("private", people === undefined);
  find("here").textContent = sorted.length > 1 ? `Here: ${sorted.length}` : "Here";
  find("people").replaceChildren(...sorted.map(personOf));
}

function personOf(info) {
  if (info.user === me.user) return make("li", "", `${nameOf(info)} (you)`);
  const button = make("button", "person", nameOf(info));
  button.title = `Write to ${nameOf(info)} alone`;
  button.addEventListener("click", () => {
    openDirect(info.user, nameOf(info));
    show(`user:${info.user}`);
  });
  const item = make("li", "row", button);
  if (info.conn_info?.moderator) item.append(make("span", "mark", "moderator"));
  if (me.moderator) item.append(removeButton(info));
  return item;
}

function removeButton(info) {
  const button = make("button", "plain leave", "Remove");
  button.addEventListener("click", () => {
    const room = active.slice(5);
    client.rpc("remove", { room, user: info.user }).catch(({ message }) => conversations.get(active).notice(message));
  });
  return button;
}

function openDirect(user, name) {
  const key = `user:${user}`;
  if (conversations.has(key)) return;
  const text = `What you write here only ${name} can read.`;
  const conversation = add(key, openConversation(name, `Messages with ${name}`, text));
  conversation.say = (words) => client.rpc("direct", { to: user, text: words });
  showPlaces();
}

function receivedDirect(publication) {
  const { data: { to }, info } = publication;
  const other = info.user === me.user ? to : info.user;
  openDirect(other, info.user === me.user ? to.split("~")[0] : nameOf(info));
  received(`user:${other}`, publication);
}

// -- the beginning

function rooms() {
  const known = JSON.parse(sessionStorage.getItem("rooms") ?? "[]");
  return known.length ? known : [FIRST_ROOM];
}

function connected({ data }) {
  const isFirst = me.user === undefined;
  me = data;
  find("say").querySelector("button").disabled = false;
  if (!isFirst) return;
  find("join").hidden = true;
  find("rooms").hidden = false;
  rooms().forEach(openRoom);
  show(conversations.keys().next().value);
}

function stateOf(state, text) {
  const status = document.querySelector(".status");
  status.dataset.state = state;
  status.textContent = text;
  if (state !== "open") find("say").querySelector("button").disabled = true;
  if (state === "over" && me.user === undefined) {
    find("problem").textContent = text;
    find("join").querySelector("button").disabled = false;
  }
}

find("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = find("name").value.trim();
  const token = find("token").value.trim();
  if (!name && !token) return void (find("problem").textContent = "Give a name, or a token.");
  localStorage.setItem("name", name);
  find("problem").textContent = "";
  find("join").querySelector("button").disabled = true;
  client = connect({
    token,
    data: { name, secret: tabSecret() },
    onConnect: connected,
    onPublication: receivedDirect,
    onState: stateOf,
  });
});

find("open").addEventListener("submit", (event) => {
  event.preventDefault();
  openRoom(find("other").value.trim());
  find("other").value = "";
});

find("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = find("text").value.trim();
  const conversation = conversations.get(active);
  if (!text || conversation.isOver || !client.isConnected()) return;
  find("text").value = "";
  conversation.hasSaid?.();
  try {
    await conversation.say(text);
  } catch ({ message }) {
    conversation.notice(`not sent: ${message}`);
    find("text").value ||= text;
  }
});

find("text").addEventListener("input", () => find("text").value && conversations.get(active).isTyping?.());
document.addEventListener("visibilitychange", () => active && document.visibilityState === "visible" && show(active));
setInterval(showTyping, 1_000);
find("name").value = localStorage.getItem("name") ?? "";
writeIn(find("text"));
document.querySelector(".status").textContent = "not joined";
