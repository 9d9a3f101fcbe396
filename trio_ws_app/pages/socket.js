// A WebSocket that comes back by itself, and resumes where it was.
//
//   import { connect } from "./socket.js";
//   const socket = connect({ onMessage: (text) => ..., positionOf: (text) => ... });
//   socket.send("hello");
//
// connect(options) dials at once, and again with exponential backoff and full jitter whenever the connection
// is lost, at once when the page is looked at again or the network is back. It does not come back after the
// codes 1000, 1008 and 4000-4999, unless isFinal says otherwise. A refusal before the upgrade (401, 404) is 1006
// in a browser, without its status, so it is dialled again. All options may be left out:
//
//   url            where to; the place of this page by default, with the page's own query
//   query          an object of further parameters for the query
//   onOpen()       the connection is open; what a server wants to be told first is sent here
//   onClose(e)     it is lost, or over, also by close(); e has the code and the reason
//   onMessage(m)   a message, a string or a Blob
//   positionOf(m)  the position that a message has, if any: the newest one is sent as ?since=POSITION with the
//                  next connection, so that the server sends what was missed
//   isFinal(code)  whether the connection is not to come back after this close code
//   onState(s, t)  "open", "waiting" or "over", and a text for people; by default they are shown in the
//                  element with the class "status"
//
// The result has send(message), isOpen(), close(text), restart(), which dials anew after the usual wait, and
// position(), the newest one or undefined.

const FIRST_WAIT = 250;
const LONGEST_WAIT = 10_000;
const PROVEN_AFTER = 3_000; // a connection that lasted this long starts the backoff anew

const TRY_AGAIN_LATER = 1013;
const isFinalByDefault = (code) => code === 1000 || code === 1008 || code >= 4000;

function here() {
  const url = new URL(".", location.href);
  url.search = location.search;
  return url;
}

function showState(state, text) {
  const status = document.querySelector(".status");
  if (!status) return;
  status.dataset.state = state;
  status.textContent = text;
}

// A secret of this tab's own, which stays while the tab does: with it a server knows who has come back.
export function tabSecret() {
  const known = sessionStorage.getItem("secret") ?? [...crypto.getRandomValues(new Uint32Array(4))].join("-");
  sessionStorage.setItem("secret", known);
  return known;
}

export function connect({
  url = here(),
  query = {},
  onOpen = () => {},
  onClose = () => {},
  onMessage = () => {},
  positionOf = () => undefined,
  isFinal = isFinalByDefault,
  onState = showState,
} = {}) {
  let socket;
  let attempts = 0;
  let timer;
  let opened = 0;
  let position;

  function address() {
    const target = new URL(url, location.href);
    target.protocol = target.protocol.replace("http", "ws");
    for (const [name, value] of Object.entries(query)) target.searchParams.set(name, value);
    if (position !== undefined) target.searchParams.set("since", position);
    return target;
  }

  function dial() {
    clearTimeout(timer);
    timer = undefined;
    socket = new WebSocket(address());
    socket.addEventListener("open", () => {
      opened = performance.now();
      onState("open", "connected");
      onOpen();
    });
    socket.addEventListener("message", ({ data }) => {
      position = positionOf(data) ?? position;
      onMessage(data);
    });
    socket.addEventListener("close", lost);
  }

  function lost(event) {
    const { code, reason } = event;
    if (isFinal(code)) over(reason ? `closed: ${reason}` : "closed");
    else comeBack(code);
    onClose(event);
  }

  function comeBack(code) {
    if (opened && performance.now() - opened > PROVEN_AFTER) attempts = 0;
    opened = 0;
    const why = !navigator.onLine ? "offline, " : code === TRY_AGAIN_LATER ? "server is busy, " : "";
    onState("waiting", `${why}reconnecting…`);
    timer = setTimeout(dial, Math.random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempts));
    attempts += 1;
  }

  function over(text) {
    removeEventListener("online", hurry);
    document.removeEventListener("visibilitychange", hurry);
    onState("over", text);
  }

  function drop() {
    socket.removeEventListener("close", lost);
    clearTimeout(timer);
    timer = undefined;
    socket.close(1000);
  }

  function close(why = "closed") {
    drop();
    over(why);
    onClose({ code: 1000, reason: why });
  }

  function restart() {
    drop();
    lost({ code: 1006, reason: "" });
  }

  const hurry = () => timer !== undefined && document.visibilityState === "visible" && dial();
  addEventListener("online", hurry);
  document.addEventListener("visibilitychange", hurry);

  onState("waiting", "connecting…");
  dial();
  return {
    isOpen: () => socket.readyState === WebSocket.OPEN,
    send: (message) => socket.send(message),
    position: () => position,
    close,
    restart,
  };
}
