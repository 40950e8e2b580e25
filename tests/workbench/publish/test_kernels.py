"""Places of a published page: how many there are, who gets one, and when it is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.workbench.conftest import in_a_loop
from workbench.publish import kernels
from workbench.publish.kernels import Full, VisitorKernels


class Kernels(VisitorKernels):
    """Places without processes: a kernel is a name, which runs until it is ended or killed."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        self.running: set[str] = set()

    async def runs(self, kernel_id: str) -> bool:
        return kernel_id in self.running

    def __contains__(self, kernel_id: object) -> bool:
        return kernel_id in self.running

    async def shutdown_kernel(self, kernel_id: str, **_: Any) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.running.remove(kernel_id)

    async def open(self, kernel_id: str, visitor: str = "") -> None:
        async with self.reserved(visitor or kernel_id) as give:
            await asyncio.sleep(0)
            self.running.add(kernel_id)
            give(kernel_id)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that lets seconds pass."""
    now = [1000.0]
    monkeypatch.setattr(kernels.time, "monotonic", lambda: now[0])

    def pass_seconds(seconds: float) -> None:
        now[0] += seconds

    return pass_seconds


def run(steps: Coroutine[Any, Any, None]) -> None:
    in_a_loop(steps)


def test_kernels_that_nobody_uses_are_ended(later: Callable[[float], None]) -> None:
    async def steps() -> None:
        places = Kernels(most=5)
        for name in ("a crawler's", "left", "open", "used"):
            await places.open(name)
        for name in ("left", "open", "used"):
            places.notify_connect(name)
        later(50)
        places.notify_disconnect("left")
        await places.look()
        assert places.running == {"a crawler's", "left", "open", "used"}

        later(kernels.CONNECT_SECONDS - 49)  # more than that since the crawler, less since the goodbye
        await places.look()
        assert places.running == {"left", "open", "used"}
        later(50)
        await places.look()
        assert places.running == {"open", "used"}

        later(kernels.IDLE_SECONDS - 100)
        places.used("used")
        await places.look()
        later(50)
        await places.look()
        assert places.running == {"used"} == set(places.places)
        reasons = {name: places.why_ended(name) for name in ("a crawler's", "left", "open", "used")}
        assert reasons == {"a crawler's": "left", "left": "left", "open": "idle", "used": ""}

    run(steps())


def test_a_page_that_asks_for_its_kernel_is_open_even_if_it_is_not_connected_yet(
    later: Callable[[float], None],
) -> None:
    async def steps() -> None:
        places = Kernels()
        await places.open("slow")
        for _ in range(10):
            later(0.9 * kernels.CONNECT_SECONDS)
            assert await places.heard_from("slow")
            await places.look()
        assert places.running == {"slow"}
        assert not await places.heard_from("unknown")

    run(steps())


def test_if_all_places_are_taken_one_that_was_left_is_given_away(later: Callable[[float], None]) -> None:
    async def steps() -> None:
        places = Kernels(most=3)
        for name in ("first", "second", "third"):
            await places.open(name)
        places.notify_connect("first")
        assert not places.has_room()
        with pytest.raises(Full):
            await places.open("fourth")
        later(kernels.CONNECT_SECONDS_IF_FULL + 1)
        assert places.has_room()
        assert len(places.running) == 3  # asking whether there is room takes nobody's place
        await places.open("fourth")
        assert places.running == {"first", "third", "fourth"}
        places.notify_connect("third")
        places.notify_connect("fourth")
        later(kernels.CONNECT_SECONDS_IF_FULL + 1)
        with pytest.raises(Full):
            await places.open("fifth")

        later(kernels.IDLE_SECONDS_IF_FULL)
        places.used("first")
        places.used("fourth")
        await places.open("fifth")
        assert places.running == {"first", "fourth", "fifth"}
        assert places.why_ended("third") == "idle"

    run(steps())


def test_a_dead_kernel_takes_no_place() -> None:
    async def steps() -> None:
        places = Kernels(most=2)
        await places.open("first")
        await places.open("second")
        places.running.remove("first")
        await places.open("third")
        assert set(places.places) == {"second", "third"}
        places.running.remove("second")
        assert not await places.heard_from("second")
        assert set(places.places) == {"third"}

    run(steps())


def test_many_who_come_at_once_get_no_more_places_than_there_are() -> None:
    async def steps() -> None:
        places = Kernels(most=4)
        came = await asyncio.gather(*(places.open(str(n)) for n in range(60)), return_exceptions=True)
        assert sum(one is None for one in came) == 4 == len(places.running)
        assert {type(one) for one in came if one} == {Full}
        await asyncio.gather(*(places.end(name, "left") for name in [*places.places] * 2))
        assert places.running == set()
        await places.open("next")

    run(steps())


def test_a_page_that_cannot_be_made_gives_its_place_back() -> None:
    async def steps() -> None:
        places = Kernels(most=1)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="no kernel"):
                async with places.reserved("somebody"):
                    raise RuntimeError("no kernel")
        await places.open("next")

    run(steps())


def test_a_browser_with_many_tabs_keeps_the_ones_that_it_used_last(later: Callable[[float], None]) -> None:
    async def steps() -> None:
        places = Kernels(most=10, tabs=3)
        await places.open("another's", "another")
        for name in ("1", "2", "3"):
            await places.open(name, "somebody")
            places.notify_connect(name)
            later(1)
        places.used("1")
        await places.open("4", "somebody")
        assert places.running == {"another's", "1", "3", "4"}
        assert places.why_ended("2") == "tabs"

    run(steps())


def test_a_page_that_takes_long_to_make_keeps_its_place(later: Callable[[float], None]) -> None:
    async def steps() -> None:
        places = Kernels()
        await places.open("slow")
        with places.being_sent("slow"):
            later(10 * kernels.CONNECT_SECONDS)
            await places.look()
            assert places.running == {"slow"}
        later(kernels.CONNECT_SECONDS + 1)
        await places.look()
        assert places.running == set()

    run(steps())


def test_reasons_are_remembered_for_some_pages_only() -> None:
    async def steps() -> None:
        places = Kernels(most=1)
        for number in range(kernels._REMEMBERED + 5):
            await places.open(str(number))
            await places.end(str(number), "left")
        assert len(places._ended) == kernels._REMEMBERED
        assert places.why_ended("0") == ""

    run(steps())
