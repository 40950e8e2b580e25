"""What a run of the suite broke, and what came of it: printed at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_COUNTERS = ("kills", "faults", "ends")


@dataclass
class Report:
    """Counts over all tests of a run."""

    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    #: Seconds from the last fault until every job had ended, with the test's name.
    settled: list[tuple[float, str]] = field(default_factory=list)
    #: Results whose write was acknowledged; each one was checked and found.
    acknowledged: int = 0

    def told(self) -> dict[str, Any]:
        """Return it as plain JSON, for another process to :meth:`add`."""
        counters = {name: dict(getattr(self, name)) for name in _COUNTERS}
        return {**counters, "settled": self.settled, "acknowledged": self.acknowledged}

    def add(self, told: Mapping[str, Any]) -> None:
        """Add what another process counted."""
        for name in _COUNTERS:
            getattr(self, name).update(told[name])
        self.settled += [(seconds, name) for seconds, name in told["settled"]]
        self.acknowledged += told["acknowledged"]

    def lines(self) -> list[str]:
        """Return it as lines of text; none where nothing was broken."""
        if not self.kills and not self.faults:
            return []
        longest = max(self.settled, default=(0.0, "nothing"))
        return [
            f"faults: {sum(self.kills.values())} full-stack kills ({_counted(self.kills)})",
            f"faults: {sum(self.faults.values())} other faults ({_counted(self.faults)})",
            f"faults: {sum(self.ends.values())} jobs ended ({_counted(self.ends)}); longest time to settle "
            f"{longest[0]:.1f} s ({longest[1]})",
            # Each of these is asserted by the tests; a run in which one is not true has failed.
            f"faults: {self.acknowledged} acknowledged results, all kept; where tests passed: 0 jobs left "
            "running, 0 wrong ends, 0 overlaps, 0 survivors",
        ]


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counter.items())) or "none"


#: What this process has counted; the workers of a run tell theirs to the one that prints it.
REPORT = Report()
