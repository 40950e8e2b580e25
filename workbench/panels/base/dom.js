// What every panel's script begins with; assets.py puts this file before the panel's own.

// Make an element. Texts become text nodes, so nothing a kernel sends is ever read as markup.
function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else if (key === "value" || key === "checked" || key === "hidden" || key === "disabled") node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// Let Enter in a text field submit its form. In JupyterLab the browser's own way of doing so does not
// work, and an Enter that ends a Korean syllable belongs to the input method and not to the form.
function submitOnEnter(event) {
  if (event.key !== "Enter" || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  event.currentTarget.form?.requestSubmit();
}

// Tell the kernel that a page shows this panel, and return how to tell it that it no longer does.
function announceView(model) {
  const view = `${Date.now()}-${Math.random()}`;
  model.send({ type: "view", view, open: true });
  return () => model.send({ type: "view", view, open: false });
}

// Fill in what has changed, and leave alone what a reader may be selecting or hearing.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
