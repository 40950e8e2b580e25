from itertools import pairwise
from pathlib import Path

import pytest

from workbench.host import log as logs
from workbench.host.log import LogFile


def lines(path: Path) -> list[str]:
    return [line.partition("  ")[2] for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_line_has_the_time_in_front(tmp_path: Path) -> None:
    with LogFile(tmp_path / "log.txt") as log:
        log.write("하나\ntw")
        log.write("o\nunfinished")
    assert lines(tmp_path / "log.txt") == ["하나", "two", "unfinished"]
    first = (tmp_path / "log.txt").read_text(encoding="utf-8").split()[0]
    assert [len(part) for part in first.split(":")] == [2, 2, 2]


def test_a_bar_that_redraws_itself_leaves_its_last_state(tmp_path: Path) -> None:
    with LogFile(tmp_path / "log.txt") as log:
        for share in range(0, 101, 10):
            log.write(f"\r{share}%")
        log.write("\nnext\r\n")
    assert lines(tmp_path / "log.txt") == ["100%", "next"]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log is long after 1000 bytes, keeps 200 at its end, and shows 100 now and then."""
    for name, value in (("FIRST_BYTES", 1000), ("LAST_BYTES", 200), ("GLIMPSE_BYTES", 100)):
        monkeypatch.setattr(logs, name, value)


@pytest.mark.usefixtures("short")
def test_a_long_log_keeps_its_first_and_last_lines_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    with LogFile(tmp_path / "log.txt", "output.txt") as log, LogFile(tmp_path / "log.txt") as other:
        for number in range(200):
            log.write(f"line {number}\n")
            other.write(f"other {number}\n")
    assert 50 < log.left_out < 200
    found = lines(tmp_path / "log.txt")
    whole = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert found[:4] == ["line 0", "other 0", "line 1", "other 1"]
    assert {"line 199", "other 199"} <= set(found[-20:])
    assert "lines left out here; output.txt has them all" in whole
    assert len(whole) < 1000 + 4 * 200
    left_out = [int(line.split()[1]) for line in found if "output.txt has them all" in line]
    shown = [line for line in found if line.startswith("line ")]
    assert sum(left_out) == log.left_out == 200 - len(shown)  # nothing is left out in silence
    assert shown == sorted(shown, key=lambda line: int(line.split()[1]))


@pytest.mark.usefixtures("short")
def test_a_long_log_goes_on_showing_the_latest_lines_ever_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    log = LogFile(tmp_path / "log.txt")
    log.write("x\n" * 100)
    shown, sizes = [], []
    for second in range(20_000):
        now += 1
        log.write(f"second {second}\n" * 10)
        now += 0.5  # nothing is written now, but a look may be due
        log.catch_up()
        sizes.append(log._file.tell())
        if f"second {second}\n" in lines_after(tmp_path / "log.txt", sizes[-2] if shown else 0):
            shown.append(second)
    assert shown[:20] == [*range(shown[0], shown[0] + 20)]  # each second at first
    gaps = [after - before for before, after in pairwise(shown)]
    assert 150 < gaps[-1] < 250  # a hundredth of the time that it has been long
    assert sizes[-1] < 1000 + 1000 * 250
    log.write("then silence\n")
    assert "then silence" not in (tmp_path / "log.txt").read_text(encoding="utf-8")
    now += 1000
    log.catch_up()
    assert "then silence" in (tmp_path / "log.txt").read_text(encoding="utf-8")
    log.close()


def lines_after(path: Path, at: int) -> str:
    with path.open("rb") as file:
        file.seek(at)
        return file.read().decode()


def test_a_line_without_an_end_takes_bounded_memory(tmp_path: Path) -> None:
    with LogFile(tmp_path / "log.txt") as log:
        for _ in range(100):
            log.write("x" * 10_000)
            assert len(log._line) <= logs.LINE_CHARACTERS + 10_000
    assert sum(len(line) for line in lines(tmp_path / "log.txt")) == 1_000_000


def test_a_log_that_cannot_be_written_loses_lines_and_says_so(tmp_path: Path) -> None:
    class Full:
        def __init__(self, file: object) -> None:
            self._file = file
            self.full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return self._file.write(text)  # type: ignore[attr-defined, no-any-return]

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

    log = LogFile(tmp_path / "log.txt")
    full = Full(log._file)
    log._file = full  # type: ignore[assignment]
    log.write("a\nb\n")
    full.full = False
    log.write("c\n")
    log.close()
    text = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "2 lines are missing" in text
    assert text.endswith("  c\n")


def test_a_line_that_was_cut_does_not_run_into_the_next(tmp_path: Path) -> None:
    class Narrow:
        def __init__(self, file: object) -> None:
            self._file = file
            self.room = 14

        def write(self, data: bytes) -> int:
            part = data[: self.room]
            self.room -= len(part)
            if not part:
                raise OSError(28, "No space left on device")
            return self._file.write(part)  # type: ignore[attr-defined, no-any-return]

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

    log = LogFile(tmp_path / "log.txt")
    narrow = Narrow(log._file)
    log._file = narrow  # type: ignore[assignment]
    log.write("a line\nanother\n")
    narrow.room = 1000
    log.close()  # reported here at the latest
    text = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert text[0].endswith("  a li")
    assert text[1] == "… 2 lines are missing: the log could not be written"
