"""The kernels behind a published page, limited in number."""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado import web
from traitlets import Integer


class VisitorKernels(AsyncMappingKernelManager):
    """Start one kernel per visitor, up to a limit; further visitors are asked to come back later.

    Every request for the page starts a kernel, and Voila itself has no limit.
    """

    most = Integer(12, config=True, help="Maximum number of kernels alive at the same time.")
    _starting = 0

    async def start_kernel(self, **arguments: Any) -> str:  # type: ignore[override]
        """Start a kernel; responds with 503 if the limit is reached."""
        if len(self) + self._starting >= self.most:
            raise web.HTTPError(503, "This page is busy; please try again in a few minutes.")
        self._starting += 1
        try:
            kernel_id: str = await super().start_kernel(**arguments)
            return kernel_id
        finally:
            self._starting -= 1
