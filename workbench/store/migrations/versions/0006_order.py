"""Order among runs, experiments and jobs: names, archives; and the pictures, tables and texts of runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"


down_revision = "0005"


branch_labels = None


depends_on = None


def upgrade() -> None:
    """Add the columns and the table; nothing is archived yet."""
    for table in ("run", "experiment", "job"):
        op.add_column(table, sa.Column("archived_at", sa.Float(), nullable=True))
    op.add_column("job", sa.Column("name", sa.Text(), nullable=False, server_default=""))
    op.create_table(
        "media",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("caption", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run_id", "file"),
    )
