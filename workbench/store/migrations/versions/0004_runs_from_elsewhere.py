"""Runs that are logged from another machine: senders and their last saved batch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"


down_revision = "0003"


branch_labels = None


depends_on = None


def upgrade() -> None:
    """Add the table; existing runs were logged on the same machine."""
    op.create_table(
        "sender",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Boolean(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("heard_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"]),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(op.f("ix_sender_run_id"), "sender", ["run_id"], unique=False)
