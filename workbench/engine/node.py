"""The program of one node: a scheduler, or a worker that ends by itself when its scheduler is gone.

Dask's own worker without a nanny lives on for minutes after its scheduler; this one waits for a scheduler
that is started again, a bounded time, and ends with the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.engine.certificates import Certificates
from workbench.engine.child import watch

#: A worker ends when its scheduler has not answered for this long, in seconds.
SCHEDULER_PATIENCE = 45.0

#: Exit code of a worker that has waited for its scheduler in vain.
NO_SCHEDULER = 69


def main(words: Sequence[str]) -> int:
    """Run a node until it is ended, or alone for too long."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("scheduler", "worker"))
    parser.add_argument(
        "--address", required=True, help="of the scheduler: tcp://host:port or tls://host:port"
    )
    parser.add_argument("--host", default="", help="a worker's own host name")
    for name in ("authority", "certificate", "key"):
        parser.add_argument(f"--{name}", default="", help="for TLS")
    parser.add_argument("--name", default="")
    parser.add_argument(
        "--parent", type=int, default=0, help="end when this process is not the parent any more"
    )
    parser.add_argument("--patience", type=float, default=SCHEDULER_PATIENCE)
    args = parser.parse_args(words)
    if args.parent:
        watch(args.parent)
    import dask

    # No pages about the cluster: they would listen on further ports, on all addresses.
    dask.config.set(
        {
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
            "distributed.scheduler.worker-ttl": "60s",
            "distributed.comm.timeouts.connect": "5s",
        }
    )
    files = [args.authority, args.certificate, args.key]
    security = Certificates(*map(Path, files)).security() if all(files) else None
    run = _schedule if args.role == "scheduler" else _work
    code = asyncio.run(run(args, security))
    sys.stdout.flush()
    os._exit(code)  # a thread that performs a task would be waited for


async def _schedule(args: argparse.Namespace, security: Any) -> int:
    from distributed import Scheduler

    protocol, _, place = args.address.partition("://")
    host, _, port = place.rpartition(":")
    async with Scheduler(
        host=host,
        port=int(port),
        protocol=protocol,
        security=security,
        dashboard=False,
        dashboard_address="127.0.0.1:0",
    ) as scheduler:
        print(scheduler.address, flush=True)
        await _until(scheduler)
    return 0


async def _work(args: argparse.Namespace, security: Any) -> int:
    from distributed import Worker

    last = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="workbench-worker-") as folder:
        while time.monotonic() - last < args.patience:
            try:
                async with Worker(
                    args.address,
                    nthreads=1,
                    host=args.host or None,
                    name=args.name or None,
                    security=security,
                    local_directory=folder,
                    memory_limit=0,  # tasks run in a process beside it
                    dashboard=False,
                    dashboard_address="127.0.0.1:0",
                    death_timeout=max(args.patience - (time.monotonic() - last), 1),
                ) as worker:
                    if await _until(worker):
                        return 0
                last = time.monotonic()
            except (OSError, TimeoutError, RuntimeError):
                await asyncio.sleep(0.5)
    return NO_SCHEDULER


async def _until(server: Any) -> bool:
    """Wait until a server has ended; return whether this process was asked to."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    ended, stop = asyncio.ensure_future(server.finished()), asyncio.ensure_future(asked.wait())
    await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    stop.cancel()
    return asked.is_set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
