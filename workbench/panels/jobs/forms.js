// Forms of the jobs panel, generated from schemas. Message shapes are documented in panel.py.

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
  } else if (field.kind === "choices") {
    const boxes = field.choices.map((choice) =>
      h("label", {}, h("input", { type: "checkbox", checked: (value ?? []).includes(choice.value), "data-value": JSON.stringify(choice.value) }), choice.label),
    );
    control = h("div", { ...shared, name: undefined, role: "group", class: "wb-choices", tabindex: "-1", "aria-labelledby": `${id}-label` }, ...boxes);
  } else if (field.kind === "flag") control = h("input", { ...shared, type: "checkbox", checked: !!value });
  else if (field.kind === "json") {
    control = h("textarea", { ...shared, rows: 2, spellcheck: "false", class: "wb-mono", value: value === undefined ? "" : JSON.stringify(value) });
  } else {
    // Numbers use text fields too: a browser's number field hides invalid input.
    const mode = { integer: "numeric", number: "decimal" }[field.kind];
    control = h("input", { ...shared, type: "text", inputmode: mode, autocomplete: "off", onkeydown: submitOnEnter, value: value === undefined ? "" : listText(value) });
  }
  const problem = h("span", { class: "wb-wrong", id: `${id}-problem` });
  const where = field.path && labConfig().serverRoot ? `A relative path starts in ${labConfig().serverRoot}.` : "";
  const list = field.kind === "list" ? "Separated by commas." : "";
  const help = h("span", { class: "wb-help", id: `${id}-help` }, sentences(field.help, list, where));
  const label = h(field.kind === "choices" ? "span" : "label", { class: "wb-label", id: `${id}-label`, for: field.kind === "choices" ? null : id }, field.label, field.required && h("span", { class: "wb-muted" }, " (required)"));
  return { field, control, problem, node: h("div", { class: field.path === "sources" ? "wb-field wb-wide" : "wb-field" }, label, control, problem, help) };
}

const listText = (value) => (Array.isArray(value) ? value.join(", ") : String(value));

// Help texts as one text: each but the last ends with a full stop.
const sentences = (...texts) => texts.filter(Boolean).map((text, place, all) => (place < all.length - 1 && !/[.!?]$/.test(text) ? `${text}.` : text)).join(" ");

function numberIn(text) {
  const number = Number(text);
  if (Number.isNaN(number)) throw new Error(`not a number: ${text}`);
  return number;
}

function fieldValue({ field, control }, start) {
  if (field.kind === "choices") return [...control.querySelectorAll("input")].filter((box) => box.checked).map((box) => JSON.parse(box.dataset.value));
  if (field.kind === "flag") return control.checked;
  if (field.kind === "choice") {
    const shift = control.options.length - field.choices.length;
    return field.choices[control.selectedIndex - shift]?.value;
  }
  const text = control.value.trim();
  if (field.kind === "list") {
    const parts = text.split(",").map((part) => part.trim()).filter(Boolean);
    if (!parts.length && start === undefined) return undefined;
    return field.items === "text" ? parts : parts.map(numberIn);
  }
  if (text === "") return field.kind === "text" && start !== undefined ? "" : undefined;
  if (field.kind === "text") return control.value;
  if (field.kind === "json") return JSON.parse(text);
  return numberIn(text);
}

// How a value that has no control of its own is written: as its default is, if that shows anything.
function example(start) {
  const text = JSON.stringify(start ?? null);
  return ["null", "[]", "{}"].includes(text) ? '[1, 2] or {"name": 1}' : text;
}

// Form rows: drawn from a schema, read, and marked with their errors.
function fieldRows(number) {
  let rows = [];
  let start = {};
  const first = h("div", { class: "wb-fields" });
  const count = h("summary", {});
  const others = h("div", { class: "wb-fields" });
  const more = h("details", { class: "wb-more" }, count, others);
  const node = h("div", {}, first, more);
  return {
    node,
    // `values` are the initial ones; `preset` are those that are filled in beside them.
    draw(fields, values, empty, preset = {}) {
      start = values;
      rows = fields.map((field) => fieldRow(field, preset[field.name] ?? values[field.name], `wb-form-${number}`));
      first.replaceChildren(...rows.filter((row) => !row.field.more).map((row) => row.node));
      others.replaceChildren(...rows.filter((row) => row.field.more).map((row) => row.node));
      more.hidden = !others.childElementCount;
      more.open = rows.some((row) => row.field.more && preset[row.field.name] !== undefined);
      setText(count, `More options (${others.childElementCount})`);
      if (!rows.length && empty) first.append(h("p", { class: "wb-muted" }, empty));
    },
    first: () => rows[0]?.control,
    // Mark invalid fields, focus the first one, and return whether any problem belongs to a field here.
    wrong(problems) {
      let first = null;
      for (const row of rows) {
        const messages = problems.filter(([name]) => name.split(".")[0] === row.field.name).map(([, message]) => message);
        row.problem.textContent = messages.join("; ");
        if (messages.length) row.control.setAttribute("aria-invalid", "true");
        else row.control.removeAttribute("aria-invalid");
        if (messages.length && row.field.more) more.open = true;
        if (messages.length && !first) first = row.control;
      }
      first?.focus();
      return first !== null;
    },
    // The options that differ from the initial values, and the fields that cannot be read.
    read() {
      const options = {};
      const problems = [];
      for (const row of rows) {
        try {
          const value = fieldValue(row, start[row.field.name]);
          if (value !== undefined && JSON.stringify(value) !== JSON.stringify(start[row.field.name])) options[row.field.name] = value;
        } catch (error) {
          const text = row.control.value.trim();
          problems.push([row.field.name, row.field.kind === "json" ? `not valid JSON: ${text}; write it like ${example(start[row.field.name])}` : error.message]);
        }
      }
      this.wrong([]);
      return { options, unread: problems };
    },
  };
}

function problemBox() {
  const node = h("div", { class: "wb-problem", role: "alert", hidden: true });
  return {
    node,
    hide: () => (node.hidden = true),
    show({ message, hint }) {
      node.replaceChildren(h("b", {}, message), h("span", {}, hint ?? ""));
      node.hidden = false;
    },
  };
}

// The form of one job type, generated from the schema of the adapter's options. Without `done` it has no button that
// closes it; `preset` are values that are filled in.
function jobForm(model, offer, number, done, preset) {
  let form = offer.forms[0];
  const fields = fieldRows(number);
  const problem = problemBox();
  const submit = h("button", { type: "submit", class: "wb-primary" }, offer.label);
  const draw = () => fields.draw(form.fields, form.values, "This job takes no options.", preset);
  const send = (event) => {
    event.preventDefault();
    problem.hide();
    submit.disabled = true;
    model.send({ type: "submit", form: offer.type, job_type: offer.type, adapter: form.adapter, root: labConfig().serverRoot, ...fields.read() });
  };
  const which = h(
    "select",
    { onchange: () => { form = offer.forms[which.selectedIndex]; draw(); } },
    ...offer.forms.map((one) => h("option", {}, one.title)),
  );
  draw();
  const close = done && h("button", { type: "button", onclick: done }, "close");
  const node = h(
    "form",
    { class: "wb-form", "aria-label": offer.label, onsubmit: send, novalidate: true },
    done && h("h3", {}, offer.label),
    offer.forms.length > 1 && h("label", { class: "wb-field" }, "Model family", which),
    fields.node,
    problem.node,
    h("div", { class: "wb-actions" }, submit, close),
  );
  return {
    node,
    focus: () => (fields.first() ?? submit).focus(),
    submitted: () => (submit.disabled = false),
    refuse(message) {
      submit.disabled = false;
      if (!fields.wrong(message.problems)) problem.show(message);
    },
  };
}

// The form for a user's own notebook: first its path, then the parameters it declares.
function notebookForm(model, offer, number, done) {
  let read = null; // the path whose parameters are shown
  const fields = fieldRows(number);
  const problem = problemBox();
  const id = `wb-form-${number}-path`;
  const look = h("button", { type: "submit" }, "Read parameters");
  const submit = h("button", { type: "submit", class: "wb-primary", hidden: true }, "Run notebook");
  const path = h("input", {
    id, type: "text", autocomplete: "off", spellcheck: "false", placeholder: "path/to/notebook.ipynb", "aria-describedby": `${id}-help`,
    onkeydown: submitOnEnter,
    oninput: () => {
      read = null;
      path.removeAttribute("aria-invalid");
      submit.hidden = true;
      look.hidden = false;
      fields.draw([], {});
    },
  });
  const send = (event) => {
    event.preventDefault();
    problem.hide();
    if (read === null) {
      look.disabled = true;
      model.send({ type: "declare", form: offer.type, path: path.value, root: labConfig().serverRoot });
      return;
    }
    submit.disabled = true;
    model.send({ type: "submit", form: offer.type, path: read, ...fields.read() });
  };
  const close = h("button", { type: "button", onclick: done }, "close");
  const help = h("span", { class: "wb-help", id: `${id}-help` }, "Your own notebook. The variables in its cell tagged “parameters” become the form.");
  const node = h(
    "form",
    { class: "wb-form", "aria-label": "Run a notebook", onsubmit: send, novalidate: true },
    h("h3", {}, "Run a notebook"),
    h("div", { class: "wb-field wb-path" }, h("label", { for: id }, "Path"), path, help),
    fields.node,
    problem.node,
    h("div", { class: "wb-actions" }, look, submit, close),
  );
  return {
    node,
    focus: () => path.focus(),
    declared(message) {
      read = message.path;
      look.disabled = false;
      look.hidden = true;
      submit.hidden = false;
      fields.draw(message.fields, message.values, "This notebook declares no parameters; it runs as is.");
      (fields.first() ?? submit).focus();
    },
    refuse(message) {
      look.disabled = submit.disabled = false;
      if (read === null) {
        path.setAttribute("aria-invalid", "true");
        path.focus();
      }
      if (read === null || !fields.wrong(message.problems)) problem.show(message);
    },
  };
}

let forms = 0;

function formPart(model, offers) {
  const place = h("div", {});
  const made = new Map(); // type -> form: what was typed stays until it is submitted
  let open = null;
  const own = { type: "notebook", label: "Notebook", make: notebookForm };
  offers = [...offers.map((offer) => ({ ...offer, make: jobForm })), own];
  const buttons = offers.map((offer) =>
    h("button", { type: "button", "aria-expanded": "false", onclick: () => toggle(offer) }, `＋ ${offer.label}`),
  );
  function toggle(offer) {
    const same = open?.type === offer.type;
    if (!same && !made.has(offer.type)) made.set(offer.type, { type: offer.type, ...offer.make(model, offer, (forms += 1), () => toggle(offer)) });
    open = same ? null : made.get(offer.type);
    place.replaceChildren(...(open ? [open.node] : []));
    offers.forEach((one, index) => buttons[index].setAttribute("aria-expanded", String(open?.type === one.type)));
    if (open) open.focus();
    else buttons[offers.indexOf(offer)].focus();
  }
  return {
    buttons,
    place,
    refuse: (message) => made.get(message.form)?.refuse(message),
    declared: (message) => made.get(message.form)?.declared(message),
    submitted(message) {
      made.delete(message.form);
      if (open?.type === message.form) toggle(offers.find((offer) => offer.type === message.form));
    },
  };
}

