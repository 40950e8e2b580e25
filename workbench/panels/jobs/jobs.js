// The jobs panel. Message shapes are documented in panel.py.

// One row per job, kept while the list around it changes, so that focus and open parts stay.
function jobRow(model, id, home) {
  const pill = h("span", { class: "wb-pill" });
  const name = h("span", { class: "wb-job" });
  const fill = h("i", {});
  const bar = h("span", { class: "wb-bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const description = h("span", { class: "wb-said" });
  const time = h("span", { class: "wb-time wb-num" });
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const detail = h("div", { class: "wb-detail", hidden: true });
  const send = (type, more = {}) => {
    problem.hidden = true;
    model.send({ type, id, ...more });
  };
  const note = h("p", { class: "wb-muted wb-note", hidden: true });
  let open = null; // "log" or "result"
  const log = h("pre", { class: "wb-log", tabindex: "0", "aria-label": `Log of job ${id}` });
  const toggle = (kind) => {
    if (open === "log") send("log", { open: false });
    open = open === kind ? null : kind;
    if (open === "log") send("log", { open: true });
    if (open === "result") send("result");
    detail.replaceChildren(...(open === "log" ? [log] : open === "result" ? [h("p", { class: "wb-muted" }, "Loading the result…")] : []));
    detail.hidden = !open;
    for (const [key, button] of Object.entries(toggles)) button.setAttribute("aria-expanded", String(open === key));
  };
  const button = (text, press) => h("button", { type: "button", "aria-label": `${text} job ${id}`, onclick: press }, text);
  const cancel = button("cancel", () => send("cancel"));
  const retry = button("retry", () => send("retry"));
  const toggles = { result: button("result", () => toggle("result")), log: button("log", () => toggle("log")) };
  const link = h("span", {});
  const actions = h("span", { class: "wb-actions" }, cancel, retry, toggles.result, toggles.log, link);
  const row = h("li", { class: "wb-row", "data-id": id }, name, pill, h("span", { class: "wb-progress" }, bar, description), time, actions, problem, note, detail);

  function update(job) {
    const running = ["running", "cancelling"].includes(job.status);
    const title = [`#${job.id} ${job.type}`, job.name || job.given.join(", ")].filter(Boolean).join(" · ");
    setText(name, title);
    name.title = [[`#${job.id} ${job.type}`, job.name, job.adapter].filter(Boolean).join(" · "), ...job.given].join("\n");
    setText(pill, job.status);
    pill.className = `wb-pill ${PILLS[job.status] ?? ""}`;
    bar.hidden = !running;
    bar.classList.toggle("wb-unknown", running && job.fraction === null);
    fill.style.width = `${Math.round(1000 * (job.fraction ?? 0)) / 10}%`;
    if (job.fraction === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(Math.round(100 * job.fraction)));
    bar.setAttribute("aria-label", `Progress of job ${job.id}`);
    const text = progressText(job);
    setText(description, text);
    description.title = text;
    description.className = job.error || running ? "wb-said wb-num" : "wb-said wb-muted";
    setText(time, timeText(job));
    cancel.hidden = !["queued", "running"].includes(job.status);
    retry.hidden = !["failed", "cancelled"].includes(job.status);
    toggles.result.hidden = !job.hasResult;
    toggles.log.hidden = job.status === "queued";
    // The notebook of a running job is still being written: who opened it would be asked to overwrite the report.
    const report = job.over ? job.notebook : "";
    if ((link.dataset.path ?? "") !== report) {
      link.dataset.path = report;
      link.replaceChildren(...[report && notebookLink(job, home)].filter(Boolean));
    }
    if (note.dataset.words !== job.outputNote) {
      note.dataset.words = job.outputNote;
      note.replaceChildren(...outputNote(job, home));
      note.hidden = !job.outputNote;
    }
    if (open === "log" && job.log !== null) {
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
      setText(log, job.log || "(no output yet)");
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  }
  return {
    row,
    update,
    leave: () => open === "log" && send("log", { open: false }),
    refuse({ message, hint, problems = [] }) {
      const text = problems.map(([field, reason]) => (field ? `${field}: ${reason}` : reason)).join("\n") || message;
      problem.replaceChildren(h("b", {}, text), h("span", {}, hint ?? ""));
      problem.hidden = false;
      if (open === "result") toggle("result");
    },
    showResult(html) {
      if (open !== "result") return;
      // The HTML comes from workbench.panels.render_html, which escapes every text in it.
      const box = h("div", { class: "wb-drawn" });
      box.innerHTML = html;
      detail.replaceChildren(box);
    },
  };
}

// Filters by type and state, and paging.
function listPart(model) {
  const { states, page } = model.get("setup");
  const type = h("select", { "aria-label": "Job type", onchange: () => request(0) });
  const state = h("select", { "aria-label": "Job state", onchange: () => request(0) }, h("option", { value: "" }, "any state"), ...states.map((name) => h("option", { value: name }, name)));
  const where = h("span", { class: "wb-muted wb-num", role: "status" });
  const newer = h("button", { type: "button", onclick: () => turn(-page) }, "‹ newer");
  const older = h("button", { type: "button", onclick: () => turn(page) }, "older ›");
  const pages = h("div", { class: "wb-pages", hidden: true }, where, h("span", { class: "wb-actions" }, newer, older));
  let offset = 0;
  let known = "";
  let requested = null; // a filter chosen here, until the kernel confirms it
  function request(from, kind = type.value, status = state.value) {
    requested = { type: kind, state: status };
    model.send({ type: "show", job_type: kind, state: status, offset: from });
  }
  function turn(by) {
    request(Math.max(0, offset + by));
  }
  return {
    filters: h("div", { class: "wb-actions", role: "group", "aria-label": "Filter jobs" }, type, state),
    pages,
    filtered: () => type.value !== "" || state.value !== "",
    showAll: () => request(0, "", ""),
    update({ jobs, total, offset: from, types, shown }) {
      if (!jobs) return;
      offset = from;
      const names = JSON.stringify(types);
      if (names !== known) {
        known = names;
        type.replaceChildren(h("option", { value: "" }, "any type"), ...types.map((one) => h("option", { value: one.type }, one.label)));
      }
      // Another view of this panel may have changed the filter; one just chosen here stays until confirmed.
      if (requested && requested.type === shown.type && requested.state === shown.state) requested = null;
      type.value = (requested ?? shown).type;
      state.value = (requested ?? shown).state;
      pages.hidden = total <= page;
      setText(where, `${whole(from + 1)}–${whole(from + jobs.length)} of ${whole(total)}`);
      newer.disabled = from === 0;
      older.disabled = from + jobs.length >= total;
    },
  };
}

function render({ model, el }) {
  const { offers, broken = [], home } = model.get("setup");
  const form = formPart(model, offers);
  const faults = broken.map(({ message, hint }) => h("div", { class: "wb-problem", role: "alert" }, h("b", {}, message), h("span", {}, hint)));
  const nothing = broken.length ? "No adapter can be loaded. You can run a notebook of your own." : "No adapter is installed. You can run a notebook of your own.";
  const which = listPart(model);
  const news = h("span", { class: "wb-apart", role: "status" });
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const list = h("ul", { class: "wb-jobs", "aria-label": "Jobs, newest first" });
  const head = h("div", { class: "wb-head", "aria-hidden": "true" }, ...["Job", "State", "Progress", "", ""].map((title) => h("span", {}, title)));
  const empty = h("div", { class: "wb-empty" });
  const count = h("span", { class: "wb-pill wb-run" });
  const rows = new Map();
  const statuses = new Map();

  function announce(jobs) {
    const moved = jobs.filter((job) => statuses.has(job.id) && statuses.get(job.id) !== job.status);
    for (const job of jobs) statuses.set(job.id, job.status);
    if (moved.length) news.textContent = moved.map((job) => `Job ${job.id}, ${job.type}: ${job.status}`).join(". ");
  }

  function update() {
    const { jobs, total, going_on: active, problem: failure } = model.get("state");
    problem.hidden = !failure;
    problem.replaceChildren(...(failure ? [h("b", {}, failure.message), h("span", {}, failure.hint)] : []));
    empty.hidden = !!jobs?.length || !!failure;
    empty.replaceChildren(
      ...(!jobs
        ? ["Loading jobs…"]
        : which.filtered()
          ? [h("b", {}, "No matching jobs"), h("button", { type: "button", onclick: which.showAll }, "show all")]
          : [h("b", {}, "No jobs yet"), offers.length ? "Start one with the buttons above." : nothing]),
    );
    head.hidden = !jobs?.length;
    which.update(model.get("state"));
    setText(count, active ? `${whole(active)} active` : "");
    announce(jobs ?? []);
    for (const [place, job] of (jobs ?? []).entries()) {
      if (!rows.has(job.id)) rows.set(job.id, jobRow(model, job.id, home));
      const one = rows.get(job.id);
      one.update(job);
      if (list.children[place] !== one.row) list.insertBefore(one.row, list.children[place] ?? null);
    }
    const shown = new Set((jobs ?? []).map((job) => job.id));
    for (const [id, one] of rows) {
      if (shown.has(id)) continue;
      one.leave();
      one.row.remove();
      rows.delete(id);
    }
  }

  function receive(message) {
    if (message.type === "result") rows.get(message.id)?.showResult(message.html);
    else if (message.type === "submitted") form.submitted(message);
    else if (message.type === "declared") form.declared(message);
    else if (message.form) form.refuse(message);
    else rows.get(message.id)?.refuse(message);
  }

  el.append(
    h(
      "section",
      { class: "wb wb-jobs-panel", "data-lm-suppress-shortcuts": "true", "aria-label": "Jobs" },
      h("div", { class: "wb-bar-top" }, h("div", { class: "wb-actions" }, h("h2", {}, "Jobs"), count, which.filters), h("div", { class: "wb-actions" }, ...form.buttons)),
      ...faults,
      form.place,
      problem,
      news,
      h("div", { class: "wb-table" }, head, list),
      empty,
      which.pages,
    ),
  );
  model.on("change:state", update);
  model.on("msg:custom", receive);
  update();
  const leave = announceView(model);
  const clock = setInterval(update, 10000);
  return () => {
    clearInterval(clock);
    model.off("change:state", update);
    model.off("msg:custom", receive);
    leave();
  };
}

export default { render, apart: "Jobs go on without this panel." };
