"""A worker whose leases are short, so that a test can outlast them: ``short_lease.py WORKSPACE SLOTS``."""

import contextlib
import sys

from workbench.jobs import settling

#: Seconds; the proportions are those of the real ones.
LEASE = 6.0
settling.LEASE_SECONDS, settling.BEAT_SECONDS, settling.QUIET_SECONDS = LEASE, 0.4, 1.0

from workbench.home import Home  # noqa: E402
from workbench.jobs.worker.worker import Worker  # noqa: E402  # it takes them over

if __name__ == "__main__":
    with contextlib.closing(Home(sys.argv[1])) as home:
        Worker(home, slots=int(sys.argv[2])).run()
