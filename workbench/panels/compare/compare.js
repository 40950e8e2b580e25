// The compare panel. Message shapes are written down in compare.py, beside this file's Python half.

// So many chips stand openly, and so many axes in the parallel coordinates.
const OPEN_CHIPS = 10;
const MOST_AXES = 9;

// Milliseconds: how long a silent kernel is not remarked on, and how long a slider rests before it is sent.
const SILENCE = 700;
const REST = 160;

function render({ model, el }) {
  const me = `${Date.now()}-${Math.random()}`;
  let number = 0; // of the last message that changes something; the kernel says which it has heard
  let pending = {}; // what was changed here and the kernel has not answered yet
  let pendingChosen = null;
  let lines = [];
  const hidden = new Set();
  const charts = new Map(); // metric -> chart
  let allChips = false;
  let info = new Map();
  let silence = null;
  let drawnTables = "";
  let drawnParallel = "";
  let drawnLegend = "";

  // Words to the kernel -------------------------------------------------------------------------------------

  const state = () => model.get("state");
  const view = () => ({ ...state().view, ...pending });
  const chosen = () => pendingChosen ?? state().chosen ?? [];

  function tell(message) {
    number += 1;
    model.send({ ...message, view: me, number });
    clearTimeout(silence);
    silence = setTimeout(() => setText(status, "The kernel is busy: it answers when its cell has run."), SILENCE);
    update();
  }

  function set(change) {
    if (change.better) change = { better: { ...view().better, ...change.better } };
    if (change.axis) change = { ...change, window: null };
    pending = { ...pending, ...change };
    tell({ type: "set", change });
  }

  function choose(runs) {
    pendingChosen = runs;
    tell({ type: "choose", runs });
  }

  function heard() {
    if ((state().heard?.[me] ?? 0) < number) return;
    pending = {};
    pendingChosen = null;
    clearTimeout(silence);
    setText(status, "");
  }

  // Parts of the page ---------------------------------------------------------------------------------------

  const title = h("h2", {});
  const status = h("span", { class: "wb-muted wb-status", role: "status" });
  const spoken = h("div", { class: "wb-apart", "aria-live": "polite" });
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const empty = h("div", { class: "wb-empty" });

  const baseline = h("select", { "aria-label": "baseline", onchange: (event) => set({ baseline: event.target.value ? Number(event.target.value) : null }) });
  const baselineLabel = h("label", { class: "wb-inline" }, "baseline", baseline);
  const only = h("input", { type: "checkbox", onchange: (event) => set({ differences: event.target.checked }) });
  const onlyLabel = h("label", { class: "wb-inline wb-only" }, only, "only what differs");
  const ask = (kind) => () => tell({ type: "export", kind });
  const keep = [["CSV", ask("csv")], ["Markdown", ask("md")], ["LaTeX", ask("tex")], ["SVG", () => keepPicture("svg")], ["PNG", () => keepPicture("png")]];
  const exports = h("div", { class: "wb-exports", role: "group", "aria-label": "Save the comparison as" }, ...keep.map(([label, act]) => h("button", { type: "button", onclick: act }, label)));
  const tools = h("div", { class: "wb-tools" }, baselineLabel, onlyLabel, exports);

  const list = makeRunList(({ choose: ids, column }) => (ids ? choose(ids) : set({ column })));
  const fold = h("details", { class: "wb-fold", open: true }, h("summary", {}, "Runs"), list.el);

  const config = h("div", { class: "wb-scroll", tabindex: "0", role: "region", "aria-label": "Config" });
  const chips = h("div", { class: "wb-chips", role: "group", "aria-label": "Metrics with a chart" });
  const axis = h("select", { "aria-label": "x axis", onchange: (event) => set({ axis: event.target.value }) });
  const smoothing = h("input", { type: "range", "aria-label": "smoothing", min: 0, max: 0.99, step: 0.01, oninput: () => slide() });
  const smoothingText = h("output", { class: "wb-num" });
  const log = h("input", { type: "checkbox", "aria-label": "log scale", onchange: (event) => set({ log: event.target.checked }) });
  const average = h("select", { "aria-label": "mean over", onchange: (event) => set({ average: event.target.value || null }) });
  const reset = h("button", { type: "button", class: "wb-reset", hidden: true, onclick: () => set({ window: null }) }, "Show all of the axis");
  const controls = h(
    "div",
    { class: "wb-controls" },
    reset,
    h("label", { class: "wb-inline" }, "x", axis),
    h("label", { class: "wb-inline" }, "smoothing", smoothing, smoothingText),
    h("label", { class: "wb-inline" }, "mean over", average),
    h("label", { class: "wb-inline" }, log, "log"),
  );
  const legend = h("div", { class: "wb-legend", role: "group", "aria-label": "Runs in the charts" });
  const stage = h("div", { class: "wb-charts" });
  const parallel = h("div", { class: "wb-scroll", tabindex: "0", role: "region", "aria-label": "Parallel coordinates" });
  const final = h("div", { class: "wb-scroll", tabindex: "0", role: "region", "aria-label": "Final values" });
  const body = h("div", { class: "wb-body" }, config, h("div", { class: "wb-row" }, chips, controls), legend, stage, parallel, final);

  let resting = null;
  function slide() {
    const weight = Number(smoothing.value);
    setText(smoothingText, weight.toFixed(2));
    pending = { ...pending, smoothing: weight };
    clearTimeout(resting);
    resting = setTimeout(() => set({ smoothing: weight }), REST);
  }

  function keepPicture(kind) {
    const metrics = (view().metrics ?? []).filter((metric) => charts.get(metric)?.svg.hasChildNodes());
    if (!metrics.length) return setText(status, "There is no curve to save yet.");
    const shown = chosen().filter((run) => !hidden.has(run) && info.has(run));
    const text = chartsAsSvg(el.querySelector(".wb"), metrics.map((metric) => ({ svg: charts.get(metric).svg, title: metric })), shown.map((run) => info.get(run)));
    if (kind === "svg") return keepFile("curves.svg", new Blob([text], { type: "image/svg+xml" }));
    return svgAsPng(text, (blob) => keepFile("curves.png", blob));
  }

  // What is known of a run ------------------------------------------------------------------------------------

  function readInfo({ runs: listed, chosen: ids, slots, comparison }) {
    const byId = new Map(listed.map((run) => [run.id, run]));
    const differing = (comparison?.config ?? []).filter((row) => row.which);
    info = new Map();
    ids.forEach((id, place) => {
      const run = byId.get(id);
      if (!run) return;
      const told = differing.slice(0, 4).map((row) => `${row.key} ${row.texts[row.which[place]]}`);
      if (differing.length > 4) told.push(`and ${differing.length - 4} more`);
      info.set(id, { id, name: runName(run), slot: slots[place], differs: told.join(" · "), run });
    });
  }

  function lineInfo(line) {
    const first = info.get(line.runs[0]);
    if (!first) return { name: `run ${line.runs[0]}`, slot: 0, differs: "" };
    if (line.runs.length === 1) return first;
    return { ...first, name: `${first.name} and ${line.runs.length - 1} more`, differs: `mean of ${line.runs.length} runs` };
  }

  function heat(ids) {
    for (const chart of charts.values()) chart.heat(ids);
    const plot = parallel.querySelector("svg");
    if (plot) heatPaths(plot, ids);
    for (const node of el.querySelectorAll("[data-run-row], [data-run-head], [data-run-key]")) {
      const id = Number(node.dataset.runRow ?? node.dataset.runHead ?? node.dataset.runKey);
      node.classList.toggle("wb-warm", ids.includes(id));
    }
  }

  const act = ({ zoom, hot, say }) => {
    if (zoom !== undefined) {
      if (zoom || view().window) set({ window: zoom });
    } else if (hot) heat(hot);
    else if (say) setText(spoken, say);
  };

  // Drawing ---------------------------------------------------------------------------------------------------

  function drawControls() {
    const now = view();
    const { comparison, metrics = [] } = state();
    const differing = (comparison?.config ?? []).filter((row) => row.which).map((row) => row.key);
    fill(axis, [["step", "step"], ["time", "wall time"], ["relative", "time since start"], ...metrics.map((name) => [name, name])], now.axis);
    fill(average, [["", "nothing"], ...differing.map((key) => [key, key])], now.average ?? "");
    const ids = chosen().filter((id) => info.has(id));
    fill(baseline, [["", ids.length ? `first (${info.get(ids[0]).name})` : "first"], ...ids.map((id) => [String(id), info.get(id).name])], now.baseline ? String(now.baseline) : "");
    if (document.activeElement !== smoothing) smoothing.value = now.smoothing;
    setText(smoothingText, Number(smoothing.value).toFixed(2));
    log.checked = now.log;
    only.checked = now.differences;
    reset.hidden = !now.window;
  }

  function drawChips() {
    const { comparison } = state();
    const picked = view().metrics ?? [];
    const names = (comparison?.final ?? []).map((row) => row.name);
    const open = allChips || names.length <= OPEN_CHIPS + 2 ? names : names.filter((name, place) => place < OPEN_CHIPS || picked.includes(name));
    const toggle = (name) => set({ metrics: picked.includes(name) ? picked.filter((one) => one !== name) : [...picked, name] });
    const buttons = open.map((name) => h("button", { type: "button", class: "wb-chip", title: name, "aria-pressed": String(picked.includes(name)), "data-key": `chip ${name}`, onclick: () => toggle(name) }, name));
    const rest = names.length - open.length;
    const more = rest > 0 || (allChips && names.length > OPEN_CHIPS + 2);
    const fold = () => {
      allChips = !allChips;
      drawChips();
    };
    keepFocus(chips, () => chips.replaceChildren(...buttons, ...(more ? [h("button", { type: "button", class: "wb-chip", "data-key": "chips", "aria-expanded": String(allChips), onclick: fold }, allChips ? "fewer" : `＋ ${rest}`)] : [])));
  }

  function drawLegend() {
    const ids = chosen().filter((id) => info.has(id));
    const now = JSON.stringify([ids.map((id) => [id, info.get(id).name, info.get(id).slot]), [...hidden]]);
    if (now === drawnLegend) return;
    drawnLegend = now;
    const toggle = (id) => {
      if (!hidden.delete(id)) hidden.add(id);
      drawLegend();
      drawCharts();
    };
    const entry = (id) => {
      const { name, slot, differs } = info.get(id);
      return h("button", { type: "button", class: "wb-key", title: `${name}${differs ? `\n${differs}` : ""}`, "aria-pressed": String(!hidden.has(id)), "data-key": `key ${id}`, "data-run-key": id, onclick: () => toggle(id), onpointerenter: () => heat([id]), onpointerleave: () => heat([]) }, swatch(slot), h("span", { class: "wb-name" }, name));
    };
    keepFocus(legend, () => legend.replaceChildren(...ids.map(entry)));
  }

  function drawCharts() {
    const now = view();
    const metrics = now.metrics ?? [];
    const ways = new Map((state().comparison?.final ?? []).map((row) => [row.name, row.better]));
    for (const metric of [...charts.keys()]) if (!metrics.includes(metric)) charts.delete(metric);
    for (const metric of metrics) if (!charts.has(metric)) charts.set(metric, makeChart(act));
    const wanted = metrics.map((metric) => charts.get(metric).el);
    if (wanted.length !== stage.children.length || wanted.some((node, place) => node !== stage.children[place])) stage.replaceChildren(...wanted);
    stage.classList.toggle("wb-one", metrics.length === 1);
    legend.hidden = !metrics.length;
    if (!metrics.length && ways.size) stage.replaceChildren(h("p", { class: "wb-muted wb-none" }, "Choose a metric above to see its curves."));
    for (const metric of metrics) {
      charts.get(metric).draw({ metric, better: ways.get(metric), lines: lines.filter((line) => line.metric === metric), axis: now.axis, log: now.log, window: now.window, hidden, info: lineInfo, waiting: !(state().view.metrics ?? []).includes(metric) || now.axis !== state().view.axis });
    }
  }

  function drawTables() {
    const { comparison, chosen: ids } = state();
    const now = view();
    const shape = JSON.stringify([comparison, ids, state().slots, now.differences, ids.map((id) => info.get(id)?.name)]);
    if (shape === drawnTables) return;
    drawnTables = shape;
    const shown = ids.map((id) => info.get(id));
    keepFocus(body, () => {
      config.replaceChildren(configTable(comparison.config, shown, ids.length > 1 && now.differences));
      final.replaceChildren(finalTable(comparison.final, comparison.base, shown, now.statistic, set));
    });
    config.hidden = !config.textContent;
  }

  function drawParallel() {
    const { comparison, chosen: ids } = state();
    const picked = new Set(view().metrics ?? []);
    const settings = comparison.config.filter((row) => row.which && row.which.length === ids.length && row.texts.length > 1).slice(0, MOST_AXES - Math.min(3, comparison.final.length));
    const metrics = [...comparison.final].sort((a, b) => picked.has(b.name) - picked.has(a.name)).filter((row) => row.values.some((value) => value !== null)).slice(0, Math.max(2, MOST_AXES - settings.length > 4 ? 4 : MOST_AXES - settings.length));
    const shown = ids.map((id) => info.get(id)).filter((run) => !hidden.has(run.id));
    const places = ids.map((id, place) => place).filter((place) => !hidden.has(ids[place]));
    const width = Math.max(body.clientWidth, 420);
    const axes = [
      ...settings.map((row) => {
        const texts = places.map((place) => row.texts[row.which[place]]);
        return { label: row.key, texts, number: row.number, values: texts.map((text) => (row.number ? Number(text) : null)) };
      }),
      ...metrics.map((row) => ({ label: row.name, texts: places.map((place) => row.texts[place]), number: true, values: places.map((place) => row.values[place]), better: row.better })),
    ];
    parallel.hidden = shown.length < 2 || axes.length < 2 || !settings.length || !metrics.length;
    const now = JSON.stringify([axes, shown.map((run) => [run.id, run.slot, run.name]), width]);
    if (parallel.hidden || now === drawnParallel) return;
    drawnParallel = now;
    parallel.replaceChildren(parallelPlot(axes, shown, width, act));
  }

  function update() {
    heard();
    const now = state();
    const { runs: listed = [], comparison, problem: trouble } = now;
    readInfo(now);
    for (const id of [...hidden]) if (!chosen().includes(id)) hidden.delete(id);
    const count = comparison ? now.chosen.length : 0;
    setText(title, count > 1 ? `Compare ${count} runs` : count ? "One run" : "Compare runs");
    problem.hidden = !trouble;
    problem.replaceChildren(...(trouble ? [h("b", {}, trouble.message), h("span", {}, trouble.hint)] : []));
    fold.hidden = !listed.length;
    list.draw({ ...now, runs: listed, chosen: chosen() });
    tools.hidden = !comparison;
    baselineLabel.hidden = onlyLabel.hidden = count < 2;
    body.hidden = !comparison;
    empty.hidden = !!comparison || !!trouble;
    const hints = listed.length ? [h("b", {}, "No run is chosen"), "Tick the runs to compare."] : [h("b", {}, "No runs yet"), "A training job starts one; so does ws.start_run(…)."];
    empty.replaceChildren(...hints);
    if (!comparison) return;
    drawControls();
    drawChips();
    drawLegend();
    drawTables();
    drawCharts();
    drawParallel();
  }

  // Life ------------------------------------------------------------------------------------------------------

  let due = 0;
  const soon = () => {
    cancelAnimationFrame(due);
    due = requestAnimationFrame(update);
  };
  const readAll = () => {
    lines = readLines(model.get("curves"), model.get("live"));
    soon();
  };
  const file = (message) => {
    if (message?.type === "file") keepFile(message.name, new Blob([message.text], { type: `${message.mime};charset=utf-8` }));
  };
  el.append(h("section", { class: "wb wb-compare", "data-lm-suppress-shortcuts": "true", "aria-label": "Compare runs" }, h("div", { class: "wb-bar-top" }, h("div", { class: "wb-heading" }, title, status), tools), problem, fold, empty, body, spoken));

  lines = readLines(model.get("curves"), model.get("live"));
  update();
  model.on("change:state", soon);
  model.on("change:curves", readAll);
  model.on("change:live", readAll);
  model.on("msg:custom", file);
  const clock = setInterval(list.tick, 1000);
  let width = 0;
  const seen = new ResizeObserver(() => {
    const wide = charts.size ? Math.round([...charts.values()][0].el.clientWidth / 20) * 20 : 0;
    if (!wide || wide === width) return;
    width = wide;
    soon();
    // The kernel thins to this width; it need not hear of each pixel.
    if (Math.abs(wide - state().view.width) > 120) set({ width: wide });
  });
  seen.observe(stage);
  const leave = announceView(model);
  return () => {
    seen.disconnect();
    clearInterval(clock);
    clearTimeout(silence);
    cancelAnimationFrame(due);
    model.off("change:state", soon);
    model.off("change:curves", readAll);
    model.off("change:live", readAll);
    model.off("msg:custom", file);
    leave();
  };
}

const fill = (select, options, value) => {
  const now = JSON.stringify(options);
  if (select.dataset.options !== now) {
    select.dataset.options = now;
    select.replaceChildren(...options.map(([one, label]) => h("option", { value: one }, label)));
  }
  if (select.value !== value) select.value = value;
};

export default { render };
