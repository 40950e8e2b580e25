"""What a notebook prints: all of it in ``output.txt``, the first and the last part in the notebook."""

from __future__ import annotations

import contextlib
import errno
import html
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

from workbench.host.files import write_whole
from workbench.host.log import LogFile

#: File beside the executed notebook with everything that was printed, and the file that says what is left out
#: or missing, if anything is.
OUTPUT_FILE, NOTE_FILE = "output.txt", "output-note.txt"

#: Characters of printed text that a cell of the executed notebook keeps, from the start and from the end.
FIRST_CHARACTERS = LAST_CHARACTERS = 2**18

#: Seconds between two updates of the note while the notebook runs.
NOTE_SECONDS = 5.0

#: Start of the frame that carries the number of one of the kernel's messages.
NUMBER_PREFIX = b"workbench:"

#: Free bytes of the disk that are left for other files, such as the notebook and the database; on a small
#: disk a twentieth of it.
RESERVE_BYTES = 64 * 2**20

#: Bytes that are written between two looks at the free space.
_LOOK_BYTES = 2**18

#: Text is kept in pieces of about this many characters.
_PIECE_CHARACTERS = 2**12


class OutputFile:
    """Appends everything that is printed to a file, as it arrives.

    If the file cannot be written (a full disk), text is lost, its amount is counted, and the file, the note
    and :attr:`missing` say so: a job never fails because of what it prints.

    Parameters
    ----------
    path : Path
        The file, created with the first text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = self.characters = 0
        #: What could not be written, in a sentence; empty if nothing.
        self.missing = ""
        self._file: BinaryIO | None = None
        self._lost_lines = self._lost_bytes = self._gap_bytes = 0
        self._unchecked = 0
        self._notes: list[str] = []
        self._note_due = 0.0

    def write(self, text: str) -> None:
        """Append text."""
        self.lines += text.count("\n")
        self.characters += len(text)
        # Half a surrogate pair has no UTF-8; it is shown as its escape.
        data = text.encode("utf-8", "backslashreplace")
        try:
            if self._file is None:
                # Unbuffered: what was received is in the file if this process is killed.
                self._file = self.path.open("ab", buffering=0)
            self._check_room(len(data))
            if self._gap_bytes:
                gap = f"\n… missing here: {size(self._gap_bytes)} of output that could not be written\n"
                self._file.write(gap.encode())
                self._gap_bytes = 0
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._lose(data, error)

    def _check_room(self, count: int) -> None:
        """Raise if the disk is almost full; looks now and then, and at every call while text is lost."""
        assert self._file is not None  # noqa: S101  # it was just opened
        self._unchecked += count
        if self._unchecked < _LOOK_BYTES and not self._gap_bytes:
            return
        disk = os.fstatvfs(self._file.fileno())
        if disk.f_bavail * disk.f_frsize < min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // 20):
            raise OSError(errno.ENOSPC, "the disk is almost full")
        self._unchecked = 0

    def write_note(self, notes: list[str], *, now: bool = False) -> None:
        """Keep sentences beside the file, if they have changed, every few seconds at most or ``now``."""
        if notes == self._notes or (time.monotonic() < self._note_due and not now):
            return
        self._note_due = time.monotonic() + NOTE_SECONDS
        with contextlib.suppress(OSError):
            write_whole(self.path.with_name(NOTE_FILE), ("\n".join(notes) + "\n").encode())
            self._notes = notes

    def close(self) -> None:
        """Close the file, durably."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self._lose(b"", error)
            self._file.close()

    def _lose(self, data: bytes, error: OSError) -> None:
        self._lost_lines += data.count(b"\n")
        self._lost_bytes += len(data)
        self._gap_bytes += len(data)
        reason = error.strerror or type(error).__name__
        if self._lost_bytes:
            lost = f"Missing from {self.path.name}: {amount(self._lost_lines, self._lost_bytes)}"
        else:
            lost = f"{self.path.name} may be incomplete"
        self.missing = f"{lost} ({reason})."


class KeptOutput:
    """Where the output of a notebook is kept: all of what is printed, the log, and what is missing.

    Parameters
    ----------
    file : OutputFile
        The file of everything that is printed.
    log : LogFile
        The log.
    """

    def __init__(self, file: OutputFile, log: LogFile) -> None:
        self.file = file
        self.log = log
        self._number: int | None = None
        self._lost_messages = 0
        self._said_missing = ""
        self._cells: dict[int, CellText] = {}

    def write(self, text: str) -> None:
        """Keep text that was printed."""
        self.file.write(text)
        self.log.write(text)

    def cell(self, index: int, outputs: list[Any]) -> CellText:
        """Return the printed text of a cell, to add to it."""
        text = self._cells.get(index)
        if text is None or text.outputs is not outputs:
            text = self._cells[index] = CellText(outputs, self.file.path.name)
        return text

    def join_cell(self, index: int) -> None:
        """Make each text among the outputs of a cell one string; more may still be added."""
        if index in self._cells:
            self._cells[index].join()

    def clear_cell(self, index: int) -> None:
        """Start over, because the outputs of a cell were cleared."""
        self._cells.pop(index, None)

    def count(self, number: int) -> str:
        """Take the number of a message; return a sentence if messages before it were lost."""
        lost = 0 if self._number is None else number - self._number - 1
        self._number = number
        if lost <= 0:
            return ""
        self._lost_messages += lost
        words = f"{lost:,} of the kernel's messages were lost here; text, pictures or tables may be missing."
        self.log.write(f"\n{words}\n")
        return words

    def new_problem(self) -> str:
        """Return a sentence about what could not be written, if it has changed since the last call."""
        if self.file.missing == self._said_missing:
            return ""
        self._said_missing = self.file.missing
        return self.file.missing

    def catch_up(self) -> None:
        """Write what is due: the latest lines of a long log, and the note of what is left out or missing."""
        self.log.catch_up()
        self.file.write_note(self._notes(ended=False))

    def close(self) -> None:
        """Bring the cells into their final form, and close the file; the log is closed by its owner."""
        for text in self._cells.values():
            text.finish()
        self.file.close()
        if self.file.missing:
            self.log.write(f"\n{self.file.missing}\n")
        self.file.write_note(self._notes(ended=True), now=True)

    def _notes(self, *, ended: bool) -> list[str]:
        notes = [self.file.missing]
        if self._lost_messages:
            notes.append(f"{self._lost_messages:,} of the kernel's messages were lost.")
        places = ["the notebook"] if any(text.left_out_characters for text in self._cells.values()) else []
        places += ["the log"] if self.log.left_out else []
        if places:
            everything = f": {amount(self.file.lines, self.file.characters)}" if ended else ""
            leave = "leave" if len(places) > 1 else "leaves"
            where = " and ".join(places)
            words = f"{where} {leave} out the middle of what was printed; {self.file.path.name} has all of it"
            notes.append(f"{words[0].upper()}{words[1:]}{everything}.")
        return [note for note in notes if note]


class CellText:
    """The printed text among the outputs of one cell: the first and the last part of it.

    Parameters
    ----------
    outputs : list
        The cell's outputs. Pictures, tables and anything else that is no printed text are never removed, and
        the place of an output never changes: updates find it by its place.
    name : str
        Name of the file that has all the text.
    """

    def __init__(self, outputs: list[Any], name: str = OUTPUT_FILE) -> None:
        self.outputs = outputs
        self.left_out_lines = self.left_out_characters = 0
        self._name = name
        self._first = FIRST_CHARACTERS
        self._last = 0
        self._marker: Any = None
        self._tail: list[Any] = []  # the stream outputs of the last part, oldest first

    def add(self, stream: str, text: str) -> None:
        """Add text that was printed to ``stdout`` or ``stderr``."""
        if self._marker is None:
            if len(text) <= self._first:
                self._first -= len(text)
                self._append(stream, text)
                return
            cut = text.rfind("\n", 0, self._first) + 1
            if not cut and self._first > _PIECE_CHARACTERS:  # a very long line
                cut = self._first
            if cut:
                self._append(stream, text[:cut])
            text = text[cut:]
            self._marker = _sentence("")
            self.outputs.append(self._marker)
        # In the last part, text of both streams between two other outputs is one output, so that their number
        # is bounded.
        if not self._tail or self.outputs[-1] is not self._tail[-1]:
            self._tail.append(_stream(stream))
            self.outputs.append(self._tail[-1])
        _extend(self._tail[-1], text)
        self._last += len(text)
        self._trim()

    def finish(self) -> None:
        """Bring the outputs into their final form; no text may be added after that."""
        if self._marker is not None and not self.left_out_characters:
            self.outputs[:] = [output for output in self.outputs if output is not self._marker]
        self.join()

    def join(self) -> None:
        """Make each text one string, as other programs that look at the outputs expect."""
        for output in self.outputs:
            if output.output_type == "stream" and isinstance(output.text, list):
                output.text = "".join(output.text)

    def _append(self, stream: str, text: str) -> None:
        last = self.outputs[-1] if self.outputs else None
        if last is None or last.output_type != "stream" or last.name != stream:
            last = _stream(stream)
            self.outputs.append(last)
        _extend(last, text)

    def _trim(self) -> None:
        """Remove the oldest text of the last part, in whole lines."""
        before = self.left_out_characters
        while self._tail:
            pieces = _pieces(self._tail[0])
            while pieces and self._last - len(pieces[0]) >= LAST_CHARACTERS:
                self._leave_out(piece := pieces.pop(0))
                if pieces and not piece.endswith("\n") and (line := pieces[0].find("\n") + 1):
                    self._leave_out(pieces[0][:line])
                    pieces[0] = pieces[0][line:]
            if pieces or len(self._tail) == 1:
                break
            self._tail.pop(0)
        if self.left_out_characters != before:
            left_out = amount(self.left_out_lines, self.left_out_characters)
            words = f"Left out here: {left_out} of this cell's output. All of it is in"
            self._marker.data.update(_sentence(words, self._name).data)

    def _leave_out(self, text: str) -> None:
        self.left_out_lines += text.count("\n")
        self.left_out_characters += len(text)
        self._last -= len(text)


def note_output(words: str) -> Any:
    """Return an output that shows a sentence."""
    return _sentence(words)


def amount(lines: int, characters: int) -> str:
    """Return an amount of text: ``12,000 lines (1.2 MB)``."""
    return f"{lines:,} line{'' if lines == 1 else 's'} ({size(characters)})"


def size(count: float) -> str:
    """Return a number of bytes or characters: ``812 B``, ``1.2 MB``."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"


def _sentence(words: str, file: str = "") -> Any:
    from nbformat.v4 import new_output

    link = f' <a href="{html.escape(file)}">{html.escape(file)}</a>.' if file else ""
    data = {
        "text/plain": f"[{words} {file}.]" if file else f"[{words}]",
        "text/html": f"<p><em>{html.escape(words)}{link}</em></p>",
    }
    return new_output("display_data", data=data)  # type: ignore[no-untyped-call]


def _stream(name: str) -> Any:
    from nbformat.v4 import new_output

    return new_output("stream", name=name, text=[])  # type: ignore[no-untyped-call]


def _extend(output: Any, text: str) -> None:
    pieces = _pieces(output)
    if pieces and len(pieces[-1]) + len(text) <= _PIECE_CHARACTERS:
        pieces[-1] += text
    else:
        pieces += _cut(text)


def _pieces(output: Any) -> list[str]:
    """Return an output's text as a list, as notebooks allow: long strings are slow to extend."""
    if isinstance(output.text, str):
        output.text = _cut(output.text)
    pieces: list[str] = output.text
    return pieces


def _cut(text: str) -> list[str]:
    return [text[at : at + _PIECE_CHARACTERS] for at in range(0, len(text), _PIECE_CHARACTERS)]
