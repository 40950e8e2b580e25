"""Runs with notes, revision, environment, seed, outcome and origin; artifacts; metric points in chunks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"


down_revision = "0002"


branch_labels = None


depends_on = None


def upgrade() -> None:
    """Add the columns and tables; existing points stay in rows until their metric grows."""
    op.add_column("run", sa.Column("notes", sa.Text(), nullable=False, server_default=""))
    op.add_column("run", sa.Column("git", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("run", sa.Column("environment", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("run", sa.Column("seed", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("run", sa.Column("outcome", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("run", sa.Column("origin", sa.String(), nullable=True))
    op.create_index(op.f("ix_run_origin"), "run", ["origin"], unique=True)
    op.create_index("ix_run_status_id", "run", ["status", "id"], unique=False)
    op.add_column("metric_summary", sa.Column("sealed", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("checkpoint", sa.Column("metric", sa.String(), nullable=False, server_default=""))
    op.add_column("checkpoint", sa.Column("value", sa.Float(), nullable=True))
    op.create_table(
        "artifact",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "name"),
    )
    op.create_table(
        "metric_chunk",
        sa.Column("metric_id", sa.Integer(), nullable=False),
        sa.Column("first", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("step", sa.LargeBinary(), nullable=False),
        sa.Column("time", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["metric_id"], ["metric_summary.id"]),
        sa.PrimaryKeyConstraint("metric_id", "first"),
    )
