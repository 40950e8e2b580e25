"""Which parts of a notebook's output are stored, and the notes about the rest."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from workbench.host.log import LogFile
from workbench.notebooks import output as outputs
from workbench.notebooks.output import NOTE_FILE, CellText, KeptOutput, OutputFile, amount


class Disk:
    """A file on a disk that has room for a number of bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self._file = file
        self.room = room

    def write(self, data: bytes) -> int:
        part = data[: self.room]
        self.room -= len(part)
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self._file.write(part))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def kept_in(folder: Path) -> KeptOutput:
    return KeptOutput(OutputFile(folder / "output.txt"), LogFile(folder / "log.txt", "output.txt"))


def close(kept: KeptOutput) -> None:
    kept.close()
    kept.log.close()


# The file -------------------------------------------------------------------------------------------


def test_the_file_has_what_was_printed_at_once_and_nothing_else(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "output.txt")
    assert not file.path.exists()  # a notebook that prints nothing leaves no file
    for text in ("one\ntwo\r50%\r", "강아지", "\udce9\x1b[31mred\n"):
        file.write(text)
    assert file.path.read_bytes() == "one\ntwo\r50%\r강아지\\udce9\x1b[31mred\n".encode()
    file.close()
    assert file.missing == ""
    assert [path.name for path in tmp_path.iterdir()] == ["output.txt"]


def test_text_that_cannot_be_written_is_counted_and_its_place_is_marked(tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    kept.write("first\n")
    disk = Disk(kept.file._file, room=4)
    kept.file._file = disk  # type: ignore[assignment]
    kept.write("second\nthird\n")
    kept.write("fourth\n")
    disk.room = 10_000
    kept.write("fifth\n")
    said = "Missing from output.txt: 3 lines (16 B) (No space left on device)."
    assert kept.file.missing == said
    assert kept.new_problem() == said
    assert kept.new_problem() == ""  # once per change
    close(kept)
    gap = "… missing here: 16 B of output that could not be written"
    assert (tmp_path / "output.txt").read_text().splitlines() == ["first", "seco", gap, "fifth"]
    assert (tmp_path / NOTE_FILE).read_text() == said + "\n"
    assert said in (tmp_path / "log.txt").read_text()


def test_the_last_of_the_disk_is_left_for_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = os.statvfs(tmp_path)
    kept = kept_in(tmp_path)
    kept.write("x" * outputs._LOOK_BYTES)
    full = os.statvfs_result((*disk[:4], 0, *disk[5:]))
    monkeypatch.setattr(outputs.os, "fstatvfs", lambda _: full)
    kept.write("a" * outputs._LOOK_BYTES)
    kept.write("b")
    monkeypatch.setattr(outputs.os, "fstatvfs", lambda _: disk)
    kept.write("c")
    close(kept)
    gap = "\n… missing here: 262 kB of output that could not be written\n"
    assert (tmp_path / "output.txt").read_text() == "x" * outputs._LOOK_BYTES + gap + "c"
    assert kept.file.missing.endswith("(the disk is almost full).")


def test_a_file_that_cannot_be_made_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "output.txt").mkdir()
    kept = kept_in(tmp_path)
    kept.write("a\nb\n")
    close(kept)
    assert kept.file.missing == "Missing from output.txt: 2 lines (4 B) (Is a directory)."
    assert kept.file.missing in (tmp_path / NOTE_FILE).read_text()


# The cell -------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "FIRST_CHARACTERS", 100)
    monkeypatch.setattr(outputs, "LAST_CHARACTERS", 100)
    monkeypatch.setattr(outputs, "_PIECE_CHARACTERS", 10)


def shown(cell: CellText) -> list[str]:
    page = new_notebook(cells=[new_code_cell(outputs=cell.outputs)])
    nbformat.validate(page)  # also while it runs
    cell.finish()
    nbformat.validate(page)
    return [
        "".join(one.text) if one.output_type == "stream" else one.data["text/plain"] for one in cell.outputs
    ]


@pytest.mark.parametrize("joined", [False, True])
def test_short_text_is_kept_as_it_was_printed(joined: bool) -> None:
    cell = CellText([])
    for stream, text in (("stdout", "a\n"), ("stdout", "b"), ("stderr", "warning\n"), ("stdout", "c\n")):
        cell.add(stream, text)
        if joined:  # the cell has ended, and its threads go on
            cell.join()
            assert all(isinstance(one.text, str) for one in cell.outputs)
    assert shown(cell) == ["a\nb", "warning\n", "c\n"]
    assert [one.name for one in cell.outputs] == ["stdout", "stderr", "stdout"]


@pytest.mark.usefixtures("short")
def test_long_text_keeps_its_first_and_last_lines_and_names_the_file() -> None:
    cell = CellText([])
    lines = [f"line {number}\n" for number in range(1000)]
    for line in lines:
        cell.add("stdout", line)
    first, marker, last = shown(cell)
    assert first == "".join(lines[: first.count("\n")])
    assert last == "".join(lines[-last.count("\n") :])
    assert 80 < len(first) <= 100 <= len(last) < 120
    left_out = 1000 - first.count("\n") - last.count("\n")
    assert cell.left_out_lines == left_out
    assert f"Left out here: {left_out} lines" in marker
    assert marker.endswith("All of it is in output.txt.]")
    assert '<a href="output.txt">output.txt</a>' in cell.outputs[1].data["text/html"]


@pytest.mark.usefixtures("short")
def test_text_that_just_fits_has_no_marker() -> None:
    cell = CellText([])
    text = "".join(f"line {number}\n" for number in range(20))
    for line in text.splitlines(keepends=True):
        cell.add("stdout", line)
    assert "".join(shown(cell)) == text


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("text", ["x" * 5000, "한" * 5000, "\r" * 5000])
def test_a_line_without_an_end_is_cut_too(text: str) -> None:
    cell = CellText([])
    cell.add("stdout", text)
    first, marker, last = shown(cell)
    assert (first, "Left out here" in marker) == (text[:100], True)
    assert 100 <= len(last) <= 110
    assert cell.left_out_characters == 5000 - len(first) - len(last)


@pytest.mark.usefixtures("short")
def test_pictures_between_lines_all_stay_where_they_are() -> None:
    cell = CellText([])
    places = []
    for number in range(50):
        for line in range(10):
            cell.add("stdout" if line % 2 else "stderr", f"{number} {line}\n")
        places.append(len(cell.outputs))
        cell.outputs.append(new_output("display_data", data={"text/plain": f"picture {number}"}))
    before = [cell.outputs[place].data["text/plain"] for place in places]
    assert before == [f"picture {number}" for number in range(50)]
    assert len(cell.outputs) < 50 + 50 + 25
    texts = shown(cell)
    assert [text for text in texts if text.startswith("picture")] == before
    assert sum(len(text) for text in texts if not text.startswith(("picture", "["))) < 220


def test_a_cleared_cell_starts_over(tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    cell: list[Any] = []
    kept.cell(0, cell).add("stdout", "old")
    cell[:] = []
    kept.clear_cell(0)
    kept.cell(0, cell).add("stdout", "new")
    close(kept)
    assert [one.text for one in cell] == ["new"]


# The notes ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_the_note_says_where_something_is_left_out(tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    kept.write("short\n")
    cell: list[Any] = []
    kept.cell(0, cell).add("stdout", "short\n")
    kept.catch_up()
    assert not (tmp_path / NOTE_FILE).exists()
    for number in range(100):
        kept.write(f"line {number}\n")
        kept.cell(0, cell).add("stdout", f"line {number}\n")
    kept.catch_up()  # while it runs
    words = "The notebook leaves out the middle of what was printed; output.txt has all of it"
    assert (tmp_path / NOTE_FILE).read_text() == f"{words}.\n"
    close(kept)
    assert (tmp_path / NOTE_FILE).read_text() == f"{words}: 101 lines (796 B).\n"


def test_a_long_line_that_is_cut_is_in_the_note_too(tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    kept.write("x" * 1_000_000)
    kept.cell(0, []).add("stdout", "x" * 1_000_000)
    close(kept)
    assert "The notebook leaves out the middle" in (tmp_path / NOTE_FILE).read_text()


def test_lost_messages_are_noticed_by_their_numbers(tmp_path: Path) -> None:
    kept = kept_in(tmp_path)
    assert [kept.count(number) for number in (17, 18, 19)] == ["", "", ""]  # it may join late
    assert kept.count(23).startswith("3 of the kernel's messages were lost here")
    assert kept.count(24) == ""
    close(kept)
    assert "3 of the kernel's messages were lost." in (tmp_path / NOTE_FILE).read_text()
    assert "3 of the kernel's messages were lost here" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("lines", "characters", "says"),
    [(1, 1, "1 line (1 B)"), (12_000, 1_234_567, "12,000 lines (1.23 MB)"), (0, 3e12, "0 lines (3 TB)")],
)
def test_amounts(lines: int, characters: int, says: str) -> None:
    assert amount(lines, characters) == says
