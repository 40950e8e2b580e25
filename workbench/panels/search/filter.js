// The box of the option that filters a search, with the fields and values of this index to choose from.

let filterBoxes = 0;

// Show what is wrong: a sentence, and the filter with a caret below the place.
function showProblem(part, wrong) {
  const [sentence = "", ...lines] = (wrong?.message ?? "").split("\n");
  const place = h("code", { hidden: !lines.length, "aria-hidden": "true" }, lines.join("\n"));
  part.replaceChildren(...(wrong ? [h("b", {}, sentence), place, h("span", {}, wrong.hint)] : []));
  if (!lines.length) return;
  // The caret, which the last line ends with, comes into view on a narrow page.
  const longest = Math.max(...lines.map((line) => line.length));
  place.scrollLeft = (place.scrollWidth * lines.at(-1).length) / longest - place.clientWidth / 2;
}

function filterBox(store) {
  const { filter, fields } = store.setup;
  if (!filter) return null;
  const field = fields.find((one) => one.name === filter.option);
  const id = `wb-filter-${(filterBoxes += 1)}`;
  let picked = new Map(); // chosen values by field, as they are typed
  let typed = ""; // what was typed besides them

  const apply = (text) => {
    if (text !== (store.state.options[filter.option] ?? "")) {
      store.set({ options: { ...store.state.options, [filter.option]: text } });
    }
  };
  const input = h("input", {
    type: "text",
    id,
    "aria-describedby": `${id}-problem`,
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    maxlength: filter.most,
    placeholder: "such as label:animal and not style:plain",
    value: store.state.options[filter.option] ?? "",
    oninput: () => {
      typed = input.value.trim();
      picked = new Map();
      drawPicked();
    },
    onchange: () => apply(input.value.trim()),
    onkeydown: (event) => {
      if (event.key !== "Enter" || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      apply(input.value.trim());
    },
  });
  typed = input.value.trim();
  const clear = h(
    "button",
    {
      type: "button",
      class: "wb-filter-clear",
      "aria-label": "Clear the filter",
      title: "Clear",
      onclick: () => {
        typed = "";
        picked = new Map();
        write();
        input.focus(); // the button that had it is gone
      },
    },
    "×",
  );
  const problem = h("div", { class: "wb-filter-problem", id: `${id}-problem`, role: "alert" });
  const list = h("div", { class: "wb-filter-fields", id: `${id}-fields`, hidden: true });
  const open = h(
    "button",
    {
      type: "button",
      class: "wb-filter-open",
      "aria-expanded": "false",
      "aria-controls": `${id}-fields`,
      hidden: !filter.listed,
      onclick: () => {
        list.hidden = !list.hidden;
        open.setAttribute("aria-expanded", String(!list.hidden));
        if (!list.hidden) store.askFields();
      },
    },
    "Fields",
  );

  // The text of what was typed and of what was chosen: several values of a field are one condition.
  const write = () => {
    const parts = [...picked].map(([name, values]) => `${name}:${values.length > 1 ? `(${values.join(", ")})` : values[0]}`);
    const first = parts.length && /\bor\b/i.test(typed) ? `(${typed})` : typed;
    input.value = [first, ...parts].filter(Boolean).join(" and ");
    drawPicked();
    apply(input.value);
  };
  const isPicked = (name, value) => Boolean(picked.get(name)?.includes(value));
  const pick = (name, value) => {
    const values = (picked.get(name) ?? []).filter((one) => one !== value);
    if (!isPicked(name, value)) values.push(value);
    if (values.length) picked.set(name, values);
    else picked.delete(name);
    write();
  };
  const begin = (text) => {
    const before = input.value.trim();
    input.value = before ? `${before} and ${text}` : text;
    typed = input.value;
    picked = new Map();
    drawPicked();
    input.focus();
  };
  function drawPicked() {
    clear.hidden = !input.value;
    for (const chip of list.querySelectorAll("[data-field]")) {
      chip.setAttribute("aria-pressed", String(isPicked(chip.dataset.field, chip.dataset.value)));
    }
  }
  const chip = (one, { value, text, count }) =>
    h(
      "button",
      {
        type: "button",
        "data-field": one.text,
        "data-value": text,
        "aria-pressed": "false",
        "aria-label": `${one.name}: ${value} ${count.toLocaleString()}`,
        onclick: () => pick(one.text, text),
      },
      h("span", {}, value),
      " ",
      h("small", {}, count.toLocaleString()),
    );
  const begins = ({ text, kind, help }) => {
    const sign = kind === "number" || kind === "date" ? ">" : ":";
    return h(
      "button",
      { type: "button", title: help || null, "aria-label": `Begin a condition: ${text}${sign}`, onclick: () => begin(`${text}${sign}`) },
      `${text}${sign}`,
    );
  };
  const drawFields = (known) => {
    const listed = known.filter((one) => one.values.length);
    const others = known.filter((one) => !one.values.length);
    const row = (name, help, ...chips) =>
      h("div", { class: "wb-filter-row", role: "group", "aria-label": name }, h("span", { title: help || null }, name), h("div", {}, ...chips));
    list.replaceChildren(
      ...listed.map((one) => row(one.name, one.help, ...one.values.map((value) => chip(one, value)), one.more && h("small", {}, "and more"))),
      ...(others.length ? [row("others", "", ...others.map(begins))] : []),
      h(
        "p",
        {},
        "Join conditions by ", h("b", {}, "and"), ", ", h("b", {}, "or"), ", ", h("b", {}, "not"),
        " and parentheses. Quote values with blanks: ", h("code", {}, 'caption:"red heart"'),
        ". Several values: ", h("code", {}, "label:(cat, dog)"), ". Beginnings: ", h("code", {}, "label:ca*"), ".",
      ),
    );
    const examples = listed.slice(0, 2).map((one) => `${one.text}:${one.values[0].text}`);
    if (examples.length) input.placeholder = `such as ${examples.join(" and ")}`;
    drawPicked();
  };

  let drawnFields = null;
  let drawnProblem = null;
  store.subscribe(({ options, filterFields, optionProblem }) => {
    const now = options[filter.option] ?? "";
    if (document.activeElement !== input && input.value !== now && !(optionProblem && input.value)) {
      input.value = now; // another view of this panel, or a page that was loaded again
      typed = now;
      picked = new Map();
      drawPicked();
    }
    if (filterFields !== drawnFields) {
      drawnFields = filterFields;
      if (!filterFields) list.replaceChildren();
      else if (filterFields.loading) list.replaceChildren(h("p", {}, "Looking at the fields…"));
      else if (filterFields.message) list.replaceChildren(h("p", {}, [filterFields.message, filterFields.hint].filter(Boolean).join(" ")));
      else drawFields(filterFields.fields);
    }
    const wrong = optionProblem?.option === filter.option ? optionProblem : null;
    if (wrong !== drawnProblem) {
      drawnProblem = wrong;
      input.toggleAttribute("aria-invalid", Boolean(wrong));
      if (wrong) input.setAttribute("aria-invalid", "true");
      showProblem(problem, wrong);
    }
  });
  drawPicked();
  return h(
    "div",
    { class: "wb-filter" },
    h("div", { class: "wb-filter-line" }, h("label", { for: id, title: field.help || null }, field.label), h("div", { class: "wb-filter-box" }, input, clear), open),
    problem,
    list,
  );
}
