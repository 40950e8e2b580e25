"""The tables of the records, for use in queries."""

from __future__ import annotations

from typing import cast

from sqlalchemy import Table

from workbench.store.records import (
    Artifact,
    Checkpoint,
    EvalResult,
    Experiment,
    JobRecord,
    Media,
    MetricChunk,
    MetricPoint,
    MetricSummary,
    Record,
    RunRecord,
    Sender,
)


def _table(record: type[Record]) -> Table:
    return cast(Table, record.__table__)  # type: ignore[attr-defined]  # SQLModel sets it on table classes


EXPERIMENTS, RUNS, SUMMARIES = _table(Experiment), _table(RunRecord), _table(MetricSummary)


CHECKPOINTS, ARTIFACTS, MEDIA = _table(Checkpoint), _table(Artifact), _table(Media)


POINTS, CHUNKS = _table(MetricPoint), _table(MetricChunk)


SENDERS = _table(Sender)


JOBS, RESULTS = _table(JobRecord), _table(EvalResult)
