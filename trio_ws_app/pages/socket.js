// A WebSocket that comes back by itself: exponential backoff with full jitter.

const FIRST_WAIT = 250;
const LONGEST_WAIT = 10_000;
const PROVEN_AFTER = 3_000; // a connection that lasted this long starts the backoff anew

const isFinal = (code) => code === 1000 || code === 1008 || code >= 4000;

// The server that sent this page, at the same place, with the page's own query.
function address() {
  const url = new URL(".", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.search = location.search;
  return url;
}

function show(state, text) {
  const status = document.querySelector(".status");
  status.dataset.state = state;
  status.textContent = text;
}

export function connect({ onOpen = () => {}, onClose = () => {}, onMessage }) {
  let socket;
  let attempts = 0;
  let timer;
  let opened = 0;

  function dial() {
    clearTimeout(timer);
    timer = undefined;
    socket = new WebSocket(address());
    socket.addEventListener("open", () => {
      opened = performance.now();
      show("open", "connected");
      onOpen();
    });
    socket.addEventListener("message", (event) => onMessage(event.data));
    socket.addEventListener("close", lost);
  }

  function lost({ code, reason }) {
    onClose();
    if (isFinal(code)) {
      show("over", reason ? `closed: ${reason}` : "closed");
      return;
    }
    if (opened && performance.now() - opened > PROVEN_AFTER) attempts = 0;
    opened = 0;
    show("waiting", navigator.onLine ? "reconnecting…" : "offline, reconnecting…");
    timer = setTimeout(dial, Math.random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempts));
    attempts += 1;
  }

  const hurry = () => timer !== undefined && document.visibilityState === "visible" && dial();
  addEventListener("online", hurry);
  document.addEventListener("visibilitychange", hurry);

  show("waiting", "connecting…");
  dial();
  return {
    isOpen: () => socket.readyState === WebSocket.OPEN,
    send: (text) => socket.send(text),
  };
}

// Append to a log; keep its end in view, unless the reader has scrolled back.
export function append(log, item, most = 500) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(item);
  while (log.children.length > most) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// Enter sends, Shift+Enter makes a new line.
export function sendOnEnter(textarea) {
  textarea.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      textarea.form.requestSubmit();
    }
  });
}
