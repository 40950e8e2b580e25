// The jobs panel. Message shapes are written down in jobs.py, beside this file's Python half.

const SETTLED = ["succeeded", "failed", "cancelled"];
const PILLS = { running: "wb-run", cancelling: "wb-run", succeeded: "wb-ok", failed: "wb-bad" };

const whole = (number) => Math.round(number).toLocaleString("en-US");

function duration(seconds) {
  if (seconds < 1) return "<1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

const ago = (time) => {
  const seconds = Math.max(0, Date.now() / 1000 - time);
  return seconds < 10 ? "just now" : `${duration(seconds)} ago`;
};

function progressText(job) {
  if (job.error) return job.error.cell ? `cell ${job.error.cell}: ${job.error.message}` : job.error.message;
  if (SETTLED.includes(job.status)) return job.summary || job.message;
  if (job.status === "queued") return "waits for its turn";
  const count = job.total ? `${whole(job.done)} / ${whole(job.total)}` : job.done ? whole(job.done) : "";
  const rate = job.rate ? `${job.rate < 10 ? job.rate.toFixed(1) : whole(job.rate)}/s` : "";
  const message = job.status === "cancelling" ? "cancelling…" : job.message;
  return [[count, message].filter(Boolean).join(" "), rate].filter(Boolean).join(" · ") || "starting";
}

function timeText(job) {
  if (job.ended) return ago(job.ended);
  return job.status === "running" && job.left !== null ? `${duration(job.left)} left` : "";
}

// Where JupyterLab can open a notebook, or null outside of its folder.
function notebookPath(path, home) {
  const page = document.getElementById("jupyter-config-data");
  if (!page || !path || document.body.dataset.voila) return null;
  const { serverRoot = "", baseUrl = "/" } = JSON.parse(page.textContent);
  const root = serverRoot.replace(/^~(?=\/|$)/, home).replace(/\/$/, "");
  if (!serverRoot || !path.startsWith(`${root}/`)) return null;
  const inside = path.slice(root.length + 1);
  return { inside, href: `${baseUrl}lab/tree/${inside.split("/").map(encodeURIComponent).join("/")}` };
}

function notebookLink(job, home) {
  const place = notebookPath(job.notebook, home);
  if (!place) return null;
  // JupyterLab opens the link in a tab of its own; a plain browser follows it.
  return h(
    "a",
    {
      class: "wb-button",
      href: place.href,
      target: "_blank",
      title: place.inside,
      "data-commandlinker-command": "docmanager:open",
      "data-commandlinker-args": JSON.stringify({ path: place.inside }),
    },
    "notebook",
  );
}

// One row a job, kept while the list changes around it, so that focus and open parts stay.
function jobRow(model, id, home) {
  const pill = h("span", { class: "wb-pill" });
  const name = h("span", { class: "wb-job" });
  const fill = h("i", {});
  const bar = h("span", { class: "wb-bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const said = h("span", { class: "wb-said" });
  const time = h("span", { class: "wb-time wb-num" });
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const detail = h("div", { class: "wb-detail", hidden: true });
  const send = (type, more = {}) => {
    problem.hidden = true;
    model.send({ type, id, ...more });
  };
  let open = null; // "log" or "result"
  const log = h("pre", { class: "wb-log", tabindex: "0", "aria-label": `Log of job ${id}` });
  const toggle = (kind) => {
    if (open === "log") send("log", { open: false });
    open = open === kind ? null : kind;
    if (open === "log") send("log", { open: true });
    if (open === "result") send("result");
    detail.replaceChildren(...(open === "log" ? [log] : open === "result" ? [h("p", { class: "wb-muted" }, "Drawing the result…")] : []));
    detail.hidden = !open;
    for (const [key, button] of Object.entries(toggles)) button.setAttribute("aria-expanded", String(open === key));
  };
  const button = (text, press) => h("button", { type: "button", "aria-label": `${text} job ${id}`, onclick: press }, text);
  const cancel = button("cancel", () => send("cancel"));
  const retry = button("retry", () => send("retry"));
  const toggles = { result: button("result", () => toggle("result")), log: button("log", () => toggle("log")) };
  const link = h("span", {});
  const actions = h("span", { class: "wb-actions" }, cancel, retry, toggles.result, toggles.log, link);
  const row = h("li", { class: "wb-row", "data-id": id }, name, pill, h("span", { class: "wb-progress" }, bar, said), time, actions, problem, detail);

  function update(job) {
    const running = ["running", "cancelling"].includes(job.status);
    const title = [`#${job.id} ${job.type}`, job.name].filter(Boolean).join(" · ");
    setText(name, title);
    name.title = [title, job.adapter].filter(Boolean).join(" · ");
    setText(pill, job.status);
    pill.className = `wb-pill ${PILLS[job.status] ?? ""}`;
    bar.hidden = !running;
    bar.classList.toggle("wb-unknown", running && job.fraction === null);
    fill.style.width = `${Math.round(1000 * (job.fraction ?? 0)) / 10}%`;
    if (job.fraction === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(Math.round(100 * job.fraction)));
    bar.setAttribute("aria-label", `Progress of job ${job.id}`);
    const text = progressText(job);
    setText(said, text);
    said.title = text;
    said.className = job.error || running ? "wb-said wb-num" : "wb-said wb-muted";
    setText(time, timeText(job));
    cancel.hidden = !["queued", "running"].includes(job.status);
    retry.hidden = !["failed", "cancelled"].includes(job.status);
    toggles.result.hidden = !job.hasResult;
    toggles.log.hidden = job.status === "queued";
    if (link.dataset.path !== job.notebook) {
      link.dataset.path = job.notebook;
      link.replaceChildren(...[notebookLink(job, home)].filter(Boolean));
    }
    if (open === "log" && job.log !== null) {
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
      setText(log, job.log || "(nothing written yet)");
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  }
  return {
    row,
    update,
    refuse({ message, hint }) {
      problem.replaceChildren(h("b", {}, message), h("span", {}, hint ?? ""));
      problem.hidden = false;
      if (open === "result") toggle("result");
    },
    showResult(html) {
      if (open !== "result") return;
      // Made by workbench.panels.render_html, which escapes every text in it.
      const box = h("div", { class: "wb-drawn" });
      box.innerHTML = html;
      detail.replaceChildren(box);
    },
  };
}

function fieldRow(field, value, prefix) {
  const id = `${prefix}-${field.name}`;
  const shared = { id, name: field.name, "aria-describedby": `${id}-help ${id}-problem` };
  let control;
  if (field.kind === "choice") {
    const options = field.choices.map((choice) => {
      const option = h("option", {}, choice.label);
      option.selected = choice.value === value;
      return option;
    });
    if (!field.required && value === undefined) options.unshift(h("option", {}, "–"));
    control = h("select", shared, ...options);
  } else if (field.kind === "flag") control = h("input", { ...shared, type: "checkbox", checked: !!value });
  else if (field.kind === "json") {
    control = h("textarea", { ...shared, rows: 2, spellcheck: "false", class: "wb-mono", value: value === undefined ? "" : JSON.stringify(value) });
  } else {
    // Numbers are plain text fields too: a browser's own number field hides what was mistyped.
    const mode = { integer: "numeric", number: "decimal" }[field.kind];
    control = h("input", { ...shared, type: "text", inputmode: mode, autocomplete: "off", onkeydown: submitOnEnter, value: value === undefined ? "" : String(value) });
  }
  const problem = h("span", { class: "wb-wrong", id: `${id}-problem` });
  const help = h("span", { class: "wb-help", id: `${id}-help` }, field.help);
  const label = h("label", { for: id }, field.label, field.required && h("span", { class: "wb-muted" }, " (needed)"));
  return { field, control, problem, node: h("div", { class: "wb-field" }, label, control, problem, help) };
}

function fieldValue({ field, control }, start) {
  if (field.kind === "flag") return control.checked;
  if (field.kind === "choice") {
    const shift = control.options.length - field.choices.length;
    return field.choices[control.selectedIndex - shift]?.value;
  }
  const text = control.value.trim();
  if (text === "") return field.kind === "text" && start !== undefined ? "" : undefined;
  if (field.kind === "text") return control.value;
  if (field.kind === "json") return JSON.parse(text);
  const number = Number(text);
  if (Number.isNaN(number)) throw new Error("not a number");
  return number;
}

// The form of one job type, made from the schema of the adapter's options.
function jobForm(model, offer, number, done) {
  let rows = [];
  let form = offer.forms[0];
  const fields = h("div", { class: "wb-fields" });
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const submit = h("button", { type: "submit", class: "wb-primary" }, offer.label);
  const draw = () => {
    rows = form.fields.map((field) => fieldRow(field, form.values[field.name], `wb-form-${number}`));
    fields.replaceChildren(...rows.map((row) => row.node));
    if (!rows.length) fields.append(h("p", { class: "wb-muted" }, "This job takes no options."));
  };
  const wrong = (problems) => {
    let first = null;
    for (const row of rows) {
      const said = problems.filter(([name]) => name.split(".")[0] === row.field.name).map(([, message]) => message);
      row.problem.textContent = said.join("; ");
      if (said.length) row.control.setAttribute("aria-invalid", "true");
      else row.control.removeAttribute("aria-invalid");
      if (said.length && !first) first = row.control;
    }
    first?.focus();
    return first !== null;
  };
  const send = (event) => {
    event.preventDefault();
    problem.hidden = true;
    const options = {};
    const problems = [];
    for (const row of rows) {
      const start = form.values[row.field.name];
      try {
        const value = fieldValue(row, start);
        if (value !== undefined && JSON.stringify(value) !== JSON.stringify(start)) options[row.field.name] = value;
      } catch (error) {
        const kind = row.field.kind === "json" ? "this is not JSON" : "this is not a number";
        problems.push([row.field.name, `${kind}: ${row.control.value.trim()}`]);
      }
    }
    if (wrong(problems)) return;
    submit.disabled = true;
    model.send({ type: "submit", form: offer.type, job_type: offer.type, adapter: form.adapter, options });
  };
  const which = h(
    "select",
    { onchange: () => { form = offer.forms[which.selectedIndex]; draw(); } },
    ...offer.forms.map((one) => h("option", {}, one.title)),
  );
  draw();
  const close = h("button", { type: "button", onclick: done }, "close");
  const node = h(
    "form",
    { class: "wb-form", "aria-label": offer.label, onsubmit: send, novalidate: true },
    h("h3", {}, offer.label),
    offer.forms.length > 1 && h("label", { class: "wb-field" }, "Model family", which),
    fields,
    problem,
    h("div", { class: "wb-actions" }, submit, close),
  );
  return {
    node,
    focus: () => (rows[0]?.control ?? submit).focus(),
    refuse({ message, hint, problems }) {
      submit.disabled = false;
      if (wrong(problems)) return;
      problem.replaceChildren(h("b", {}, message), h("span", {}, hint ?? ""));
      problem.hidden = false;
    },
  };
}

let forms = 0;

function formPart(model, offers) {
  const place = h("div", {});
  let open = null;
  const buttons = offers.map((offer) =>
    h("button", { type: "button", "aria-expanded": "false", onclick: () => toggle(offer) }, `＋ ${offer.label}`),
  );
  function toggle(offer) {
    const same = open?.type === offer.type;
    open = same ? null : { type: offer.type, ...jobForm(model, offer, (forms += 1), () => toggle(offer)) };
    place.replaceChildren(...(open ? [open.node] : []));
    offers.forEach((one, index) => buttons[index].setAttribute("aria-expanded", String(open?.type === one.type)));
    if (open) open.focus();
    else buttons[offers.indexOf(offer)].focus();
  }
  return {
    buttons,
    place,
    refuse: (message) => open?.type === message.form && open.refuse(message),
    submitted: (message) => open?.type === message.form && toggle(offers.find((offer) => offer.type === message.form)),
  };
}

function render({ model, el }) {
  const { offers, home } = model.get("setup");
  const form = formPart(model, offers);
  const news = h("span", { class: "wb-apart", role: "status" });
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const list = h("ul", { class: "wb-jobs", "aria-label": "Jobs, newest first" });
  const head = h("div", { class: "wb-head", "aria-hidden": "true" }, ...["Job", "State", "Progress", "", ""].map((title) => h("span", {}, title)));
  const empty = h("div", { class: "wb-empty" });
  const rows = new Map();
  const statuses = new Map();

  function announce(jobs) {
    const moved = jobs.filter((job) => statuses.has(job.id) && statuses.get(job.id) !== job.status);
    for (const job of jobs) statuses.set(job.id, job.status);
    if (moved.length) news.textContent = moved.map((job) => `Job ${job.id}, ${job.type}: ${job.status}`).join(". ");
  }

  function update() {
    const { jobs, problem: trouble } = model.get("state");
    problem.hidden = !trouble;
    problem.replaceChildren(...(trouble ? [h("b", {}, trouble.message), h("span", {}, trouble.hint)] : []));
    empty.hidden = !!jobs?.length || !!trouble;
    empty.replaceChildren(
      ...(jobs ? [h("b", {}, "No jobs yet"), offers.length ? "Start one with the buttons above." : "No adapter is installed, so there is nothing to start."] : ["Reading the workspace…"]),
    );
    head.hidden = !jobs?.length;
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
      one.row.remove();
      rows.delete(id);
    }
  }

  function receive(message) {
    if (message.type === "result") rows.get(message.id)?.showResult(message.html);
    else if (message.type === "submitted") form.submitted(message);
    else if (message.form) form.refuse(message);
    else rows.get(message.id)?.refuse(message);
  }

  el.append(
    h(
      "section",
      { class: "wb wb-jobs-panel", "data-lm-suppress-shortcuts": "true", "aria-label": "Jobs" },
      h("div", { class: "wb-bar-top" }, h("h2", {}, "Jobs"), h("div", { class: "wb-actions" }, ...form.buttons)),
      form.place,
      problem,
      news,
      h("div", { class: "wb-table" }, head, list),
      empty,
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

export default { render };
