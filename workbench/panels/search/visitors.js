
// The panel on a published page. Visitors have no kernel: the model that the panel talks to asks the server that
// served the page. A question whose answer does not arrive is asked again until a newer one takes its place, so a
// page goes on after the network or the server was gone.

const AGAIN_AFTER_MS = [500, 1000, 2000, 4000, 8000];
const BUSY_TRIES = 4; // a search that stays busy says so
const REQUEST_MS = 60000;

class Unanswered extends Error {}

async function fetched(address, options) {
  let response;
  try {
    response = await fetch(address, { ...options, cache: "no-store", signal: AbortSignal.timeout(REQUEST_MS) });
  } catch {
    throw new Unanswered();
  }
  // A proxy whose server is gone answers 502 to 504 with a page of its own.
  const type = response.headers.get("Content-Type") ?? "";
  if (type.startsWith("application/json")) return { answer: await response.json(), buffers: [] };
  if (!response.ok || !type.startsWith("application/octet-stream")) {
    if (response.status >= 500 || response.ok) throw new Unanswered();
    return { answer: { type: "error", message: "This search was refused.", hint: "Load the page again." }, buffers: [] };
  }
  const data = await response.arrayBuffer();
  const head = new DataView(data).getUint32(0);
  const answer = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, head)));
  let at = 4 + head;
  const buffers = answer.sizes.map((size) => new DataView(data, (at += size) - size, size));
  return { answer, buffers };
}

// Messages with pictures have a form of their own, in both directions: the length of the JSON (four bytes, the
// highest first), the JSON, and the pictures one after the other; their sizes are in the JSON.
function question(content, pictures) {
  const asked = JSON.stringify(pictures.length ? { ...content, sizes: pictures.map((one) => one.byteLength) } : content);
  if (!pictures.length) return { method: "POST", body: asked, headers: { "Content-Type": "application/json" } };
  const text = new TextEncoder().encode(asked);
  const head = new DataView(new ArrayBuffer(4));
  head.setUint32(0, text.length);
  const headers = { "Content-Type": "application/octet-stream" };
  return { method: "POST", body: new Blob([head, text, ...pictures]), headers };
}

function connection() {
  const bar = document.getElementById("wb-connection");
  let lost = false;
  return (ok) => {
    if (lost !== ok) return;
    lost = !ok;
    bar.hidden = ok;
    bar.textContent = ok ? "" : "No connection to this page. Trying again…";
  };
}

function visitorsModel(setup) {
  const listeners = [];
  const say = connection();
  const newest = {}; // the number of the newest question of each type
  let wake = () => {};
  const pause = (ms) =>
    new Promise((done) => {
      const timer = setTimeout(done, ms * (0.8 + 0.4 * Math.random()));
      wake = () => { clearTimeout(timer); done(); };
    });
  window.addEventListener("online", () => wake());
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake());

  async function ask(content, buffers) {
    const { type } = content;
    const turn = (newest[type] = (newest[type] ?? 0) + 1);
    let busy = 0;
    for (let tries = 0; turn === newest[type]; tries += 1) {
      try {
        const { answer, buffers: thumbnails } = await fetched("page/search", question(content, buffers));
        say(true);
        if (answer.retry_after && (busy += 1) < BUSY_TRIES && turn === newest[type]) {
          await pause(1000 * answer.retry_after);
          continue;
        }
        listeners.forEach((listener) => listener({ ...answer, seq: content.seq }, thumbnails));
        return;
      } catch (error) {
        if (!(error instanceof Unanswered)) throw error;
        say(false);
        await pause(AGAIN_AFTER_MS[Math.min(tries, AGAIN_AFTER_MS.length - 1)]);
      }
    }
  }
  return {
    get: () => setup,
    on: (_, listener) => listeners.push(listener),
    send: (content, _, buffers) => ask(content, buffers),
  };
}

{
  const setup = JSON.parse(document.getElementById("wb-setup").textContent);
  for (const picture of setup.pictures) {
    picture.thumbnail = new DataView(Uint8Array.from(atob(picture.thumbnail), (one) => one.charCodeAt(0)).buffer);
  }
  const model = visitorsModel(setup);
  const { initialize, render } = panel();
  initialize({ model });
  render({ model, el: document.getElementById("wb-search") });
}
