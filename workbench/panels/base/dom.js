// Helpers shared by all panels; assets.py puts this file before a panel's own script.

// Create an element. Strings become text nodes, so nothing a kernel sends is parsed as HTML.
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

// Let Enter in a text field submit its form. The browser's own submission does not work in JupyterLab, and
// an Enter that completes a Korean syllable belongs to the input method, not to the form.
function submitOnEnter(event) {
  if (event.key !== "Enter" || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  event.currentTarget.form?.requestSubmit();
}

// Tell the kernel that a page shows this panel; returns a function that tells it that the view is gone.
function announceView(model) {
  const view = `${Date.now()}-${Math.random()}`;
  model.send({ type: "view", view, open: true });
  return () => model.send({ type: "view", view, open: false });
}

// What JupyterLab tells its pages: serverRoot, the folder whose files it shows, and baseUrl. Empty elsewhere.
function labConfig() {
  const page = document.getElementById("jupyter-config-data");
  return page ? JSON.parse(page.textContent) : {};
}

// Set a text only if it changed, so that selections and screen readers are not interrupted.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
