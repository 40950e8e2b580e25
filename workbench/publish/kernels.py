"""The kernels behind a published page: so many at once and no more."""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado import web
from traitlets import Integer


class VisitorKernels(AsyncMappingKernelManager):
    """Start a kernel a visitor, up to a limit; the next visitor is told to come back.

    Every request of the page starts a kernel, and Voila itself has no limit.
    """

    most = Integer(12, config=True, help="How many kernels may be alive at once.")
    _starting = 0

    async def start_kernel(self, **arguments: Any) -> str:  # type: ignore[override]
        """Start a kernel; 503 where there are as many as may be."""
        if len(self) + self._starting >= self.most:
            raise web.HTTPError(503, "All places are taken; please come back in a few minutes.")
        self._starting += 1
        try:
            kernel_id: str = await super().start_kernel(**arguments)
            return kernel_id
        finally:
            self._starting -= 1
