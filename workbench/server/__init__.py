"""The HTTP API: an extension of the Jupyter server, under its base URL, its login and its XSRF rules.

Installing the package enables it (``enable.json`` lands in ``etc/jupyter/jupyter_server_config.d``). Every
route stands once in :mod:`workbench.server.api.table`; the handlers and ``openapi.json`` are made from there.
Nothing slow happens on the server's loop, and no adapter's code runs in its process: the database is asked
in a few threads, and adapters and indexes in the search service.
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
