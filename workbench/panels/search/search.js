// The search panel. Message shapes are documented in panel.py.
// Everything from the kernel is inserted into the page as text, but for an explanation: the kernel draws its HTML, as
// in show(), and escapes every text in it.

const LOADING_AFTER_MS = 150;
const STALE_AFTER_MS = 1500; // results of the previous query are not left under a new one for longer
const SLOW_AFTER_MS = 8000;
const SHRINK_OVER_BYTES = 2 * 2 ** 20; // a Jupyter server silently drops larger messages
const SHRINK_TO_PIXELS = 1280;
const PICTURE_TYPES = ["image/png", "image/jpeg", "image/webp"];
const TIME_WORDS = { search: "search", encode: "encoding" };

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const attributes = { viewBox: "0 0 24 24", width: 20, height: 20, fill: "none", stroke: "currentColor" };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  svg.setAttribute("stroke-width", "1.8");
  svg.setAttribute("stroke-linecap", "round");
  svg.setAttribute("stroke-linejoin", "round");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

const ICONS = {
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM15.3 15.3 20 20",
  picture: "M4 5h16v14H4zM4 16l4.5-4.5 4 4L15 13l5 5M15.5 9.2h.01",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  plus: "M12 6v12M6 12h12",
  minus: "M6 12h12",
};

// --- composed queries: {by: "compose", terms: [{weight, by, query | item | bytes, name, url, picture}]} ----------

// The terms of a question; one that is not composed is a single term.
const termsOf = (question) => question?.terms ?? (question ? [{ ...question, weight: 1 }] : []);

// What a question asks if it is nothing but one thing, else null.
function single(question) {
  if (question?.by !== "compose") return question;
  return question.terms.length === 1 && question.terms[0].weight === 1 ? question.terms[0] : null;
}

const termName = (term) => (term.by === "text" ? term.query : term.by === "item" ? `like “${term.name}”` : term.name);
const weightText = ({ weight }) => (Math.abs(weight) === 1 ? "" : `${Math.abs(weight)} · `);
const inWords = (terms) => terms.map((term) => `${term.weight < 0 ? "minus" : "plus"} ${weightText(term)}${termName(term)}`).join(", ");

// A sign that stands before a word and behind a blank, or a weight and a star: this text is several terms.
const COMPOSED = /(?:^|\s)(?:[+\-−](?=[^\s+\-−])|[+\-−]?(?:\d+(?:\.\d*)?|\.\d+)[*×·]\S)/;

// The terms of a text such as: +dog -cat 0.5*"police car"; the grammar is that of parse_terms in composition.py, but
// for items, which are chosen with the pointer here.
function parsedTerms(text) {
  const part = /([+\-−]\s*)?(?:((?:\d+(?:\.\d*)?|\.\d+))[*×·]\s*)?(?:"([^"]*)"|“([^”]*)”|(\S+))/gy;
  const terms = [];
  let joins = false; // whether a word without a sign continues the last term
  let rest = text.trim();
  while (rest) {
    part.lastIndex = 0;
    const [whole, sign, factor, plain, curly, word] = part.exec(rest);
    const quoted = plain ?? curly;
    if (!sign && !factor && quoted === undefined && joins) {
      terms.at(-1).query += ` ${word}`;
    } else {
      const weight = (factor ? Number(factor) : 1) * (sign && sign[0] !== "+" ? -1 : 1);
      terms.push({ by: "text", query: quoted ?? word, weight });
      joins = quoted === undefined;
    }
    rest = rest.slice(whole.length).trimStart();
  }
  return terms;
}

const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const milliseconds = (ms) => (ms < 0.05 ? "<0.1" : ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString());

function timing(took) {
  const parts = Object.entries(took).filter(([key]) => key !== "total");
  parts.sort(([a], [b]) => (b === "search") - (a === "search"));
  const texts = parts.map(([key, ms]) => `${milliseconds(ms)} ms ${TIME_WORDS[key] ?? key.replaceAll("_", " ")}`);
  if (!texts.length && "total" in took) texts.push(`${milliseconds(took.total)} ms`);
  return texts.join(", ");
}

function pictureType(bytes) {
  const [a, b] = [bytes.getUint8(0), bytes.getUint8(1)];
  return a === 0x89 ? "image/png" : a === 0xff && b === 0xd8 ? "image/jpeg" : "image/webp";
}

// One store per model: all views of a panel show the same search.
function createStore(model) {
  const setup = model.get("setup");
  const listeners = new Set();
  let urls = [];
  let inFlight = null; // seq of the question that the kernel is answering
  let sentAt = 0;
  let whySeq = 0;
  let fieldsSeq = 0;
  let before = null; // the answer that is shown again if an option is refused
  let again = false; // a newer question waits for the kernel's answer
  let timers = [];
  const tab = savedQuery(setup);
  const address = searchAddress(setup, (found) => (found ? take(found) : leave()));

  const state = {
    question: null, // {by: "text", query} | {by: "image", bytes, name, url} | {by: "item", item, name, url} | composed
    sign: 0, // 1 or -1: what is entered next is added to the query, or taken away from it
    options: { ...setup.options },
    k: setup.kChoices[0],
    seq: 0,
    answer: null,
    problem: null,
    loading: false,
    slow: false,
    why: null, // {id, name, seq, html, problem}: why a hit was found
    filterFields: null, // {fields: [...]}, {loading: true} or {message, hint}: what a filter may use
    optionProblem: null, // {option, message, hint}: an option that was refused; the results stay
  };
  const emit = () => listeners.forEach((listener) => listener(state));
  const stopTimers = () => {
    timers.forEach(clearTimeout);
    timers = [];
  };

  function post() {
    inFlight = state.seq;
    sentAt = Date.now();
    const content = { type: "search", seq: state.seq, k: state.k, options: state.options };
    const one = single(state.question);
    if (one) {
      const { by, query, item, bytes } = one;
      model.send({ ...content, by, query, item }, undefined, by === "image" ? [bytes] : []);
      return;
    }
    const pictures = [];
    const terms = state.question.terms.map(({ weight, by, query, item, bytes }) =>
      by === "image" ? { weight, by, picture: pictures.push(bytes) - 1 } : { weight, by, query, item },
    );
    model.send({ ...content, by: "compose", terms }, undefined, pictures);
  }

  function ask(question) {
    const kept = new Set(termsOf(question).map(({ url }) => url));
    for (const { url } of termsOf(state.question)) if (url && !kept.has(url)) URL.revokeObjectURL(url);
    if (state.question !== question) before = null; // it answers another query
    state.question = question;
    state.sign = 0;
    state.seq += 1;
    state.problem = null;
    state.optionProblem = null;
    before = state.answer ?? before;
    stopTimers();
    timers.push(setTimeout(() => { state.loading = true; emit(); }, LOADING_AFTER_MS));
    timers.push(setTimeout(() => { state.answer = null; emit(); }, STALE_AFTER_MS));
    timers.push(setTimeout(() => { state.slow = true; emit(); }, SLOW_AFTER_MS));
    tab.keep(state);
    address.keep(state);
    if (inFlight === null || Date.now() - sentAt > SLOW_AFTER_MS) post();
    else again = true;
    emit();
  }

  // Ask what was asked before: what an address says, or what the tab has kept.
  function take({ question, options, k }) {
    state.options = { ...state.options, ...options };
    if (setup.kChoices.includes(k)) state.k = k;
    ask({ ...question, returned: true });
  }

  // Ask nothing any more.
  function leave() {
    state.seq += 1; // any answer still on its way is ignored
    again = false;
    tab.forget();
    for (const { url } of termsOf(state.question)) if (url) URL.revokeObjectURL(url);
    before = null;
    Object.assign(state, { question: null, answer: null, problem: null, optionProblem: null, why: null, sign: 0 });
    settle();
  }

  function settle() {
    stopTimers();
    state.loading = false;
    state.slow = false;
    emit();
  }

  model.on("msg:custom", (message, buffers) => {
    if (message.type === "explanation") {
      if (message.seq !== state.why?.seq) return;
      const problem = message.message ? { message: message.message, hint: message.hint } : null;
      state.why = { ...state.why, html: message.html, problem };
      emit();
      return;
    }
    if (message.type === "fields") {
      if (message.seq === fieldsSeq) {
        state.filterFields = message;
        emit();
      }
      return;
    }
    if (message.seq === inFlight) inFlight = null;
    if (again && inFlight === null) {
      again = false;
      post();
    }
    if (message.seq !== state.seq) return; // older than the newest question
    if (message.type === "error" && message.option) {
      const { option, message: text, hint } = message;
      const own = option === setup.filter?.option; // beside its box, and the results are as they were
      state.optionProblem = { option, message: text, hint };
      state.problem = own ? null : { message: text, hint };
      state.answer ??= before;
      settle();
      return;
    }
    urls.forEach((url) => URL.revokeObjectURL(url));
    urls = [];
    before = null;
    state.why = null;
    if (message.type === "error") {
      state.answer = null;
      state.problem = { message: message.message, hint: message.hint };
    } else {
      const hits = message.hits.map((hit) => {
        if (hit.thumbnail === null) return hit;
        const bytes = buffers[hit.thumbnail];
        const blob = new Blob([bytes], { type: pictureType(bytes) });
        const url = URL.createObjectURL(blob);
        urls.push(url);
        return { ...hit, blob, url };
      });
      state.answer = { ...message, hits, question: state.question };
    }
    settle();
  });

  const tooMany = (terms) => {
    const pictures = terms.filter(({ by }) => by === "image").length;
    if (terms.length > setup.maxTerms) return `A query may have at most ${setup.maxTerms} terms.`;
    return pictures > setup.maxPictures ? `A query may have at most ${setup.maxPictures} pictures.` : "";
  };

  return {
    setup,
    state,
    ask,
    // Ask a composed query; without terms, ask nothing.
    compose(terms) {
      const problem = tooMany(terms);
      if (problem) this.refuse(problem, "Remove one first.");
      else if (terms.length) ask({ by: "compose", terms });
      else this.clear();
    },
    // Add a term to the query, or take it away; an item that is in it already changes its sign.
    add(term) {
      const others = termsOf(state.question).filter((one) => one.by !== "item" || one.item !== term.item);
      this.compose([...others, term]);
    },
    // What is entered next gets a sign; the query becomes terms.
    sign(sign) {
      const { question } = state;
      if (question && question.by !== "compose") ask({ by: "compose", terms: termsOf(question) });
      state.sign = sign;
      emit();
    },
    // Ask what the address says, or again what was asked before the page was loaded again.
    async restore() {
      const found = address.read() ?? (await tab.kept());
      if (found && !state.question) take(found);
    },
    set(change) {
      Object.assign(state, change);
      if (state.question) ask(state.question);
      else emit();
    },
    refuse(message, hint) {
      state.problem = { message, hint };
      emit();
    },
    // Ask which fields and values a filter may use; once, unless that failed.
    askFields() {
      if (state.filterFields && !state.filterFields.message) return;
      fieldsSeq += 1;
      state.filterFields = { loading: true };
      model.send({ type: "fields", seq: fieldsSeq });
      emit();
    },
    // Ask why a hit was found, or close the answer to that.
    why(hit) {
      if (!hit || state.why?.id === hit.id) {
        state.why = null;
        emit();
        return;
      }
      const { by, query, item, name, bytes } = single(state.answer.question);
      whySeq += 1;
      state.why = { id: hit.id, name: hit.caption || hit.id, seq: whySeq, html: "", problem: null };
      const content = { type: "explain", seq: whySeq, by, query, item, name, hit: hit.id, options: state.options };
      model.send(content, undefined, by === "image" ? [bytes] : []);
      emit();
    },
    clear() {
      leave();
      address.forget();
    },
    subscribe(listener) {
      listeners.add(listener);
      listener(state);
      return () => listeners.delete(listener);
    },
    dispose() {
      stopTimers();
      address.leave();
      urls.forEach((url) => URL.revokeObjectURL(url));
    },
  };
}

// What is asked on a published page, kept over a reload of its tab. Nothing is kept in JupyterLab, where the kernel
// keeps the panel.
function savedQuery(setup) {
  const name = "workbench-search";
  const published = Boolean(document.body.dataset.voila);
  const asText = (bytes) =>
    new Promise((done) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result);
      reader.onerror = () => done("");
      reader.readAsDataURL(bytes);
    });
  const forget = () => published && sessionStorage.removeItem(name);
  let newest = 0;
  return {
    forget,
    async keep({ question, options, k }) {
      if (!published) return;
      const turn = (newest += 1);
      const terms = [];
      for (const { weight, by, query, item, name: label, bytes, picture } of termsOf(question)) {
        const blob = by === "image" ? new Blob([bytes]) : picture;
        terms.push({ weight, by, query, item, label, data: blob ? await asText(blob) : "" });
      }
      if (turn !== newest) return;
      try {
        const composed = question.by === "compose";
        sessionStorage.setItem(name, JSON.stringify({ composed, terms, options, k }));
      } catch {
        forget(); // a picture that is larger than what a tab may keep
      }
    },
    async kept() {
      const { type } = performance.getEntriesByType("navigation")[0] ?? {};
      if (!published || (type !== "reload" && type !== "back_forward")) return null;
      try {
        const { composed, terms, options, k } = JSON.parse(sessionStorage.getItem(name) ?? "null") ?? {};
        if (!terms?.length || !terms.every(({ by }) => setup.by[by]) || (composed && !setup.compose)) return null;
        const known = setup.fields.map((field) => field.name);
        const allowed = Object.fromEntries(Object.entries(options).filter(([key]) => known.includes(key)));
        const restored = [];
        for (const { weight, by, query, item, label, data } of terms) {
          const picture = data ? await (await fetch(data)).blob() : null;
          const url = picture ? URL.createObjectURL(picture) : undefined;
          const term =
            by === "text" ? { by, query }
            : by === "item" ? { by, item, name: label, url, picture }
            : { by, bytes: await picture.arrayBuffer(), name: label, url };
          restored.push({ ...term, weight });
        }
        return { question: composed ? { by: "compose", terms: restored } : restored[0], options: allowed, k };
      } catch {
        forget();
        return null;
      }
    },
  };
}

async function shrunk(file) {
  const drawn = await createImageBitmap(file);
  const scale = Math.min(1, SHRINK_TO_PIXELS / Math.max(drawn.width, drawn.height));
  const canvas = h("canvas", {});
  canvas.width = Math.max(1, Math.round(drawn.width * scale));
  canvas.height = Math.max(1, Math.round(drawn.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // transparent areas become white, as in the index
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(drawn, 0, 0, canvas.width, canvas.height);
  drawn.close();
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
}

async function takePicture(store, file) {
  const name = file.name || "pasted picture";
  if (!PICTURE_TYPES.includes(file.type)) {
    store.refuse(`“${name}” has an unsupported type: ${file.type || "unknown"}.`, "Use a PNG, JPEG or WebP picture.");
    return;
  }
  const limit = store.setup.maxImageBytes;
  if (file.size > limit) {
    const sizes = `“${name}” has ${mib(file.size)}; at most ${mib(limit)} are allowed.`;
    store.refuse(sizes, "Make it smaller and try again.");
    return;
  }
  try {
    const blob = file.size > SHRINK_OVER_BYTES ? await shrunk(file) : file;
    const { sign, question } = store.state;
    const picture = { by: "image", bytes: await blob.arrayBuffer(), name, url: URL.createObjectURL(file) };
    if (question?.by === "compose") store.add({ ...picture, weight: sign || 1 });
    else store.ask(picture);
  } catch {
    store.refuse(`“${name}” cannot be read as a picture.`, "It may be damaged; try another one.");
  }
}

const firstPicture = (transfer) => [...(transfer?.files ?? [])][0];

function segments(field, value, name, change) {
  return h(
    "div",
    { class: "wb-seg", role: "radiogroup", "aria-label": field.label },
    ...field.choices.map((choice) =>
      h(
        "label",
        {},
        h("input", {
          type: "radio",
          name,
          checked: choice.value === value,
          value: String(choice.value),
          onchange: () => change(choice.value),
        }),
        choice.label,
      ),
    ),
  );
}

let views = 0;

function fieldTool(field, value, name, change) {
  const label = h("span", {}, field.label);
  if (field.kind === "choice" && field.choices.map((choice) => choice.label).join("").length <= 64) {
    return h("div", { class: "wb-tool", title: field.help || null }, label, segments(field, value, name, change));
  }
  let control;
  if (field.kind === "choice") {
    const choose = (event) => change(field.choices[event.target.selectedIndex].value);
    const options = field.choices.map((choice) => {
      const option = h("option", {}, choice.label);
      option.selected = choice.value === value;
      return option;
    });
    control = h("select", { onchange: choose }, ...options);
  } else if (field.kind === "flag") {
    control = h("input", { type: "checkbox", checked: !!value, onchange: (event) => change(event.target.checked) });
  } else if (field.kind === "text") {
    control = h("input", { type: "text", value: value ?? "", onchange: (event) => change(event.target.value) });
  } else {
    const optional = field.default === null && !field.required;
    control = h("input", {
      type: "number",
      min: field.min,
      max: field.max,
      step: field.kind === "integer" ? 1 : "any",
      value: value ?? "",
      placeholder: optional ? "any" : null,
      onchange: (event) => {
        if (event.target.value !== "") change(event.target.valueAsNumber);
        else if (optional && !event.target.validity.badInput) change(null);
      },
    });
  }
  return h("label", { class: "wb-tool", title: field.help || null }, label, control);
}

function toolbar(store) {
  const tools = h("div", { class: "wb-tools" });
  const rare = h("details", { class: "wb-rare" });
  const number = (views += 1);
  const show = { label: "Show", kind: "choice", choices: store.setup.kChoices.map((k) => ({ value: k, label: `${k}` })) };
  let drawn = "";
  store.subscribe((state) => {
    const now = JSON.stringify([state.options, state.k]);
    if (now === drawn) return; // rebuilding would take the focus from the control in use
    const first = drawn === "";
    drawn = now;
    if (!first && tools.contains(document.activeElement)) return;
    const draw = (field) =>
      fieldTool(field, state.options[field.name], `wb-${number}-${field.name}`, (value) =>
        store.set({ options: { ...store.state.options, [field.name]: value } }),
      );
    const { fields } = store.setup;
    const more = fields.filter((field) => field.more);
    rare.replaceChildren(h("summary", {}, "More options"), h("div", { class: "wb-tools" }, ...more.map(draw)));
    tools.replaceChildren(
      ...fields.filter((field) => !field.more && field.name !== store.setup.filter?.option).map(draw),
      fieldTool(show, state.k, `wb-${number}-k`, (k) => store.set({ k })),
      ...(more.length ? [rare] : []),
    );
  });
  return tools;
}

// What a value of an option is called.
function choiceText(field, value) {
  if (field.kind === "choice") return field.choices.find((choice) => choice.value === value)?.label ?? `${value}`;
  return field.kind === "flag" ? (value ? "on" : "off") : `${value}`;
}

// The options, which visitors of a page unfold. What differs from the beginning stands beside the word, so that a
// folded list hides no choice.
function optionsPart(store) {
  const published = Boolean(document.body.dataset.voila);
  const kept = "workbench-options";
  const chosen = h("span", { class: "wb-chosen" });
  const open = published ? sessionStorage.getItem(kept) === "open" : true;
  const part = h(
    "details",
    { class: "wb-options", open, ontoggle: () => published && sessionStorage.setItem(kept, part.open ? "open" : "") },
    h("summary", {}, "Options", chosen),
    toolbar(store),
    ...[filterBox(store)].filter(Boolean),
  );
  store.subscribe(({ options, k }) => {
    const { fields, kChoices } = store.setup;
    const empty = (value) => value === null || value === undefined || value === "";
    const texts = fields
      .filter(({ name }) => options[name] !== store.setup.options[name] && !(empty(options[name]) && empty(store.setup.options[name])))
      .map((field) => `${field.label}: ${empty(options[field.name]) ? "none" : choiceText(field, options[field.name])}`);
    if (k !== kChoices[0]) texts.push(`Show: ${k}`);
    setText(chosen, texts.join(" · "));
  });
  return part;
}

// The picture or item that is searched with, and a button to remove it.
function pictureChip(store) {
  const chip = h("span", { class: "wb-given", hidden: true });
  const remove = () => {
    const { by } = store.setup;
    const next = by.text ? chip.closest("form").querySelector('input[type="text"]') : chip.closest(".wb-search").querySelector(".wb-lead-drop");
    store.clear();
    next?.focus(); // the button that had it is gone
  };
  let drawn = null;
  store.subscribe(({ question }) => {
    if (question === drawn) return;
    drawn = question;
    chip.hidden = !question || question.by === "text" || question.by === "compose";
    if (chip.hidden) return;
    const name = question.by === "item" ? `like “${question.name}”` : question.name;
    chip.replaceChildren(
      h("img", { src: question.url, alt: "", onerror: (event) => event.target.remove() }),
      h("span", { title: name }, name),
      h("button", { type: "button", "aria-label": `Remove ${name}`, title: "Remove", onclick: remove }, "×"),
    );
  });
  return chip;
}

// The terms of a composed query, each with its sign, and a button to remove it.
function queryTerms(store, focusInput) {
  const list = h("ul", { class: "wb-terms", hidden: true });
  let drawn = null;
  const change = (place, term) => {
    const terms = [...store.state.question.terms];
    terms.splice(place, 1, ...(term ? [term] : []));
    store.compose(terms);
    // The chips are redrawn: the focus stays where it was, or goes to the next chip, or to the box.
    const button = term ? ".wb-sign" : ".wb-drop";
    (list.children[Math.min(place, terms.length - 1)]?.querySelector(button) ?? { focus: focusInput }).focus();
  };
  const chip = (term, place) => {
    const name = termName(term);
    const [sign, other] = term.weight < 0 ? ["minus", "plus"] : ["plus", "minus"];
    return h(
      "li",
      { class: term.weight < 0 ? "wb-term wb-away" : "wb-term" },
      h("button", {
        type: "button",
        class: "wb-sign",
        "aria-label": `${sign} ${name}: change to ${other}`,
        title: `Change to ${other}`,
        onclick: () => change(place, { ...term, weight: -term.weight }),
      }, icon(ICONS[sign])),
      term.url && h("img", { src: term.url, alt: "", onerror: (event) => event.target.remove() }),
      h("span", { title: name }, `${weightText(term)}${name}`),
      h("button", { type: "button", class: "wb-drop", "aria-label": `Remove ${name}`, title: "Remove", onclick: () => change(place) }, "×"),
    );
  };
  const clear = () => {
    store.clear();
    focusInput();
  };
  store.subscribe(({ question }) => {
    if (question === drawn) return;
    drawn = question;
    list.hidden = question?.by !== "compose";
    if (list.hidden) {
      list.replaceChildren();
      return;
    }
    list.setAttribute("aria-label", `Query: ${inWords(question.terms)}`);
    const more = question.terms.length > 1 && h("li", {}, h("button", { type: "button", class: "wb-clear", onclick: clear }, "Clear"));
    list.replaceChildren(...question.terms.map(chip), ...[more].filter(Boolean));
  });
  return list;
}

// Buttons by which what is typed, or entered next, is added to the query or taken away from it.
function signButtons(store, input) {
  if (!store.setup.compose || !store.setup.by.text) return null;
  const press = (sign) => {
    const text = input.value.trim();
    const { question, sign: before } = store.state;
    if (text && (question?.by !== "text" || text !== question.query)) {
      store.add({ by: "text", query: text, weight: sign });
      input.value = "";
    } else {
      if (text) input.value = "";
      store.sign(before === sign ? 0 : sign);
    }
    input.focus();
  };
  const buttons = [["plus", 1, "Add to the search"], ["minus", -1, "Take away from the search"]].map(([name, sign, label]) =>
    h("button", { type: "button", "aria-label": label, title: label, "aria-pressed": "false", onclick: () => press(sign) }, icon(ICONS[name])),
  );
  store.subscribe(({ sign }) => {
    buttons[0].setAttribute("aria-pressed", String(sign === 1));
    buttons[1].setAttribute("aria-pressed", String(sign === -1));
  });
  return h("span", { class: "wb-signs" }, ...buttons);
}

function searchForm(store, root, signal) {
  const { by, maxQueryCharacters, samples, query } = store.setup;
  const input = h("input", {
    type: "text",
    "aria-label": "Query",
    autocomplete: "off",
    spellcheck: "false",
    maxlength: maxQueryCharacters,
    placeholder: "Type a word or two",
    value: query,
    hidden: !by.text,
    onkeydown: submitOnEnter,
  });
  const file = h("input", {
    type: "file",
    accept: PICTURE_TYPES.join(","),
    hidden: true,
    onchange: () => {
      if (file.files[0]) takePicture(store, file.files[0]);
      file.value = "";
    },
  });
  const askText = (text) => {
    input.value = text;
    if (text.trim()) store.ask({ by: "text", query: text.trim() });
    else {
      store.clear(); // the results of the last query are not those of this one
      store.refuse("The query is empty.", "Type a word or two, or try one of the samples.");
      input.focus();
    }
  };
  // What is typed is a new query, or one or several terms of one that is composed.
  const enter = (typed) => {
    const { question, sign } = store.state;
    const text = typed.trim();
    const composing = question?.by === "compose";
    const several = store.setup.compose && COMPOSED.test(text);
    if (several) store.compose([...(composing ? question.terms : []), ...parsedTerms(text)]);
    else if (text && composing) store.add({ by: "text", query: text, weight: sign || 1 });
    else askText(typed);
  };
  const form = h(
    "form",
    {
      role: "search",
      onsubmit: (event) => {
        event.preventDefault();
        const { question } = store.state;
        if (!input.value.trim() && question && question.by !== "text") store.ask(question);
        else enter(input.value);
      },
    },
    queryTerms(store, () => (by.text ? input : root.querySelector(".wb-lead-drop"))?.focus()),
    icon(ICONS.search),
    pictureChip(store),
    input,
    signButtons(store, input),
    by.image && h("button", { type: "button", onclick: () => file.click() }, icon(ICONS.picture), "Picture"),
    h("button", { type: "submit", class: "wb-primary" }, "Search"),
    file,
  );
  let drawn = null;
  store.subscribe(({ question, sign }) => {
    // Without words there is nothing to type: the form only holds the picture that was searched with.
    form.hidden = !by.text && store.setup.lead === "picture" && !question;
    if (question !== drawn && question && question.by !== "text") input.value = ""; // and not what is typed meanwhile
    if (question !== drawn && question?.returned && question.by === "text") input.value = question.query;
    if (!question && drawn?.by === "text") input.value = "";
    drawn = question;
    const next = sign < 0 ? "Type what to take away" : "Type what to add";
    const other = question && question.by !== "text" ? "or type a word" : "Type a word or two";
    input.placeholder = sign || question?.by === "compose" ? next : other;
  });
  const chips = h(
    "div",
    { class: "wb-samples", role: "group", "aria-label": "Sample queries", hidden: !samples.length || !by.text },
    ...samples.map((sample) =>
      h(
        "button",
        { type: "button", onclick: () => askText(sample.text) },
        h("span", { lang: sample.language || null }, sample.text),
        sample.language && h("small", {}, sample.language.toUpperCase()),
      ),
    ),
  );
  if (by.image) acceptDrops(store, root, signal);
  if (document.body.dataset.voila) focusBox(input, signal);
  return { form, chips, enter };
}

// A published page is there to search: its box has the focus, and "/" gives it back. Not where that would open a
// keyboard on the screen.
function focusBox(input, signal) {
  if (matchMedia("(hover: hover)").matches) requestAnimationFrame(() => input.focus({ preventScroll: true }));
  const onKey = (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
    input.select();
  };
  document.addEventListener("keydown", onKey, { signal });
}

// Where pictures find more than words do, they come first: a large place to drop or choose one.
function pictureLead(store) {
  if (store.setup.lead !== "picture" || !store.setup.by.image) return null;
  const file = h("input", {
    type: "file",
    accept: PICTURE_TYPES.join(","),
    hidden: true,
    onchange: () => {
      if (file.files[0]) takePicture(store, file.files[0]);
      file.value = "";
    },
  });
  const choose = h(
    "button",
    { type: "button", class: "wb-lead-drop", onclick: () => file.click() },
    icon(ICONS.picture),
    h("b", {}, "Search with a picture"),
    h("span", {}, "Drop or paste one here, or click to choose a file"),
  );
  const lead = h("div", { class: "wb-lead" }, choose, file);
  // Without words the form takes its place while there is a picture in it.
  store.subscribe(({ question }) => {
    lead.hidden = !store.setup.by.text && Boolean(question);
  });
  return lead;
}

// Pictures of the index to start with, below that place while nothing is searched for: a search needs no picture
// of one's own. Several may have one name, such as "Picture": numbers then tell them apart.
function startingPictures(store, focusResults) {
  const { pictures } = store.setup;
  if (store.setup.lead !== "picture" || !store.setup.by.item || !pictures?.length) return null;
  const names = pictures.map(({ caption }) => caption);
  const start = ({ id, thumbnail }, place) => {
    const again = names.filter((name) => name === names[place]).length > 1;
    const name = again ? `${names[place]} ${place + 1}` : names[place];
    const picture = new Blob([thumbnail], { type: pictureType(thumbnail) });
    const ask = () => {
      store.ask({ by: "item", item: id, name, url: URL.createObjectURL(picture), picture });
      focusResults();
    };
    const url = URL.createObjectURL(picture);
    const shown = h("img", { src: url, alt: "", decoding: "async", onload: () => URL.revokeObjectURL(url) });
    return h(
      "li",
      {},
      h("button", { type: "button", "aria-label": `Search with ${name}`, title: name, onclick: ask }, shown, h("span", {}, name)),
    );
  };
  const part = h(
    "section",
    { class: "wb-starts", "aria-label": "Pictures to start with" },
    h("h3", {}, store.setup.by.image ? "Or start with one of these" : "Start with one of these"),
    h("ul", {}, ...pictures.map(start)),
  );
  store.subscribe(({ question, problem }) => {
    part.hidden = Boolean(question || problem);
  });
  return part;
}

function pathPart(path) {
  if (!path) return null;
  const name = path.split(/[\\/]/).slice(-2).join("/");
  const said = h("span", { class: "wb-path-name", title: path }, name);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(path);
      setText(said, "path copied");
    } catch {
      setText(said, path); // no clipboard without a secure connection: shown whole, to be selected
    }
    setTimeout(() => setText(said, name), 2500);
  };
  return h(
    "div",
    { class: "wb-path" },
    said,
    h("button", { type: "button", "aria-label": `Copy the path ${path}`, title: `Copy ${path}`, onclick: copy }, icon(ICONS.copy)),
  );
}

function acceptDrops(store, root, signal) {
  const over = h("div", { class: "wb-over", hidden: true }, "Drop the picture to search with it");
  root.append(over);
  const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const claim = (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    event.stopPropagation();
    over.hidden = false;
  };
  // A published page is this panel and nothing else, so a picture may be dropped or pasted anywhere on it.
  // The document outlives the panel: `signal` ends what it listens to.
  const place = document.body.dataset.voila ? document : root;
  place.addEventListener("dragenter", claim, { signal });
  place.addEventListener("dragover", claim, { signal });
  place.addEventListener("dragleave", (event) => {
    if (!place.contains(event.relatedTarget)) over.hidden = true;
  }, { signal });
  place.addEventListener("drop", (event) => {
    over.hidden = true;
    if (!carriesFile(event)) return;
    event.preventDefault();
    event.stopPropagation();
    takePicture(store, firstPicture(event.dataTransfer));
  }, { signal });
  place.addEventListener("paste", (event) => {
    const picture = firstPicture(event.clipboardData);
    if (!picture) return;
    event.preventDefault();
    event.stopPropagation();
    takePicture(store, picture);
  }, { signal });
}

// What a hit offers to go on with: more, and where queries can be composed, less like it.
function likeButtons(store, hit, caption, focusResults) {
  const { by, compose } = store.setup;
  if (!by.item || (!hit.url && !compose)) return null;
  const picture = () => (hit.blob ? { url: URL.createObjectURL(hit.blob), picture: hit.blob } : {});
  const like = (weight) => {
    const item = { by: "item", item: hit.id, name: caption, ...picture() };
    if (compose) store.add({ ...item, weight });
    else store.ask(item);
    focusResults();
  };
  const button = (what, text, weight) =>
    h("button", { type: "button", class: "wb-more", "aria-label": `${what} like this: ${caption}`, title: `${what} like this`, onclick: () => like(weight) }, text);
  if (!compose) return button("more", "more like this", 1);
  return h("div", { class: "wb-like" }, button("more", "+ more", 1), button("less", "− less", -1));
}

function hitPart(store, hit, weak, focusResults) {
  const caption = hit.caption || (hit.path ? hit.path.split(/[\\/]/).at(-1) : hit.id);
  const meter = h("i", {});
  meter.style.width = `${Math.round(100 * Math.min(1, Math.max(0, hit.meter)))}%`;
  return h(
    "li",
    { class: weak ? "wb-hit wb-weak" : "wb-hit", "data-id": hit.id },
    h(
      "figure",
      {},
      hit.url && h("div", { class: "wb-pic" }, h("img", { src: hit.url, alt: caption, decoding: "async" })),
      likeButtons(store, hit, caption, focusResults),
      h(
        "figcaption",
        {},
        h("div", { class: "wb-caption", title: caption }, caption),
        hit.subtitle && h("div", { class: "wb-second", title: hit.subtitle }, hit.subtitle),
        pathPart(hit.path),
        h(
          "div",
          { class: "wb-score" },
          h("span", { class: "wb-meter", "aria-hidden": "true" }, meter),
          h("span", {}, hit.label || hit.score.toFixed(3)),
          store.setup.explain && single(store.state.answer.question) &&
            h("button", { type: "button", class: "wb-ask-why", "aria-expanded": "false", "aria-label": `Why this result: ${caption}`, onclick: () => store.why(hit) }, "Why?"),
        ),
      ),
    ),
  );
}

const things = (answer) => (answer.hits.some((hit) => hit.url) ? "pictures" : "texts");

function noteText(answer) {
  const none = answer.cutoff === 0 && answer.hits.length;
  const far = none ? "No good match. These are the closest." : "";
  return [answer.note, far].filter(Boolean).join(" · ");
}

function fillResults(store, results, focusResults) {
  const { answer } = store.state;
  // If no hit is near, all are dimmed, and the note says so.
  const cut = answer.cutoff !== null && answer.cutoff < answer.hits.length ? answer.cutoff : null;
  const parts = answer.hits.map((hit, place) => hitPart(store, hit, cut !== null && place >= cut, focusResults));
  if (cut) {
    const text = `results after this line are as far away as unrelated ${things(answer)} usually are`;
    parts.splice(cut, 0, h("li", { class: "wb-cut" }, h("span", {}, text)));
  }
  results.classList.toggle("wb-texts", things(answer) === "texts");
  results.replaceChildren(...parts);
  for (const line of results.querySelectorAll(".wb-caption, .wb-second")) {
    // Truncated names can be read by keyboard too: focus expands them.
    if (line.scrollWidth > line.clientWidth && !line.closest("figure").querySelector("button")) line.tabIndex = 0;
  }
}

function statusText({ answer, loading, slow }) {
  if (slow && document.body.dataset.voila) return "Still searching. This takes longer than usual.";
  if (slow) return "Still searching. The kernel may be busy with another cell, or stopped.";
  if (loading) return "Searching…";
  if (!answer) return "";
  const count = answer.hits.length === 1 ? "1 result" : `${answer.hits.length.toLocaleString()} results`;
  return [count, timing(answer.took_ms)].filter(Boolean).join(" · ");
}

// The answer to "Why?", in a row of its own below the hit's.
function whyPart(store, results) {
  const title = h("h3", {});
  const close = h("button", { type: "button", "aria-label": "Close the comparison", title: "Close", onclick: () => store.why(null) }, "×");
  const body = h("div", { "aria-live": "polite" });
  const part = h("li", { class: "wb-why", tabindex: "-1" }, h("div", { class: "wb-why-head" }, title, close), body);
  const hitOf = (id) => [...results.children].find((one) => one.dataset.id === id);
  let drawn = null;
  function place(hit) {
    // Behind the last hit of the same row, so that no place of the row stays empty.
    const row = [...results.children].filter((one) => one !== part && one.offsetTop === hit.offsetTop);
    const last = row.at(-1);
    if (last.nextElementSibling !== part) last.after(part);
  }
  const resized = new ResizeObserver(() => {
    const hit = drawn && hitOf(drawn.id);
    if (hit && part.isConnected) place(hit);
  });
  const draw = ({ why }) => {
    if (why === drawn) return;
    const opened = why && why.id !== drawn?.id;
    if (drawn && drawn.id !== why?.id) {
      const button = hitOf(drawn.id)?.querySelector(".wb-ask-why");
      button?.setAttribute("aria-expanded", "false");
      if (!why && part.contains(document.activeElement)) button?.focus();
      part.remove();
      resized.disconnect();
    }
    drawn = why;
    const hit = why && hitOf(why.id);
    if (!hit) return;
    setText(title, `Why “${why.name}”?`);
    if (why.problem) body.replaceChildren(h("div", { class: "wb-problem" }, h("b", {}, why.problem.message), h("span", {}, why.problem.hint)));
    else if (why.html) body.innerHTML = why.html;
    else body.replaceChildren(h("p", { class: "wb-muted" }, "Comparing…"));
    if (opened) {
      hit.querySelector(".wb-ask-why").setAttribute("aria-expanded", "true");
      place(hit);
      resized.observe(results);
    } else if (why.html) {
      part.focus({ preventScroll: true });
      part.scrollIntoView({ block: "nearest", behavior: "smooth" });
    }
  };
  return draw;
}

function resultsPart(store) {
  const note = h("span", {});
  const status = h("span", { role: "status", "aria-live": "polite" });
  const problem = h("div", { class: "wb-problem", role: "alert", hidden: true });
  const results = h("ol", { class: "wb-results", "aria-label": "Results", tabindex: "-1" });
  const empty = h("div", { class: "wb-empty" });
  const focusResults = () => {
    results.focus({ preventScroll: true });
    results.closest(".wb-search").scrollIntoView({ block: "start", behavior: "smooth" });
  };
  const drawWhy = whyPart(store, results);
  let drawn = null;
  let shownProblem = null;
  const draw = (state) => {
    setText(status, statusText(state));
    setText(note, state.answer ? noteText(state.answer) : "");
    if (state.problem !== shownProblem) {
      shownProblem = state.problem;
      problem.hidden = !shownProblem;
      const { message = "", hint = "" } = shownProblem ?? {};
      problem.replaceChildren(h("b", {}, message), h("span", {}, hint));
    }
    results.setAttribute("aria-busy", String(state.loading));
    if (state.answer && state.answer !== drawn) fillResults(store, results, focusResults);
    if (!state.answer) {
      const ghosts = state.loading ? Math.min(state.k, 12) : 0;
      results.replaceChildren(...Array.from({ length: ghosts }, () => h("li", { class: "wb-ghost", "aria-hidden": "true" })));
    }
    drawn = state.answer;
    drawWhy(state);
    const noHits = state.answer && !state.answer.hits.length;
    const leads = store.setup.lead === "picture" && store.setup.by.image; // that place says how to start
    empty.hidden = !(noHits || (!leads && !state.question && !state.problem));
    empty.replaceChildren(...emptyText(store, noHits));
  };
  const starts = startingPictures(store, focusResults);
  return { starts, parts: [h("div", { class: "wb-line" }, note, status), problem, results, empty], draw };
}

function emptyText({ setup, state }, noHits) {
  const { by, samples, compose, filter } = setup;
  if (noHits && filter && state.options[filter.option]) return [h("b", {}, "No results"), "Try another filter."];
  if (noHits) return [h("b", {}, "No results"), "Try other words or another picture."];
  const ways = [by.text && "type a word or two", by.image && "drop or paste a picture", by.text && samples.length && "try a sample"];
  const hint = ways.filter(Boolean).join(", or ");
  const several = compose && by.text ? " Combine several with + and −." : "";
  return [h("b", {}, "Start a search"), `${hint.charAt(0).toUpperCase()}${hint.slice(1)}.${several}`];
}

export default () => {
  let store;
  return {
    initialize({ model }) {
      store = createStore(model);
      return () => store.dispose();
    },
    render({ el }) {
      const leaves = [];
      const gone = new AbortController();
      const view = { ...store, subscribe: (listener) => leaves.push(store.subscribe(listener)) };
      const { setup } = view;
      const title = h(document.body.dataset.voila ? "h1" : "h2", { class: "wb-title" }, setup.title);
      const root = h("div", { class: "wb wb-search", "data-lm-suppress-shortcuts": "true" });
      const { form, chips, enter } = searchForm(view, root, gone.signal);
      const { starts, parts, draw } = resultsPart(view);
      root.prepend(
        title,
        h("p", { class: "wb-sub" }, setup.subtitle),
        ...[pictureLead(view), setup.note && h("p", { class: "wb-about-words" }, setup.note)].filter(Boolean),
        form,
        chips,
        ...[starts].filter(Boolean),
        optionsPart(view),
        ...parts,
        h("footer", { hidden: !setup.credits.length }, ...setup.credits.map((credit) => h("p", {}, credit))),
      );
      el.append(root);
      view.subscribe(draw);
      if (setup.query && !view.state.question) enter(setup.query);
      else if (!view.state.question) view.restore();
      return () => {
        gone.abort();
        leaves.forEach((leave) => leave());
      };
    },
  };
};
