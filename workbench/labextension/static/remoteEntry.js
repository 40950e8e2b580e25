// The entry point for JupyterLab: a module federation container, written by hand, so there is no build step and
// the source is shipped as is. JupyterLab calls init() once with the modules it shares, then get("./extension").
(() => {
  const NAME = "notebook-workbench";
  const here = document.currentScript.src;
  let scope = null;

  const newestFirst = (a, b) => b.localeCompare(a, "en", { numeric: true });

  // A module that JupyterLab shares; null in an application without it.
  const shared = async (name) => {
    const versions = scope?.[name];
    if (!versions) return null;
    const [newest] = Object.keys(versions).sort(newestFirst);
    return (await versions[newest].get())();
  };

  const container = {
    init: async (newScope) => {
      if (scope && scope !== newScope) throw new Error(`${NAME} has already been initialized with another scope`);
      scope = newScope;
    },
    get: async (module) => {
      if (module !== "./extension") throw new Error(`${NAME} has no module ${module}`);
      const { makePlugins } = await import(new URL("./plugins.js", here));
      const plugins = await makePlugins(shared);
      // A plain object, because JupyterLab writes to it and a module namespace is read-only.
      return () => ({ __esModule: true, default: plugins });
    },
  };
  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB[NAME] = container;
})();
