// The parts of the compare panel other than its list of runs. Each takes the panel that compare.js makes, returns its
// element, and draws itself from the panel's current state.

// Maximum number of metrics offered before the rest is folded, and of axes in the parallel coordinates.
const OPEN_CHIPS = 10;
const MAX_AXES = 9;

const region = (label) => h("div", { class: "wb-scroll", tabindex: "0", role: "region", "aria-label": label });
const differingRows = (comparison) => (comparison?.config ?? []).filter((row) => row.which);

// What the parts show of each chosen run, by its id: {id, name, slot, differs, run}.
function describeRuns({ runs, chosen, slots, comparison }) {
  const byId = new Map(runs.map((run) => [run.id, run]));
  const differing = differingRows(comparison);
  const info = new Map();
  chosen.forEach((id, place) => {
    const run = byId.get(id);
    if (!run) return;
    const settings = differing.slice(0, 4).map((row) => `${row.key} ${row.texts[row.which[place]]}`);
    if (differing.length > 4) settings.push(`and ${differing.length - 4} more`);
    info.set(id, { id, name: runName(run), slot: slots[place], differs: settings.join(" · "), run });
  });
  return info;
}

// The same for a line of a chart, which may be the mean of several runs.
function describeLine(info, line) {
  const first = info.get(line.runs[0]);
  if (!first) return { name: `run ${line.runs[0]}`, slot: 0, differs: "" };
  if (line.runs.length === 1) return first;
  return { ...first, name: `${first.name} and ${line.runs.length - 1} more`, differs: `mean of ${line.runs.length} runs` };
}

// The chosen runs that the kernel has described.
const describedIds = (panel) => panel.chosen().filter((id) => panel.info.has(id));

function fill(select, options, value) {
  const now = JSON.stringify(options);
  if (select.dataset.options !== now) {
    select.dataset.options = now;
    select.replaceChildren(...options.map(([one, label]) => h("option", { value: one }, label)));
  }
  if (select.value !== value) select.value = value;
}

// The tools in the heading: baseline, filter of settings, and exports.
function makeTools(panel, savePicture) {
  const baseline = h("select", { "aria-label": "baseline", onchange: (event) => panel.set({ baseline: event.target.value ? Number(event.target.value) : null }) });
  const baselineLabel = h("label", { class: "wb-inline" }, "baseline", baseline);
  const only = h("input", { type: "checkbox", onchange: (event) => panel.set({ differences: event.target.checked }) });
  const onlyLabel = h("label", { class: "wb-inline wb-only" }, only, "differences only");
  const file = (kind) => () => panel.send({ type: "export", kind });
  const formats = [["CSV", file("csv")], ["Markdown", file("md")], ["LaTeX", file("tex")], ["SVG", () => savePicture("svg")], ["PNG", () => savePicture("png")]];
  const exports = h("div", { class: "wb-exports", role: "group", "aria-label": "Save the comparison as" }, ...formats.map(([label, save]) => h("button", { type: "button", onclick: save }, label)));
  const el = h("div", { class: "wb-tools" }, baselineLabel, onlyLabel, exports);
  return {
    el,
    // Show what applies to this number of compared runs.
    show(count) {
      el.hidden = !count;
      baselineLabel.hidden = onlyLabel.hidden = count < 2;
    },
    draw() {
      const now = panel.view();
      const ids = describedIds(panel);
      fill(baseline, [["", ids.length ? `first (${panel.info.get(ids[0]).name})` : "first"], ...ids.map((id) => [String(id), panel.info.get(id).name])], now.baseline ? String(now.baseline) : "");
      only.checked = now.differences;
    },
  };
}

// The controls of the charts: axis, smoothing, mean, scale, and zoom.
function makeControls(panel) {
  const axis = h("select", { "aria-label": "x axis", onchange: (event) => panel.set({ axis: event.target.value }) });
  const smoothing = h("input", { type: "range", "aria-label": "smoothing", min: 0, max: 0.99, step: 0.01, oninput: () => slide() });
  const smoothingText = h("output", { class: "wb-num" });
  const average = h("select", { "aria-label": "mean over", onchange: (event) => panel.set({ average: event.target.value || null }) });
  const log = h("input", { type: "checkbox", "aria-label": "log scale", onchange: (event) => panel.set({ log: event.target.checked }) });
  const reset = h("button", { type: "button", class: "wb-reset", hidden: true, onclick: () => panel.set({ window: null }) }, "Reset zoom");
  const el = h(
    "div",
    { class: "wb-controls" },
    reset,
    h("label", { class: "wb-inline" }, "x", axis),
    h("label", { class: "wb-inline" }, "smoothing", smoothing, smoothingText),
    h("label", { class: "wb-inline" }, "mean over", average),
    h("label", { class: "wb-inline" }, log, "log"),
  );

  function slide() {
    const weight = Number(smoothing.value);
    setText(smoothingText, weight.toFixed(2));
    panel.setSoon({ smoothing: weight });
  }

  function draw() {
    const now = panel.view();
    const { comparison, metrics = [] } = panel.state();
    fill(axis, [["step", "step"], ["time", "wall time"], ["relative", "time since start"], ...metrics.map((name) => [name, name])], now.axis);
    fill(average, [["", "none"], ...differingRows(comparison).map((row) => [row.key, row.key])], now.average ?? "");
    if (document.activeElement !== smoothing) smoothing.value = now.smoothing;
    setText(smoothingText, Number(smoothing.value).toFixed(2));
    log.checked = now.log;
    reset.hidden = !now.window;
  }
  return { el, draw };
}

// The metrics that can have a chart, as buttons.
function makeChips(panel) {
  const el = h("div", { class: "wb-chips", role: "group", "aria-label": "Metrics with a chart" });
  let showAll = false;

  function draw() {
    const picked = panel.view().metrics ?? [];
    const names = (panel.state().comparison?.final ?? []).map((row) => row.name);
    const open = showAll || names.length <= OPEN_CHIPS + 2 ? names : names.filter((name, place) => place < OPEN_CHIPS || picked.includes(name));
    const toggle = (name) => panel.set({ metrics: picked.includes(name) ? picked.filter((one) => one !== name) : [...picked, name] });
    const buttons = open.map((name) => h("button", { type: "button", class: "wb-chip", title: name, "aria-pressed": String(picked.includes(name)), "data-key": `chip ${name}`, onclick: () => toggle(name) }, name));
    const rest = names.length - open.length;
    const foldable = rest > 0 || (showAll && names.length > OPEN_CHIPS + 2);
    const fold = () => {
      showAll = !showAll;
      draw();
    };
    keepFocus(el, () => el.replaceChildren(...buttons, ...(foldable ? [h("button", { type: "button", class: "wb-chip", "data-key": "chips", "aria-expanded": String(showAll), onclick: fold }, showAll ? "fewer" : `＋ ${rest}`)] : [])));
  }
  return { el, draw };
}

// The runs in the charts, each of which can be hidden.
function makeLegend(panel, { drawCharts, highlight }) {
  const el = h("div", { class: "wb-legend", role: "group", "aria-label": "Runs in the charts" });
  let drawn = "";

  function toggle(id) {
    if (!panel.hidden.delete(id)) panel.hidden.add(id);
    draw();
    drawCharts();
  }

  function entry(id) {
    const { name, slot, differs } = panel.info.get(id);
    return h("button", { type: "button", class: "wb-key", title: `${name}${differs ? `\n${differs}` : ""}`, "aria-pressed": String(!panel.hidden.has(id)), "data-key": `key ${id}`, "data-run-key": id, onclick: () => toggle(id), onpointerenter: () => highlight([id]), onpointerleave: () => highlight([]) }, swatch(slot), h("span", { class: "wb-name" }, name));
  }

  function draw() {
    el.hidden = !(panel.view().metrics ?? []).length;
    const ids = describedIds(panel);
    const now = JSON.stringify([ids.map((id) => [id, panel.info.get(id).name, panel.info.get(id).slot]), [...panel.hidden]]);
    if (now === drawn) return;
    drawn = now;
    keepFocus(el, () => el.replaceChildren(...ids.map(entry)));
  }
  return { el, draw };
}

// The charts, one per picked metric, each kept while its metric stays picked.
function makeChartList(panel, act) {
  const el = h("div", { class: "wb-charts" });
  const charts = new Map(); // metric -> chart

  function arrange(metrics) {
    for (const metric of [...charts.keys()]) if (!metrics.includes(metric)) charts.delete(metric);
    for (const metric of metrics) if (!charts.has(metric)) charts.set(metric, makeChart(act));
    const nodes = metrics.map((metric) => charts.get(metric).el);
    if (nodes.length !== el.children.length || nodes.some((node, place) => node !== el.children[place])) el.replaceChildren(...nodes);
    el.classList.toggle("wb-one", metrics.length === 1);
  }

  function draw() {
    const now = panel.view();
    const metrics = now.metrics ?? [];
    const sent = panel.state().view;
    const directions = new Map((panel.state().comparison?.final ?? []).map((row) => [row.name, row.better]));
    arrange(metrics);
    if (!metrics.length && directions.size) el.replaceChildren(h("p", { class: "wb-muted wb-none" }, "Select a metric above to see its curves."));
    for (const metric of metrics) {
      charts.get(metric).draw({
        metric,
        better: directions.get(metric),
        lines: panel.lines.filter((line) => line.metric === metric),
        axis: now.axis,
        log: now.log,
        window: now.window,
        hidden: panel.hidden,
        info: (line) => describeLine(panel.info, line),
        waiting: !(sent.metrics ?? []).includes(metric) || now.axis !== sent.axis,
      });
    }
  }

  return {
    el,
    draw,
    highlight: (ids) => charts.forEach((chart) => chart.highlight(ids)),
    // The charts that show a curve, as chartsAsSvg() takes them.
    pictures: () => (panel.view().metrics ?? []).filter((metric) => charts.get(metric)?.svg.hasChildNodes()).map((metric) => ({ svg: charts.get(metric).svg, title: metric })),
    // The width of a chart in pixels, in steps of 20; 0 without charts.
    width: () => (charts.size ? Math.round([...charts.values()][0].el.clientWidth / 20) * 20 : 0),
  };
}

// The tables: settings, and the final value of each metric.
function makeTables(panel) {
  const config = region("Config");
  const final = region("Final values");
  let drawn = "";

  // `root` holds both tables, so that the focus can return to either.
  function draw(root) {
    const { comparison, chosen: ids, slots, no_metrics: noMetrics } = panel.state();
    const { differences, statistic } = panel.view();
    const now = JSON.stringify([comparison, noMetrics, ids, slots, differences, ids.map((id) => panel.info.get(id)?.name)]);
    if (now === drawn) return;
    drawn = now;
    const shown = ids.map((id) => panel.info.get(id));
    keepFocus(root, () => {
      config.replaceChildren(configTable(comparison.config, shown, ids.length > 1 && differences));
      final.replaceChildren(finalTable(comparison.final, comparison.base, shown, statistic, noMetrics, panel.set));
    });
    config.hidden = !config.textContent;
  }
  return { config, final, draw };
}

// The parallel coordinates: differing settings on the left, metrics on the right.
function parallelAxes(comparison, ids, places, picked) {
  const settings = comparison.config.filter((row) => row.which && row.which.length === ids.length && row.texts.length > 1).slice(0, MAX_AXES - Math.min(3, comparison.final.length));
  const rest = MAX_AXES - settings.length;
  const metrics = [...comparison.final]
    .sort((a, b) => picked.has(b.name) - picked.has(a.name))
    .filter((row) => row.values.some((value) => value !== null))
    .slice(0, Math.max(2, Math.min(rest, 4)));
  return {
    settings: settings.map((row) => {
      const texts = places.map((place) => row.texts[row.which[place]]);
      return { label: row.key, texts, number: row.number, values: texts.map((text) => (row.number ? Number(text) : null)) };
    }),
    metrics: metrics.map((row) => ({ label: row.name, texts: places.map((place) => row.texts[place]), number: true, values: places.map((place) => row.values[place]), better: row.better })),
  };
}

function makeParallel(panel, act) {
  const el = region("Parallel coordinates");
  let drawn = "";

  function draw(available) {
    const { comparison, chosen: ids } = panel.state();
    const shown = ids.map((id) => panel.info.get(id)).filter((run) => !panel.hidden.has(run.id));
    const places = ids.map((_, place) => place).filter((place) => !panel.hidden.has(ids[place]));
    const { settings, metrics } = parallelAxes(comparison, ids, places, new Set(panel.view().metrics ?? []));
    const axes = [...settings, ...metrics];
    const width = Math.max(available, 420);
    el.hidden = shown.length < 2 || axes.length < 2 || !settings.length || !metrics.length;
    const now = JSON.stringify([axes, shown.map((run) => [run.id, run.slot, run.name]), width]);
    if (el.hidden || now === drawn) return;
    drawn = now;
    el.replaceChildren(parallelPlot(axes, shown, width, act));
  }

  function highlight(ids) {
    const plot = el.querySelector("svg");
    if (plot) highlightPaths(plot, ids);
  }
  return { el, draw, highlight };
}
