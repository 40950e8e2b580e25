// What a panel says of a job: its state, progress, times and files. Rows are documented in panel.py.

const PILLS = { running: "wb-run", cancelling: "wb-run", succeeded: "wb-ok", failed: "wb-bad" };

const whole = (number) => Math.round(number).toLocaleString("en-US");

function duration(seconds) {
  if (seconds < 1) return "<1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

const ago = (time) => {
  const seconds = Math.max(0, Date.now() / 1000 - time);
  return seconds < 10 ? "just now" : `${duration(seconds)} ago`;
};

function progressText(job) {
  if (job.error) return job.error.cell ? `cell ${job.error.cell}: ${job.error.message}` : job.error.message;
  if (job.over) return job.summary || job.message;
  if (job.status === "queued") return "waiting to start";
  if (job.status === "cancelling") return "cancelling…";
  // The count is that of the innermost stage; the bar shows the whole job.
  const counted = job.stages.at(-1) ?? job;
  const count = counted.total ? `${whole(counted.done)} / ${whole(counted.total)}` : counted.done ? whole(counted.done) : "";
  const names = job.stages.map((stage) => stage.name);
  const path = [...names, names.includes(job.message) ? "" : job.message].filter(Boolean).join(" › ");
  const rate = job.rate ? `${job.rate < 10 ? job.rate.toFixed(1) : whole(job.rate)}/s` : "";
  return [[count, path].filter(Boolean).join(" "), rate].filter(Boolean).join(" · ") || "starting";
}

function timeText(job) {
  if (job.ended) return job.took === null ? ago(job.ended) : `${ago(job.ended)}, took ${duration(job.took)}`;
  return job.status === "running" && job.left !== null ? `${duration(job.left)} left` : "";
}

// Where JupyterLab can open a notebook; null outside its root folder.
function notebookPath(path, home) {
  if (!path || document.body.dataset.voila) return null;
  const { serverRoot = "", baseUrl = "/" } = labConfig();
  const root = serverRoot.replace(/^~(?=\/|$)/, home).replace(/\/$/, "");
  if (!serverRoot || !path.startsWith(`${root}/`)) return null;
  const inside = path.slice(root.length + 1);
  const encoded = inside.split("/").map(encodeURIComponent).join("/");
  return { inside, href: `${baseUrl}lab/tree/${encoded}`, file: `${baseUrl}files/${encoded}` };
}

function notebookLink(job, home) {
  const place = notebookPath(job.notebook, home);
  if (!place) return null;
  // JupyterLab opens the link in its own tab; a plain browser follows it.
  return h(
    "a",
    {
      class: "wb-button",
      href: place.href,
      target: "_blank",
      title: place.inside,
      "data-commandlinker-command": "docmanager:open",
      "data-commandlinker-args": JSON.stringify({ path: place.inside }),
    },
    "notebook",
  );
}

// What the log and the notebook do not show, with a link to the file that has it. The file may be too large to
// open in an editor, so the browser downloads it.
function outputNote(job, home) {
  const place = notebookPath(job.output, home);
  const link = place && h("a", { href: place.file, download: `job-${job.id}-output.txt`, title: place.inside }, "Download output.txt");
  return [job.outputNote, ...(link ? [" ", link] : [])];
}
