// The frame around every panel. It says when the kernel is busy, gone or out of reach and what to do about it, and
// disables the panel while nothing in it can act. It wraps the panel that the script before it exports.

const BUSY_AFTER = 700; // milliseconds until a request without an answer is explained …
const SILENT_AFTER = 6000; // … and until a kernel that says it is idle is taken for silent
const AWAY_AFTER = 2500; // shorter interruptions of the connection are not reported
const LOOK_EVERY = 1000;

const ABOVE = "It may also need the cells above it.";
const LOST = {
  restarted: ["The kernel was restarted: run this cell again", ABOVE],
  dead: ["The kernel has died: restart it, then run this cell again", ABOVE],
  ended: ["The kernel was shut down: start it, then run this cell again", ABOVE],
  changed: ["The notebook has another kernel now: run this cell again", ABOVE],
};
const AWAY = ["The Jupyter server does not answer", "The panel continues when the connection is back."];

// What a status of the kernel means for a panel that was made before it; undefined if it goes on.
const lossOf = (status) => ({ restarting: "restarted", autorestarting: "restarted", dead: "dead", terminating: "ended" })[status];

// Watch the kernel of a model, and call `changed` when something happens. Applications that do not show their
// kernel to widgets have none to watch: `status` is then undefined.
function watchKernel(model, changed) {
  const manager = model.widget_manager;
  const kernel = manager?.kernel;
  if (!kernel?.statusChanged) return { lost: () => null, away: () => null, status: () => undefined, stop() {} };
  const { id } = kernel;
  let lost = null; // {why, at}
  let awaySince = null;

  function lose(why) {
    if (!why || lost) return;
    lost = { why, at: Date.now() };
    changed();
  }
  const onStatus = (_, status) => lose(lossOf(status));
  function look() {
    const now = manager.kernel;
    if (!now) lose("ended");
    else if (now.id !== id) lose("changed");
    else lose(lossOf(now.status));
    const connected = lost || now.connectionStatus === "connected";
    if (connected && awaySince === null) return;
    awaySince = connected ? null : (awaySince ?? Date.now());
    changed();
  }
  kernel.statusChanged.connect(onStatus);
  const timer = setInterval(look, LOOK_EVERY);
  look();
  return {
    lost: () => lost,
    away: () => (awaySince !== null && Date.now() - awaySince > AWAY_AFTER ? awaySince : null),
    status: () => kernel.status,
    stop() {
      clearInterval(timer);
      kernel.statusChanged.disconnect(onStatus);
    },
  };
}

const clockText = (at) => new Date(at).toLocaleTimeString("en-GB");

// The frame of one view. `model` is what the panel talks to, and `body` is where it draws; `apart` says what goes on
// without the kernel, if anything does, and `keepsChoices` that the kernel applies choices later if it cannot now.
function makeFrame(model, { apart, keepsChoices }) {
  const viewId = `${Date.now()}-${Math.random()}`;
  const notice = h("div", { class: "wb-notice", role: "alert", hidden: true });
  const waiting = h("span", { class: "wb-waiting", role: "status", hidden: true });
  // Disabling the fieldset disables every control in it, and leaves those that were disabled before as they were.
  const body = h("fieldset", { class: "wb-all", role: "none" });
  const root = h("section", { class: "wb wb-frame" }, notice, h("div", { class: "wb-float" }, waiting), body);
  const unanswered = new Map(); // number of a request -> when it was sent
  let number = 0;
  let shown = "";
  let wasAway = false;

  function draw() {
    const lost = kernel.lost();
    const away = lost ? null : kernel.away();
    const stale = !lost && !away && model.get("state")?.problem?.stale;
    body.disabled = !!(lost || away || (stale && !keepsChoices));
    root.classList.toggle("wb-stale", !!(lost || away || stale));
    const [title, hint] = lost ? LOST[lost.why] : away ? AWAY : ["", ""];
    const at = lost?.at ?? away;
    const text = at ? [hint, `What is shown is as of ${clockText(at)}.`, apart].filter(Boolean).join(" ") : "";
    if (shown !== title + text) {
      shown = title + text;
      notice.replaceChildren(h("b", {}, title), h("span", {}, text));
      notice.hidden = !title;
    }
    if (wasAway && !away && !lost) model.send({ type: "refresh" });
    wasAway = !!away;
    drawWaiting(lost || away);
  }

  function drawWaiting(known) {
    const since = Math.min(...unanswered.values());
    const silence = Date.now() - since;
    const text = known || silence < BUSY_AFTER || !unanswered.size ? "" : waitingText(kernel.status(), silence);
    setText(waiting, text);
    waiting.hidden = !text;
  }

  function answered(message) {
    if (message?.type !== "heard" || message.view !== viewId) return;
    for (const sent of [...unanswered.keys()]) if (sent <= message.heard) unanswered.delete(sent);
    draw();
  }

  const timers = new Set();
  function soon(pause) {
    const timer = setTimeout(() => (timers.delete(timer), draw()), pause);
    timers.add(timer);
  }

  // Messages that expect no answer, such as that a view has closed, are not waited for.
  function send(content, ...rest) {
    if (content.type === "view") return model.send(content, ...rest);
    number += 1;
    unanswered.set(number, Date.now());
    soon(BUSY_AFTER + 20);
    soon(SILENT_AFTER + 20);
    return model.send({ ...content, hear: { view: viewId, heard: number } }, ...rest);
  }

  const kernel = watchKernel(model, () => draw());
  model.on("msg:custom", answered);
  model.on("change:state", draw);
  draw();
  return {
    root,
    body,
    model: { ...model, send },
    stop() {
      kernel.stop();
      timers.forEach(clearTimeout);
      model.off("msg:custom", answered);
      model.off("change:state", draw);
    },
  };
}

// Why a request has no answer yet, as far as it is known.
function waitingText(status, silence) {
  if (status === "busy") return "The kernel is busy; this takes effect when the running cell finishes.";
  if (status !== undefined && silence < SILENT_AFTER) return "Waiting for the kernel…";
  if (status !== undefined) return "The kernel does not answer. If it was restarted, run this cell again.";
  if (silence < SILENT_AFTER) return "Waiting for the kernel, which may be busy with another cell.";
  return "The kernel does not answer; it may be busy with another cell. If it was restarted, run this cell again.";
}

// A panel in its frame. A published page says itself when it has lost its kernel, in its visitors' words.
function framed(panel) {
  if (typeof panel === "function") return async (...given) => framed(await panel(...given));
  return {
    ...panel,
    render(context) {
      if (document.body.dataset.voila) return panel.render(context);
      const frame = makeFrame(context.model, panel);
      context.el.append(frame.root);
      const leave = panel.render({ ...context, model: frame.model, el: frame.body });
      return async () => {
        (await leave)?.();
        frame.stop();
      };
    },
  };
}
