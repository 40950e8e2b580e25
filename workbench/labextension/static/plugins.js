// Three plugins: launcher cards and palette entries that open the workbench's pages, a status-bar item, and what saved
// panels and reports of jobs need.
import { icons } from "./icons.js";
import { watchNotebooks } from "./notebooks.js";
import { makeOpener, PAGES } from "./pages.js";
import { makeStatusItem } from "./status.js";

const CATEGORY = "Workbench";
const OPEN = "notebook-workbench:open";

/** The name of the command that opens a page. */
export const commandOf = (page) => `${OPEN}-${page}`;

/**
 * Make the plugins from an application's shared modules; none if it is not JupyterLab (a published page, for example).
 * @param {(name: string) => Promise<object | null>} shared returns a shared module by name
 */
export async function makePlugins(shared) {
  const names = ["apputils", "coreutils", "docmanager", "launcher", "notebook", "rendermime", "services", "statusbar", "ui-components"];
  const lumino = ["@lumino/polling", "@lumino/signaling", "@lumino/widgets"];
  const modules = await Promise.all([...names.map((name) => `@jupyterlab/${name}`), ...lumino].map(shared));
  if (modules.includes(null)) return [];
  const [apputils, coreutils, docmanager, launcher, notebook, rendermime, services, statusbar, ui, polling, signaling, widgets] = modules;

  const pages = {
    id: "notebook-workbench:pages",
    description: "Opens the workbench's pages from the launcher and the command palette.",
    autoStart: true,
    requires: [docmanager.IDocumentManager],
    optional: [launcher.ILauncher, apputils.ICommandPalette],
    activate: (app, documents, cards, palette) => {
      const open = makeOpener({ app, documents, apputils, coreutils, notebook });
      Object.entries(PAGES).forEach(([page, { label, caption }], rank) => {
        const command = commandOf(page);
        app.commands.addCommand(command, {
          label: (args) => (args.isPalette ? `Open ${label}` : label),
          caption,
          icon: new ui.LabIcon({ name: `notebook-workbench:${page}`, svgstr: icons[page] }),
          execute: () => open(page),
        });
        cards?.add({ command, category: CATEGORY, rank });
        palette?.addItem({ command, category: CATEGORY, args: { isPalette: true } });
      });
    },
  };

  const status = {
    id: "notebook-workbench:status",
    description: "Shows the number of running jobs in the status bar; opens the jobs page.",
    autoStart: true,
    requires: [statusbar.IStatusBar],
    activate: (app, bar) => {
      const openJobs = () => app.commands.execute(commandOf("jobs"));
      const item = makeStatusItem({ app, openJobs, coreutils, services, polling, signaling, widgets });
      bar.registerStatusItem("notebook-workbench:status", {
        item: item.widget,
        align: "left",
        rank: 20,
        isActive: item.isActive,
        activeStateChanged: item.activeStateChanged,
      });
    },
  };

  const notebooks = {
    id: "notebook-workbench:notebooks",
    description: "Shows saved panels whose kernel is gone, and names the reports of jobs.",
    autoStart: true,
    requires: [notebook.INotebookTracker],
    activate: (app, tracker) => watchNotebooks({ tracker, notebook, rendermime }),
  };

  return [pages, status, notebooks];
}
