"""Engines by their address.

``local`` and ``local:4`` are processes of this machine; ``tls://host:8786?certs=DIR`` is a Dask scheduler
with the pair of ``workbench cluster certs``, and ``?authority=…&certificate=…&key=…`` with a pair from
elsewhere; ``dask://127.0.0.1:8786`` (or ``tcp://``) is one without TLS, on this machine only. Tasks go to
another machine in plain text, where anybody on the way can run code on it, only with
``?insecure_plain_text=yes``.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from workbench.engine.certificates import Certificates
from workbench.engine.engine import Engine
from workbench.engine.storage import cores
from workbench.errors import BadInput, MissingExtra
from workbench.text import shown

if TYPE_CHECKING:
    from distributed import Client

#: The environment variable that names the folder of a cluster's TLS pair, where an address does not.
CERTS = "WORKBENCH_CLUSTER_CERTS"

#: Forms of an address, for people.
FORMS = (
    "'local' or 'local:4' (processes of this machine), 'tls://HOST:PORT?certs=DIR' or "
    "'dask://127.0.0.1:PORT' (a Dask scheduler)"
)

_INSECURE = "insecure_plain_text"

_FILES = ("authority", "certificate", "key")


@dataclass(frozen=True)
class Address:
    """An address that has been checked.

    Attributes
    ----------
    workers : int
        Number of local processes; 0 for a scheduler.
    scheduler : str
        The address as Dask writes it; empty for local processes.
    certificates : Certificates, optional
        The files for TLS.
    """

    workers: int = 0
    scheduler: str = ""
    certificates: Certificates | None = None


def read_address(address: str) -> Address:
    """Read the address of an engine.

    Raises
    ------
    workbench.BadInput
        It has no known form, its certificates are missing or unusable, or it would send tasks to another
        machine in plain text.
    """
    text = address.strip()
    if match := re.fullmatch(r"local(?::(\d{1,6}))?", text):
        workers = cores() if match[1] is None else int(match[1])
        _check_workers(workers)
        return Address(workers=workers)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _no_address(address) from None
    if parts.scheme not in ("dask", "tcp", "tls") or not host or not port or parts.path.strip("/"):
        raise _no_address(address)
    options = _options(parts.query, address)
    name = f"[{host}]" if ":" in host else host
    if parts.scheme == "tls":
        if _INSECURE in options:
            raise BadInput(f"{address}: {_INSECURE} is for dask://, not for tls://")
        certificates = _certificates(options, address)
        certificates.check()
        return Address(scheduler=f"tls://{name}:{port}", certificates=certificates)
    if others := sorted(options.keys() - {_INSECURE}):
        raise BadInput(f"{address}: {', '.join(others)} is for tls://", hint=f"Use tls://{name}:{port}.")
    if not is_loopback(host) and options.get(_INSECURE) != "yes":
        raise BadInput(
            f"{address} is another machine, and without TLS anybody on the way could run code on both",
            hint=f"Use tls:// with a pair of `workbench cluster certs`, or add ?{_INSECURE}=yes "
            "on a network that only you use.",
        )
    return Address(scheduler=f"tcp://{name}:{port}")


def check_engine(address: str) -> None:
    """Refuse an address that cannot be an engine's; empty means no engine.

    Raises
    ------
    workbench.BadInput
        As :func:`read_address`.
    workbench.MissingExtra
        It is a scheduler, and dask.distributed is not installed.
    """
    if address.strip() and read_address(address).scheduler and find_spec("distributed") is None:
        raise MissingExtra("dask.distributed", "dask")


def open_engine(engine: str | Client) -> Engine:
    """Open an engine; nothing is started or connected before its first task.

    Parameters
    ----------
    engine : str or distributed.Client
        Its address, see :mod:`workbench.engine.opening`; or a Dask client, which stays open afterwards.

    Raises
    ------
    workbench.BadInput
        The address is none.
    workbench.MissingExtra
        It is a scheduler, and dask.distributed is not installed.
    """
    if not isinstance(engine, str):
        from workbench.engine.dask import DaskEngine

        return DaskEngine.of_client(engine)
    address = read_address(engine)
    if address.workers:
        from workbench.engine.local import LocalProcesses

        return LocalProcesses(address.workers)
    from workbench.engine.dask import DaskEngine

    return DaskEngine(address.scheduler, address.certificates)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_workers(workers: int) -> None:
    from workbench.engine.local import MOST_WORKERS

    if not 1 <= workers <= MOST_WORKERS:
        raise BadInput(f"the number of local workers must be 1 to {MOST_WORKERS}, got {workers}")


def _options(query: str, address: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = {"certs", *_FILES, _INSECURE}
    if unknown := sorted(options.keys() - known):
        raise BadInput(f"{address}: unknown option {unknown[0]!r}", hint=f"Known: {', '.join(sorted(known))}")
    if options.get(_INSECURE, "yes") not in ("yes", "no"):
        raise BadInput(f"{address}: {_INSECURE} must be yes or no, got {shown(options[_INSECURE])}")
    return options


def _certificates(options: dict[str, str], address: str) -> Certificates:
    files = [options.get(name, "") for name in _FILES]
    if any(files):
        if not all(files) or "certs" in options:
            raise BadInput(f"{address}: give certs, or all three of {', '.join(_FILES)}")
        return Certificates(*map(Path, files))
    folder = options.get("certs") or os.environ.get(CERTS, "")
    if not folder:
        raise BadInput(
            f"{address}: no certificates",
            hint=f"Add ?certs=DIR, a folder made by `workbench cluster certs`, or set ${CERTS}.",
        )
    return Certificates.in_folder(Path(folder).expanduser())


def _no_address(address: Any) -> BadInput:
    return BadInput(f"{shown(address)} is not the address of an engine", hint=f"Give {FORMS}.")
