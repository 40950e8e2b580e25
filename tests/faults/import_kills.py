"""Import from another tool, and be killed at every n-th write: ``python import_kills.py FOLDER N``.

``FOLDER`` has ``first`` and ``then``: what the other tool had recorded at two moments. Each attempt is a fork
of this process, so that all of them import the package once. Prints ``{"kills": N, "faults": […]}``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import workbench as wb
from workbench.runs import imports
from workbench.runs.imports.mlflow import import_mlflow
from workbench.runs.imports.tensorboard import import_tensorboard
from workbench.store.store import Store

FOLDER, EVERY = Path(sys.argv[1]), int(sys.argv[2])

imports._BATCH_POINTS = 3  # so that a metric takes several transactions


def forked(call: Callable[[], Any]) -> Any:
    """Return the result of a call in a fork of this process; None if the fork was killed."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        with os.fdopen(write_end, "w") as pipe:
            try:
                pipe.write(json.dumps(call()))
            except BaseException as error:
                pipe.write(json.dumps({"error": repr(error)}))
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    return None if os.WIFSIGNALED(status) else json.loads(text)


def dies_at(number: int) -> None:
    """Kill this process at the end of one of its transactions: even before its commit, odd after it."""
    real, passed = Store._writing, 0

    def strike() -> None:
        nonlocal passed
        if passed == number:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    @contextmanager
    def writing(self: Store, **more: Any) -> Any:
        with real(self, **more) as connection:
            yield connection
            strike()
        strike()

    Store._writing = writing  # type: ignore[method-assign]


def brought(home: Path, number: int | None = None) -> Any:
    """Import everything; return the counts. With a number, be killed there."""
    store = Store(home / "workbench.db")
    if number is not None:
        dies_at(number)
    first = import_tensorboard(store, FOLDER / "tool" / "tb")
    second = import_mlflow(store, str(FOLDER / "tool" / "mlruns"))
    store.close()
    return {"new": first.new + second.new, "changed": first.changed + second.changed}


def stored(home: Path) -> Any:
    """Return what a person sees of the runs, without ids and the moments of the import."""
    out, count = {}, 0
    with wb.Workspace(home) as workspace:
        for run in workspace.runs():
            count += 1
            out[run.name] = {
                "status": run.status,
                "error": (run.error or {}).get("type"),
                "points": {name: list(map(list, run.metric_points(name))) for name in sorted(run.summary)},
                "summary": {name: dict(row) for name, row in run.summary.items()},
                "outcome": run.outcome and [run.outcome["status"], run.outcome["points"]],
                "config": run.config,
                "environment": run.environment,
            }
    return {"count": count, "runs": out}


def tool(stage: str) -> None:
    """Have the other tool's files be those of a moment, at the same paths."""
    shutil.rmtree(FOLDER / "tool", ignore_errors=True)
    shutil.copytree(FOLDER / stage, FOLDER / "tool")


def main() -> None:
    """Kill at the writes of the first import and of the one that continues it."""
    kills, faults = 0, []
    complete: Any = {"count": 0, "runs": {}}
    before = FOLDER / "empty"
    before.mkdir()
    forked(lambda: Store(FOLDER / "empty" / "workbench.db").close())
    for stage in ("first", "then"):
        tool(stage)
        reference = FOLDER / f"reference-{stage}"
        shutil.copytree(before, reference)
        wanted = forked(lambda: (brought(reference), stored(reference)))[1]  # noqa: B023
        number = 0
        while True:
            home = FOLDER / f"home-{stage}-{number}"
            shutil.copytree(before, home)
            where = f"{stage}, write {number}"
            if (counts := forked(lambda: brought(home, number))) is not None:  # noqa: B023
                faults += [f"{where}: {counts['error']}"] if "error" in counts else []
                break
            kills += 1
            seen = forked(lambda: (stored(home), brought(home), stored(home), brought(home)))  # noqa: B023
            if isinstance(seen, dict):
                faults.append(f"{where}: {seen['error']}")
                break
            left, _, now, again = seen
            for name, run in left["runs"].items():
                if run in (wanted["runs"][name], complete["runs"].get(name)):
                    continue
                if (run["status"], run["error"]) != ("lost", "ImportInterrupted"):
                    faults.append(f"{where}: half of {name} is shown as {run['status']}: {run}")
            if now != wanted:
                faults.append(f"{where}: importing again gave {now}, not {wanted}")
            if again != {"new": 0, "changed": 0}:
                faults.append(f"{where}: a third import changed something: {again}")
            shutil.rmtree(home)
            number += EVERY
        complete, before = wanted, reference
    print(json.dumps({"kills": kills, "faults": faults, "runs": complete["runs"]}))


if __name__ == "__main__":
    main()
