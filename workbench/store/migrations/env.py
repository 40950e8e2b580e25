"""Alembic's environment: it uses the connection and transaction that the store opened."""

from __future__ import annotations

from alembic import context

from workbench.store.records import Record

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Record.metadata,
    render_as_batch=True,
)


context.run_migrations()
