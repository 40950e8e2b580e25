"""Stand-ins for ids: what they hide, what they stand for, and the key that makes them."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from workbench.search.stand_ins import KEY_FILE, PAGE_KEY, StandIns, page_key

KEY = bytes(range(32))


@given(st.text(max_size=60))
def test_a_stand_in_stands_for_its_id_and_shows_nothing_of_it(item: str) -> None:
    stand_ins = StandIns(KEY)
    made = stand_ins.stand_in_of(item)
    assert re.fullmatch(r"~[\w-]+", made)
    assert stand_ins.item_of(made) == item
    assert stand_ins.stand_in_of(item) == made  # a link stays the same
    assert StandIns(bytes(32)).stand_in_of(item) != made


@pytest.mark.parametrize("text", ["dog", "~", "~dog", "~" + "A" * 40, "~한글", "~" + "=" * 9, ""])
def test_what_is_no_stand_in_is_an_id(text: str) -> None:
    assert StandIns(KEY).item_of(text) == text


def test_one_of_another_key_or_with_a_changed_letter_stands_for_nothing() -> None:
    made = StandIns(KEY).stand_in_of("spring/kept.jpg")
    assert StandIns(bytes(32)).item_of(made) == made
    changed = made[:8] + ("A" if made[8] != "A" else "B") + made[9:]
    assert StandIns(KEY).item_of(changed) == changed


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)

    def made(_: int) -> bytes:
        barrier.wait()
        return page_key(tmp_path)

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(made, range(4)))) == 1
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(wb.CorruptFile, match="32 bytes, not 5"):
        page_key(tmp_path)


def test_a_page_takes_its_publishers_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PAGE_KEY, KEY.hex())
    assert StandIns().stand_in_of("a") == StandIns(KEY).stand_in_of("a")
    monkeypatch.delenv(PAGE_KEY)
    assert StandIns().stand_in_of("a") != StandIns(KEY).stand_in_of("a")
