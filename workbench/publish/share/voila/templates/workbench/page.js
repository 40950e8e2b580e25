// The published page's connection to its kernel: notices within seconds that it is lost, says so in plain
// words, and takes it up again. The panel hears of it by the event "workbench-connection", whose detail is
// "ok", "unreachable" (no answer from the server) or "gone" (the kernel was ended), and may ask for a new
// connection by "workbench-resume". It keeps its own query over the reload; see search.js.
(() => {
  const LOOK_MS = 3000;
  const ANSWER_MS = 5000;
  const MISSES = 2; // requests without an answer before the page says so
  const RESTED_MS = 60000; // a page that was taken up again and is lost at once does not try for ever
  const RETRY_MS = 10000;
  const RESUMED = "workbench-resumed";

  const server = document.body.dataset.baseUrl.replace(/voila\/$/, "");
  const bar = document.getElementById("wb-connection");
  const [words, button] = bar.children;
  let state = "ok";
  let misses = 0;
  let looking = false;
  let resuming = false;

  const kernel = () => {
    const config = document.getElementById("jupyter-config-data");
    return config ? `${server}page/kernels/${JSON.parse(config.textContent).kernelId}` : "";
  };
  const visible = () => document.visibilityState === "visible";
  const rested = () => Date.now() - Number(sessionStorage.getItem(RESUMED) ?? 0) > RESTED_MS;

  function say(text, offer = false) {
    words.textContent = text;
    button.hidden = !offer;
    bar.hidden = !text;
  }

  function become(next) {
    if (state === next) return;
    state = next;
    window.dispatchEvent(new CustomEvent("workbench-connection", { detail: state }));
  }

  async function status(address, method) {
    try {
      const answer = await fetch(address, { method, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
      return { code: answer.status, reason: answer.status === 410 ? (await answer.json()).reason : "" };
    } catch {
      return { code: 0, reason: "" };
    }
  }

  async function look() {
    const address = kernel();
    if (!address || looking || state === "gone") return;
    looking = true;
    const { code, reason } = await status(address, "GET");
    looking = false;
    if (code === 204) {
      misses = 0;
      say("");
      become("ok");
    } else if (code === 410) lost(reason);
    else if (++misses >= MISSES) {
      say("No connection to this page. Trying again…");
      become("unreachable");
    }
  }

  function lost(reason) {
    become("gone");
    if (reason === "idle") say("This page was paused because it was not used for a while.", true);
    else if (reason === "tabs") say("This page was paused because it is open in several tabs.", true);
    else if (visible() && rested()) resume();
    else say("This page lost its connection.", true);
  }

  // Load the page again as soon as there is a place; until then its results can still be read.
  async function resume() {
    if (resuming) return;
    resuming = true;
    say("This page lost its connection. Connecting again…");
    const { code } = await status(server, "HEAD");
    if (code === 200) {
      sessionStorage.setItem(RESUMED, String(Date.now()));
      location.reload();
      return;
    }
    say(code === 503 ? "All places are taken right now. Trying again…" : "No connection to this page. Trying again…", true);
    setTimeout(() => {
      resuming = false;
      if (visible()) resume();
    }, RETRY_MS * (0.8 + 0.4 * Math.random()));
  }

  button.addEventListener("click", resume);
  window.addEventListener("workbench-resume", resume);
  document.addEventListener("visibilitychange", () => {
    if (!visible()) return;
    if (state === "gone") resume();
    else look();
  });
  window.addEventListener("online", look);
  window.addEventListener("offline", () => {
    say("No connection to this page. Trying again…");
    become("unreachable");
  });
  // Give the place back. A page that the browser keeps for its "back" button has lost it then, and says so.
  window.addEventListener("pagehide", () => {
    if (kernel()) navigator.sendBeacon(kernel());
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) look();
  });
  setInterval(look, LOOK_MS);
})();
