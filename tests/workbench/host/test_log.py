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


def test_a_log_ends_with_a_word_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_BYTES", 1000)
    with LogFile(tmp_path / "log.txt") as log, LogFile(tmp_path / "log.txt") as other:
        for number in range(100):
            log.write(f"line {number}\n")
            other.write(f"other {number}\n")
    found = lines(tmp_path / "log.txt")
    assert sum("the log ends here" in line for line in found) <= 2  # one line from each writer
    assert "the log ends here" in "".join(found[-2:])
    assert len(found) < 80


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
