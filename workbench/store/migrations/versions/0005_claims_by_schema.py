"""Only code of the database's own schema version claims jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"


down_revision = "0004"


branch_labels = None


depends_on = None


# A worker checks the schema version when it opens the database, and one of an older version may have it open
# already. It could claim jobs, but their notebooks could not open the database. So a claim names the version
# of the code that makes it, and any other claim leaves the row as it is: that worker finds no job. The
# version is read at each claim, so this holds for later versions too. A migration that rebuilds the table
# `job`, as Alembic's batch mode does on SQLite, must create these triggers again; the tests of the claim fail
# without them.
_SQLITE = (
    """
    create trigger job_claim before update of status on job
    when old.status = 'queued' and new.status = 'running'
        and new.claim is not (select version_num || '/' || new.attempt from alembic_version)
    begin
        select raise(ignore);
    end
    """,
    # A job that a worker of 0.2.0 claimed just before, and whose notebook came too late to open the database,
    # is queued again. (A later worker does that itself.)
    """
    create trigger job_came_too_late after update of status on job
    when old.status = 'running' and new.status = 'failed' and new.worker_id <> ''
        and new.error like '%; this version knows steps up to %'
        and new.claim is not (select version_num || '/' || new.attempt from alembic_version)
    begin
        update job set status = 'queued', error = null, finished_at = null, worker_id = '', pid = null,
            pid_started = '', max_attempts = max_attempts + 1
        where id = new.id;
    end
    """,
)


_POSTGRESQL = (
    """
    create function job_claim() returns trigger language plpgsql as $$
    begin
        if new.claim is distinct from (select version_num || '/' || new.attempt from alembic_version) then
            if old.status = 'queued' and new.status = 'running' then
                return null;
            end if;
            if old.status = 'running' and new.status = 'failed' and new.worker_id <> ''
                    and position('; this version knows steps up to ' in new.error::text) > 0 then
                new.status := 'queued';
                new.error := null;
                new.finished_at := null;
                new.worker_id := '';
                new.pid := null;
                new.pid_started := '';
                new.max_attempts := new.max_attempts + 1;
            end if;
        end if;
        return new;
    end
    $$
    """,
    "create trigger job_claim before update of status on job for each row execute function job_claim()",
)


def upgrade() -> None:
    """Add the column and the guard; no worker of an older version claims a job from here on."""
    op.add_column("job", sa.Column("claim", sa.String(), nullable=False, server_default=""))
    connection = op.get_bind()
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        connection.exec_driver_sql(statement)
