"""What workers counted comes together in one report."""

import json

from tests.faults.report import Report


def worker(kills: int, seconds: float) -> Report:
    told = Report(settled=[(seconds, f"a test of {kills}")], acknowledged=kills)
    told.kills["runner"] += kills
    told.faults["full disk"] += 1
    told.ends["succeeded"] += 2
    return told


def test_two_workers_counts_are_added() -> None:
    whole = Report()
    assert whole.lines() == []
    for part in (worker(3, 1.5), worker(4, 0.5)):
        whole.add(json.loads(json.dumps(part.told())))
    lines = "\n".join(whole.lines())
    assert "7 full-stack kills (7 runner)" in lines
    assert "2 other faults" in lines
    assert "4 jobs ended (4 succeeded); longest time to settle 1.5 s (a test of 3)" in lines
    assert "7 acknowledged results" in lines
