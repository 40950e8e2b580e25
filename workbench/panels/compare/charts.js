// Charts of the compare panel: curves and parallel coordinates, drawn as SVG. The kernel sends thinned lines
// of a few hundred points; nothing is averaged or dropped here.

const COLOUR_COUNT = 10;
const DASHES = ["", "7 3", "2 3"];
const CHART = { height: 214, left: 54, right: 14, top: 10, bottom: 26 };
const MAX_TIP_ROWS = 8;

function g(tag, props = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(props)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const colourOf = (slot) => `var(--wb-s${slot % COLOUR_COUNT})`;
const dashOf = (slot) => DASHES[Math.floor(slot / COLOUR_COUNT) % DASHES.length] || null;

// The line sample next to a name: its colour, and its dashes if there are more runs than colours.
const swatch = (slot) =>
  g("svg", { class: "wb-swatch", width: 16, height: 8, viewBox: "0 0 16 8", "aria-hidden": "true" }, g("path", { d: "M1 4H15", stroke: colourOf(slot), "stroke-width": 3, "stroke-linecap": "round", "stroke-dasharray": dashOf(slot) && "3 4" }));

// Read lines from the traits `curves` and `live`: each has a table of offsets and a block of float32 numbers.
function readLines(...payloads) {
  const lines = [];
  for (const { lines: table = [], data } of payloads) {
    if (!data || !table.length) continue;
    const numbers = new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength));
    for (const { metric, runs, at, count, band, x0 } of table) {
      const part = (place) => numbers.subarray(at + place * count, at + (place + 1) * count);
      lines.push({ metric, runs, x0, count, x: part(0), y: part(1), low: band ? part(2) : null, high: band ? part(3) : null });
    }
  }
  return lines;
}

// Numbers ---------------------------------------------------------------------------------------------------

const minus = (text) => text.replace("-", "−");

function numberText(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return minus(value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e"));
  return minus(String(Number(value.toPrecision(4))));
}

function ticksBetween(low, high, about, finest = 0) {
  const raw = (high - low) / about;
  if (!(raw > 0) || !Number.isFinite(raw)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(finest, power * [1, 2, 5, 10].find((factor) => raw <= power * factor * 1.35));
  const ticks = [];
  for (let place = Math.ceil(low / step); place * step <= high + step * 1e-6; place++) ticks.push(place * step + 0); // + 0: never -0
  return ticks;
}

// Round values on a logarithmic scale, as their logarithms: powers of ten, or values between them.
function logTicks(low, high, about) {
  for (const factors of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]]) {
    const ticks = [];
    for (let power = Math.floor(low); power <= high; power++) ticks.push(...factors.map((factor) => power + Math.log10(factor)));
    const inside = ticks.filter((tick) => tick >= low && tick <= high);
    if (inside.length >= 3) return inside.filter((_, place) => place % Math.ceil(inside.length / (about + 2)) === 0);
  }
  return ticksBetween(10 ** low, 10 ** high, about).filter((tick) => tick > 0).map(Math.log10);
}

const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

function xTicks(low, high, axis, about) {
  if (axis === "step") return ticksBetween(low, high, about, 1); // there is nothing between two steps
  if (axis !== "time" && axis !== "relative") return ticksBetween(low, high, about);
  const step = TIME_STEPS.find((one) => (high - low) / one <= about * 1.2);
  if (!step || high - low < 5) return ticksBetween(low, high, about);
  const offset = axis === "time" ? new Date(low * 1000).getTimezoneOffset() * 60 : 0;
  const ticks = [];
  for (let at = Math.ceil((low - offset) / step) * step + offset; at <= high; at += step) ticks.push(at);
  return ticks;
}

const two = (number) => String(number).padStart(2, "0");

function durationText(seconds) {
  const size = Math.abs(seconds);
  if (size < 60) return `${minus(String(Math.round(seconds * 10) / 10))} s`;
  if (size < 3600) return `${Math.floor(seconds / 60)} min${size % 60 >= 1 ? ` ${Math.round(seconds % 60)} s` : ""}`;
  return `${Math.floor(seconds / 3600)} h${size % 3600 >= 60 ? ` ${Math.round((seconds % 3600) / 60)} min` : ""}`;
}

// The text of an x value; `span` is the width of the axis and sets the precision.
function xText(value, axis, span = 0) {
  if (axis === "relative") return durationText(value);
  if (axis !== "time") return axis === "step" ? Math.round(value).toLocaleString("en-US") : numberText(value);
  const at = new Date(value * 1000);
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}${span < 900 ? `:${two(at.getSeconds())}` : ""}`;
  return span > 129600 ? `${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}` : clock;
}

const axisName = (axis) => ({ step: "step", time: "wall time", relative: "time since start" })[axis] ?? axis;

// Curves ----------------------------------------------------------------------------------------------------

let chartCount = 0;

// One chart. `draw` takes {metric, better, lines, axis, log, window, hidden, info, waiting}; `info(line)`
// returns {name, slot, differs}. `act` receives {zoom}, {hot} or {say}.
function makeChart(act) {
  const name = `wb-chart-${++chartCount}`;
  const title = h("figcaption", { id: name, class: "wb-chart-title" });
  const svg = g("svg", { class: "wb-plot", "aria-hidden": "true" });
  const tip = h("div", { class: "wb-tip", hidden: true });
  const notice = h("p", { class: "wb-chart-none wb-muted", hidden: true });
  const keys = "Left and right arrows move along a curve, up and down arrows between curves; plus and minus zoom, 0 resets the zoom.";
  const stage = h("div", { class: "wb-stage", tabindex: "0", role: "application", "aria-roledescription": "chart", "aria-labelledby": name, "aria-description": keys }, svg, tip, notice);
  const el = h("figure", { class: "wb-chart" }, title, stage);
  let props = null;
  let shape = null; // geometry of the last drawing
  let cursor = null; // {line, place}: the selected point
  let drag = null;

  const transform = (y) => (props.log ? (y > 0 ? Math.log10(y) : NaN) : y);

  function visible() {
    return props.lines.filter((line) => !line.runs.every((run) => props.hidden.has(run)));
  }

  function extent(lines) {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    const window = props.window;
    for (const line of lines) {
      for (let i = 0; i < line.count; i++) {
        const x = line.x0 + line.x[i];
        if (!Number.isFinite(line.y[i])) continue;
        if (window && (x < window[0] || x > window[1])) continue;
        for (const value of line.low ? [line.low[i], line.y[i], line.high[i]] : [line.y[i]]) {
          const y = transform(value);
          if (!Number.isFinite(y)) continue;
          if (y < y0) y0 = y;
          if (y > y1) y1 = y;
        }
        if (x < x0) x0 = x;
        if (x > x1) x1 = x;
      }
    }
    if (window) [x0, x1] = window;
    if (!(y1 >= y0)) return null;
    if (x1 <= x0) [x0, x1] = [x0 - 0.5, x0 + 0.5];
    const pad = (y1 - y0) * 0.06 || Math.abs(y0) * 0.1 || 1;
    return { x0, x1, y0: y0 - pad, y1: y1 + pad };
  }

  function pathOf(line, values) {
    const { across, down } = shape;
    const parts = [];
    let pen = "M";
    for (let i = 0; i < line.count; i++) {
      const y = transform(values[i]);
      if (!Number.isFinite(y)) {
        pen = "M";
        continue;
      }
      const at = `${across(line.x0 + line.x[i]).toFixed(1)} ${down(y).toFixed(1)}`;
      // A point between two gaps is a line of length zero; its round ends make it a dot.
      parts.push(pen === "M" ? `M${at}h0` : `L${at}`);
      pen = "L";
    }
    return parts.join("");
  }

  // Points without a neighbour have no line to be seen by.
  function lonePoints(line) {
    const seen = (i) => i >= 0 && i < line.count && Number.isFinite(transform(line.y[i]));
    const lone = [];
    for (let i = 0; i < line.count; i++) if (seen(i) && !seen(i - 1) && !seen(i + 1)) lone.push(i);
    const places = lone.map((i) => [shape.across(line.x0 + line.x[i]), shape.down(transform(line.y[i]))]);
    return places.filter(([x, y]) => x >= -1 && x <= shape.inner.width + 1 && y >= -1 && y <= shape.inner.height + 1);
  }

  function bandOf(line) {
    const { across, down } = shape;
    const corner = (values, i) => `${across(line.x0 + line.x[i]).toFixed(1)} ${down(transform(values[i])).toFixed(1)}`;
    const places = [];
    for (let i = 0; i < line.count; i++) if (Number.isFinite(transform(line.low[i])) && Number.isFinite(transform(line.high[i]))) places.push(i);
    if (places.length < 2) return "";
    return `M${places.map((i) => corner(line.high, i)).join("L")}L${places.reverse().map((i) => corner(line.low, i)).join("L")}Z`;
  }

  function draw(next) {
    props = next;
    const arrow = { higher: " ↑ best", lower: " ↓ best" }[props.better];
    title.replaceChildren(props.metric, arrow ? h("span", { class: "wb-muted" }, arrow) : "");
    title.title = props.metric;
    const lines = visible();
    const range = extent(lines);
    const width = Math.max(Math.round(stage.clientWidth), 220);
    notice.hidden = !!range;
    svg.toggleAttribute("hidden", !range);
    if (!range) {
      setText(notice, props.waiting ? "Waiting for the kernel…" : emptyReason());
      svg.replaceChildren();
      shape = null;
      hideTip();
      return;
    }
    const inner = { width: width - CHART.left - CHART.right, height: CHART.height - CHART.top - CHART.bottom };
    shape = {
      ...range,
      inner,
      across: (x) => ((x - range.x0) / (range.x1 - range.x0)) * inner.width,
      down: (y) => ((range.y1 - y) / (range.y1 - range.y0)) * inner.height,
      back: (px) => range.x0 + (px / inner.width) * (range.x1 - range.x0),
    };
    svg.setAttribute("viewBox", `0 0 ${width} ${CHART.height}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", CHART.height);
    const parts = [];
    for (const tick of props.log ? logTicks(range.y0, range.y1, 5) : ticksBetween(range.y0, range.y1, 5)) {
      const y = CHART.top + shape.down(tick);
      parts.push(g("path", { d: `M${CHART.left} ${y.toFixed(1)}H${width - CHART.right}`, stroke: "var(--wb-line)" }));
      parts.push(g("text", { x: CHART.left - 8, y: (y + 4).toFixed(1), "text-anchor": "end", fill: "var(--wb-muted)", "font-size": 11 }, numberText(props.log ? 10 ** tick : tick)));
    }
    for (const tick of xTicks(range.x0, range.x1, props.axis, Math.max(2, Math.floor(inner.width / 95)))) {
      const x = CHART.left + shape.across(tick);
      const last = x > width - 30; // a label centred at the edge would be cut off
      parts.push(g("text", { x: last ? width - 2 : x.toFixed(1), y: CHART.height - 8, "text-anchor": last ? "end" : "middle", fill: "var(--wb-muted)", "font-size": 11 }, xText(tick, props.axis, range.x1 - range.x0)));
    }
    // The nested svg cuts off lines that run beyond the zoomed range.
    const plot = g("svg", { x: CHART.left, y: CHART.top, width: inner.width, height: inner.height });
    for (const line of lines) {
      const { slot } = props.info(line);
      if (line.low) plot.append(g("path", { d: bandOf(line), fill: colourOf(slot), "fill-opacity": 0.16, stroke: "none", "data-runs": line.runs.join(" ") }));
    }
    for (const line of lines) {
      const { slot } = props.info(line);
      plot.append(g("path", { class: "wb-line", d: pathOf(line, line.y), fill: "none", stroke: colourOf(slot), "stroke-width": 1.8, "stroke-linejoin": "round", "stroke-linecap": "round", "stroke-dasharray": dashOf(slot), "data-runs": line.runs.join(" ") }));
    }
    // Dots at the edge are whole, so they are outside of the nested svg.
    const dots = lines.flatMap((line) => lonePoints(line).map(([x, y]) => g("circle", { class: "wb-lone", cx: (CHART.left + x).toFixed(1), cy: (CHART.top + y).toFixed(1), r: 3, fill: colourOf(props.info(line).slot), "data-runs": line.runs.join(" ") })));
    svg.replaceChildren(...parts, plot, ...dots);
    // The selected point stays selected while the curve grows.
    if (cursor) {
      const same = lines.find((line) => line.runs.join() === cursor.line.runs.join());
      if (same && cursor.place < same.count) showPoint(same, cursor.place, false);
      else hideTip();
    }
  }

  function emptyReason() {
    if (props.lines.length) return visible().length ? "No values to show on this scale and in this range." : "All curves are hidden.";
    const over = ["step", "time", "relative"].includes(props.axis) ? "" : ` over ${props.axis}`;
    return `None of these runs has logged ${props.metric}${over}.`;
  }

  // The selected point ---------------------------------------------------------------------------------------

  function nearest(line, x) {
    let [place, distance] = [-1, Infinity];
    for (let i = 0; i < line.count; i++) {
      const away = Math.abs(line.x0 + line.x[i] - x);
      if (away < distance && Number.isFinite(transform(line.y[i]))) [place, distance] = [i, away];
    }
    return place;
  }

  const yText = (line, place) => numberText(line.y[place]) + (line.high ? ` ± ${numberText(Number(((line.high[place] - line.low[place]) / 2).toPrecision(2)))}` : "");

  function showPoint(line, place, speak) {
    if (!shape || place < 0) return;
    cursor = { line, place };
    const x = line.x0 + line.x[place];
    const all = visible()
      .map((one) => ({ line: one, place: one === line ? place : nearest(one, x) }))
      .filter((one) => one.place >= 0);
    const height = (one) => shape.down(transform(one.line.y[one.place]));
    const level = shape.down(transform(line.y[place]));
    const near = [...all].sort((a, b) => Math.abs(height(a) - level) - Math.abs(height(b) - level)).slice(0, MAX_TIP_ROWS);
    near.sort((a, b) => height(a) - height(b));
    drawCursor(x, all);
    const rows = near.map((one) => {
      const { name: label, slot, differs } = props.info(one.line);
      const here = one.line === line;
      return h("div", { class: here ? "wb-tip-row wb-tip-here" : "wb-tip-row" }, swatch(slot), h("span", { class: "wb-tip-name" }, label), h("span", { class: "wb-tip-value" }, yText(one.line, one.place)), differs && here && h("span", { class: "wb-tip-differs" }, differs));
    });
    const rest = all.length - near.length;
    tip.replaceChildren(h("div", { class: "wb-muted" }, `${axisName(props.axis)} ${xText(x, props.axis)}`), ...rows, rest > 0 && h("div", { class: "wb-muted" }, `and ${rest} more`) || "");
    tip.hidden = false;
    const left = CHART.left + shape.across(x);
    const width = CHART.left + shape.inner.width + CHART.right;
    const right = left + 14 + tip.offsetWidth <= width || left < width / 2;
    tip.style.left = `${Math.max(0, right ? left + 14 : left - 14 - tip.offsetWidth)}px`;
    tip.style.top = `${CHART.top}px`;
    act({ hot: line.runs });
    if (speak) {
      const { name: label, differs } = props.info(line);
      act({ say: `${label}, ${axisName(props.axis)} ${xText(x, props.axis)}: ${yText(line, place)}${differs ? `; ${differs}` : ""}` });
    }
  }

  function drawCursor(x, all) {
    svg.querySelector(".wb-cursor")?.remove();
    const at = CHART.left + shape.across(x);
    const dots = all.map(({ line, place }) => {
      const px = CHART.left + shape.across(line.x0 + line.x[place]);
      if (px < CHART.left - 1 || px > CHART.left + shape.inner.width + 1) return null;
      return g("circle", { cx: px, cy: CHART.top + shape.down(transform(line.y[place])), r: line === cursor.line ? 4.5 : 2.5, fill: colourOf(props.info(line).slot), stroke: "var(--wb-card)", "stroke-width": 1.5 });
    });
    svg.append(g("g", { class: "wb-cursor" }, g("path", { d: `M${at} ${CHART.top}V${CHART.top + shape.inner.height}`, stroke: "var(--wb-edge)", "stroke-dasharray": "2 3" }), ...dots));
  }

  function hideTip() {
    cursor = null;
    tip.hidden = true;
    svg.querySelector(".wb-cursor")?.remove();
    act({ hot: [] });
  }

  function placeOf(event) {
    const box = svg.getBoundingClientRect();
    return { px: event.clientX - box.left - CHART.left, py: event.clientY - box.top - CHART.top };
  }

  stage.addEventListener("pointermove", (event) => {
    if (!shape) return;
    const { px, py } = placeOf(event);
    if (drag) {
      drag.to = Math.min(Math.max(px, 0), shape.inner.width);
      drawSelection();
      return;
    }
    const x = shape.back(px);
    const closest = visible()
      .map((line) => ({ line, place: nearest(line, x) }))
      .filter((one) => one.place >= 0)
      .map((one) => ({ ...one, away: Math.hypot(shape.down(transform(one.line.y[one.place])) - py, shape.across(one.line.x0 + one.line.x[one.place]) - px) }))
      .sort((a, b) => a.away - b.away)[0];
    if (closest) showPoint(closest.line, closest.place, false);
  });
  stage.addEventListener("pointerleave", () => drag || hideTip());
  stage.addEventListener("pointerdown", (event) => {
    if (!shape || event.button !== 0) return;
    const { px } = placeOf(event);
    drag = { from: Math.min(Math.max(px, 0), shape.inner.width), to: px };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointerup", () => {
    const done = drag;
    drag = null;
    svg.querySelector(".wb-selection")?.remove();
    if (!done || !shape || Math.abs(done.to - done.from) < 6) return;
    hideTip();
    act({ zoom: [shape.back(Math.min(done.from, done.to)), shape.back(Math.max(done.from, done.to))] });
  });
  stage.addEventListener("pointercancel", () => {
    drag = null;
    svg.querySelector(".wb-selection")?.remove();
  });
  stage.addEventListener("dblclick", () => act({ zoom: null }));
  stage.addEventListener("blur", hideTip);

  function drawSelection() {
    svg.querySelector(".wb-selection")?.remove();
    const [from, to] = [Math.min(drag.from, drag.to), Math.max(drag.from, drag.to)];
    svg.append(g("rect", { class: "wb-selection", x: CHART.left + from, y: CHART.top, width: to - from, height: shape.inner.height, fill: "var(--wb-accent)", "fill-opacity": 0.12 }));
  }

  function walk(step) {
    const { line } = cursor;
    let place = cursor.place + step;
    while (place >= 0 && place < line.count && !Number.isFinite(transform(line.y[place]))) place += step;
    if (place >= 0 && place < line.count) showPoint(line, place, true);
  }

  function zoomBy(factor) {
    const middle = cursor ? cursor.line.x0 + cursor.line.x[cursor.place] : (shape.x0 + shape.x1) / 2;
    const low = middle - (middle - shape.x0) * factor;
    const high = middle + (shape.x1 - middle) * factor;
    if (high > low) act({ zoom: [low, high] });
  }

  stage.addEventListener("keydown", (event) => {
    if (!shape || event.altKey || event.ctrlKey || event.metaKey) return;
    const lines = visible();
    const command = { "+": () => zoomBy(0.5), "=": () => zoomBy(0.5), "-": () => zoomBy(2), 0: () => act({ zoom: null }), Escape: () => (cursor ? hideTip() : act({ zoom: null })) }[event.key];
    const start = () => {
      let place = lines[0].count - 1;
      while (place > 0 && !Number.isFinite(transform(lines[0].y[place]))) place--;
      showPoint(lines[0], place, true);
    };
    const move = { ArrowLeft: () => walk(-1), ArrowRight: () => walk(1), ArrowUp: () => other(-1), ArrowDown: () => other(1), Home: () => showPoint(cursor.line, nearest(cursor.line, shape.x0), true), End: () => showPoint(cursor.line, nearest(cursor.line, shape.x1), true) }[event.key];
    function other(step) {
      const at = lines.findIndex((line) => line.runs.join() === cursor.line.runs.join());
      const line = lines[(at + step + lines.length) % lines.length];
      showPoint(line, nearest(line, cursor.line.x0 + cursor.line.x[cursor.place]), true);
    }
    if (!command && !move) return;
    event.preventDefault();
    event.stopPropagation();
    if (command) command();
    else if (cursor) move();
    else start();
  });

  return { el, draw, svg, highlight: (runs) => highlightPaths(svg, runs) };
}

// Highlight the paths of some runs and dim the others; without runs, reset all.
function highlightPaths(svg, runs) {
  svg.classList.toggle("wb-dimmed", runs.length > 0);
  for (const path of svg.querySelectorAll("[data-runs]")) {
    const own = path.dataset.runs.split(" ").map(Number);
    path.classList.toggle("wb-hot", runs.some((run) => own.includes(run)));
  }
}

// Parallel coordinates ----------------------------------------------------------------------------------------

function axisOf({ label, values, texts, number, better }) {
  const known = values.filter((value) => value !== null);
  if (number && known.length) {
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const log = low > 0 && high / low >= 50;
    const scale = (value) => (log ? Math.log(value) : value);
    const [from, to] = low === high ? [scale(low) - 1, scale(high) + 1] : [scale(low), scale(high)];
    const marks = low === high ? [[low, 0.5]] : [[low, 0], [high, 1]];
    return { label, better, at: (place) => (values[place] === null ? null : (scale(values[place]) - from) / (to - from)), marks: marks.map(([value, part]) => [numberText(value), part]), note: log ? "log" : "" };
  }
  const kinds = [...new Set(texts)].sort();
  const part = (text) => (kinds.length > 1 ? kinds.indexOf(text) / (kinds.length - 1) : 0.5);
  const few = kinds.length > 8 ? kinds.filter((_, place) => place % Math.ceil(kinds.length / 8) === 0) : kinds;
  return { label, better, at: (place) => part(texts[place]), marks: few.map((text) => [text, part(text)]), note: "" };
}

// `axes` are {label, values, texts, number, better}; runs are {id, name, slot} in the order of the values.
function parallelPlot(axes, runs, width, act) {
  const [height, top, bottom, side] = [250, 46, 30, 62];
  const svg = g("svg", { class: "wb-parallel", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Parallel coordinates of ${runs.length} runs over ${axes.map((axis) => axis.label).join(", ")}; the tables hold the same values.` });
  const gap = (width - 2 * side) / Math.max(axes.length - 1, 1);
  const shapes = axes.map(axisOf);
  const down = (part) => top + (1 - part) * (height - top - bottom);
  const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const fits = Math.max(6, Math.floor(gap / 6.6));
  runs.forEach((run, place) => {
    const corners = shapes.map((axis, number) => {
      const part = axis.at(place);
      return `${(side + number * gap).toFixed(1)} ${part === null ? height - 8 : down(part).toFixed(1)}`;
    });
    const path = g("path", { class: "wb-line", d: `M${corners.join("L")}`, fill: "none", stroke: colourOf(run.slot), "stroke-width": 1.8, "stroke-linejoin": "round", "stroke-dasharray": dashOf(run.slot), "data-runs": run.id });
    // A broad, invisible line makes the thin one easy to hit.
    const target = g("path", { d: path.getAttribute("d"), fill: "none", stroke: "transparent", "stroke-width": 10 });
    target.append(g("title", {}, run.name));
    target.addEventListener("pointerenter", () => act({ hot: [run.id] }));
    target.addEventListener("pointerleave", () => act({ hot: [] }));
    svg.append(path, target);
  });
  shapes.forEach((axis, number) => {
    const x = side + number * gap;
    const arrow = { higher: " ↑", lower: " ↓" }[axis.better] ?? (axis.note ? ` (${axis.note})` : "");
    const anchor = number === 0 ? "start" : number === shapes.length - 1 ? "end" : "middle";
    const head = g("text", { x: anchor === "start" ? 2 : anchor === "end" ? width - 2 : x, y: 14, "text-anchor": anchor, "font-size": 12, fill: "var(--wb-ink)" }, short(axis.label, fits) + arrow);
    head.append(g("title", {}, axis.label));
    svg.append(g("path", { d: `M${x} ${top}V${height - bottom}`, stroke: "var(--wb-edge)" }), head);
    for (const [text, part] of axis.marks) {
      // End labels go above and below the axis, away from the lines; labels in between go next to it.
      const end = part === 0 || part === 1;
      const y = part === 1 ? top - 7 : part === 0 ? height - bottom + 14 : down(part) + 4;
      const [align, shift] = end ? ["middle", 0] : number === 0 ? ["end", -6] : ["start", 6];
      const label = g("text", { class: "wb-mark", x: x + shift, y, "text-anchor": align, "font-size": 11, fill: "var(--wb-muted)" }, short(text, end ? (number === 0 || number === shapes.length - 1 ? Math.min(fits, 18) : fits) : number === 0 ? 8 : Math.max(5, fits - 3)));
      label.append(g("title", {}, text));
      svg.append(label);
    }
  });
  return svg;
}

// Saving pictures ----------------------------------------------------------------------------------------------

function keepFile(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// One SVG of all charts with their titles and a legend. Colours are resolved, so it needs no style sheet.
function chartsAsSvg(root, charts, legend) {
  const style = getComputedStyle(root);
  const columns = charts.length > 1 ? 2 : 1;
  const size = charts.map(({ svg }) => ({ width: Number(svg.getAttribute("width")), height: CHART.height + 26 }));
  const cell = Math.max(...size.map((one) => one.width));
  const perRow = Math.max(1, Math.floor((cell * columns) / 190));
  const legendHeight = Math.ceil(legend.length / perRow) * 20 + 12;
  const width = cell * columns + 16;
  const height = Math.ceil(charts.length / columns) * (CHART.height + 26) + legendHeight + 8;
  const out = g("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "Inter, system-ui, 'Noto Sans KR', 'Noto Sans CJK KR', sans-serif", "font-size": 12 });
  out.append(g("rect", { width, height, fill: "var(--wb-card)" }));
  legend.forEach(({ name, slot }, place) => {
    const [x, y] = [12 + (place % perRow) * 190, 18 + Math.floor(place / perRow) * 20];
    const text = name.length > 26 ? `${name.slice(0, 25)}…` : name;
    out.append(g("path", { d: `M${x} ${y - 4}h16`, stroke: colourOf(slot), "stroke-width": 3, "stroke-dasharray": dashOf(slot) }), g("text", { x: x + 22, y, fill: "var(--wb-ink)" }, text));
  });
  charts.forEach(({ svg, title }, place) => {
    const [x, y] = [8 + (place % columns) * cell, legendHeight + Math.floor(place / columns) * (CHART.height + 26)];
    const copy = svg.cloneNode(true);
    copy.querySelector(".wb-cursor")?.remove();
    copy.setAttribute("x", x);
    copy.setAttribute("y", y + 22);
    out.append(g("text", { x: x + CHART.left, y: y + 16, fill: "var(--wb-ink)", "font-weight": 600 }, title), copy);
  });
  const text = new XMLSerializer().serializeToString(out);
  return text.replace(/var\((--[\w-]+)\)/g, (_, variable) => style.getPropertyValue(variable).trim() || "#888");
}

function svgAsPng(text, then) {
  const picture = new Image();
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  picture.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = picture.width * 2;
    canvas.height = picture.height * 2;
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(url);
    canvas.toBlob(then, "image/png");
  };
  picture.src = url;
}
