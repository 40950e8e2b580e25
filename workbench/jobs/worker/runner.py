"""The process of one attempt at one job: it executes the notebook and exits.

The worker starts it ahead of time: it imports what it needs and waits for one line of JSON on its standard
input that says what to do; without one it leaves. What it has to say goes back as lines of JSON through the
pipe whose number is its argument: ``{"progress": …}`` while a notebook of the user's own runs, ``{"cells":
true}`` when its first cell begins, and ``{"failure": …}``. Its exit code says how it went: 0 done, 1 failed,
75 interrupted. Whatever happens to this process, the worker sees its end and writes the job's state.
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

    def report(self, said: Mapping[str, Any]) -> None:
        """Tell the worker; a line of a pipe is whole or not there as long as it is short."""
        with contextlib.suppress(OSError):  # without a worker there is nobody to tell, and the end is near
            os.write(self._report_to, json.dumps(said).encode() + b"\n")

    def run(self) -> int:
        # A cancel may come at any moment from here on.
        signal.signal(signal.SIGUSR1, self.stop)
        # jsonschema's checks of addresses and durations cost 0.8 s to import, most of it for compiling a
        # grammar. Notebooks have neither, and without these modules jsonschema skips the checks.
        for name in ("rfc3987_syntax", "isoduration"):
            sys.modules.setdefault(name, None)  # type: ignore[arg-type]

        from workbench.host.processes import crash_point
        from workbench.notebooks import execution

        execution.warm_up()
        line = sys.stdin.readline()
        if not line:
            return DONE
        given: dict[str, Any] = json.loads(line)
        os.environ.update(given["environment"])
        crash_point("runner-began")
        self._execution = execution.Execution(
            source=Path(given["source"]),
            output=Path(given["output"]),
            parameters=given["parameters"],
            log=Path(given["log"]),
            runtime=Path(given["runtime"]),
            cwd=Path(given["cwd"]) if given["cwd"] else None,
            report=self.report,
            watch_bars=given["watch_bars"],
        )
        self._execution.interrupted |= self._stopping
        try:
            self._execution.run()
        except execution.Interrupted:
            return INTERRUPTED
        except execution.CellFailed as error:
            print(f"{error}", file=sys.stderr, flush=True)
            self._fail(error.cell, error.type, error.said)
            return FAILED
        except Exception as error:  # whatever it is, the job's row must say it
            traceback.print_exc()
            self._fail(None, type(error).__name__, str(error))
            return FAILED
        crash_point("runner-done")
        return DONE

    def _fail(self, cell: int | None, kind: str, said: str) -> None:
        # Short enough for a pipe that nobody reads at the moment; the notebook has all of it.
        self.report({"failure": {"cell": cell, "type": kind[:200], "message": said[:8000]}})


def main() -> int:
    """Run what standard input says; the argument is the number of the pipe to report through."""
    return _Runner(int(sys.argv[1])).run()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of libraries must not keep a finished job waiting
