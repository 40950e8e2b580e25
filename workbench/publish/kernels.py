"""The kernels behind a published page: one place per open page, limited, and given back.

A place is free again as soon as its page is left or reloaded (the page says goodbye), its kernel is dead, or
nothing was heard of its page for :data:`CONNECT_SECONDS`, such as after a crawler's visit. An open page that
nobody uses keeps its place for :data:`IDLE_SECONDS`. If all places are taken, the next visitor gets that of a
page which was left without a goodbye, or has not been used for a while; such a page says so when its visitor
comes back, and takes a place again.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado import web
from traitlets import Float, Integer

#: Maximum number of open pages.
MOST_KERNELS = 12


#: Maximum number of open pages per browser; a further one ends the one that was not used for longest.
MOST_TABS = 4


#: A kernel whose page shows no sign of life for this long is ended, in seconds.
CONNECT_SECONDS = 60.0


#: The same if another visitor is waiting for a place.
CONNECT_SECONDS_IF_FULL = 10.0


#: A kernel whose page is open but was not used for this long is ended, in seconds.
IDLE_SECONDS = 3600.0


#: The same if another visitor is waiting for a place.
IDLE_SECONDS_IF_FULL = 300.0


#: Seconds between two looks for kernels to end.
LOOK_SECONDS = 5.0


#: Seconds after which somebody who found all places taken may ask again.
RETRY_SECONDS = 15


#: Number of ended pages whose reason is remembered.
_REMEMBERED = 1000


@dataclass
class Place:
    """One open page: whose it is, and when something was heard of it.

    Attributes
    ----------
    visitor : str
        The browser that it was served to.
    seen : float
        When the page last gave a sign of life, on :func:`time.monotonic`'s clock.
    used : float
        When the visitor last searched; at first, when the page was served.
    connections : int
        Open connections of the page to its kernel.
    """

    visitor: str
    seen: float
    used: float
    connections: int = 0


class Full(web.HTTPError):
    """All places are taken."""

    def __init__(self) -> None:
        super().__init__(503, "all places are taken")


class VisitorKernels(AsyncMappingKernelManager):
    """Start kernels for visitors, count them, and end those that nobody uses."""

    most = Integer(MOST_KERNELS, config=True, help="Maximum number of open pages.")
    tabs = Integer(MOST_TABS, config=True, help="Maximum number of open pages per browser.")
    connect_seconds = Float(CONNECT_SECONDS, config=True, help="Seconds without a sign of life.")
    connect_seconds_if_full = Float(CONNECT_SECONDS_IF_FULL, config=True, help="The same if others wait.")
    idle_seconds = Float(IDLE_SECONDS, config=True, help="Seconds without a search.")
    idle_seconds_if_full = Float(IDLE_SECONDS_IF_FULL, config=True, help="The same if others wait.")

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)  # type: ignore[no-untyped-call]
        self.places: dict[str, Place] = {}
        self._reserved = 0
        self._ended: OrderedDict[str, str] = OrderedDict()

    # A place per page --------------------------------------------------------------------------

    @asynccontextmanager
    async def reserved(self, visitor: str) -> AsyncIterator[Callable[[str], None]]:
        """Reserve a place while a page is made; yields a function that gives the place to a kernel.

        Raises
        ------
        Full
            All places are taken, and all of them are in use.
        """
        await self._make_room(visitor)
        self._reserved += 1
        given = False

        def give(kernel_id: str) -> None:
            nonlocal given
            if not given:
                given, self._reserved = True, self._reserved - 1
            now = time.monotonic()
            self.places[kernel_id] = Place(visitor, seen=now, used=now)

        try:
            yield give
        finally:
            if not given:
                self._reserved -= 1

    def has_room(self) -> bool:
        """Return whether the next visitor would get a place."""
        return self._taken() < self.most or self._gives_way() is not None

    def _taken(self) -> int:
        return len(self.places) + self._reserved

    async def _make_room(self, visitor: str) -> None:
        await self.end_dead()
        own = sorted(
            (kernel_id for kernel_id, place in self.places.items() if place.visitor == visitor),
            key=lambda kernel_id: (bool(self.places[kernel_id].connections), self.places[kernel_id].used),
        )
        for kernel_id in own[: max(len(own) - self.tabs + 1, 0)]:
            await self.end(kernel_id, "tabs")
        while self._taken() >= self.most:
            if (given_away := self._gives_way()) is None:
                raise Full
            await self.end(given_away, "idle")

    def _gives_way(self) -> str | None:
        """Return the kernel that is ended for the next visitor, if all places are taken."""
        now = time.monotonic()
        left = [one for one in self.places.items() if self._left(one[1], now, self.connect_seconds_if_full)]
        if left:
            return min(left, key=lambda one: one[1].seen)[0]
        idle = [one for one in self.places.items() if now - one[1].used > self.idle_seconds_if_full]
        return min(idle, key=lambda one: one[1].used)[0] if idle else None

    @staticmethod
    def _left(place: Place, now: float, seconds: float) -> bool:
        return not place.connections and now - place.seen > seconds

    # Signs of life -----------------------------------------------------------------------------

    async def heard_from(self, kernel_id: str) -> bool:
        """Note that a page is open; return whether its kernel runs."""
        place = self.places.get(kernel_id)
        if place is None:
            return False
        if not await self.runs(kernel_id):
            await self.end(kernel_id, "died")
            return False
        place.seen = time.monotonic()
        return True

    @contextmanager
    def being_sent(self, kernel_id: str) -> Iterator[None]:
        """Keep a place while its page is made and sent, which takes long if an index has to be opened."""
        self._connected(kernel_id, 1)
        try:
            yield
        finally:
            self._connected(kernel_id, -1)

    def used(self, kernel_id: str) -> None:
        """Note that a visitor uses a page."""
        if (place := self.places.get(kernel_id)) is not None:
            place.used = place.seen = time.monotonic()

    def notify_connect(self, kernel_id: str) -> None:
        """Count a connection of a page to its kernel."""
        super().notify_connect(kernel_id)  # type: ignore[no-untyped-call]
        self._connected(kernel_id, 1)

    def notify_disconnect(self, kernel_id: str) -> None:
        """Count the end of a connection."""
        super().notify_disconnect(kernel_id)  # type: ignore[no-untyped-call]
        self._connected(kernel_id, -1)

    def _connected(self, kernel_id: str, more: int) -> None:
        if (place := self.places.get(kernel_id)) is not None:
            place.connections = max(place.connections + more, 0)
            place.seen = time.monotonic()

    async def runs(self, kernel_id: str) -> bool:
        """Return whether a kernel's process is alive."""
        if kernel_id not in self:
            return False
        try:
            return bool(await ensure_async(self.get_kernel(kernel_id).is_alive()))
        except (RuntimeError, KeyError, web.HTTPError):
            return False

    # Giving places back ------------------------------------------------------------------------

    async def end(self, kernel_id: str, reason: str) -> None:
        """End a kernel at once and give its place back; no effect if there is none of that id."""
        if self.places.pop(kernel_id, None) is not None:
            self._ended[kernel_id] = reason
            while len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
        # It may be ended by two at once: by its own page, and by the next look.
        with contextlib.suppress(KeyError, RuntimeError, web.HTTPError):
            if kernel_id in self:
                await self.shutdown_kernel(kernel_id, now=True)  # type: ignore[no-untyped-call]

    def why_ended(self, kernel_id: str) -> str:
        """Return why a page lost its kernel: ``left``, ``idle``, ``tabs``, ``died``; empty if not known."""
        return self._ended.get(kernel_id, "")

    async def end_dead(self) -> None:
        """Give back the places of kernels that died by themselves."""
        for kernel_id in list(self.places):
            if not await self.runs(kernel_id):
                await self.end(kernel_id, "died")

    async def look(self) -> None:
        """End the kernels that nobody uses."""
        await self.end_dead()
        now = time.monotonic()
        for kernel_id, place in list(self.places.items()):
            if self._left(place, now, self.connect_seconds):
                await self.end(kernel_id, "left")
            elif now - place.used > self.idle_seconds:
                await self.end(kernel_id, "idle")
