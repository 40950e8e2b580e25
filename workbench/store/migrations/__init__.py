"""The database's steps, one file each in ``versions/``.

:data:`HEAD` is said here, so that opening a database that is up to date need not import Alembic.
"""

from __future__ import annotations

from typing import Any

#: The newest step.
HEAD = "0004"


def upgrade(connection: Any, to: str = HEAD) -> None:
    """Bring a database up to a step inside the transaction of ``connection``."""
    from pathlib import Path

    from alembic import command
    from alembic.config import Config

    config = Config()
    # A percent sign is interpolation to Alembic's reader of configuration; a folder may have one.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, to)
