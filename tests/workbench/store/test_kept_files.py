"""Records of checkpoints and artifacts: one for each name of a run."""

from __future__ import annotations

from workbench.store.records import Artifact, Checkpoint, RunRecord
from workbench.store.store import Store


def test_a_file_of_the_same_name_replaces_the_record(store: Store) -> None:
    run_id = store.add_run(RunRecord(experiment_id=0), "e").id or 0
    other = store.add_run(RunRecord(experiment_id=0), "e").id or 0
    for name, step in (("a.bin", 1), ("b.bin", 2), ("a.bin", 3)):
        store.add_checkpoint(Checkpoint(run_id=run_id, name=name, step=step))
    store.add_checkpoint(Checkpoint(run_id=other, name="a.bin", step=9))
    assert [(one.name, one.step) for one in store.checkpoints(run_id)] == [("a.bin", 3), ("b.bin", 2)]
    assert [one.step for one in store.checkpoints(other)] == [9]
    for size in (5, 6):
        store.add_artifact(Artifact(run_id=run_id, name="report", size=size))
    assert [(one.name, one.size) for one in store.artifacts(run_id)] == [("report", 6)]
    assert store.artifacts(other) == []


def test_a_forgotten_checkpoint_leaves_the_outcome_too(store: Store) -> None:
    run_id = store.add_run(RunRecord(experiment_id=0), "e").id or 0
    store.add_checkpoint(Checkpoint(run_id=run_id, name="a.bin", step=1))
    store.end_run(run_id, "succeeded")
    assert "a.bin" in str(store.outcome(run_id))
    assert store.forget_checkpoint(run_id, "a.bin")
    assert not store.forget_checkpoint(run_id, "a.bin")
    assert store.checkpoints(run_id) == []
    assert "a.bin" not in str(store.outcome(run_id))
