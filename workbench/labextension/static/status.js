// The number of running jobs, from the API of a server with our extension; on other servers the item stays
// hidden. Nothing is requested while the page is hidden.

const ROUTE = "workbench/api/jobs?status=running&limit=1";
const EVERY = 3_000; // milliseconds between two requests …
const AT_MOST = 60_000; // … at most, after requests that failed

/** Return the item's widget, and what the status bar needs to show or hide it. */
export function makeStatusItem({ app, openJobs, coreutils, services, polling, signaling, widgets }) {
  const button = document.createElement("button");
  button.className = "notebook-workbench-status jp-StatusBar-TextItem";
  button.type = "button";
  Object.assign(button.style, {
    font: "inherit", lineHeight: "24px", color: "inherit", background: "none", border: 0, margin: 0, padding: "0 4px",
    cursor: "pointer",
  });
  button.addEventListener("click", openJobs);
  const widget = new widgets.Widget({ node: wrapped(button) });
  widget.addClass("jp-mod-highlighted");

  let active = false;
  const activeStateChanged = new signaling.Signal(widget);
  const setActive = (now) => {
    if (now === active) return;
    active = now;
    activeStateChanged.emit();
  };

  const settings = app.serviceManager.serverSettings;
  const showCount = async () => {
    const url = coreutils.URLExt.join(settings.baseUrl, ROUTE);
    const answer = await services.ServerConnection.makeRequest(url, { method: "GET", cache: "no-cache" }, settings);
    if (answer.status === 404) return void poll.stop(); // this server does not have the API
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const { total } = await answer.json();
    if (!Number.isInteger(total)) throw new Error("the server's answer has no number of jobs");
    button.textContent = total === 1 ? "1 job running" : `${total || "No"} jobs running`;
    button.title = "Open the jobs page";
    button.dataset.running = total;
    setActive(true);
  };
  const poll = new polling.Poll({
    name: "notebook-workbench:running-jobs",
    factory: () =>
      showCount().catch((error) => {
        setActive(false); // hide a number that may be wrong
        throw error; // so that the poll backs off
      }),
    frequency: { interval: EVERY, backoff: true, max: AT_MOST },
    standby: "when-hidden",
  });
  return { widget, isActive: () => active, activeStateChanged };
}

function wrapped(child) {
  const node = document.createElement("div");
  node.append(child);
  return node;
}
