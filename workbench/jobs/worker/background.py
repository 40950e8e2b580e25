"""Entry point of a background worker: ``python -m workbench.jobs.worker.background --workspace DIR``.

It starts its first runner before it imports anything else, so that the two import in parallel.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from workbench.jobs.worker.attempt import Runner


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker that exits when there is nothing to do."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.jobs.worker.background",
        description="Run the jobs of a workspace, then exit.",
    )
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--lock", type=int, help="file descriptor of the workspace's lock, already taken")
    args = parser.parse_args(arguments)
    lock = None if args.lock is None else os.fdopen(args.lock, "ab")
    if lock is not None:
        os.set_inheritable(lock.fileno(), False)
    spare = Runner()

    from workbench.errors import NewerDatabase, WorkbenchError
    from workbench.home import Home
    from workbench.host.locks import is_same_file
    from workbench.jobs.worker.former import FIRST_LOCK
    from workbench.jobs.worker.worker import IDLE, IDLE_SECONDS, Worker

    idle = float(os.environ.get(IDLE) or IDLE_SECONDS)
    deadline, pause, printed = time.monotonic() + idle, 0.5, ""
    while True:
        try:
            home = Home(args.workspace)
            break
        except WorkbenchError as error:
            # If this worker exited, reading a queued job would start the next one at once. So wait here, with
            # the lock held, for free disk space or for the server.
            if str(error) != printed:
                printed = str(error)
                with contextlib.suppress(OSError):
                    print(f"{time.strftime('%F %T')} {printed}", file=sys.stderr, flush=True)
            if time.monotonic() > deadline or not Path(args.workspace).is_dir():
                spare.end()
                spare.close()
                if isinstance(error, NewerDatabase):
                    return 1  # printed already
                raise
        time.sleep(pause)
        pause = min(2 * pause, 10.0)
    former = None
    if lock is not None and is_same_file(lock, home.path / FIRST_LOCK):  # a server of 0.2.0 took it
        lock, former = None, lock
    with contextlib.closing(home):
        Worker(home, slots=args.slots, idle_seconds=idle, spare=spare, lock=lock, former_lock=former).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
