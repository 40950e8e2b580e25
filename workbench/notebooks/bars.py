"""Read tqdm's progress bars, in this process or in the messages of a kernel.

So progress is also shown for notebooks that do not use the job API, and for libraries called by a job, if
they draw such bars. tqdm is optional.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

#: Maximum length of a stream's unfinished line, in characters, and maximum number of bar widgets remembered.
_LINE_CHARACTERS, _WIDGETS = 4096, 64


_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


_NUMBER = r"(?P<{}>\d+(?:\.\d+)?)(?P<{}>[kMGT]?)"


_KNOWN = re.compile(
    r" *(?:(?P<name>[^|]*?): *)?\d+%\|[^|]*\| *"
    + _NUMBER.format("done", "ds")
    + r"[^/\s\d]*/"
    + _NUMBER.format("total", "ts")
    + r"\S* \[[\d:]+<"
)


_UNKNOWN = re.compile(r"(?:(?P<name>[^|]*?): )?" + _NUMBER.format("done", "ds") + r"[^\d\s/%|]+ \[[\d:]+, ")


_MARKS = re.compile(r"\r|\n|\x1b\[A")


_TAGS = re.compile(r"<[^>]*>")


class Bar(NamedTuple):
    """The state of one progress bar."""

    name: str
    done: float
    total: float | None


@contextmanager
def follow(say: Callable[[Sequence[Bar]], object]) -> Iterator[None]:
    """Call ``say`` with the bars that tqdm shows in this process, outermost first, until the block ends.

    All variants of tqdm redraw a bar through one method, at most ten times per second and bar.
    """
    if find_spec("tqdm") is None:
        yield
        return
    from tqdm.std import tqdm

    refresh, close = tqdm.refresh, tqdm.close
    open_bars: list[Any] = []

    def tell() -> None:
        say([Bar(str(bar.desc or "").rstrip(": "), bar.n, bar.total) for bar in open_bars])

    def refreshed(bar: Any, *given: Any, **named: Any) -> Any:
        if bar not in open_bars:
            open_bars.append(bar)
        tell()
        return refresh(bar, *given, **named)

    def closed(bar: Any) -> Any:
        if any(bar is one for one in open_bars):
            tell()  # its last state
            open_bars[:] = [one for one in open_bars if one is not bar]
            if open_bars:
                tell()
        return close(bar)

    tqdm.refresh, tqdm.close = refreshed, closed
    try:
        yield
    finally:
        tqdm.refresh, tqdm.close = refresh, close


def _bar(line: str) -> re.Match[str] | None:
    return (_KNOWN.match(line) or _UNKNOWN.match(line)) if " [" in line else None


class BarReader:
    """Reads progress bars from a kernel's messages: text that redraws itself, and widgets."""

    def __init__(self) -> None:
        self._lines = {"stdout": "", "stderr": ""}
        self._depth = 0
        self._fresh = False
        self._text: dict[int, Bar] = {}
        self._widgets: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def feed(self, message: Mapping[str, Any]) -> tuple[Bar, ...] | None:
        """Read a message; return the current bars, outermost first, or None if none changed."""
        kind, content = message.get("msg_type"), message.get("content", {})
        if kind == "stream":
            return self._read(str(content.get("name")), str(content.get("text", "")))
        if kind in ("comm_open", "comm_msg"):
            return self._watch(str(content.get("comm_id")), content.get("data", {}))
        return None

    # Text --------------------------------------------------------------------------------------

    def _read(self, stream: str, text: str) -> tuple[Bar, ...] | None:
        before = self._lines.get(stream, "")
        if (cut := before.find("\x1b")) >= 0:  # an escape sequence that was split between messages
            before, text = before[:cut], before[cut:] + text
        if not before and text.endswith("\n") and "\r" not in text and "|" not in text and " [" not in text:
            return None  # complete lines of ordinary text
        line, moved, at = before, False, 0
        for mark in [*_MARKS.finditer(text), None]:
            line += text[at : mark.start() if mark else len(text)]
            line = line[-_LINE_CHARACTERS:]
            if line and (mark or line.endswith("]")):
                moved |= self._draw(line)
            if mark is None:
                break
            at, line = mark.end(), self._move(mark[0], line)
        self._lines[stream] = line
        return tuple(self._text[depth] for depth in sorted(self._text)) if moved else None

    def _draw(self, line: str) -> bool:
        match = _bar(line)
        if match is None:
            return False
        part = match.groupdict()
        total = None if part.get("total") is None else float(part["total"]) * _SCALES[part["ts"]]
        bar = Bar((part["name"] or "").strip(), float(part["done"]) * _SCALES[part["ds"]], total)
        if self._fresh:
            self._text, self._fresh = {}, False
        deeper = [depth for depth in self._text if depth > self._depth]
        if self._text.get(self._depth) == bar:
            return False
        for depth in deeper:
            del self._text[depth]
        self._text[self._depth] = bar
        return True

    def _move(self, mark: str, line: str) -> str:
        """Follow the cursor; return the part of the line that is still being written."""
        if mark == "\r":
            return ""
        if mark == "\n":
            bar = self._text.get(self._depth)
            if line and _bar(line):
                # A complete bar stays where it is, and the next one starts below it.
                if bar is not None and bar.total is not None and bar.done >= bar.total:
                    self._fresh = self._depth == 0
                    return ""
            elif line:  # an ordinary line: the next bar starts over
                self._depth, self._text = 0, {}
                return ""
            self._depth += 1 if self._text else 0
            return ""
        self._depth = max(self._depth - 1, 0)
        return ""

    # Widgets -----------------------------------------------------------------------------------

    def _watch(self, comm: str, data: Mapping[str, Any]) -> tuple[Bar, ...] | None:
        state = data.get("state") or {}
        model = state.get("_model_name")
        if model in ("FloatProgressModel", "HTMLModel", "HBoxModel"):
            self._widgets[comm] = {"model": model}
            while len(self._widgets) > _WIDGETS:
                self._widgets.popitem(last=False)
        widget = self._widgets.get(comm)
        if widget is None:
            return None
        news = {key: state[key] for key in ("value", "max", "bar_style", "children") if key in state}
        widget.update(news)
        if widget["model"] != "FloatProgressModel" or "value" not in news:
            return None
        bars = tuple(self._widget_bars())
        return bars or None

    def _widget_bars(self) -> Iterator[Bar]:
        for comm, widget in self._widgets.items():
            value, most = widget.get("value"), widget.get("max", 100.0)
            finished = widget.get("bar_style") in ("success", "danger")
            if widget["model"] == "FloatProgressModel" and value and not finished:
                unknown = widget.get("bar_style") == "info"
                yield Bar(self._widget_name(comm), float(value), None if unknown else float(most))

    def _widget_name(self, comm: str) -> str:
        """Return the label of a bar, which is a separate widget in the same box."""
        for box in self._widgets.values():
            children = box.get("children") or []
            if f"IPY_MODEL_{comm}" in children:
                label = self._widgets.get(str(children[0]).removeprefix("IPY_MODEL_"), {})
                words = _TAGS.sub("", str(label.get("value", "")))
                return re.sub(r":?\s*\d*%?\s*$", "", words.replace("&nbsp;", " ")).strip()
        return ""
