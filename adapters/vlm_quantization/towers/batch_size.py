"""The number of items per forward pass, found while encoding: it grows while that is faster and fits."""

from __future__ import annotations

import sys
from pathlib import Path

#: Largest sizes that are tried: a GPU gains up to some hundreds, a CPU little beyond tens.
MOST, MOST_ON_CPU = 512, 128


#: A larger size is kept if it encodes this many times as many items per second.
GAIN = 1.05


#: Passes per size; the fastest counts, since the first of a size also prepares its kernels.
TRIALS = 3


#: Share of the memory that is free which one forward pass may take.
SHARE = 0.5


class BatchSize:
    """A batch size, fixed or found.

    Parameters
    ----------
    size : int
        The fixed size; 0: found.
    start : int
        The first size that is tried.
    device : str
        Where the network runs, as torch names it.

    Attributes
    ----------
    now : int
        The size of the next batch.
    settled : bool
        Whether the size has been found.
    halved : int
        How often the memory was too small for a batch.
    """

    def __init__(self, size: int = 0, *, start: int = 16, device: str = "cpu") -> None:
        self.now = size or start
        self.settled = bool(size)
        self.halved = 0
        self._device = device
        self._most = MOST_ON_CPU if device == "cpu" else MOST
        self._rates: list[float] = []
        self._before: tuple[int, float] = (0, 0.0)
        self._resident = resident_bytes() if device == "cpu" else 0

    def took(self, items: int, seconds: float) -> None:
        """Say how long the forward pass of a batch took; other sizes than :attr:`now` do not count."""
        if self.settled or items != self.now:
            return
        self._rates.append(items / max(seconds, 1e-9))
        if len(self._rates) < TRIALS:
            return
        rate, (smaller, slower) = max(self._rates), self._before
        if smaller and rate < slower * GAIN:
            self.now, self.settled = smaller, True
        elif self.now * 2 > self._most or not self._fits(self.now * 2):
            self.settled = True
        else:
            self._before = (self.now, rate)
            self.now, self._rates = self.now * 2, []

    def too_large(self, items: int) -> bool:
        """Halve the size because the memory was too small for so many items; False if it was one item."""
        self.settled = True
        if items <= 1:
            return False
        if items // 2 < self.now:
            self.now = items // 2
        self.halved += 1
        return True

    def _fits(self, size: int) -> bool:
        """Return whether a larger batch fits the memory of this machine; a GPU says so by itself."""
        if self._device != "cpu":
            return True
        grown = max(resident_bytes() - self._resident, 0)
        return grown / self.now * size < free_bytes() * SHARE


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of this machine or of a GPU, was too small."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        part in words for part in ("out of memory", "can't allocate memory", "not enough memory")
    )


def release_memory() -> None:
    """Give memory that torch holds for reuse back to the GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def resident_bytes() -> int:
    """Return the most memory that this process has had, in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def free_bytes() -> int:
    """Return the memory of this machine that programs can still get, in bytes."""
    free = 2**31
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
        group = Path("/sys/fs/cgroup")  # a container's limit
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit.isdecimal():
            used = int((group / "memory.current").read_text(encoding="ascii"))
            free = min(free, max(int(limit) - used, 0))
    except (OSError, ValueError):
        pass
    return free
