// A search as the address of a published page: ?q=강아지&k=50 opens that search, Back and Forward walk through
// searches, and one of several words is written with signs, as in the box. A search with a picture of one's own has
// no address. In JupyterLab the address is not ours.

function signed({ weight, query }) {
  const factor = Math.abs(weight) === 1 ? "" : `${Math.abs(weight)}*`;
  return `${weight < 0 ? "-" : "+"}${factor}${/^[^\s+\-−*]+$/.test(query) ? query : `"${query}"`}`;
}

// The parameters of a search; null if it has no address.
function addressOf(setup, { question, options, k }) {
  const terms = termsOf(question);
  const address = new URLSearchParams();
  if (terms.length && terms.every(({ by, query }) => by === "text" && !/["“”]/.test(query))) {
    address.set("q", question.by === "compose" ? terms.map(signed).join(" ") : question.query);
  } else if (question.by === "text") address.set("q", question.query);
  else if (question.by === "item") address.set("item", question.item);
  else return null;
  for (const { name } of setup.fields) {
    const value = options[name];
    if (value !== setup.options[name] && value !== null && value !== "") address.set(name, value);
  }
  if (k !== setup.kChoices[0]) address.set("k", k);
  return address;
}

function valueFrom(field, text) {
  if (field.kind === "choice") return field.choices.find(({ value }) => `${value}` === text)?.value;
  if (field.kind === "flag") return text === "true";
  if (field.kind === "integer" || field.kind === "number") return text.trim() && Number.isFinite(+text) ? +text : undefined;
  return text;
}

// The search of an address: {question, options, k}; null if there is none. What this page does not know is left out.
function searchOf(setup, search, name) {
  const address = new URLSearchParams(search);
  const [query, item] = [address.get("q")?.trim(), address.get("item")];
  const options = { ...setup.options };
  for (const field of setup.fields) {
    const value = address.has(field.name) ? valueFrom(field, address.get(field.name)) : undefined;
    if (value !== undefined) options[field.name] = value;
  }
  const k = setup.kChoices.find((one) => `${one}` === address.get("k")) ?? setup.kChoices[0];
  if (query && setup.by.text) {
    const several = setup.compose && COMPOSED.test(query);
    const question = several ? { by: "compose", terms: parsedTerms(query) } : { by: "text", query };
    return { question, options, k };
  }
  if (item && setup.by.item) return { question: { by: "item", item, name: name || "this picture" }, options, k };
  return null;
}

// Keeps the address in step with what is asked; `come` is called with what Back and Forward return to.
function searchAddress(setup, come) {
  if (!document.body.dataset.voila) return { keep() {}, forget() {}, read: () => null, leave() {} };
  const title = document.title;
  const read = () => searchOf(setup, location.search, history.state?.name);
  const go = (search, name) => {
    if (location.search !== search) history.pushState({ name }, "", `${location.pathname}${search}`);
  };
  const named = (question) => {
    const words = question ? termsOf(question).map(termName).join(", ") : "";
    document.title = words ? `${words} · ${title}` : title;
  };
  const onReturn = () => {
    const found = read();
    named(found?.question);
    come(found);
  };
  window.addEventListener("popstate", onReturn);
  return {
    read,
    keep(state) {
      const address = addressOf(setup, state);
      named(state.question);
      go(address ? `?${address}` : "", state.question.by === "item" ? state.question.name : undefined);
    },
    forget() {
      named(null);
      go("");
    },
    leave: () => window.removeEventListener("popstate", onReturn),
  };
}
