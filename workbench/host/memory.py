"""Limits on the memory that a process may use, so that the system stops it and not its neighbours."""

from __future__ import annotations

import contextlib

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


def limit_memory(most: int) -> None:
    """Let this process, and those it starts, allocate at most ``most`` bytes each.

    Beyond it an allocation fails (``MemoryError``). Mapped files and shared memory do not count. Crashes
    write no core file either, which is as large as the memory. A child may lift the limit, by
    :func:`lift_limits`.
    """
    if resource is None:
        return
    for kind, value in ((resource.RLIMIT_DATA, most), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):  # a system that does not know this limit
            resource.setrlimit(kind, (soft, hard))


def lift_limits() -> None:
    """Lift the limit on memory that :func:`limit_memory` set in the process that started this one.

    The one on core files stays: nobody looks for one where a service crashed.
    """
    if resource is None:
        return
    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
