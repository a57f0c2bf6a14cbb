// Curves over the steps with what happened on them, and how single rollouts were spread.

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
  let low = values.reduce((one, other) => Math.min(one, other), Infinity);
  let high = values.reduce((one, other) => Math.max(one, other), -Infinity);
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

// On a page of several runs a mark has the color of its run's lines
const runColor = ({ run }) => (run === undefined ? "" : `s${run % 6}`);

function drawMark(picture, mark, at, floor) {
  const title = svg("title", {}, `step ${mark.step}: ${mark.label}`);
  if (mark.mark !== "tick") {
    picture.append(svg("line", { class: `mark ${mark.mark}`, x1: at, x2: at, y1: margin.top, y2: floor }));
  }
  picture.append(svg("path", { class: `tick ${mark.mark} ${runColor(mark)}`, d: `M${at},${floor + 1}l4,7h-8z` }, title));
}

function swatch({ mark, run }) {
  const picture = svg("svg", { width: 10, height: 16, "aria-hidden": "true" });
  if (mark !== "tick") picture.append(svg("line", { class: `mark ${mark}`, x1: 5, x2: 5, y1: 0, y2: 9 }));
  picture.append(svg("path", { class: `tick ${mark} ${runColor({ run })}`, d: "M5,8l4,7h-8z" }));
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
  const legend = [...kinds.values()].map((mark) => {
    const steps = curves.events.filter((one) => one.label === mark.label).map((one) => one.step);
    const listed = steps.length > 6 ? `${steps.length} times` : `step ${steps.join(", ")}`;
    return element("span", {}, swatch(mark), `${mark.label} (${listed})`);
  });
  const long = legend.length > 10;
  const holder = element("div", { class: "marks" }, ...legend);
  byId("marks").append(long ? element("details", {}, element("summary", {}, `What the ${legend.length} kinds of marks are`), holder) : holder);
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

// ---- how single rollouts were spread -----------------------------------------------------------

const heats = read("heats-data");

function drawHeat(heat, holder) {
  const width = Math.max(260, holder.clientWidth);
  const height = 200;
  const columns = heat.shares.length;
  const rows = heat.shares[0].length;
  const floor = height - margin.bottom;
  const cell = { width: (width - margin.left - margin.right) / columns, height: (floor - margin.top) / rows };
  const x = (column) => margin.left + column * cell.width;
  const y = (row) => floor - row * cell.height; // the lower edge of a row
  const most = Math.max(...heat.shares.flat());
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": describeHeat(heat) });
  const label = (at, text) => picture.append(svg("text", { x: margin.left - 6, y: at + 4, "text-anchor": "end" }, text));
  heat.shares.forEach((shares, column) => shares.forEach((share, row) => {
    if (!share) return;
    const size = { x: x(column), y: y(row + 1), width: cell.width + 0.4, height: cell.height + 0.4 };
    picture.append(svg("rect", { class: "cell", ...size, "fill-opacity": (0.06 + 0.94 * Math.sqrt(share / most)).toFixed(3) }));
  }));
  if (heat.bins) {
    const [low, high] = [heat.labels[0], heat.labels.at(-1)];
    const place = (value) => floor - ((value - low) / (high - low)) * (floor - margin.top);
    const { ticks, step } = niceTicks(low, high, 4);
    for (const tick of ticks) label(place(tick), tickText(tick, step, "number"));
    if (heat.cap && heat.cap <= high) picture.append(svg("line", { class: "reference", x1: margin.left, x2: width - margin.right, y1: place(heat.cap), y2: place(heat.cap) }));
  } else {
    heat.labels.forEach((value, row) => label(y(row + 0.5), show(value, "number")));
  }
  picture.append(svg("line", { class: "axis", x1: margin.left, x2: width - margin.right, y1: floor, y2: floor }));
  const end = heat.first + columns * heat.width;
  for (const tick of niceTicks(heat.first, end - 1, width > 600 ? 10 : 5).ticks.filter(Number.isInteger)) {
    picture.append(svg("text", { x: x((tick - heat.first + 0.5) / heat.width), y: floor + 22, "text-anchor": "middle" }, whole(tick)));
  }
  heat.shares.forEach((shares, column) => {
    const over = svg("rect", { class: "column", x: x(column), y: margin.top, width: cell.width, height: floor - margin.top });
    over.append(svg("title", {}, describeColumn(heat, column)));
    picture.append(over);
  });
  holder.replaceChildren(picture);
}

const stepsOf = (heat, column) => {
  const from = heat.first + column * heat.width;
  return heat.width > 1 ? `steps ${whole(from)} to ${whole(from + heat.width - 1)}` : `step ${whole(from)}`;
};

function describeColumn(heat, column) {
  const parts = heat.shares[column].map((share, row) => {
    const name = heat.bins ? `${show(heat.labels[row], "number")} to ${show(heat.labels[row + 1], "number")}` : show(heat.labels[row], "number");
    return share ? `${name}: ${show(share, "percent")}` : null;
  }).filter(Boolean);
  const listed = parts.length > 8 ? [] : parts;
  return [`${stepsOf(heat, column)}, ${whole(heat.totals[column])} rollouts, middle ${middle(heat, column)}`, ...listed].join("\n");
}

function middle(heat, column) {
  let below = 0;
  const row = heat.shares[column].findIndex((share) => (below += share) >= 0.499);
  if (row < 0) return "\u2013";
  return show(heat.bins ? (heat.labels[row] + heat.labels[row + 1]) / 2 : heat.labels[row], "number");
}

const describeHeat = (heat) =>
  `${heat.title}: ${describeColumn(heat, 0)}; ${describeColumn(heat, heat.shares.length - 1)}`.replaceAll("\n", ", ");

function buildHeats() {
  for (const heat of heats) {
    const holder = element("div");
    const wide = heat.width > 1 ? `A column is ${heat.width} steps` : "A column is a step";
    const cap = heat.cap ? " Dashed: the cap." : "";
    byId("heats").append(element("div", { class: "card chart", id: `heat-${heat.id}` }, element("h3", {}, heat.title),
      element("p", { class: "note" }, `${wide}; the stronger the color, the larger the share of its rollouts.${cap}`), holder));
    new ResizeObserver(() => drawHeat(heat, holder)).observe(holder);
  }
}

if (curves.charts.length) buildCurves();
if (heats.length) buildHeats();
