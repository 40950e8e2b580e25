"""Limits on the memory of a process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import subprocess, sys
from workbench.host.memory import lift_limits, limit_memory
limit_memory(200 * 2**20)
try:
    bytearray(300 * 2**20)
except MemoryError:
    print("refused")
bytearray(50 * 2**20)
child = "from workbench.host.memory import lift_limits; {} bytearray(300 * 2**20); print('has it')"
for first in ("", "lift_limits();"):
    done = subprocess.run([sys.executable, "-c", child.format(first)], capture_output=True, text=True)
    print(done.stdout.strip() or done.stderr.strip().splitlines()[-1])
lift_limits()
import resource
print(resource.getrlimit(resource.RLIMIT_CORE)[0])
"""


def test_a_process_and_its_children_get_no_more_than_the_limit_until_it_is_lifted() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["refused", "MemoryError", "has it", "0"]
