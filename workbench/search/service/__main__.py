"""Entry point of the service: ``python -m workbench.search.service --workspace DIR``."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench.host.locks import take_lock
from workbench.host.memory import lift_limits
from workbench.search.client import LOCK_NAME, state_folder
from workbench.search.service.limits import Limits
from workbench.search.service.service import Service


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the searches of one workspace until idle."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.search.service", description="Hold the opened indexes of a workspace."
    )
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--lock", type=int, help="file descriptor of the workspace's lock, already taken")
    args = parser.parse_args(arguments)
    lift_limits()  # a visitor's kernel may have started it; the limits of that one are too low for an index
    home = Path(args.workspace).expanduser().resolve()
    if args.lock is None:
        lock = take_lock(state_folder(home) / LOCK_NAME, seconds=0.5)
    else:
        lock = os.fdopen(args.lock, "ab")
        os.set_inheritable(lock.fileno(), False)
    if lock is None:
        print(f"another search service is running for {home}", file=sys.stderr)
        return 1
    with lock:
        asyncio.run(Service(home, lock, Limits.from_environment()).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
