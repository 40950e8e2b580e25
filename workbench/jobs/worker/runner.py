"""The process of one attempt at one job: it executes the notebook and exits.

The worker starts it ahead of time: it imports what it needs and waits for its work, one line of JSON on
standard input; if that closes, it exits. It reports back in lines of JSON through the pipe whose file
descriptor is its argument: ``{"progress": …}`` while a user's own notebook runs, ``{"cells": true}`` when its
first cell starts, and ``{"failure": …}``. Its exit code is 0 for done, 1 for failed, 75 for interrupted.
Whatever happens to this process, the worker notices its end and writes the job's state.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.notebooks.execution import Execution


DONE, FAILED, INTERRUPTED = 0, 1, 75

#: What is imported where it is installed and takes long, and nothing that runs a notebook needs.
_UNUSED = (
    "rfc3987_syntax",
    "rfc3986_validator",
    "isoduration",
    "pyarrow",
    "boto3",
    "gcsfs",
    "azure",
    "github",
)


class _Runner:
    def __init__(self, report_to: int) -> None:
        self._report_to = report_to
        self._execution: Execution | None = None
        self._stopping = False
        os.set_inheritable(report_to, False)

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._execution is not None:
            self._execution.interrupt()

    def report(self, event: Mapping[str, Any]) -> None:
        """Report to the worker. Short lines are written to a pipe atomically."""
        with contextlib.suppress(OSError):  # the worker is gone, and this process will end soon
            os.write(self._report_to, json.dumps(event).encode() + b"\n")

    def run(self) -> int:
        # A cancel may come at any moment from here on.
        signal.signal(signal.SIGUSR1, self.stop)
        # jsonschema's checks of URLs and durations take 0.8 s to import, mostly to compile a grammar.
        # Notebooks have neither, and without these modules jsonschema skips the checks. papermill looks for
        # file systems in pyarrow and in the libraries of clouds, where they are installed; notebooks of jobs
        # are local files.
        for name in _UNUSED:
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]

        from workbench.host.processes import crash_point
        from workbench.notebooks import execution

        execution.warm_up()
        line = sys.stdin.readline()
        if not line:
            return DONE
        work: dict[str, Any] = json.loads(line)
        os.environ.update(work["environment"])
        crash_point("runner-began")
        try:
            source, parameters = _notebook(work)
        except Exception as error:  # an adapter may raise anything
            traceback.print_exc()
            self._fail(None, type(error).__name__, str(error))
            return FAILED
        self._execution = execution.Execution(
            source=source,
            output=Path(work["output"]),
            parameters=parameters,
            log=Path(work["log"]),
            runtime=Path(work["runtime"]),
            cwd=Path(work["cwd"]) if work["cwd"] else None,
            report=self.report,
            watch_bars=work["watch_bars"],
        )
        self._execution.interrupted |= self._stopping
        try:
            self._execution.run()
        except execution.Interrupted:
            return INTERRUPTED
        except execution.CellFailed as error:
            print(f"{error}", file=sys.stderr, flush=True)
            self._fail(error.cell, error.type, error.message)
            return FAILED
        except Exception as error:  # any error must be recorded in the job's row
            traceback.print_exc()
            self._fail(None, type(error).__name__, str(error))
            return FAILED
        crash_point("runner-done")
        return DONE

    def _fail(self, cell: int | None, kind: str, message: str) -> None:
        # Short enough to fit the pipe's buffer; the notebook has the full message.
        self.report({"failure": {"cell": cell, "type": kind[:200], "message": message[:8000]}})


def _notebook(work: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Return the notebook to execute and its parameters: the user's own, or that of the job's type."""
    if work["source"]:
        return Path(work["source"]), work["parameters"]
    from workbench.adapter.registry import get_adapter
    from workbench.notebooks import shipped

    job = work["job"]
    source = shipped.job_notebook(job["type"], get_adapter(job["adapter"]), job["options"])
    return source, shipped.job_parameters(source, job["adapter"], job["options"], Path(work["workspace"]))


def main() -> int:
    """Do the work read from standard input; the argument is the file descriptor of the report pipe."""
    return _Runner(int(sys.argv[1])).run()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # library threads must not keep a finished job from ending
