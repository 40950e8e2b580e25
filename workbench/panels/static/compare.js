// The compare panel. Message shapes are written down in compare.py, beside this file's Python half.

const COLOURS = ["#3155d6", "#d9822b", "#1d9a6c", "#9b5fd0", "#d0493d", "#4b88ad"];

const dot = (place) => {
  const mark = h("span", { class: "wb-dot", "aria-hidden": "true" });
  mark.style.background = COLOURS[place % COLOURS.length];
  return mark;
};

const headRow = (first, runs, side) =>
  h(
    "thead",
    {},
    h(
      "tr",
      {},
      h("th", { scope: "col" }, first),
      ...runs.map((run, place) =>
        h("th", { scope: "col", class: side, title: `run ${run.id}: ${run.name}` }, h("span", { class: "wb-name" }, dot(place), run.name || `run ${run.id}`)),
      ),
    ),
  );

function finalTable({ runs, final }) {
  const rows = final.map((row) => {
    const arrow = { higher: "↑ best", lower: "↓ best" }[row.better] ?? "";
    const cells = row.texts.map((text, place) => {
      const best = row.best[place];
      const missing = row.values[place] === null && text === "–";
      return h(
        "td",
        { class: `wb-end${best ? " wb-best" : ""}${missing ? " wb-muted" : ""}` },
        best && h("span", { role: "img", "aria-label": "best" }, "🏆 "),
        text,
        row.deltas[place] && h("span", { class: "wb-delta" }, ` ${row.deltas[place]}`),
      );
    });
    const name = h("th", { scope: "row", title: row.description || row.name }, row.name, arrow && h("span", { class: "wb-muted" }, ` ${arrow}`));
    return h("tr", {}, name, ...cells);
  });
  if (!rows.length) return h("p", { class: "wb-muted wb-none" }, "These runs have logged no metric yet.");
  return h("table", {}, headRow("Final", runs, "wb-end"), h("tbody", {}, ...rows));
}

function configTable({ runs, config }, onlyDifferences) {
  const shown = config.filter((row) => row.differs || !onlyDifferences);
  if (!shown.length) {
    const said = config.length ? "Every setting is the same." : "These runs have no settings.";
    return h("p", { class: "wb-muted wb-none" }, said);
  }
  const rows = shown.map((row) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", class: "wb-muted", title: row.key }, row.key),
      ...row.values.map((value, place) =>
        h("td", { title: value }, h("span", { class: row.odd[place] ? "wb-value wb-odd" : "wb-value" }, value)),
      ),
    ),
  );
  return h("table", {}, headRow("Config", runs, ""), h("tbody", {}, ...rows));
}

function runPicker(model, runs, chosen) {
  const choose = (id, wanted) => {
    const rest = model.get("state").chosen.filter((one) => one !== id);
    model.send({ type: "choose", runs: wanted ? [...rest, id] : rest });
  };
  return runs.map((run) =>
    h(
      "label",
      { class: "wb-run-line", title: `${run.experiment} · ${run.name}` },
      h("input", {
        type: "checkbox",
        "data-run": run.id,
        checked: chosen.includes(run.id),
        onchange: (event) => choose(run.id, event.target.checked),
      }),
      h("span", { class: "wb-run-name" }, `#${run.id} ${run.name}`),
      h("span", { class: "wb-muted" }, run.status === "succeeded" ? run.experiment : `${run.experiment} · ${run.status}`),
    ),
  );
}

function render({ model, el }) {
  const title = h("h2", {});
  const baseline = h("span", { class: "wb-muted" });
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const picker = h("fieldset", { class: "wb-runs" });
  const config = h("div", { class: "wb-scroll", tabindex: "0", role: "region", "aria-label": "Config" });
  const final = h("div", { class: "wb-scroll", tabindex: "0", role: "region", "aria-label": "Final values" });
  const only = h("input", { type: "checkbox", checked: true, onchange: () => update() });
  const onlyLabel = h("label", { class: "wb-only" }, only, "only what differs");
  const empty = h("div", { class: "wb-empty" });
  const body = h("div", { class: "wb-body" }, final, config);
  let drawnRuns = "";

  function drawPicker({ runs, chosen }) {
    const now = JSON.stringify([runs, chosen]);
    if (now === drawnRuns) return;
    drawnRuns = now;
    const focused = picker.contains(document.activeElement) ? document.activeElement.dataset.run : null;
    picker.replaceChildren(h("legend", {}, "Runs, newest first"), ...runPicker(model, runs, chosen));
    if (focused) picker.querySelector(`[data-run="${focused}"]`)?.focus();
  }

  function update() {
    const { runs = [], chosen = [], comparison, problem: trouble } = model.get("state");
    const count = comparison?.runs.length ?? 0;
    setText(title, count > 1 ? `Compare ${count} runs` : count ? "One run" : "Compare runs");
    baseline.replaceChildren(...(count > 1 ? ["baseline ", h("b", {}, comparison.runs[0].name || `run ${comparison.runs[0].id}`)] : []));
    problem.hidden = !trouble;
    problem.replaceChildren(...(trouble ? [h("b", {}, trouble.message), h("span", {}, trouble.hint)] : []));
    picker.hidden = !runs.length;
    drawPicker({ runs, chosen });
    body.hidden = !comparison;
    onlyLabel.hidden = count < 2;
    empty.hidden = !!comparison || !!trouble;
    const hints = runs.length ? [h("b", {}, "No run is chosen"), "Tick the runs to compare."] : [h("b", {}, "No runs yet"), "A training job starts one; so does ws.start_run(…)."];
    empty.replaceChildren(...hints);
    if (!comparison) return;
    final.replaceChildren(finalTable(comparison));
    config.replaceChildren(configTable(comparison, count > 1 && only.checked));
  }

  el.append(
    h(
      "section",
      { class: "wb wb-compare", "data-lm-suppress-shortcuts": "true", "aria-label": "Compare runs" },
      h("div", { class: "wb-bar-top" }, title, h("div", { class: "wb-tools" }, baseline, onlyLabel)),
      problem,
      picker,
      empty,
      body,
    ),
  );
  model.on("change:state", update);
  update();
  const leave = announceView(model);
  return () => {
    model.off("change:state", update);
    leave();
  };
}

export default { render };
