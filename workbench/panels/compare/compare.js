// The compare panel: its messages, its layout and its updates. Message shapes are documented in panel.py.

// Milliseconds until a slider that rests is sent.
const REST = 160;

// The messages of one view of the panel to the kernel. A change takes effect here immediately and stays pending until
// the kernel has answered it, so that older answers do not undo it. `changed` is called after each message.
function connectKernel(model, changed) {
  const viewId = `${Date.now()}-${Math.random()}`;
  let number = 0; // of the last message; the kernel reports the last one it has handled
  let pendingView = {};
  let pendingRuns = null;
  let restTimer = null;

  const state = () => model.get("state");
  const view = () => ({ ...state().view, ...pendingView });
  const chosen = () => pendingRuns ?? state().chosen ?? [];

  function send(message) {
    number += 1;
    model.send({ ...message, view: viewId, number });
    changed();
  }

  function set(change) {
    if (change.better) change = { better: { ...view().better, ...change.better } };
    if (change.axis) change = { ...change, window: null };
    pendingView = { ...pendingView, ...change };
    send({ type: "set", change });
  }

  // Set the value of a slider once it rests.
  function setSoon(change) {
    pendingView = { ...pendingView, ...change };
    clearTimeout(restTimer);
    restTimer = setTimeout(() => set(change), REST);
  }

  function choose(runs) {
    pendingRuns = runs;
    send({ type: "choose", runs });
  }

  // Drop what is pending if the kernel has answered the last message.
  function settle() {
    if ((state().heard?.[viewId] ?? 0) < number) return;
    pendingView = {};
    pendingRuns = null;
  }
  return { state, view, chosen, send, set, setSoon, choose, settle, stop: () => clearTimeout(restTimer) };
}

// Make the parts of the page and put them together.
function layOut(panel, status, { savePicture, act, highlight }) {
  const title = h("h2", {});
  const spoken = h("div", { class: "wb-apart", "aria-live": "polite" });
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const empty = h("div", { class: "wb-empty" });
  const tools = makeTools(panel, savePicture);
  const list = makeRunList(({ choose: ids, column, order, find }) => {
    if (ids) panel.choose(ids);
    else if (order) panel.send({ type: "order", ...order });
    else if (find !== undefined) panel.send({ type: "find", where: find });
    else panel.set({ column });
  });
  const fold = h("details", { class: "wb-fold", open: true }, h("summary", {}, "Runs"), list.el);
  const chips = makeChips(panel);
  const controls = makeControls(panel);
  const charts = makeChartList(panel, act);
  const legend = makeLegend(panel, { drawCharts: charts.draw, highlight });
  const tables = makeTables(panel);
  const parallel = makeParallel(panel, act);
  const body = h("div", { class: "wb-body" }, tables.config, h("div", { class: "wb-row" }, chips.el, controls.el), legend.el, charts.el, parallel.el, tables.final);
  const heading = h("div", { class: "wb-bar-top" }, h("div", { class: "wb-heading" }, title, status), tools.el);
  const root = h("section", { class: "wb wb-compare", "data-lm-suppress-shortcuts": "true", "aria-label": "Compare runs" }, heading, problem, fold, empty, body, spoken);
  return { root, title, spoken, problem, empty, tools, list, fold, chips, controls, charts, legend, tables, parallel, body };
}

function emptyText(runs) {
  if (runs.length) return [h("b", {}, "No runs selected"), "Select runs to compare."];
  return [h("b", {}, "No runs yet"), "Create one with a training job or ws.start_run(…)."];
}

// Draw the parts that need no comparison; returns whether there is one.
function drawFrame(page, panel) {
  const now = panel.state();
  const { runs = [], comparison, problem: failure } = now;
  const count = comparison ? now.chosen.length : 0;
  setText(page.title, count > 1 ? `Compare ${count} runs` : count ? "One run" : "Compare runs");
  page.problem.hidden = !failure;
  page.problem.replaceChildren(...(failure ? [h("b", {}, failure.message), h("span", {}, failure.hint)] : []));
  page.fold.hidden = !runs.length && !now.found && !now.ordered;
  page.list.draw({ ...now, runs, chosen: panel.chosen() });
  page.tools.show(count);
  page.body.hidden = !comparison;
  page.empty.hidden = !!comparison || !!failure;
  page.empty.replaceChildren(...emptyText(runs));
  return !!comparison;
}

function drawComparison(page) {
  page.tools.draw();
  page.controls.draw();
  page.chips.draw();
  page.legend.draw();
  page.tables.draw(page.body);
  page.charts.draw();
  page.parallel.draw(page.body.clientWidth);
}

// Highlight runs everywhere on the page; without ids, reset all.
function highlightRuns(page, ids) {
  page.charts.highlight(ids);
  page.parallel.highlight(ids);
  for (const node of page.root.querySelectorAll("[data-run-row], [data-run-head], [data-run-key]")) {
    const id = Number(node.dataset.runRow ?? node.dataset.runHead ?? node.dataset.runKey);
    node.classList.toggle("wb-warm", ids.includes(id));
  }
}

function savePicture(page, panel, status, kind) {
  const pictures = page.charts.pictures();
  if (!pictures.length) return setText(status, "No curves to save yet.");
  const shown = describedIds(panel).filter((id) => !panel.hidden.has(id));
  const text = chartsAsSvg(page.root, pictures, shown.map((id) => panel.info.get(id)));
  if (kind === "svg") return keepFile("curves.svg", new Blob([text], { type: "image/svg+xml" }));
  return svgAsPng(text, (blob) => keepFile("curves.png", blob));
}

// Call `resized` with the new width when the charts change theirs; returns a function that stops this.
function watchWidth(charts, resized) {
  let width = 0;
  const observer = new ResizeObserver(() => {
    const now = charts.width();
    if (!now || now === width) return;
    width = now;
    resized(now);
  });
  observer.observe(charts.el);
  return () => observer.disconnect();
}

// Subscribe to events of the model; returns a function that unsubscribes.
function subscribe(model, handlers) {
  for (const [name, handler] of Object.entries(handlers)) model.on(name, handler);
  return () => {
    for (const [name, handler] of Object.entries(handlers)) model.off(name, handler);
  };
}

function render({ model, el }) {
  const status = h("span", { class: "wb-muted wb-status", role: "status" });
  const panel = { ...connectKernel(model, () => update()), info: new Map(), hidden: new Set(), lines: [] };
  const highlight = (ids) => highlightRuns(page, ids);
  const act = ({ zoom, hot, say }) => {
    if (zoom !== undefined) {
      if (zoom || panel.view().window) panel.set({ window: zoom });
    } else if (hot) highlight(hot);
    else if (say) setText(page.spoken, say);
  };
  const page = layOut(panel, status, { savePicture: (kind) => savePicture(page, panel, status, kind), act, highlight });

  function update() {
    panel.settle();
    panel.info = describeRuns(panel.state());
    for (const id of [...panel.hidden]) if (!panel.chosen().includes(id)) panel.hidden.delete(id);
    if (drawFrame(page, panel)) drawComparison(page);
    if (page.charts.pictures().length) setText(status, ""); // an earlier note that there were none to save
  }

  let frame = 0;
  const updateSoon = () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(update);
  };
  const readCurves = () => {
    panel.lines = readLines(model.get("curves"), model.get("live"));
    updateSoon();
  };
  const saveFile = (message) => {
    if (message?.type === "file") keepFile(message.name, new Blob([message.text], { type: `${message.mime};charset=utf-8` }));
  };

  el.append(page.root);
  panel.lines = readLines(model.get("curves"), model.get("live"));
  update();
  const unsubscribe = subscribe(model, { "change:state": updateSoon, "change:curves": readCurves, "change:live": readCurves, "msg:custom": saveFile });
  const clock = setInterval(page.list.tick, 1000);
  const unwatch = watchWidth(page.charts, (width) => {
    updateSoon();
    // The kernel thins curves to this width; small changes do not matter.
    if (Math.abs(width - panel.state().view.width) > 120) panel.set({ width });
  });
  const leave = announceView(model);
  return () => {
    unwatch();
    clearInterval(clock);
    panel.stop();
    cancelAnimationFrame(frame);
    unsubscribe();
    leave();
  };
}

export default { render, keepsChoices: true };
