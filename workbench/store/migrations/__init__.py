"""Schema migrations, one file per version in ``versions/``.

:data:`HEAD` is repeated here, so that opening an up-to-date database does not import Alembic.
"""

from __future__ import annotations

from typing import Any

#: The newest version.
HEAD = "0006"

#: All versions, oldest first.
KNOWN = tuple(f"{number:04d}" for number in range(1, int(HEAD) + 1))


def upgrade(connection: Any, to: str = HEAD) -> None:
    """Bring a database up to a step inside the transaction of ``connection``."""
    from pathlib import Path

    from alembic import command
    from alembic.config import Config

    config = Config()
    # A percent sign in a path would be read as interpolation by Alembic's configuration parser.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, to)
