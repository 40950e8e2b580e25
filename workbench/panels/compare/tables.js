// Tables of the compare panel: the list of runs, what differs, and the final values.

// Up to this many runs are columns; more become rows, so that their names stay readable.
const SIDE_BY_SIDE = 6;

const trophy = () => h("span", { class: "wb-trophy", role: "img", "aria-label": "best" });
const runName = (run) => run.name || `run ${run.id}`;

const runHead = (run, scope) =>
  h("th", { scope, class: "wb-run-head", title: `run ${run.id}: ${run.name}`, "data-run-head": run.id }, h("span", { class: "wb-name" }, swatch(run.slot), runName(run)));

// A table with runs as columns, or as rows if there are many. `rows` are {head(scope), cell(place)}.
function crossTable(first, runs, rows, side) {
  const corner = h("th", { scope: "col" }, ...[first].flat());
  if (runs.length <= SIDE_BY_SIDE) {
    const heads = runs.map((run) => runHead(run, "col"));
    if (side === "end") heads.forEach((head) => head.classList.add("wb-end"));
    return h("table", {}, h("thead", {}, h("tr", {}, corner, ...heads)), h("tbody", {}, ...rows.map((row) => h("tr", {}, row.head("row"), ...runs.map((_, place) => row.cell(place))))));
  }
  const heads = rows.map((row) => row.head("col"));
  if (side === "end") heads.forEach((head) => head.classList.add("wb-end"));
  return h("table", { class: "wb-turned" }, h("thead", {}, h("tr", {}, corner, ...heads)), h("tbody", {}, ...runs.map((run, place) => h("tr", { "data-run-row": run.id }, runHead(run, "row"), ...rows.map((row) => row.cell(place))))));
}

function configTable(config, runs, onlyDifferences) {
  const shown = config.filter((row) => row.which || !onlyDifferences);
  if (!shown.length) {
    const message = !config.length ? "These runs have no settings." : runs.length > 1 ? `All settings are the same (${config.length}).` : "";
    return h("p", { class: "wb-muted wb-none" }, message);
  }
  const rows = shown.map((row) => ({
    head: (scope) => h("th", { scope, class: "wb-muted", title: row.key }, h("span", { class: "wb-value" }, row.key)),
    cell: (place) => {
      const text = row.texts[row.which ? row.which[place] : 0];
      const odd = row.odd.includes(place);
      return h("td", { title: text }, h("span", { class: odd ? "wb-value wb-odd" : "wb-value" }, text), odd && h("span", { class: "wb-apart" }, " (differs)"));
    },
  }));
  return crossTable("Config", runs, rows, "start");
}

const WAYS = { higher: "↑ best", lower: "↓ best" };
const NEXT_WAY = { higher: "lower", lower: null, none: "higher" };

function finalTable(final, base, runs, statistic, noMetrics, act) {
  if (!final.length) return h("p", { class: "wb-muted wb-none" }, noMetrics);
  const rows = final.map((row) => ({
    head: (scope) => {
      const way = row.better ?? "none";
      const direction = row.better ? `${row.better} is better` : "no direction";
      const next = NEXT_WAY[way] ?? "no direction";
      const flip = h("button", { type: "button", class: "wb-way", "data-key": `way ${row.name}`, "aria-label": `${WAYS[row.better] ?? "↑↓"} of ${row.name}: ${direction}; change to ${next}`, title: `${direction}; click for ${next}`, onclick: () => act({ better: { [row.name]: NEXT_WAY[way] } }) }, WAYS[row.better] ?? "↑↓");
      return h("th", { scope, title: row.description || row.name }, h("span", { class: "wb-value" }, row.name), " ", flip);
    },
    cell: (place) => {
      const best = row.best.includes(place);
      const text = row.texts[place];
      // The baseline has no delta; an empty one keeps the columns aligned.
      const delta = row.deltas.some(Boolean) && h("span", { class: "wb-delta" }, row.deltas[place] ? ` ${row.deltas[place]}` : "");
      return h("td", { class: `wb-end${best ? " wb-best" : ""}${text === "–" ? " wb-muted" : ""}` }, best && trophy(), text, delta);
    },
  }));
  const which = h("select", { "aria-label": "Value shown for each metric", "data-key": "statistic", onchange: (event) => act({ statistic: event.target.value }) }, ...[["last", "Final"], ["best", "Best"], ["min", "Lowest"], ["max", "Highest"]].map(([value, label]) => h("option", { value }, label)));
  which.value = statistic;
  return crossTable(which, runs, rows, "end");
}

// The list of runs ----------------------------------------------------------------------------------------------

const SORTS = {
  newest: (a, b) => b.id - a.id,
  name: (a, b) => runName(a).localeCompare(runName(b), undefined, { numeric: true }),
  duration: (a, b) => (secondsOf(b) ?? -1) - (secondsOf(a) ?? -1),
};

const byMetric = (better) => (a, b) => {
  if (a.number === null || b.number === null) return (a.number === null) - (b.number === null);
  return better === "lower" ? a.number - b.number : b.number - a.number;
};

// null where it is unknown when a run began or ended, as after an import without usable times.
const secondsOf = (run) => {
  const end = run.ended ?? (run.status === "running" ? Date.now() / 1000 : null);
  return run.began === null || end === null ? null : Math.max(end - run.began, 0);
};
const durationOf = (run) => (secondsOf(run) === null ? "–" : durationText(Math.round(secondsOf(run))));
const matches = (run, words) => {
  const text = [`#${run.id}`, run.name, run.experiment, run.status, ...run.tags, run.notes].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
};

// `state` is {runs, more, chosen, slots, metrics, column}; `act` receives {choose} or {column}.
function makeRunList(act) {
  const search = h("input", { type: "text", class: "wb-search", placeholder: "Search name, tag, state, notes", "aria-label": "Search runs", oninput: () => draw() });
  const note = h("span", { class: "wb-muted", role: "status" });
  const all = h("button", { type: "button", onclick: () => act({ choose: [...new Set([...last.chosen, ...shown.map((run) => run.id)])] }) }, "Select all shown");
  const none = h("button", { type: "button", onclick: () => act({ choose: [] }) }, "Select none");
  const column = h("select", { "aria-label": "Metric shown for each run", onchange: (event) => act({ column: event.target.value }) });
  // The table of final values may show another value of the same metric.
  const which = h("span", { class: "wb-which" });
  const sort = h("select", { "aria-label": "Sort runs", onchange: () => draw() }, ...[["newest", "newest first"], ["name", "by name"], ["duration", "longest first"], ["value", "by metric"]].map(([value, label]) => h("option", { value }, label)));
  const body = h("tbody", {});
  const heads = ["", "Run", "Experiment", "Tags", "State", "Duration"].map((text) => h("th", { scope: "col" }, text || h("span", { class: "wb-apart" }, "Compare")));
  const table = h("table", {}, h("thead", {}, h("tr", {}, ...heads, h("th", { scope: "col", class: "wb-end" }, which, column))), body);
  const scroll = h("div", { class: "wb-scroll wb-run-scroll", tabindex: "0", role: "region", "aria-label": "Runs" }, table);
  const el = h("div", { class: "wb-runs" }, h("div", { class: "wb-run-tools" }, search, sort, all, none, note), scroll);
  // A condition on all runs, evaluated by the database; the box above searches only in the list.
  const where = h("input", { type: "text", class: "wb-where", placeholder: "Filter all runs: config.lr < 0.01 and tag:baseline", "aria-label": "Filter all runs by a condition", spellcheck: "false", autocomplete: "off", onkeydown: (event) => event.key === "Enter" && act({ find: where.value }), onchange: () => act({ find: where.value }) });
  const wrong = h("pre", { class: "wb-wrong", role: "alert", hidden: true });
  const order = makeOrder(act);
  el.querySelector(".wb-run-tools").after(h("div", { class: "wb-run-tools" }, where, order.el), wrong, order.said);
  let last = null;
  let shown = [];
  let drawn = "";

  function row(run, chosen) {
    const slot = last.slots[last.chosen.indexOf(run.id)];
    const toggle = (event) => act({ choose: event.target.checked ? [...last.chosen, run.id] : last.chosen.filter((id) => id !== run.id) });
    const box = h("input", { type: "checkbox", id: `${el.dataset.name}-${run.id}`, "data-run": run.id, "data-key": `run ${run.id}`, checked: chosen, "aria-label": `Compare run ${run.id} ${run.name}`, onchange: toggle });
    const tags = run.tags.map((tag) => h("span", { class: "wb-tag", title: tag }, tag));
    return h(
      "tr",
      { class: chosen ? "wb-chosen" : null, "data-run-row": run.id },
      h("td", {}, box),
      h("td", { title: run.notes ? `${run.name}\n${run.notes}` : run.name }, h("label", { class: "wb-name", for: box.id }, slot === undefined ? h("span", { class: "wb-swatch" }) : swatch(slot), runName(run)), h("span", { class: "wb-muted" }, ` #${run.id}`)),
      h("td", { class: "wb-muted", title: run.experiment }, h("span", { class: "wb-name" }, run.experiment)),
      h("td", { class: "wb-tags" }, ...tags, run.archived && h("span", { class: "wb-tag wb-muted" }, "archived")),
      h("td", {}, h("span", { class: `wb-pill wb-${run.status}` }, run.status), run.reason && h("span", { class: "wb-name wb-reason", title: run.reason }, run.reason)),
      h("td", { class: "wb-muted wb-num", "data-began": run.status === "running" && !run.ended ? run.began : null }, durationOf(run)),
      h("td", { class: run.best ? "wb-end wb-best" : "wb-end" }, run.best && trophy(), run.value || h("span", { class: "wb-muted" }, "–")),
    );
  }

  function draw(state = last) {
    last = state;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    order.draw(state);
    wrong.hidden = !state.found?.problem;
    setText(wrong, state.found?.problem ?? "");
    where.setAttribute("aria-invalid", String(!wrong.hidden));
    shown = state.runs.filter((run) => matches(run, words)).sort(SORTS[sort.value] ?? byMetric(state.column_better));
    sayCount(words);
    const now = JSON.stringify([shown, state.chosen, state.slots, state.metrics, state.column, state.column_better, state.more]);
    if (now === drawn) return;
    drawn = now;
    const picked = new Set(state.chosen);
    keepFocus(el, () => {
      column.replaceChildren(...state.metrics.map((name) => h("option", { value: name }, name)));
      column.value = state.column ?? "";
      column.hidden = !state.metrics.length;
      which.textContent = !state.metrics.length ? "" : state.column_better ? "best " : "final ";
      body.replaceChildren(...shown.map((run) => row(run, picked.has(run.id))));
    });
    all.disabled = !shown.some((run) => !picked.has(run.id));
    none.disabled = !state.chosen.length;
  }

  // What the list shows of how many; older runs are not in it, whether they match or not.
  function sayCount(words) {
    const { runs, more, chosen } = last;
    const listed = runs.length.toLocaleString("en-US");
    const { found: condition } = last;
    const beyond = condition && condition.count > runs.length ? ` of ${condition.count.toLocaleString("en-US")} that match` : "";
    const pool = beyond ? `${listed}${beyond}` : more ? `the ${listed} newest runs` : runs.length === 1 ? "1 run" : `${listed} runs`;
    const found = words.length ? (shown.length ? `${shown.length} of ${pool}` : `None of ${pool.replace(/^1 run$/, "the runs")} matches “${search.value.trim()}”`) : pool.charAt(0).toUpperCase() + pool.slice(1);
    const older = more && words.length ? "older runs are not searched" : "";
    note.title = more ? "wb.panels.ComparePanel(ws, runs=[…]) shows older runs by their ids" : "";
    setText(note, [found, older, `${chosen.length} selected`].filter(Boolean).join(" · "));
  }

  const tick = () => {
    for (const cell of body.querySelectorAll("[data-began]")) setText(cell, durationText(Math.round(Date.now() / 1000 - Number(cell.dataset.began))));
  };
  el.dataset.name = `wb-runs-${Math.random().toString(36).slice(2)}`;
  return { el, draw, tick };
}

// What can be done to the selected runs: rename one; archive, restore and delete, each confirmed or undone.
function makeOrder(act) {
  const button = (text, verb, key) => h("button", { type: "button", "data-verb": verb, "data-key": `order ${key}`, onclick: () => begin(verb) }, text);
  const buttons = { rename: button("Rename…", "rename", "rename"), archive: button("Archive", "archive", "archive"), restore: button("Restore", "restore", "restore"), delete: button("Delete…", "delete", "delete") };
  const name = h("input", { type: "text", "aria-label": "New name", maxlength: "255", onkeydown: (event) => { if (event.key === "Enter") go(); if (event.key === "Escape") ask(null); } });
  const question = h("span", {});
  const yes = h("button", { type: "button", class: "wb-yes", onclick: () => go() }, "OK");
  const no = h("button", { type: "button", onclick: () => ask(null) }, "Cancel");
  const confirm = h("span", { class: "wb-confirm", role: "group", "aria-label": "Confirm", hidden: true }, question, name, yes, no);
  const el = h("span", { class: "wb-order" }, ...Object.values(buttons), confirm);
  const text = h("span", {});
  const undo = h("button", { type: "button", hidden: true, onclick: () => act({ order: { verb: "restore", runs: undoable } }) }, "Undo");
  const said = h("p", { class: "wb-said wb-muted", role: "status", hidden: true }, text, " ", undo);
  let last = null;
  let undoable = [];
  let asked = null;

  function begin(verb) {
    if (verb === "rename" || verb === "delete") ask({ verb, runs: [...last.chosen] });
    else act({ order: { verb, runs: [...last.chosen] } });
  }

  // Show the question of a verb, or none.
  function ask(what) {
    const back = asked && buttons[asked.verb];
    asked = what;
    confirm.hidden = !what;
    if (!what) return back?.focus();
    const renames = what.verb === "rename";
    const count = what.runs.length;
    question.textContent = renames ? `New name of #${what.runs[0]}:` : `Delete ${count === 1 ? `#${what.runs[0]}` : `${count} runs`} with all points and files? It cannot be undone.`;
    name.hidden = !renames;
    name.value = renames ? (last.runs.find((run) => run.id === what.runs[0])?.name ?? "") : "";
    yes.textContent = renames ? "Rename" : "Delete for good";
    (renames ? name : no).focus();
  }

  function go() {
    const what = asked;
    ask(null);
    if (what) act({ order: what.verb === "rename" ? { ...what, name: name.value } : what });
  }

  function draw(state) {
    last = state;
    const rows = state.runs.filter((run) => state.chosen.includes(run.id));
    buttons.rename.disabled = state.chosen.length !== 1;
    buttons.archive.disabled = !rows.some((run) => !run.archived);
    buttons.restore.hidden = !rows.some((run) => run.archived);
    buttons.delete.disabled = !rows.length;
    if (asked && asked.runs.some((id) => !state.chosen.includes(id))) ask(null);
    undoable = state.ordered?.undo ?? [];
    said.hidden = !state.ordered;
    setText(text, [state.ordered?.text, state.ordered?.hint].filter(Boolean).join(" "));
    undo.hidden = !undoable.length;
  }
  return { el, said, draw };
}

// Rebuild a part of the page, then restore its focus and scroll positions.
function keepFocus(root, build) {
  const key = root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const scrolled = [...root.querySelectorAll(".wb-scroll")].map((node) => [node, node.scrollLeft, node.scrollTop]);
  build();
  for (const [node, left, top] of scrolled) Object.assign(node, { scrollLeft: left, scrollTop: top });
  if (key) root.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}
