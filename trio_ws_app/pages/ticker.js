// The ticker: a value twice a second, plotted over the last two minutes.

import { connect } from "./socket.js";

const SHOWN = 120; // seconds, once there are as many
const SHOWN_FIRST = 30;
const GAP = 3; // seconds without a value that break the line
const find = (id) => document.getElementById(id);
const canvas = find("plot");
const points = [];

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

// A step of 1, 2 or 5 times a power of ten that divides the span about five times.
function niceStep(span) {
  const power = 10 ** Math.floor(Math.log10(span / 5));
  return power * [1, 2, 5, 10].find((factor) => power * factor >= span / 5);
}

function drawGrid(pen, area, low, high, span, y) {
  const step = niceStep(high - low);
  pen.strokeStyle = color("--grid");
  pen.fillStyle = color("--quiet");
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    pen.beginPath();
    pen.moveTo(area.left, y(value));
    pen.lineTo(area.right, y(value));
    pen.stroke();
    pen.fillText(value.toFixed(step < 1 ? 1 : 0), area.left - 8, y(value));
  }
  pen.textAlign = "left";
  pen.fillText(`${Math.round(span)} seconds ago`, area.left, area.bottom + 14);
  pen.textAlign = "right";
  pen.fillText("now", area.right, area.bottom + 14);
}

function drawLine(pen, x, y) {
  pen.strokeStyle = color("--accent");
  pen.lineWidth = 2;
  pen.lineJoin = "round";
  pen.beginPath();
  points.forEach(({ time, value }, index) => {
    const broken = index === 0 || time - points[index - 1].time > GAP;
    pen[broken ? "moveTo" : "lineTo"](x(time), y(value));
  });
  pen.stroke();
  const last = points.at(-1);
  pen.fillStyle = color("--accent");
  pen.beginPath();
  pen.arc(x(last.time), y(last.value), 4, 0, 2 * Math.PI);
  pen.fill();
}

function draw() {
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  if (!points.length) return;
  const pen = canvas.getContext("2d");
  pen.scale(devicePixelRatio, devicePixelRatio);
  pen.font = "13px system-ui, sans-serif";
  const area = { left: 44, right: width - 8, top: 8, bottom: height - 28 };
  const values = points.map((point) => point.value);
  const margin = Math.max(1, (Math.max(...values) - Math.min(...values)) * 0.1);
  const low = Math.min(...values) - margin;
  const high = Math.max(...values) + margin;
  canvas.ariaLabel = `The last two minutes, between ${Math.min(...values)} and ${Math.max(...values)}`;
  const now = points.at(-1).time;
  const span = Math.max(SHOWN_FIRST, now - points[0].time);
  const x = (time) => area.right - ((now - time) / span) * (area.right - area.left);
  const y = (value) => area.bottom - ((value - low) / (high - low)) * (area.bottom - area.top);
  drawGrid(pen, area, low, high, span, y);
  drawLine(pen, x, y);
}

let due = false;

// Once for all the values that come together.
function drawSoon() {
  due ||= requestAnimationFrame(() => {
    due = false;
    show(points.at(-1));
  });
}

function show(point) {
  const change = point.value - (points.at(-2) ?? point).value;
  find("value").textContent = point.value.toFixed(2);
  find("facts").textContent = `${change < 0 ? "▼" : "▲"} ${Math.abs(change).toFixed(2)} since the value before`;
  draw();
}

connect({
  query: { since: 0 }, // all that the server can tell of what was before; later, what was missed
  positionOf: (message) => JSON.parse(message).time,
  onMessage: (message) => {
    const point = JSON.parse(message);
    points.push(point);
    while (points[0].time < point.time - SHOWN) points.shift();
    drawSoon();
  },
});
new ResizeObserver(draw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
