"""The way in which tests wait."""

from __future__ import annotations

import pytest

from tests.waiting import until


def test_it_waits_and_says_what_did_not_happen() -> None:
    seen = iter([False, ValueError("not yet"), "there"])

    def look() -> object:
        one = next(seen)
        if isinstance(one, Exception):
            raise one
        return one

    until(look, despite=ValueError)
    with pytest.raises(AssertionError, match=r"in 0 s it did not happen: the moon rises \(last: 0\)"):
        until(lambda: 0, "the moon rises", seconds=0)
    with pytest.raises(AssertionError, match=r"until\(lambda: len\(\[\]\), seconds=0\)"):
        until(lambda: len([]), seconds=0)
    with pytest.raises(ZeroDivisionError):
        until(lambda: 1 / 0, despite=ValueError)
