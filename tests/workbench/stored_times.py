"""Runs whose times are none, as imports of earlier versions stored them."""

from __future__ import annotations

import math

import workbench as wb
from workbench.store.points import Batch

#: Times of rows: milliseconds taken for seconds, beyond any date, before 1970, and missing.
BAD_TIMES = (1.7e12, 1e300, math.inf, -1e18, 0.0)


def add_bad_times(home: wb.Workspace, experiment: str = "bad times") -> list[int]:
    """Add a run per bad time, and points with bad times among sound ones; return the ids."""
    ids = []
    for at in BAD_TIMES:
        with home.start_run(experiment, name=f"at {at:g}", better={"m": "lower"}) as run:
            run.flush()
        home.store.change_run(run.id, created_at=at, finished_at=at)
        # More points than are packed, of which arrays may hold NaN.
        count = 1500
        times = [1.7e9 + step for step in range(count)]
        times[3], times[4], times[5] = math.nan, math.inf, 1.7e12
        batch = Batch(list(range(count)), times, [float(step) for step in range(count)])
        home.store.add_batches({(run.id, "m"): batch}, {})
        ids.append(run.id)
    return ids
