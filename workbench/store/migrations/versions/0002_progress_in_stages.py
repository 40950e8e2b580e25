"""Progress in stages with rate and time left, and minimum values of results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"


down_revision = "0001"


branch_labels = None


depends_on = None


def upgrade() -> None:
    """Add the columns; existing jobs have one stage and no floors."""
    stages = sa.Column("progress_stages", sa.JSON(), nullable=False, server_default="[]")
    op.add_column("job", stages)
    op.add_column("job", sa.Column("progress_rate", sa.Float(), nullable=True))
    op.add_column("job", sa.Column("progress_left", sa.Float(), nullable=True))
    op.add_column("job", sa.Column("floors", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("job", sa.Column("source_sha256", sa.String(), nullable=False, server_default=""))
