"use strict";
// Curves and the browser of samples of report.html. Text from a run goes in by textContent only.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const byId = (id) => document.getElementById(id);

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function svg(tag, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const minus = (text) => text.replaceAll("-", "\u2212");

  function show(value, unit) {
    if (value === null || value === undefined) return "\u2013";
    if (unit === "percent") return minus((100 * value).toFixed(1)) + " %";
    if (unit === "seconds") return value.toFixed(value < 10 ? 2 : 1) + " s";
    const size = Math.abs(value);
    if (value !== 0 && size < 1e-3) return minus(value.toExponential(2).replace(/\.?0+e/, "e"));
    return minus(size >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4))));
  }

  // ---- curves -------------------------------------------------------------------------------

  const curves = read("curves-data");
  const first = Math.min(...curves.charts.flatMap((chart) => chart.lines.map((line) => line.steps[0])));
  const last = Math.max(curves.last_step, first + 1);
  const margin = { left: 54, right: 12, top: 8, bottom: 30 };
  let cursor = curves.last_step;
  const redraws = [];

  function niceTicks(low, high, wanted) {
    const rough = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
    const ticks = [];
    for (let index = Math.ceil(low / step - 1e-9); index * step <= high + 1e-9 * step; index += 1) {
      ticks.push(index * step + 0);
    }
    return { ticks, step };
  }

  function tickText(value, step, unit) {
    if (unit === "percent") return minus((100 * value).toFixed(step < 0.0095 ? 1 : 0)) + " %";
    if (value === 0) return "0";
    const power = (size) => Math.floor(Math.log10(size) + 1e-9);
    if (step < 1e-4) return minus(value.toExponential(Math.max(0, power(Math.abs(value)) - power(step))));
    if (step >= 1) return minus(value.toLocaleString("en"));
    return minus(value.toFixed(Math.ceil(-Math.log10(step) - 1e-9)));
  }

  function trailingMean(values, window) {
    return values.map((_, index) => {
      const part = values.slice(Math.max(0, index - window + 1), index + 1);
      return part.reduce((sum, one) => sum + one, 0) / part.length;
    });
  }

  function stack(lines) {
    let below = lines[0].values.map(() => 0);
    return lines.map((line) => {
      const low = below;
      const high = line.values.map((value, index) => value + (low[index] ?? 0));
      below = high;
      return { ...line, low, high, top: high };
    });
  }

  function domain(chart, lines) {
    const values = lines.flatMap((line) => [...(line.top ?? line.values), ...(line.low ?? []), ...(line.high ?? [])]);
    let low = Math.min(...values);
    let high = Math.max(...values);
    for (const { value } of chart.references) {
      if (value <= high + 0.6 * Math.abs(high) && value >= low - 0.6 * Math.abs(high)) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
    if (chart.zero && low > 0) low = 0;
    if (high - low < 1e-12) high = low + (Math.abs(low) || 1);
    const room = 0.06 * (high - low);
    const limit = chart.unit === "percent" ? 1 : Infinity;
    return [low >= 0 ? Math.max(0, chart.zero ? low : low - room) : low - room, Math.min(high + room, Math.max(limit, high))];
  }

  const path = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");

  function drawChart(chart, holder, wide) {
    const width = Math.max(260, holder.clientWidth);
    const height = wide ? 230 : 170;
    const lines = chart.stacked ? stack(chart.lines) : chart.lines;
    const [low, high] = domain(chart, lines);
    const x = (step) => margin.left + ((step - first) / (last - first)) * (width - margin.left - margin.right);
    const y = (value) => height - margin.bottom - ((value - low) / (high - low)) * (height - margin.top - margin.bottom);
    const floor = height - margin.bottom;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": describe(chart) });

    const vertical = niceTicks(low, high, wide ? 5 : 4);
    for (const tick of vertical.ticks) {
      picture.append(svg("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(tick), y2: y(tick) }));
      picture.append(svg("text", { x: margin.left - 6, y: y(tick) + 4, "text-anchor": "end" }, tickText(tick, vertical.step, chart.unit)));
    }
    picture.append(svg("line", { class: "axis", x1: margin.left, x2: width - margin.right, y1: floor, y2: floor }));
    const across = niceTicks(first, last, width > 600 ? 10 : 5);
    for (const tick of across.ticks.filter(Number.isInteger)) {
      picture.append(svg("text", { x: x(tick), y: floor + 22, "text-anchor": "middle" }, tick.toLocaleString("en")));
    }

    for (const mark of curves.events) drawMark(picture, mark, x(mark.step), floor);
    for (const { value } of chart.references) {
      if (value < low || value > high) continue;
      picture.append(svg("line", { class: "reference", x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }));
    }
    [...lines.entries()].reverse().forEach(([index, line]) => drawLine(picture, chart, line, index, x, y));

    const here = svg("line", { class: "here", y1: margin.top, y2: floor });
    picture.append(here);
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width * width - margin.left) / (width - margin.left - margin.right);
      moveTo(Math.round(first + Math.min(1, Math.max(0, share)) * (last - first)));
    });
    holder.replaceChildren(picture);
    return () => {
      here.setAttribute("x1", x(cursor));
      here.setAttribute("x2", x(cursor));
    };
  }

  function drawMark(picture, mark, at, floor) {
    const title = svg("title", {}, `step ${mark.step}: ${mark.label}`);
    if (mark.mark !== "tick") {
      picture.append(svg("line", { class: `mark ${mark.mark}`, x1: at, x2: at, y1: margin.top, y2: floor }));
    }
    picture.append(svg("path", { class: `tick ${mark.mark}`, d: `M${at},${floor + 1}l4,7h-8z` }, title));
  }

  function swatch(mark) {
    const picture = svg("svg", { width: 10, height: 16, "aria-hidden": "true" });
    if (mark !== "tick") picture.append(svg("line", { class: `mark ${mark}`, x1: 5, x2: 5, y1: 0, y2: 9 }));
    picture.append(svg("path", { class: `tick ${mark}`, d: "M5,8l4,7h-8z" }));
    return picture;
  }

  function drawLine(picture, chart, line, index, x, y) {
    const color = `s${index % 6}`;
    const at = (values) => values.map((value, place) => [x(line.steps[place]), y(value)]);
    if (line.low) {
      const outline = path([...at(line.low), ...at(line.high).reverse()]) + "Z";
      picture.append(svg("path", { class: `${chart.stacked ? "area" : "band"} ${color}`, d: outline }));
      if (chart.stacked) return;
    }
    if (chart.smooth > 1) picture.append(svg("path", { class: `raw ${color}`, d: path(at(line.values)) }));
    const smooth = chart.smooth > 1 ? trailingMean(line.values, chart.smooth) : line.values;
    picture.append(svg("path", { class: `line ${color}`, d: path(at(smooth)) }));
    if (line.steps.length > 30 || chart.smooth > 1) return;
    at(line.values).forEach(([px, py], place) => {
      picture.append(svg("circle", { class: `point ${color}`, cx: px, cy: py, r: 2.6 }));
      if (line.low && line.steps.length <= 12) picture.append(svg("line", { class: `whisker ${color}`, x1: px, x2: px, y1: y(line.low[place]), y2: y(line.high[place]) }));
    });
  }

  function describe(chart) {
    const parts = chart.lines.map((line) => {
      const end = line.steps.length - 1;
      return `${line.label} ${show(line.values[0], chart.unit)} at step ${line.steps[0]}, ${show(line.values[end], chart.unit)} at step ${line.steps[end]}`;
    });
    return `${chart.title}: ${parts.join("; ")}`;
  }

  function valueAt(line, step) {
    let found = -1;
    for (let index = 0; index < line.steps.length && line.steps[index] <= step; index += 1) found = index;
    return found;
  }

  function legendOf(chart, holder) {
    holder.replaceChildren(
      ...chart.lines.map((line, index) => {
        const at = valueAt(line, cursor);
        const item = element("span", {}, element("span", { class: `key s${index % 6}` }), `${line.label} `);
        item.append(element("b", {}, show(at < 0 ? null : line.values[at], chart.unit)));
        if (at >= 0 && line.low) item.append(` (${show(line.low[at], chart.unit)} to ${show(line.high[at], chart.unit)})`);
        return item;
      }),
      ...chart.references.map(({ label, value }) => element("span", { class: "soft" }, `┄ ${label} ${show(value, chart.unit)}`)),
    );
  }

  function moveTo(step) {
    cursor = Math.min(Math.max(step, 0), curves.last_step);
    byId("cursor").value = cursor;
    byId("cursor-step").textContent = cursor.toLocaleString("en");
    for (const redraw of redraws) redraw();
  }

  function buildCurves() {
    const charts = byId("charts");
    for (const [index, chart] of curves.charts.entries()) {
      const legend = element("div", { class: "legend" });
      const holder = element("div");
      const note = chart.smooth > 1 ? `${chart.note} Bold: mean of the last ${chart.smooth} steps.` : chart.note;
      charts.append(element("div", { class: "card chart", id: `chart-${chart.id}` },
        element("h3", {}, chart.title), element("p", { class: "note" }, note), legend, holder));
      let place = () => {};
      redraws.push(() => { place(); legendOf(chart, legend); });
      new ResizeObserver(() => { place = drawChart(chart, holder, index === 0); place(); }).observe(holder);
    }
    const kinds = new Map(curves.events.map((mark) => [mark.label, mark]));
    byId("marks").append(...[...kinds.values()].map((mark) => {
      const steps = curves.events.filter((one) => one.label === mark.label).map((one) => one.step);
      const listed = steps.length > 6 ? `${steps.length} times` : `step ${steps.join(", ")}`;
      return element("span", {}, swatch(mark.mark), `${mark.label} (${listed})`);
    }));
    byId("cursor").addEventListener("input", (event) => moveTo(Number(event.target.value)));
    byId("figures").addEventListener("toggle", fillFigures, { once: true });
    moveTo(cursor);
  }

  function fillFigures() {
    const lines = curves.charts.flatMap((chart) => chart.lines.map((line) => ({ ...line, unit: chart.unit })));
    const steps = [...new Set(lines.flatMap((line) => line.steps))].sort((a, b) => a - b);
    const stride = Math.ceil(steps.length / 500);
    const shown = steps.filter((_, index) => index % stride === 0 || index === steps.length - 1);
    const places = lines.map((line) => new Map(line.steps.map((step, index) => [step, line.values[index]])));
    const head = element("tr", {}, element("th", {}, "step"), ...lines.map((line) => element("th", {}, line.key)));
    const rows = shown.map((step) => element("tr", {}, element("td", {}, String(step)),
      ...lines.map((line, index) => element("td", {}, places[index].has(step) ? show(places[index].get(step), line.unit) : ""))));
    const note = stride > 1 ? [element("p", { class: "note" }, `Every ${stride}th step; all are in metrics.jsonl.`)] : [];
    byId("figures").lastElementChild.replaceChildren(...note, element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
  }

  // ---- samples ------------------------------------------------------------------------------

  function buildSamples(steps) {
    const stepList = byId("sample-step");
    const groupList = byId("sample-group");
    const orderList = byId("sample-order");
    steps.forEach(({ step }, index) => stepList.append(element("option", { value: index }, String(step))));

    const groups = () => steps[Number(stepList.value)].groups;

    function fillGroups() {
      const kept = Math.min(Math.max(groupList.selectedIndex, 0), groups().length - 1);
      groupList.replaceChildren(...groups().map((group, index) => {
        const right = group.rollouts.filter((rollout) => rollout.outcome === "correct").length;
        const text = group.problem.replace(/\s+/g, " ").slice(0, 70);
        return element("option", { value: index }, `${index + 1}: ${right} of ${group.rollouts.length} correct · ${text}`);
      }));
      groupList.selectedIndex = kept;
      byId("step-back").disabled = stepList.selectedIndex === 0;
      byId("step-on").disabled = stepList.selectedIndex === steps.length - 1;
      drawGroup();
    }

    function drawGroup() {
      const group = groups()[Number(groupList.value)];
      const keys = { sample: (one) => one.sample, reward: (one) => -(one.reward ?? -Infinity), tokens: (one) => one.tokens ?? 0 };
      const key = keys[orderList.value];
      const rollouts = [...group.rollouts].sort((a, b) => key(a) - key(b));
      const largest = Math.max(1e-9, ...rollouts.map((one) => Math.abs(one.advantage ?? 0)));
      const head = element("div", { class: "card" }, element("p", { class: "note" }, `Problem ${group.id}`),
        element("pre", { dir: "auto" }, group.problem), element("p", {}, element("span", { class: "soft" }, "Answer: "), element("code", {}, group.answer)),
        element("details", {}, element("summary", {}, "Prompt as the model saw it"), element("pre", { dir: "auto" }, group.prompt)));
      byId("group").replaceChildren(head, element("div", { class: "group" }, ...rollouts.map((one) => card(one, largest))));
    }

    function step(by) {
      stepList.selectedIndex += by;
      fillGroups();
    }

    stepList.addEventListener("change", fillGroups);
    groupList.addEventListener("change", drawGroup);
    orderList.addEventListener("change", drawGroup);
    byId("step-back").addEventListener("click", () => step(-1));
    byId("step-on").addEventListener("click", () => step(1));
    byId("to-samples")?.addEventListener("click", () => {
      const gaps = steps.map((one) => Math.abs(one.step - cursor));
      stepList.selectedIndex = gaps.indexOf(Math.min(...gaps));
      fillGroups();
      byId("samples").scrollIntoView();
      stepList.focus({ preventScroll: true });
    });
    stepList.selectedIndex = steps.length - 1;
    fillGroups();
  }

  const DECIDED = ["correct", "wrong", "no_answer"];

  function card(rollout, largest) {
    const outcome = rollout.outcome ?? "no outcome";
    const kind = DECIDED.includes(outcome) ? outcome : "undecided";
    const answer = rollout.extracted === null ? "" : `: ${rollout.extracted}`;
    const advantage = rollout.advantage ?? 0;
    const share = `width:${(50 * Math.abs(advantage) / largest).toFixed(1)}%`;
    const bar = element("div", { class: "advantage", "aria-hidden": "true" });
    if (advantage) bar.append(element("i", { class: advantage > 0 ? "plus" : "minus", style: share }));
    const parts = Object.entries(rollout.parts).map(([name, value]) => element("span", {}, `${name} ${show(value, "number")}`));
    const ending = rollout.finish === "length" ? "cut off at the cap" : `ended by itself`;
    return element("article", { class: `card rollout ${kind}` },
      element("div", { class: "head" }, element("b", {}, `${outcome.replaceAll("_", " ")}${answer}`), element("span", { class: "soft" }, `sample ${rollout.sample}`)),
      element("div", { class: "head" }, element("span", {}, "reward ", element("b", {}, show(rollout.reward, "number"))),
        element("span", {}, "advantage ", element("b", {}, (advantage > 0 ? "+" : "") + show(rollout.advantage === null ? null : advantage, "number")))),
      bar, element("div", { class: "parts" }, ...parts),
      completion(rollout.text),
      element("div", { class: "parts" }, element("span", {}, `${show(rollout.tokens, "number")} tokens`), element("span", {}, rollout.finish ? ending : "")));
  }

  function completion(text) {
    const end = text.lastIndexOf("</think>");
    const thought = end < 0 ? 0 : end + "</think>".length;
    return element("pre", { dir: "auto", tabindex: "0" }, element("span", { class: "thought" }, text.slice(0, thought)), text.slice(thought));
  }

  if (curves.charts.length) buildCurves();
  const samples = read("samples-data");
  if (samples) buildSamples(samples.steps);
})();
