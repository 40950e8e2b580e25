"""The thread that updates a panel."""

from __future__ import annotations

import threading

import pytest

from workbench.panels.base.live import Poller

PATIENCE = 120.0


def test_it_calls_until_it_is_stopped() -> None:
    looks = threading.Semaphore(0)

    def look() -> float:
        looks.release()
        return 0.001

    poller = Poller(look, name="looks")
    poller.start()
    poller.start()
    assert sum(thread.name == "looks" for thread in threading.enumerate()) == 1
    for _ in range(3):
        assert looks.acquire(timeout=PATIENCE)
    poller.stop()
    assert not poller.alive
    assert not any(thread.name == "looks" for thread in threading.enumerate())
    poller.start()
    assert poller.alive
    poller.stop()


def test_a_nudge_ends_a_long_pause_and_so_does_stop() -> None:
    looks = threading.Semaphore(0)

    def look() -> float:
        looks.release()
        return 3600.0

    poller = Poller(look, name="pauses")
    poller.start()
    assert looks.acquire(timeout=PATIENCE)
    poller.nudge()
    assert looks.acquire(timeout=PATIENCE)
    poller.stop(timeout=PATIENCE)
    assert not poller.alive


def test_an_error_is_logged_and_the_next_call_follows(caplog: pytest.LogCaptureFixture) -> None:
    looked_again = threading.Event()
    looks = iter([ValueError("once")])

    def look() -> float:
        for error in looks:
            raise error
        looked_again.set()
        return 3600.0

    poller = Poller(look, name="stumbles", after_error=0.001)
    poller.start()
    assert looked_again.wait(PATIENCE)
    poller.stop()
    assert "stumbles" in caplog.text
    assert "ValueError: once" in caplog.text


def test_it_can_be_stopped_from_within() -> None:
    done = threading.Event()

    def look() -> float:
        poller.stop()
        done.set()
        return 0.001

    poller = Poller(look, name="within")
    poller.start()
    assert done.wait(PATIENCE)
    assert not poller.alive
