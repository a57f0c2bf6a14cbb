// One group of the browser of rollouts, and one kept beside it.
const CARDS = 16;
const FIRST = 35; // the character that stands for 0
const NATS = 0.2; // of log-prob per level

async function openGroup(group, scroll) {
  browser.open = group;
  const place = browser.listed.indexOf(group);
  if (place >= 0) browser.page = Math.floor(place / PAGE);
  drawList();
  await drawOpen();
  if (scroll) byId("groups").scrollIntoView({ block: "nearest" });
}

function openNext(by) {
  if (!browser.listed.length) return;
  const place = browser.listed.indexOf(browser.open);
  openGroup(browser.listed[Math.min(Math.max(place + by, 0), browser.listed.length - 1)], false);
}

let drawings = 0;

async function drawOpen() {
  const mine = ++drawings;
  const groups = [browser.pinned, browser.open].filter((one, place, all) => one && all.indexOf(one) === place);
  const panels = await Promise.all(groups.map(async (group) => panel(group, (await textsOf(group.run, group.step))[group.within])));
  if (mine !== drawings) return;
  const holder = byId("groups");
  holder.classList.toggle("beside", panels.length > 1);
  holder.replaceChildren(...panels);
}

function panel(group, text) {
  const name = `${browser.runs.length > 1 ? browser.runs[group.run] + ", " : ""}step ${whole(group.step)}`;
  const pin = element("button", { type: "button", class: "pin", "aria-pressed": String(group === browser.pinned) }, group === browser.pinned ? "Let go" : "Keep beside");
  pin.addEventListener("click", () => {
    browser.pinned = group === browser.pinned ? null : group;
    drawOpen();
  });
  const head = element("div", { class: "card asked" },
    element("div", { class: "head" }, element("h3", {}, `${name}: ${correctOf(group)} of ${group.size} correct`), pin),
    element("p", { class: "note" }, `Problem ${group.id}`));
  const made = element("div", { class: "panel" }, head);
  const others = elsewhere(group);
  if (!text) {
    head.append(element("p", { dir: "auto" }, group.title), element("p", { class: "soft" },
      `Its texts are not on this page: rollouts/${String(group.step).padStart(6, "0")}.jsonl.gz holds them.`), ...others);
    return made;
  }
  head.append(element("pre", { dir: "auto" }, text.problem),
    element("p", {}, element("span", { class: "soft" }, "Answer: "), element("code", {}, text.answer)),
    element("details", {}, element("summary", {}, "Prompt as the model saw it"), element("pre", { dir: "auto" }, text.prompt)), ...others);
  made.append(cards(group, text));
  return made;
}

function elsewhere(group) {
  const same = browser.groups.filter((one) => one.id === group.id && one !== group);
  if (!same.length) return [];
  const chips = same.slice(0, 12).map((one) => {
    const name = browser.runs.length > 1 ? `${browser.runs[one.run]}, step ${whole(one.step)}` : `step ${whole(one.step)}`;
    const chip = element("button", { type: "button", class: "chip" }, `${name}: ${correctOf(one)}/${one.size}`);
    chip.addEventListener("click", () => openGroup(one, false));
    return chip;
  });
  const more = same.length > 12 ? ` and ${same.length - 12} more` : "";
  return [element("p", { class: "chips" }, element("span", { class: "soft" }, "The same problem: "), ...chips, more)];
}

function cards(group, text) {
  const wanted = wantedNow();
  const matches = new Set(matching(group, wanted));
  const order = byId("card-order").value;
  const keys = { sample: (place) => place, reward: (place) => -(browser.reward[place] ?? -Infinity), advantage: (place) => -(browser.advantage[place] ?? -Infinity), tokens: (place) => browser.tokens[place] ?? 0 };
  const places = [...Array(group.size).keys()].map((index) => group.start + index).sort((a, b) => keys[order](a) - keys[order](b));
  const most = Math.max(1e-9, ...places.map((place) => Math.abs(browser.advantage[place] ?? 0)));
  const holder = element("div", { class: "group" });
  const more = (from) => {
    holder.append(...places.slice(from, from + CARDS).map((place) => card(place, text.rollouts[place - group.start], most, matches.has(place))));
    if (places.length <= from + CARDS) return;
    const button = element("button", { type: "button" }, `Show ${Math.min(CARDS, places.length - from - CARDS)} more of ${places.length}`);
    button.addEventListener("click", () => { button.remove(); more(from + CARDS); });
    holder.append(button);
  };
  more(0);
  return holder;
}

function card(place, rollout, most, matches) {
  const advantage = browser.advantage[place];
  const bar = element("div", { class: "advantage", "aria-hidden": "true" });
  if (advantage) bar.append(element("i", { class: advantage > 0 ? "plus" : "minus", style: `width:${(50 * Math.abs(advantage) / most).toFixed(1)}%` }));
  const parts = Object.entries(rollout.parts).map(([name, value]) => element("span", {}, `${name} ${show(value, "number")}`));
  const ending = { length: "cut off at the cap", stop: "ended by itself" }[rollout.finish] ?? rollout.finish;
  const answer = rollout.extracted === null ? "" : `: ${rollout.extracted}`;
  return element("article", { class: `card rollout o-${browser.outcome[place]}${matches ? "" : " out"}` },
    element("div", { class: "head" }, element("b", {}, `${rollout.outcome.replaceAll("_", " ")}${answer}`), element("span", { class: "soft" }, `sample ${rollout.sample}`)),
    element("div", { class: "head" }, element("span", {}, "reward ", element("b", {}, show(browser.reward[place], "number"))),
      element("span", {}, "advantage ", element("b", {}, (advantage > 0 ? "+" : "") + show(advantage, "number")))),
    bar, element("div", { class: "parts" }, ...parts), completion(rollout),
    element("div", { class: "parts" }, element("span", {}, `${show(browser.tokens[place], "number")} tokens`), element("span", {}, ending)));
}

function completion(rollout) {
  const text = rollout.text;
  const end = text.lastIndexOf("</think>");
  const thought = end < 0 ? 0 : end + "</think>".length;
  const holder = element("pre", { dir: "auto", tabindex: "0", "aria-label": "completion" });
  if (rollout.lengths && byId("shade").checked) holder.append(...shaded(rollout, thought));
  else holder.append(element("span", { class: "thought" }, text.slice(0, thought)), text.slice(thought));
  return holder;
}

// A span per token, as dark as it was unlikely; likely ones in a row are one text
function shaded({ text, lengths, levels }, thought) {
  const made = [];
  let [from, at, plain] = [0, 0, true];
  const flush = () => {
    if (at > from) made.push(...[[from, Math.min(at, thought), "thought"], [Math.max(from, thought), at, ""]]
      .filter(([start, end]) => end > start).map(([start, end, name]) => element("span", { class: name }, text.slice(start, end))));
    from = at;
  };
  for (let token = 0; token < lengths.length; token += 1) {
    const length = lengths.charCodeAt(token) - FIRST;
    const level = levels.charCodeAt(token) - FIRST;
    if (level > 0 && length > 0) {
      flush();
      const name = `token${at < thought ? " thought" : ""}`;
      const likely = Math.exp(-NATS * level);
      const title = `p \u2248 ${likely < 0.01 ? likely.toExponential(0) : likely.toFixed(2)}`;
      made.push(element("span", { class: name, style: `--u:${Math.min(1, level * NATS / 4).toFixed(2)}`, title }, text.slice(at, at + length)));
      from = at + length;
    }
    at += length;
  }
  at = text.length;
  flush();
  return made;
}
