// What all parts of the page use. Text from a run goes in by textContent only.
const byId = (id) => document.getElementById(id);
const read = (id) => JSON.parse(byId(id).textContent);

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const element = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const minus = (text) => text.replaceAll("-", "\u2212");

function show(value, unit) {
  if (value === null || value === undefined) return "\u2013";
  if (unit === "percent") return minus((100 * value).toFixed(1)) + " %";
  if (unit === "seconds") return value.toFixed(value < 10 ? 2 : 1) + " s";
  const size = Math.abs(value);
  if (value !== 0 && size < 1e-3) return minus(value.toExponential(2).replace(/\.?0+e/, "e"));
  return minus(size >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4))));
}

const whole = (value) => value.toLocaleString("en");

// JSON that was gzipped and written as base64
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  if (typeof DecompressionStream === "undefined") return JSON.parse(new TextDecoder().decode(gunzip(packed)));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// ---- keys and theme --------------------------------------------------------------------------

const shortcuts = new Map();

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=checkbox]):not([type=range]), select, textarea")) return;
  const action = shortcuts.get(event.key);
  if (!action) return;
  event.preventDefault();
  action();
});

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

byId("theme").addEventListener("click", toggleTheme);
shortcuts.set("t", toggleTheme);
