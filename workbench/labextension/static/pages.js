// The pages are notebooks. Where the folder that JupyterLab shows has none of ours, one is copied there from
// this extension; nothing that is there already is ever written over.

export const PAGES = {
  tour: {
    label: "Tour",
    caption: "Everything on one page: search, jobs, an evaluation, runs",
    file: "start_here.ipynb",
    companions: ["train.ipynb", "evaluate.ipynb", "build_index.ipynb"],
  },
  jobs: { label: "Jobs", caption: "Start jobs, watch them, read what they made", file: "jobs.ipynb" },
  compare: { label: "Compare runs", caption: "Lay runs side by side", file: "compare.ipynb" },
  search: { label: "Search demo", caption: "Search what was indexed, by text or picture", file: "search_demo.ipynb" },
};

/** The folder of the copies; the notebooks look for the workspace beside it. */
const FOLDER = "notebooks";

/** So many names are tried for a copy before giving up. */
const MOST_NAMES = 20;

/** Return a function that opens a page, running its cells where it was not open yet. */
export function makeOpener({ app, documents, apputils, coreutils, notebook }) {
  const contents = app.serviceManager.contents;

  /** The names in a folder; asking for each file by itself would leave an error in the console where it is not. */
  async function names(folder) {
    const { content } = await contents.get(folder, { type: "directory", content: true });
    return new Set(content.map(({ name }) => name));
  }

  /** Whether a notebook is ours, said by its own metadata: another of that name is somebody else's. */
  async function isOurs(path, file) {
    try {
      const { content } = await contents.get(path, { type: "notebook", content: true });
      return content.metadata?.workbench?.page === file;
    } catch {
      return false; // not a notebook, whatever its name says
    }
  }

  async function copy(file, path) {
    const base = coreutils.PageConfig.getOption("fullLabextensionsUrl");
    const answer = await fetch(`${base}/notebook-workbench/static/notebooks/${file}`, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(`${file} is not in this installation (${answer.status}); install notebook-workbench again`);
    await contents.save(path, { type: "notebook", format: "json", content: await answer.json() });
  }

  /** Return where a page's notebook is, copying it there if it is nowhere. */
  async function place({ file, companions = [] }) {
    const top = await names("");
    const there = top.has(FOLDER) ? await names(FOLDER) : new Set();
    if (!there.has(file) && top.has(file) && (await isOurs(file, file))) return file;
    for (let number = 0; number < MOST_NAMES; number++) {
      const name = number === 0 ? file : `workbench-${number === 1 ? "" : `${number}-`}${file}`;
      const path = `${FOLDER}/${name}`;
      if (there.has(name)) {
        if (await isOurs(path, file)) return path;
        continue;
      }
      if (!top.has(FOLDER)) await contents.save(FOLDER, { type: "directory" });
      await copy(file, path);
      for (const other of companions) if (!there.has(other)) await copy(other, `${FOLDER}/${other}`);
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
    // Nobody to ask, or the user chose no kernel: then the notebook is open, and that is all.
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
