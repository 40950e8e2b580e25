"""The process of one attempt at one job: it executes the notebook and exits.

Started by the worker with what to do as JSON on its standard input. Its exit code says how it went: 0 done,
1 failed, 75 interrupted. The reason of a failure is left in a small file; whatever else happens to this
process, the worker sees its end and writes the job's state.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

DONE, FAILED, INTERRUPTED = 0, 1, 75


def main() -> int:
    """Run what standard input says."""
    # jsonschema's checks of addresses and durations cost 0.8 s to import, most of it for compiling a grammar.
    # Notebooks have neither, and without these modules jsonschema skips the checks.
    for name in ("rfc3987_syntax", "isoduration"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]

    from workbench.notebooks import CellFailed, Execution, Interrupted, write_outcome

    given: dict[str, Any] = json.load(sys.stdin)
    outcome = Path(given["outcome"])
    execution = Execution(
        source=Path(given["source"]),
        output=Path(given["output"]),
        parameters=given["parameters"],
        log=Path(given["log"]),
        runtime=Path(given["runtime"]),
        cwd=Path(given["cwd"]) if given["cwd"] else None,
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        execution.interrupt()

    signal.signal(signal.SIGUSR1, stop)
    try:
        execution.run()
    except Interrupted:
        return INTERRUPTED
    except CellFailed as error:
        print(f"{error}", file=sys.stderr, flush=True)
        write_outcome(outcome, {"cell": error.cell, "type": error.type, "message": error.said})
        return FAILED
    except Exception as error:  # whatever it is, the job's row must say it
        traceback.print_exc()
        write_outcome(outcome, {"cell": None, "type": type(error).__name__, "message": str(error)})
        return FAILED
    return DONE


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of libraries must not keep a finished job waiting
