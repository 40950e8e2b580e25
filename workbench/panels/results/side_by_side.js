// Results of jobs side by side. The kernel draws the HTML, as in show(), and escapes every text in it.

function render({ model, el }) {
  const viewId = `${Date.now()}-${Math.random()}`;
  let number = 0;
  let pending = {};
  let drawnJobs = "";
  let drawn = null;

  const title = h("h2", {});
  const baseline = h("select", { "aria-label": "baseline", onchange: (event) => send({ type: "baseline", job: event.target.value ? Number(event.target.value) : null }) });
  const label = h("label", { class: "wb-inline wb-muted" }, "baseline", baseline);
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const list = h("fieldset", { class: "wb-jobs" });
  const empty = h("div", { class: "wb-empty" }, h("b", {}, "No results yet"), "Results appear when a job succeeds.");
  const body = h("div", { class: "wb-compared" });

  const state = () => ({ ...model.get("state"), ...pending });

  function send(message) {
    number += 1;
    if (message.type === "choose") pending = { ...pending, chosen: message.jobs };
    else pending = { ...pending, baseline: message.job };
    model.send({ ...message, view: viewId, number });
    update();
  }

  function drawJobs({ jobs, chosen }) {
    const now = JSON.stringify([jobs, chosen]);
    if (now === drawnJobs) return;
    drawnJobs = now;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.job : null;
    const toggle = (id) => (event) => send({ type: "choose", jobs: event.target.checked ? [...state().chosen, id] : state().chosen.filter((one) => one !== id) });
    const line = (job) => h("label", { class: "wb-job-line", title: job.summary || job.name }, h("input", { type: "checkbox", "data-job": job.id, checked: chosen.includes(job.id), onchange: toggle(job.id) }), h("span", {}, `#${job.id} ${job.name}`), h("span", { class: "wb-muted" }, job.summary || job.adapter));
    list.replaceChildren(h("legend", {}, "Jobs, newest first"), ...jobs.map(line));
    if (focused) list.querySelector(`[data-job="${focused}"]`)?.focus();
  }

  function update() {
    if ((model.get("state").heard?.[viewId] ?? 0) >= number) {
      pending = {};
    }
    const now = state();
    const { jobs = [], chosen = [], html = "", problem: failure } = now;
    setText(title, chosen.length > 1 ? `Compare ${chosen.length} results` : "Compare results");
    drawJobs({ jobs, chosen });
    list.hidden = !jobs.length;
    empty.hidden = !!jobs.length || !!failure;
    problem.hidden = !failure;
    problem.replaceChildren(...(failure ? [h("b", {}, failure.message), h("span", {}, failure.hint)] : []));
    const names = new Map(jobs.map((job) => [job.id, `#${job.id} ${job.name}`]));
    const options = [["", "first"], ...chosen.map((id) => [String(id), names.get(id) ?? `#${id}`])];
    if (baseline.dataset.options !== JSON.stringify(options)) {
      baseline.dataset.options = JSON.stringify(options);
      baseline.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
    }
    baseline.value = now.baseline ? String(now.baseline) : "";
    label.hidden = chosen.length < 2;
    if (drawn !== html) body.innerHTML = drawn = html;
    body.hidden = !html;
  }

  el.append(h("section", { class: "wb wb-results", "data-lm-suppress-shortcuts": "true", "aria-label": "Compare results" }, h("div", { class: "wb-bar-top" }, h("div", { class: "wb-heading" }, title), label), problem, list, empty, body));
  model.on("change:state", update);
  update();
  const leave = announceView(model);
  return () => {
    model.off("change:state", update);
    leave();
  };
}

export default { render, keepsChoices: true };
