// The pages are notebooks. If JupyterLab's folder does not have a page, it is copied there from this extension;
// existing files are never overwritten.

export const PAGES = {
  tour: {
    label: "Tour",
    caption: "Search, a check of data, jobs, an evaluation and runs on one page",
    file: "start_here.ipynb",
    companions: ["check_data.ipynb", "train.ipynb", "evaluate.ipynb", "build_index.ipynb"],
  },
  jobs: { label: "Jobs", caption: "Start jobs, watch them, read their results, check data", file: "jobs.ipynb" },
  compare: { label: "Compare runs", caption: "Compare runs side by side", file: "compare.ipynb" },
  search: { label: "Search demo", caption: "Search an index by text or picture", file: "search_demo.ipynb" },
};

/** The folder of the copies; the notebooks look for the workspace next to it. */
const FOLDER = "notebooks";

/** What the folder of a checkout holds; it ignores the copies. */
const CHECKOUT = ["pyproject.toml", "workbench", "adapters", FOLDER];

/** Maximum number of file names tried for a copy. */
const MOST_NAMES = 20;

/** Return a function that opens a page and runs its cells, unless it is already open. */
export function makeOpener({ app, documents, apputils, coreutils, notebook }) {
  const contents = app.serviceManager.contents;

  /** The names in a folder; requesting single files would log an error in the console for each missing one. */
  async function names(folder) {
    const { content } = await contents.get(folder, { type: "directory", content: true });
    return new Set(content.map(({ name }) => name));
  }

  /** Whether a notebook is ours according to its metadata; another one of that name is the user's. */
  async function isOurs(path, file) {
    try {
      const { content } = await contents.get(path, { type: "notebook", content: true });
      return content.metadata?.workbench?.page === file;
    } catch {
      return false; // not a notebook, despite its name
    }
  }

  async function copy(file, path) {
    const base = coreutils.PageConfig.getOption("fullLabextensionsUrl");
    const answer = await fetch(`${base}/notebook-workbench/static/notebooks/${file}`, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(`${file} is missing from this installation (${answer.status}); reinstall notebook-workbench`);
    await contents.save(path, { type: "notebook", format: "json", content: await answer.json() });
  }

  /** Return the path of a page's notebook, which is copied first if it is missing. */
  async function place({ file, companions = [] }) {
    const top = await names("");
    const existing = top.has(FOLDER) ? await names(FOLDER) : new Set();
    if (!existing.has(file) && top.has(file) && (await isOurs(file, file))) return file;
    // In a checkout, the page itself belongs to the repository, which autosave would change.
    const first = CHECKOUT.every((name) => top.has(name)) ? 1 : 0;
    for (let number = first; number < MOST_NAMES; number++) {
      const name = number === 0 ? file : `workbench-${number === 1 ? "" : `${number}-`}${file}`;
      const path = `${FOLDER}/${name}`;
      if (existing.has(name)) {
        if (await isOurs(path, file)) return path;
        continue;
      }
      if (!top.has(FOLDER)) await contents.save(FOLDER, { type: "directory" });
      await copy(file, path);
      for (const other of companions) if (!existing.has(other)) await copy(other, `${FOLDER}/${other}`);
      return path;
    }
    throw new Error(`${FOLDER}/ has too many notebooks named like ${file}`);
  }

  async function show(page) {
    const path = await place(page);
    const known = documents.findWidget(path, "Notebook");
    if (known) return app.shell.activateById(known.id);
    const panel = await app.commands.execute("docmanager:open", { path, factory: "Notebook" });
    await panel.context.ready;
    await panel.sessionContext.ready;
    // Without a kernel, which the user may decline, the notebook stays open and its cells are not run.
    if (!panel.sessionContext.session?.kernel) return;
    const { content } = panel;
    void notebook.NotebookActions.runCells(content, content.widgets, panel.sessionContext); // the view stays at the top
  }

  return async (name) => {
    try {
      await show(PAGES[name]);
    } catch (error) {
      await apputils.showErrorMessage(`The page "${PAGES[name].label}" could not be opened`, error);
    }
  };
}
