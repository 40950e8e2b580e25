// The panel that checks data. Message shapes are documented in panel.py and in jobs/forms.py.

const CHECK = "data_check";

// The check that is shown: its state, then its result, and the jobs that can be started with what was checked.
function checkPart(model, offers, home) {
  const title = h("b", { class: "wb-source" });
  const pill = h("span", { class: "wb-pill" });
  const fill = h("i", {});
  const bar = h("span", { class: "wb-bar", role: "progressbar", "aria-label": "Progress of the check", "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const words = h("span", { class: "wb-said wb-muted wb-num" });
  const time = h("span", { class: "wb-time wb-num" });
  const cancel = h("button", { type: "button", onclick: () => model.send({ type: "cancel", id: shown.id }) }, "cancel");
  const link = h("span", {});
  const failure = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const uses = h("div", { class: "wb-actions wb-uses", role: "group", "aria-label": "Start a job with it", hidden: true });
  const place = h("div", {});
  const started = h("p", { class: "wb-started", role: "status" });
  const drawn = h("div", { class: "wb-checked" });
  const progress = h("span", { class: "wb-progress" }, bar, words);
  const node = h(
    "div",
    { class: "wb-check", hidden: true },
    h("div", { class: "wb-check-head" }, h("div", { class: "wb-check-name" }, title, pill, time), h("div", { class: "wb-actions" }, cancel, link)),
    progress,
    failure,
    uses,
    place,
    started,
    drawn,
  );
  let shown = null;
  let requested = null; // id of the check whose result was requested, or is drawn
  let open = null; // { type, form }
  let numbers = 0;

  function close() {
    open = null;
    place.replaceChildren();
    for (const button of uses.children) button.setAttribute("aria-expanded", "false");
  }

  function toggle(button, offer, form, preset) {
    const same = open?.type === offer.type;
    close();
    started.textContent = "";
    if (same) return button.focus();
    // The number keeps ids of this panel's forms apart from those of others on the page.
    const made = jobForm(model, { ...offer, forms: [form] }, `use-${(numbers += 1)}-${shown.id}`, () => toggle(button, offer, form, preset), preset);
    open = { type: offer.type, form: made };
    place.replaceChildren(made.node);
    button.setAttribute("aria-expanded", "true");
    made.focus();
  }

  function offerUses(options) {
    const buttons = [];
    for (const offer of offers) {
      const form = offer.forms.find((one) => one.adapter === shown.adapter);
      const preset = options[offer.type];
      if (!form || !preset || offer.type === CHECK) continue;
      const button = h("button", { type: "button", "aria-expanded": "false", onclick: () => toggle(button, offer, form, preset) }, `${offer.label} with it`);
      buttons.push(button);
    }
    uses.replaceChildren(...buttons);
    uses.hidden = !buttons.length;
  }

  return {
    node,
    form: () => open,
    update(check) {
      node.hidden = !check;
      if (!check) return;
      if (check.id !== shown?.id) {
        close();
        requested = null;
        started.textContent = "";
        uses.hidden = true;
        drawn.replaceChildren();
      }
      shown = check;
      const running = ["running", "cancelling"].includes(check.status);
      setText(title, check.source);
      setText(pill, check.status);
      pill.className = `wb-pill ${PILLS[check.status] ?? ""}`;
      setText(time, timeText(check));
      bar.hidden = !running;
      bar.classList.toggle("wb-unknown", running && check.fraction === null);
      fill.style.width = `${Math.round(1000 * (check.fraction ?? 0)) / 10}%`;
      if (check.fraction === null) bar.removeAttribute("aria-valuenow");
      else bar.setAttribute("aria-valuenow", String(Math.round(100 * check.fraction)));
      setText(words, check.over ? "" : progressText(check));
      progress.hidden = check.over;
      cancel.hidden = !["queued", "running"].includes(check.status);
      failure.hidden = !check.error;
      if (check.error) setText(failure, check.error.message);
      if ((link.dataset.path ?? "") !== (check.over ? check.notebook : "")) {
        link.dataset.path = check.over ? check.notebook : "";
        link.replaceChildren(...[check.over && notebookLink(check, home)].filter(Boolean));
      }
      if (check.hasResult && requested !== check.id) {
        requested = check.id;
        drawn.replaceChildren(h("p", { class: "wb-muted" }, "Loading the result…"));
        model.send({ type: "result", id: check.id });
      }
    },
    show({ id, html, uses: options }) {
      if (id !== shown?.id) return;
      // The HTML comes from workbench.panels.render_html, which escapes every text in it.
      drawn.innerHTML = html;
      offerUses(options ?? {});
    },
    submitted({ form, id }) {
      if (open?.type !== form) return;
      close();
      setText(started, `Job ${id} is queued. Its progress is in the jobs panel.`);
    },
    refuse({ message, hint }) {
      drawn.replaceChildren(h("div", { class: "wb-problem", role: "alert" }, h("b", {}, message), h("span", {}, hint ?? "")));
    },
  };
}

function render({ model, el }) {
  const { offers, broken = [], home } = model.get("setup");
  const offer = offers.find((one) => one.type === CHECK);
  const form = offer && jobForm(model, offer, `check-${(forms += 1)}`);
  const faults = broken.map(({ message, hint }) => h("div", { class: "wb-problem", role: "alert" }, h("b", {}, message), h("span", {}, hint)));
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const empty = h("div", { class: "wb-empty" });
  const part = checkPart(model, offers, home);
  const earlier = h("select", { "aria-label": "Checks", hidden: true, onchange: () => choose(Number(earlier.value)) });
  const news = h("span", { class: "wb-apart", role: "status" });
  let chosen = null; // id; null: the newest
  let listed = "";
  let status = "";

  function choose(id) {
    chosen = id;
    update();
  }

  function update() {
    const { checks = null, problem: failed } = model.get("state");
    problem.hidden = !failed;
    problem.replaceChildren(...(failed ? [h("b", {}, failed.message), h("span", {}, failed.hint)] : []));
    empty.hidden = !!checks?.length || !!failed;
    empty.replaceChildren(
      ...(!checks
        ? ["Loading…"]
        : offer
          ? [h("b", {}, "Nothing checked yet"), "Name your data above: the check says what is in it, what is broken, and what a training would use."]
          : [h("b", {}, "No installed model family can check data")]),
    );
    const check = checks?.find((one) => one.id === chosen) ?? checks?.[0];
    const names = JSON.stringify((checks ?? []).map((one) => [one.id, one.source]));
    if (names !== listed) {
      listed = names;
      earlier.replaceChildren(...(checks ?? []).map((one) => h("option", { value: String(one.id) }, `#${one.id} ${shortSource(one.source)}`)));
    }
    earlier.hidden = (checks?.length ?? 0) < 2;
    if (check) earlier.value = String(check.id);
    part.update(check);
    const now = check ? `Check ${check.id}: ${check.status}` : "";
    if (status && now !== status) news.textContent = now;
    status = now;
  }

  function receive(message) {
    if (message.type === "result") part.show(message);
    else if (message.type === "submitted" && message.form === CHECK) {
      form.submitted();
      choose(message.id);
    } else if (message.type === "submitted") part.submitted(message);
    else if (message.form === CHECK) form.refuse(message);
    else if (message.form) part.form()?.form.refuse(message);
    else if (message.type === "refused") part.refuse(message);
  }

  el.append(
    h(
      "section",
      { class: "wb wb-jobs-panel wb-data-panel", "data-lm-suppress-shortcuts": "true", "aria-label": "Check data" },
      h("div", { class: "wb-bar-top" }, h("h2", {}, "Check data"), earlier),
      ...faults,
      form?.node,
      problem,
      news,
      empty,
      part.node,
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

// The end of a long path says more than its start.
const shortSource = (source) => (source.length > 48 ? `…${source.slice(-47)}` : source);

export default { render, apart: "A check goes on without this panel." };
