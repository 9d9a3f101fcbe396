// Bun: its own server, which is uWebSockets. The same works and options as the scripts in Python (job.py).
import { dlopen, ptr } from "bun:ffi";
import { parseArgs } from "node:util";

const HOST = "127.0.0.1";
const MAX_MESSAGE_SIZE = 32 * 1024 * 1024;
const TOPIC = "news";
// As in publisher.py.
const WINDOW = 16;
const POLL_MS = 20;
const IDENTITY = 17;

const { values: job, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    compression: { type: "boolean", default: false },
    certificate: { type: "string" },
    rate: { type: "string", default: "0" },
    burst: { type: "string", default: "1" },
    size: { type: "string", default: "125" },
    seconds: { type: "string", default: "1" },
    progress: { type: "string", default: "" },
  },
});
const [work] = positionals;
const rate = Number(job.rate), burst = Number(job.burst), seconds = Number(job.seconds);

let producers = 0;

async function produce(socket) {
  producers++;
  try {
    await new Promise((_, reject) => (socket.data.cancel = reject));
  } catch {
    producers--;
  }
}

const works = {
  echo: {
    message: (socket, message) => void socket.send(message, job.compression),
  },
  fanout: {
    open: (socket) => socket.subscribe(TOPIC),
    message() {},
  },
  idle: {
    open: (socket) => void produce(socket),
    message: (socket, message) => void socket.send(message === "producers" ? String(producers) : message),
    close: (socket) => socket.data.cancel(),
  },
};

const server = Bun.serve({
  hostname: HOST,
  port: 0,
  tls: job.certificate && { cert: Bun.file(job.certificate), key: Bun.file(job.certificate) },
  fetch(request, server) {
    if (!server.upgrade(request, { data: {} })) return new Response("this is a WebSocket server", { status: 426 });
  },
  websocket: {
    ...works[work],
    maxPayloadLength: MAX_MESSAGE_SIZE,
    backpressureLimit: MAX_MESSAGE_SIZE,
    idleTimeout: 0,
    sendPings: false,
    perMessageDeflate: job.compression,
  },
});

// -- publishing: when and what is said in publisher.py

const libc = dlopen("libc.so.6", { clock_gettime: { args: ["i32", "ptr"], returns: "i32" } });

// Nanoseconds of CLOCK_MONOTONIC, which the load generator compares with its own.
function clock() {
  const found = new BigInt64Array(2);
  libc.symbols.clock_gettime(1, ptr(found));
  return found[0] * 1_000_000_000n + found[1];
}

const OFFSET = clock() - BigInt(Bun.nanoseconds());
let published = 0;

function publish(last = false) {
  const message = new DataView(new ArrayBuffer(Number(job.size)));
  message.setBigUint64(0, BigInt(published++));
  message.setBigUint64(8, OFFSET + BigInt(Bun.nanoseconds()));
  message.setUint8(IDENTITY - 1, last ? 1 : 0);
  server.publish(TOPIC, message, false);
}

function publishAtRate(start) {
  let bursts = 0;
  function due() {
    if (performance.now() - start >= seconds * 1000) return publish(true);
    for (let i = 0; i < burst; i++) publish();
    bursts++;
    setTimeout(due, Math.max(0, start + (bursts * 1000) / rate - performance.now()));
  }
  due();
}

function publishUnpaced(start, progress) {
  function due() {
    if (performance.now() - start >= seconds * 1000) return publish(true);
    if (published - Number(progress.getBigUint64(0, true)) < WINDOW) publish();
    setImmediate(due);
  }
  due();
}

if (work === "fanout") {
  const shared = Bun.mmap(job.progress, { shared: true });
  const progress = new DataView(shared.buffer, shared.byteOffset, shared.byteLength);
  const waiting = setInterval(() => {
    if (!progress.getBigUint64(8, true)) return;
    clearInterval(waiting);
    const start = performance.now();
    if (rate) publishAtRate(start);
    else publishUnpaced(start, progress);
  }, POLL_MS);
}

console.log(`listening on ws://${HOST}:${server.port}`);
