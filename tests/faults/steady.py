"""An adapter whose jobs leave evidence: who ran when, what was acknowledged, whether two ran at once."""

import fcntl
import os
import subprocess
import time
from pathlib import Path

import workbench as wb
from workbench.host import processes


class Options(wb.Options):
    notes: str
    value: float = 0.0
    steps: int = 20
    pause: float = 0.02
    padding: str = ""
    #: A file that ends the steps as soon as it is there.
    enough: str = ""


def note(folder, name, text):
    """Append a line that survives whatever happens to this process next."""
    with Path(folder, name).open("a") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())


class Steady(wb.BaseAdapter):
    name, title = "steady", "Leaves evidence"
    metrics = (wb.Metric("loss", better="lower"), wb.Metric("value", better="higher"))

    def options(self, task):
        return Options if task == "eval" else super().options(task)

    def evaluate(self, options, job):
        store = job.workspace.store
        save = store.save_result

        def acknowledge(*given):
            if kept := save(*given):
                note(options.notes, "acknowledged", f"{job.id} {options.value}")
            return kept

        store.save_result = acknowledge
        with Path(options.notes, f"job-{job.id}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note(options.notes, "overlaps", job.id)
            # A child in a session of its own, that nothing but the platform would end.
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)
            note(options.notes, "children", f"{child.pid} {processes.started(child.pid)}")
            with job.start_run("steady") as run:
                for step in range(options.steps):
                    if options.enough and Path(options.enough).exists():
                        break
                    time.sleep(options.pause)
                    job.progress(step + 1, options.steps, "steady")
                    run.log({"loss": 1 / (step + 1)}, step=step)
            return wb.Result(summary=f"value {options.value}", metrics={"value": options.value})


adapter = Steady()
