// Two things that JupyterLab does not do for notebooks by itself: a saved panel whose kernel is gone shows the plain
// tables and drawings that are saved with it, and the report of a job has a name of its own and needs no kernel.

const WIDGET = "application/vnd.jupyter.widget-view+json";
const HTML = "text/html";
const SAVED = '<div class="wb-saved">'; // how the HTML of our panels begins
const LIVE_AFTER = 400; // milliseconds that a panel has to appear before its saved form is shown

/** Adopt every notebook that is open or will be opened. */
export function watchNotebooks({ tracker, notebook, rendermime }) {
  const adopt = (panel) => {
    adoptReport(panel);
    keepSavedPanels(panel, { notebook, rendermime });
  };
  tracker.forEach(adopt);
  tracker.widgetAdded.connect((_, panel) => adopt(panel));
}

// Reports -------------------------------------------------------------------------------------------------------

const REPORT = /(?:^|\/)jobs\/(\d+)\/notebook\.ipynb$/;

// A user's own notebook is executed from a copy that is named by its checksum.
const COPY = /^[0-9a-f]{64}$/;

async function adoptReport(panel) {
  const job = REPORT.exec(panel.context.path)?.[1];
  if (!job) return;
  // A kernel is started only for who asks for one. This runs before the session does.
  panel.sessionContext.kernelPreference = { ...panel.sessionContext.kernelPreference, shouldStart: false };
  await panel.context.ready;
  const source = panel.content.model?.getMetadata("papermill")?.input_path;
  const stem = source?.split("/").pop().replace(/\.ipynb$/, "");
  const name = COPY.test(stem) ? "notebook" : stem;
  // A new title renames the file, unless nobody listens to it.
  if (!name || typeof panel._onTitleChanged !== "function") return;
  panel.title.changed.disconnect(panel._onTitleChanged, panel);
  panel.title.label = `${name}-${job}`;
}

// Saved panels --------------------------------------------------------------------------------------------------

const textOf = (value) => (Array.isArray(value) ? value.join("") : String(value ?? ""));

function keepSavedPanels(panel, modules) {
  const own = panel.content.rendermime;
  const create = own.createRenderer.bind(own);
  own.createRenderer = (type, ...rest) => {
    const renderer = create(type, ...rest);
    if (type === WIDGET) addSavedForm(renderer, panel, create, modules);
    return renderer;
  };
}

// Show what is saved in an output while, and as long as, its widget is not there.
function addSavedForm(renderer, panel, create, { notebook, rendermime }) {
  const renderModel = renderer.renderModel.bind(renderer);
  let form = null;

  const isLive = () => (renderer.widgets?.length ?? 0) > 0;

  function fit() {
    if (isLive()) form?.remove();
    else if (form && (form.parentNode !== renderer.node || renderer.node.childNodes.length > 1)) renderer.node.replaceChildren(form);
  }

  async function makeForm(model) {
    const made = document.createElement("div");
    if (!textOf(model.data[HTML]).startsWith(SAVED)) {
      made.append(savedWidget(model, panel));
      return made;
    }
    const saved = create(HTML);
    await saved.renderModel(new rendermime.MimeModel({ trusted: model.trusted, data: { [HTML]: model.data[HTML] } }));
    made.append(savedNote(renderer, panel, notebook), saved.node);
    return made;
  }

  renderer.renderModel = async (model) => {
    const isPanel = textOf(model.data[HTML]).startsWith(SAVED);
    if (!isPanel && !REPORT.test(panel.context.path)) return renderModel(model);
    const observer = new MutationObserver(fit);
    observer.observe(renderer.node, { childList: true });
    renderer.disposed.connect(() => observer.disconnect());
    setTimeout(async () => {
      await panel.sessionContext.ready;
      const other = !isPanel && panel.sessionContext.session?.kernel; // its widgets are the kernel's to show
      if (renderer.isDisposed || isLive() || form || other) return;
      form = await makeForm(model);
      fit();
    }, LIVE_AFTER);
    return renderModel(model);
  };
}

// A widget of a report, such as a progress bar: JupyterLab restores its saved state only together with a kernel.
function savedWidget(model, panel) {
  const states = panel.content.model?.getMetadata("widgets")?.["application/vnd.jupyter.widget-state+json"]?.state ?? {};
  const line = document.createElement("div");
  Object.assign(line.style, { display: "flex", gap: "8px", alignItems: "center" });

  function add(id) {
    const state = states[id]?.state;
    if (!state) return;
    if (typeof state.max === "number" && typeof state.value === "number") {
      const bar = Object.assign(document.createElement("progress"), { max: state.max, value: state.value });
      bar.setAttribute("aria-label", "progress");
      line.append(bar);
    } else if (typeof state.value === "string") {
      line.append(new DOMParser().parseFromString(state.value, "text/html").body.textContent);
    }
    for (const child of state.children ?? []) add(String(child).replace(/^IPY_MODEL_/, ""));
  }

  add(model.data[WIDGET]?.model_id);
  if (line.hasChildNodes()) return line;
  const plain = document.createElement("pre");
  plain.textContent = textOf(model.data["text/plain"]);
  return plain;
}

function savedNote(renderer, panel, notebook) {
  const note = document.createElement("div");
  const words = document.createElement("span");
  const button = document.createElement("button");
  note.className = "notebook-workbench-saved";
  Object.assign(note.style, { display: "flex", gap: "12px", alignItems: "center", padding: "4px 0 8px", color: "var(--jp-content-font-color2)" });
  words.setAttribute("role", "status");
  button.type = "button";
  button.className = "jp-mod-styled jp-mod-accept";
  button.textContent = "Run this cell";
  button.addEventListener("click", () => {
    const { content, sessionContext } = panel;
    const place = content.widgets.findIndex((cell) => cell.node.contains(renderer.node));
    // The cells of our own pages depend on those above them, and are quick.
    const first = content.model?.getMetadata("workbench")?.page ? 0 : place;
    void notebook.NotebookActions.runCells(content, content.widgets.slice(first, place + 1), sessionContext);
  });
  note.append(words, button);
  const draw = () => {
    const status = panel.sessionContext.session?.kernel?.status;
    const busy = status === "busy";
    words.textContent = busy
      ? "The kernel is busy. This is the panel as it was saved; if the kernel still has it, it appears when the running cell finishes."
      : "This is the panel as it was saved.";
    button.hidden = busy;
  };
  draw();
  panel.sessionContext.statusChanged.connect(draw);
  renderer.disposed.connect(() => panel.sessionContext.statusChanged.disconnect(draw));
  return note;
}
