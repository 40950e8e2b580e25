"""The kernel that makes a page: ``python -m workbench.publish.page_kernel -f CONNECTION_FILE``.

It limits the kernel's memory, and sends what a cell or an error prints to the publisher's log instead of into
the page. Visitors have no kernel: this one runs for the seconds that the page takes, once for all of them.
"""

from __future__ import annotations

import os
import sys

from workbench.host.memory import limit_memory
from workbench.search.searcher import PUBLISHED

#: Maximum memory of the kernel, in bytes. It needs about 70 MiB.
KERNEL_BYTES = 384 * 2**20


#: Environment variable: another maximum, in bytes.
KERNEL_MEMORY = "WORKBENCH_KERNEL_MEMORY"


def main() -> None:
    """Run the kernel until it is told to stop, or until its server is gone."""
    from ipykernel.kernelapp import IPKernelApp

    settings: dict[str, object] = {}
    if os.environ.get(PUBLISHED):
        limit_memory(int(os.environ.get(KERNEL_MEMORY) or KERNEL_BYTES))
        settings["outstream_class"] = None  # stdout and stderr stay those of the server: its log
    # A kernel that keeps no history opens no database in the publisher's home folder.
    IPKernelApp.launch_instance([*sys.argv[1:], "--HistoryManager.enabled=False"], **settings)


if __name__ == "__main__":
    main()
