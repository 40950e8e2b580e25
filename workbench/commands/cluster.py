"""``workbench cluster certs``, ``start`` and ``join``: machines that share the work of jobs."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, count, group, port
from workbench.commands.exit_codes import DONE, FAILED
from workbench.commands.output import print_document, say, show
from workbench.errors import BadInput

if TYPE_CHECKING:
    from workbench.engine.cluster import Cluster

#: How often a cluster is looked at, in seconds.
_LOOK_SECONDS = 0.5

#: The usual port of a Dask scheduler.
_PORT = 8786


def add(commands: Any) -> None:
    """Add the commands."""
    tools = group(commands, "cluster", "Let other processes and machines share the work of jobs.")
    certs = command(tools, "cluster certs", _certs, "Make the TLS pair that every machine of a cluster has.")
    certs.add_argument("folder", metavar="DIR", type=Path, help="where to write cluster.crt and cluster.key")
    certs.add_argument(
        "--days", metavar="N", type=count, default=365, help="for how long it is good (default 365)"
    )
    start = command(tools, "cluster start", _start, "Run a scheduler and workers until stopped.")
    start.add_argument(
        "--host", metavar="HOST", default="127.0.0.1", help="where to listen (default: this machine only)"
    )
    start.add_argument("--port", metavar="N", type=port, default=_PORT, help=f"0: any (default {_PORT})")
    _takes_workers(start)
    join = command(
        tools, "cluster join", _join, "Run workers of a scheduler on another machine until stopped."
    )
    join.add_argument("scheduler", metavar="ADDRESS", help="of the scheduler, such as tls://10.0.0.5:8786")
    _takes_workers(join)


def _takes_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", metavar="N", type=count, help="tasks at once (default: one per processor)"
    )
    parser.add_argument("--certs", metavar="DIR", type=Path, help="the folder of the TLS pair")


def _certs(args: argparse.Namespace) -> int:
    from workbench.engine.certificates import make_certificates

    pair = make_certificates(args.folder, args.days)
    if args.json:
        print_document({"certificate": str(pair.certificate), "key": str(pair.key)})
        return DONE
    show(f"Wrote {pair.certificate} and {pair.key}.")
    show("Copy the folder to every machine of the cluster, and to nobody else: the key lets run code there.")
    return DONE


def _start(args: argparse.Namespace) -> int:
    from workbench.engine.certificates import Certificates
    from workbench.engine.cluster import Cluster

    pair = None if args.certs is None else Certificates.in_folder(args.certs)
    with Cluster(_workers(args), host=args.host, port=args.port, certificates=pair) as cluster:
        return _serve(cluster, args)


def _join(args: argparse.Namespace) -> int:
    from workbench.engine.cluster import Cluster
    from workbench.engine.opening import read_address

    address = args.scheduler
    if args.certs is not None and address.startswith("tls://") and "?" not in address:
        address += f"?certs={args.certs}"
    known = read_address(address)
    if not known.scheduler:
        raise BadInput(
            f"{args.scheduler!r} is no scheduler", hint="Give the address that cluster start printed."
        )
    with Cluster(_workers(args), scheduler=known.scheduler, certificates=known.certificates) as cluster:
        return _serve(cluster, args)


def _workers(args: argparse.Namespace) -> int:
    from workbench.engine.local import MOST_WORKERS
    from workbench.engine.storage import cores

    workers = cores() if args.workers is None else int(args.workers)
    if workers > MOST_WORKERS:
        raise BadInput(f"--workers must be at most {MOST_WORKERS}, got {workers:,}")
    return workers


def _serve(cluster: Cluster, args: argparse.Namespace) -> int:
    """Wait until this process is stopped, or a node cannot be kept."""
    # SIGTERM acts like Ctrl-C, so that the nodes are ended in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    workers = len(cluster.pids["worker"])
    if args.json:
        print_document({"engine": cluster.address, "workers": workers})
    say(f"{workers} workers of the scheduler at {cluster.scheduler}. Stop with Ctrl-C.")
    say(f"Let a job use it: --option engine='{cluster.address}'")
    try:
        while not cluster.problem:
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        return DONE
    say(f"error: {cluster.problem}")
    return FAILED
