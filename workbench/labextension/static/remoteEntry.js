// What JupyterLab loads: a module federation container, written by hand, so that there is no build step and the
// source is what is shipped. JupyterLab calls init() once with the modules it shares, then get("./extension").
(() => {
  const NAME = "notebook-workbench";
  const here = document.currentScript.src;
  let scope = null;

  const newestFirst = (a, b) => b.localeCompare(a, "en", { numeric: true });

  // A module that JupyterLab shares, or null in an application that does not have it.
  const shared = async (name) => {
    const versions = scope?.[name];
    if (!versions) return null;
    const [newest] = Object.keys(versions).sort(newestFirst);
    return (await versions[newest].get())();
  };

  const container = {
    init: async (given) => {
      if (scope && scope !== given) throw new Error(`${NAME} has been initialized with another scope`);
      scope = given;
    },
    get: async (module) => {
      if (module !== "./extension") throw new Error(`${NAME} has no module ${module}`);
      const { makePlugins } = await import(new URL("./plugins.js", here));
      const plugins = await makePlugins(shared);
      // A plain object: JupyterLab writes on it, which a module's own namespace does not allow.
      return () => ({ __esModule: true, default: plugins });
    },
  };
  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB[NAME] = container;
})();
