"""The HTTP API: a Jupyter server extension under the server's base URL, login and XSRF rules.

Installing the package enables it (``enable.json`` lands in ``etc/jupyter/jupyter_server_config.d``). Every
route is declared once in :mod:`workbench.server.api.table`; the handlers and ``openapi.json`` are generated
from it. Nothing slow runs on the server's event loop, and no adapter code runs in its process: database
queries run in a few threads, and adapters and indexes in the search service.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "workbench.server"}]


def _load_jupyter_server_extension(server: Any) -> None:
    from workbench.server.desk import WorkbenchServer
    from workbench.server.rules import rules

    desk = WorkbenchServer(parent=server)
    server.web_app.add_handlers(".*$", rules(server.web_app.settings["base_url"], desk))
    server.log.info("workbench: the API is at workbench/api, for the workspace %s", desk.home_path)
