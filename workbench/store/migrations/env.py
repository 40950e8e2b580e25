"""How Alembic reaches the database: on the connection, and in the transaction, that the store opened."""

from __future__ import annotations

from alembic import context

from workbench.store.records import Record

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Record.metadata,
    render_as_batch=True,
)


context.run_migrations()
