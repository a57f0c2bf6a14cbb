// The browser of rollouts: all groups of the page's runs, filtered, searched, in pages; one group open.
const PAGE = 15;

const browser = { runs: [], groups: [], outcome: "", reward: [], advantage: [], tokens: [], listed: [], page: 0, open: null, pinned: null, hits: null };
const unpacked = new Map(); // the latest texts, by "run-step"

async function buildRollouts() {
  for (let run = 0; byId(`rollouts-${run}`); run += 1) {
    const { name, packed } = read(`rollouts-${run}`);
    browser.runs.push(name);
    if (packed) addRun(run, await unpack(packed));
  }
  if (!browser.groups.length) return;
  fillControls();
  relist();
  if (browser.listed.length) await openGroup(browser.listed[0], false);
  byId("rollouts").dataset.ready = "yes";
}

function addRun(run, index) {
  let start = browser.outcome.length;
  const places = new Map(); // how many groups of its step came before
  index.group_size.forEach((size, place) => {
    const step = index.steps[index.group_step[place]];
    const [id, title] = index.problems[index.group_problem[place]];
    const within = places.get(step) ?? 0;
    places.set(step, within + 1);
    browser.groups.push({ run, step, id, title, size, start, within, here: index.group_here[place] === "1" });
    start += size;
  });
  browser.outcome += index.outcome;
  for (const name of ["reward", "advantage", "tokens"]) browser[name] = browser[name].concat(index[name]);
}

// ---- texts -----------------------------------------------------------------------------------

async function textsOf(run, step) {
  const key = `${run}-${step}`;
  if (!unpacked.has(key)) {
    if (unpacked.size > 30) unpacked.delete(unpacked.keys().next().value);
    const holder = byId(`texts-${key}`);
    unpacked.set(key, holder ? unpack(holder.textContent) : Promise.resolve([]));
  }
  return unpacked.get(key);
}

let searches = 0;

async function search(words) {
  const mine = ++searches;
  const status = byId("search-status");
  if (!words) {
    browser.hits = null;
    status.textContent = "";
    return relist();
  }
  const wanted = words.toLowerCase();
  const hits = new Set();
  const batches = new Map();
  for (const group of browser.groups) batches.set(batchOf(group), [...(batches.get(batchOf(group)) ?? []), group]);
  let done = 0;
  let drawn = performance.now();
  for (const groups of batches.values()) {
    if (groups.some((group) => group.here)) {
      const holder = byId(`texts-${batchOf(groups[0])}`);
      const texts = await unpack(holder.textContent);
      if (mine !== searches) return undefined;
      texts.forEach((text, place) => searchGroup(groups[place], text, wanted, hits));
    }
    done += 1;
    if (performance.now() - drawn > 120) {
      status.textContent = `searched ${whole(done)} of ${whole(batches.size)} steps\u2026`;
      await new Promise((go) => setTimeout(go));
      drawn = performance.now();
    }
  }
  if (mine !== searches) return undefined;
  browser.hits = hits;
  status.textContent = `${whole(hits.size)} rollouts hold it`;
  return relist();
}

const batchOf = (group) => `${group.run}-${group.step}`;

function searchGroup(group, text, wanted, hits) {
  const asked = text.problem.toLowerCase().includes(wanted);
  text.rollouts.forEach((rollout, place) => {
    if (asked || rollout.text.toLowerCase().includes(wanted) || (rollout.extracted ?? "").toLowerCase().includes(wanted)) hits.add(group.start + place);
  });
}

// ---- the list --------------------------------------------------------------------------------

const SIGNS = { plus: (value) => value > 0, minus: (value) => value < 0, zero: (value) => !value };
const ORDERS = {
  late: (a, b) => b.step - a.step || a.run - b.run || a.start - b.start,
  early: (a, b) => a.step - b.step || a.run - b.run || a.start - b.start,
  reward: (a, b) => (mean("reward", b) ?? -Infinity) - (mean("reward", a) ?? -Infinity),
  advantage: (a, b) => largest("advantage", b) - largest("advantage", a),
  tokens: (a, b) => largest("tokens", b) - largest("tokens", a),
};

const valuesOf = (name, group) => browser[name].slice(group.start, group.start + group.size).filter((one) => one !== null);

function mean(name, group) {
  const values = valuesOf(name, group);
  return values.length ? values.reduce((sum, one) => sum + one, 0) / values.length : null;
}

const largest = (name, group) => valuesOf(name, group).reduce((most, one) => Math.max(most, Math.abs(one)), 0);

function wantedNow() {
  const step = byId("by-step").value.trim();
  const sign = byId("by-advantage").value;
  return {
    run: byId("by-run").value,
    steps: step === "" ? null : step.split(/\s*[-\u2013]\s*/).map(Number),
    problem: byId("by-problem").value.trim().toLowerCase(),
    outcome: byId("by-outcome").value,
    sign: SIGNS[sign] ?? null,
  };
}

function groupMatches(group, wanted) {
  if (wanted.run !== "" && group.run !== Number(wanted.run)) return false;
  if (wanted.steps && (group.step < wanted.steps[0] || group.step > wanted.steps.at(-1))) return false;
  return !wanted.problem || group.id.toLowerCase().includes(wanted.problem) || group.title.toLowerCase().includes(wanted.problem);
}

function rolloutMatches(place, wanted) {
  if (wanted.outcome && browser.outcome[place] !== wanted.outcome) return false;
  if (wanted.sign && !wanted.sign(browser.advantage[place])) return false;
  return !browser.hits || browser.hits.has(place);
}

function matching(group, wanted) {
  const found = [];
  for (let place = group.start; place < group.start + group.size; place += 1) if (rolloutMatches(place, wanted)) found.push(place);
  return found;
}

function relist() {
  const wanted = wantedNow();
  let rollouts = 0;
  browser.listed = browser.groups.filter((group) => {
    const found = groupMatches(group, wanted) ? matching(group, wanted).length : 0;
    rollouts += found;
    return found > 0;
  }).sort(ORDERS[byId("by-order").value]);
  browser.page = 0;
  const count = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;
  byId("found").textContent = `${count(rollouts, "rollout")} in ${count(browser.listed.length, "group")}`;
  drawList();
  if (browser.open) drawOpen();
}

const numPages = () => Math.max(1, Math.ceil(browser.listed.length / PAGE));

function drawList() {
  const wanted = wantedNow();
  const shown = browser.listed.slice(browser.page * PAGE, (browser.page + 1) * PAGE);
  byId("group-list").replaceChildren(...shown.map((group) => row(group, new Set(matching(group, wanted)))));
  if (!shown.length) byId("group-list").append(element("li", { class: "soft nothing" }, "No rollout is like that. Loosen a filter."));
  byId("page-number").textContent = `page ${whole(browser.page + 1)} of ${whole(numPages())}`;
  for (const id of ["page-first", "page-back"]) byId(id).disabled = browser.page === 0;
  for (const id of ["page-on", "page-last"]) byId(id).disabled = browser.page === numPages() - 1;
}

function row(group, matches) {
  const strip = element("span", { class: "strip", "aria-hidden": "true" });
  for (let place = group.start; place < group.start + Math.min(group.size, 32); place += 1) {
    strip.append(element("i", { class: `o-${browser.outcome[place]}${matches.has(place) ? "" : " out"}` }));
  }
  const right = correctOf(group);
  const button = element("button", { type: "button", class: "row" },
    element("span", { class: "at" }, `${browser.runs.length > 1 ? browser.runs[group.run] + " \u00b7 " : ""}step ${whole(group.step)}`),
    strip, element("span", { class: "score" }, `${right} of ${group.size} correct`),
    element("span", { class: "figure" }, `reward ${show(mean("reward", group), "number")}`),
    element("span", { class: "figure" }, `${show(mean("tokens", group) === null ? null : Math.round(mean("tokens", group)), "number")} tokens`),
    element("span", { class: "title", dir: "auto" }, group.title || group.id));
  if (browser.runs.length > 1) button.classList.add(`s${group.run % 6}`, "of-run");
  if (group === browser.open) button.setAttribute("aria-current", "true");
  if (!group.here) button.classList.add("absent-text");
  button.addEventListener("click", () => openGroup(group, true));
  return element("li", {}, button);
}

function correctOf(group) {
  let right = 0;
  for (let place = group.start; place < group.start + group.size; place += 1) right += browser.outcome[place] === "c";
  return right;
}

function turn(to) {
  browser.page = Math.min(Math.max(to, 0), numPages() - 1);
  drawList();
}

// ---- controls --------------------------------------------------------------------------------

function fillControls() {
  browser.runs.forEach((name, run) => byId("by-run").append(element("option", { value: run }, name)));
  byId("by-run").parentElement.hidden = browser.runs.length < 2;
  for (const id of ["by-run", "by-outcome", "by-advantage", "by-order"]) byId(id).addEventListener("change", relist);
  for (const id of ["by-step", "by-problem"]) byId(id).addEventListener("input", relist);
  for (const id of ["card-order", "shade"]) byId(id).addEventListener("change", drawOpen);
  let waiting;
  byId("search").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => search(event.target.value.trim()), 250);
  });
  const turns = { "page-first": () => 0, "page-back": () => browser.page - 1, "page-on": () => browser.page + 1, "page-last": numPages };
  for (const [id, to] of Object.entries(turns)) byId(id).addEventListener("click", () => turn(to()));
  byId("step-back").addEventListener("click", () => stepBy(-1));
  byId("step-on").addEventListener("click", () => stepBy(1));
  byId("clear").addEventListener("click", clearFilters);
  byId("group-list").addEventListener("keydown", walkRows);
  byId("to-rollouts")?.addEventListener("click", () => toStep(nearestStep(cursor), true));
  for (const one of document.querySelectorAll(".to-step")) one.addEventListener("click", () => toStep(Number(one.dataset.step), true));
  const keys = { "/": () => byId("search").focus(), j: () => openNext(1), k: () => openNext(-1), n: () => turn(browser.page + 1), p: () => turn(browser.page - 1), "[": () => stepBy(-1), "]": () => stepBy(1) };
  for (const [key, action] of Object.entries(keys)) shortcuts.set(key, action);
}

const allSteps = () => [...new Set(browser.groups.map((group) => group.step))].sort((a, b) => a - b);

function nearestStep(step) {
  return allSteps().reduce((best, one) => (Math.abs(one - step) < Math.abs(best - step) ? one : best));
}

function stepBy(by) {
  const steps = allSteps();
  const now = Number(byId("by-step").value.trim() || (browser.open?.step ?? steps.at(-1)));
  const place = steps.findIndex((one) => one >= now);
  toStep(steps[Math.min(Math.max(place + by, 0), steps.length - 1)], false);
}

function toStep(step, scroll) {
  byId("by-step").value = String(step);
  relist();
  if (browser.listed.length) openGroup(browser.listed[0], false);
  if (!scroll) return;
  byId("rollouts").scrollIntoView();
  byId("by-step").focus({ preventScroll: true });
}

function clearFilters() {
  for (const id of ["by-step", "by-problem", "search", "by-run", "by-outcome", "by-advantage"]) byId(id).value = "";
  search("");
}

function walkRows(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  const rows = [...byId("group-list").querySelectorAll("button")];
  rows[Math.min(Math.max(rows.indexOf(document.activeElement) + by, 0), rows.length - 1)]?.focus();
}

if (byId("rollouts-0")) buildRollouts();
