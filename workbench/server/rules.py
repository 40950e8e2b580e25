"""Tornado URL rules for the table of routes."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from jupyter_server.utils import url_path_join
from tornado import web

from workbench import wire
from workbench.server.api.route import Route
from workbench.server.api.table import ROUTES
from workbench.server.desk import WorkbenchServer
from workbench.server.events import EventsHandler
from workbench.server.handlers import WorkbenchHandler, answer_of, guarded
from workbench.server.openapi import openapi


def rules(base_url: str, desk: WorkbenchServer) -> list[tuple[str, type[web.RequestHandler], dict[str, Any]]]:
    """Return the URL rules of all routes: pattern, handler and its arguments."""
    by_path = [(path, list(routes)) for path, routes in groupby(_fixed_first(), key=lambda route: route.path)]
    api = url_path_join(base_url, "workbench", "api")
    shared = {"desk": desk}
    result: list[tuple[str, type[web.RequestHandler], dict[str, Any]]] = [
        (url_path_join(api, "openapi.json"), OpenApiHandler, {**shared, "server": api}),
        (url_path_join(api, r"jobs/(?P<job_id>[^/]+)/events"), EventsHandler, shared),
    ]
    for path, routes in by_path:
        pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)
        result.append((url_path_join(api, pattern), handler_of(routes), shared))
    return [*result, (url_path_join(api, "?(.*)"), NowhereHandler, shared)]


def _fixed_first() -> list[Route]:
    """Return the routes sorted by path, fixed paths before patterns that would match them."""
    return sorted(ROUTES, key=lambda route: (route.path.count("{"), route.path))


def handler_of(routes: list[Route]) -> type[WorkbenchHandler]:
    """Return the handler of one path, with a method for each of its verbs."""

    def method(route: Route) -> Any:
        async def answer(self: WorkbenchHandler, **path: str) -> None:
            await answer_of(self, route, path)

        return guarded(route.action)(answer)

    name = "".join(part.strip("{}").title() for part in re.split(r"[/_-]", routes[0].path)) + "Handler"
    members: dict[str, Any] = {route.verb.lower(): method(route) for route in routes}
    known = members["routes"] = {route.verb: route for route in routes}
    # Of one address some verbs may be polled and others not.
    members["_track_activity"] = property(
        lambda handler: handler.request.method not in known or not known[handler.request.method].polled
    )
    return type(name, (WorkbenchHandler,), members)


class OpenApiHandler(WorkbenchHandler):
    """The OpenAPI document."""

    @guarded("read")
    async def get(self) -> None:
        """Answer with the OpenAPI document."""
        self.finish(wire.dumps(openapi(ROUTES, self.more["server"])))


class NowhereHandler(WorkbenchHandler):
    """404 for unknown routes, after authentication."""

    @guarded("read")
    async def get(self, path: str) -> None:
        """Answer 404."""
        raise web.HTTPError(404, "no such route")

    post = delete = put = patch = get
