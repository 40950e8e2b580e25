"""The process that holds one opened index, or one adapter that is queried for its options.

``python -m workbench.search.service.holder --socket N --pictures M --index FOLDER NAME`` or ``--adapter
NAME``. It answers requests one at a time over the socket with file descriptor N, and ends when the other side
closes it. Over the socket M it decodes pictures for searches to come, at the same time.
Adapters are third-party code: all their exceptions become answers, and their output goes to the log.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench import wire
from workbench.adapter.contract import DATA_CHECK, JOB_METHODS, BaseAdapter
from workbench.adapter.options import check_job, job_types, schema_of
from workbench.adapter.registry import get_adapter
from workbench.errors import (
    AdapterBroken,
    BadInput,
    BadOptions,
    Busy,
    NotSupported,
    SearchFailed,
    WorkbenchError,
)
from workbench.results.explanation import Term
from workbench.search import messages
from workbench.search.indexes import open_index
from workbench.search.searcher import OpenedPicture, Searcher
from workbench.text import shown
from workbench.values import plain

_LOG = logging.getLogger(__name__)


_METHODS = ("search_by_text", "search_by_image", "search_by_item", "explain", "item_file", "filter_fields")


#: Maximum number of decoded pictures that wait for their search; the oldest is dropped.
_OPENED_PICTURES = 4


class IndexDesk:
    """Answers requests for one opened index."""

    def __init__(self, folder: Path, name: str) -> None:
        self.what = f"index {name!r}"
        self._pictures: dict[int, OpenedPicture] = {}
        self._tickets = itertools.count(1)
        self._searcher: Searcher | None = None
        self._folder, self._name = folder, name

    def open(self) -> dict[str, Any]:
        """Open the index and return its description."""
        searcher = self._searcher = open_index(self._folder, self._name)
        adapter = searcher.adapter
        return {
            "index": self._name,
            "adapter": adapter.name,
            "adapter_title": adapter.title,
            "offers": [method for method in _METHODS if adapter.offers(method)],
            "schema": searcher.schema,
            "about": searcher.describe(),
            "samples": [{"text": one.text, "language": one.language} for one in searcher.sample_queries()],
            "items": [hit.to_json() for hit in searcher.sample_items()],
        }

    def open_picture(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Decode a picture, and return the number to search with it; runs beside :meth:`answer`.

        Of a comparison, each side that is a picture is returned with its number.
        """
        if question.get("op") == "explain":
            sides = messages.pictured(question)
            terms = {side: messages.term_from(question[side], side) for side in sides}
            return {
                side: {"by": "image", "picture": self._ticket(term.value), "name": term.name}
                for side, term in terms.items()
            }
        image = question.get("image")
        if not isinstance(image, str):
            raise BadInput(f"image must be text, got {type(image).__name__}")
        return {"picture": self._ticket(messages.picture_from(image))}

    def _ticket(self, picture: bytes) -> int:
        if self._searcher is None:
            raise BadInput("the index is not open")
        opened = self._searcher.open_picture(picture)
        ticket = next(self._tickets)
        self._pictures[ticket] = opened
        while len(self._pictures) > _OPENED_PICTURES:  # those who sent them are gone
            self._pictures.pop(min(self._pictures), None)
        return ticket

    def _picture(self, ticket: Any) -> OpenedPicture:
        picture = self._pictures.pop(ticket, None)
        if picture is None:
            raise Busy("the picture waited too long for its search", retry_after=2, hint="Try again.")
        return picture

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a search, or explain a comparison."""
        if self._searcher is None:
            raise BadInput("the index is not open")
        if question.get("op") == "file":
            return self._file(question.get("item"))
        if question.get("op") == "fields":
            return {"fields": [messages.field_json(one) for one in self._searcher.filter_fields()]}
        by, k, options = question.get("by"), question.get("k", 20), question.get("options") or {}
        if not isinstance(options, dict):
            raise BadInput(f"options must be a mapping, got {options!r}")
        if question.get("op") == "explain":
            left, right = (self._term(question.get(side), side) for side in messages.SIDES)
            return self._searcher.explain(left, right, **_named(options)).model_dump()
        if by == "image" and "picture" in question:
            picture = self._picture(question["picture"])
            return self._searcher.by_opened(picture, k, **_named(options)).to_json()
        query = question.get(str(by))
        if by not in ("text", "image", "item"):
            raise BadInput(f"cannot search by {by!r}; allowed: text, image, item")
        if not isinstance(query, str):
            raise BadInput(f"{by} must be text, got {type(query).__name__}")
        named = _named(options)
        if by == "text":
            return self._searcher.by_text(query, k, **named).to_json()
        if by == "image":
            return self._searcher.by_image(messages.picture_from(query), k, **named).to_json()
        return self._searcher.by_item(query, k, **named).to_json()

    def _file(self, item: Any) -> dict[str, Any]:
        """Return where an item's file is, and its size and time, by which a reader knows it again."""
        if not isinstance(item, str):
            raise BadInput(f"item must be text, got {type(item).__name__}")
        if self._searcher is None:
            raise BadInput("the index is not open")
        path = self._searcher.item_file(item)
        status = path.stat()
        return {"path": str(path), "size": status.st_size, "modified_ns": status.st_mtime_ns}

    def _term(self, data: Any, side: str) -> Term:
        if isinstance(data, Mapping) and data.get("by") == "image" and "picture" in data:
            return Term("image", self._picture(data["picture"]), str(data.get("name", "")))
        return messages.term_from(data, side)


class AdapterDesk:
    """Answers requests for one adapter's options."""

    def __init__(self, name: str) -> None:
        self.what = f"adapter {name!r}"
        self._name = name
        self._adapter: BaseAdapter | None = None

    def open(self) -> dict[str, Any]:
        """Load the adapter and return what it offers."""
        adapter = self._adapter = get_adapter(self._name)
        types = job_types(adapter)
        schemas = {}
        for task in (*types, "search"):
            try:
                schemas[task] = schema_of(adapter, task).model_json_schema()
            except NotSupported:
                continue
        return {
            "name": self._name,
            "title": adapter.title or self._name,
            "job_types": types,
            "options": schemas,
            "metrics": [
                {
                    "name": metric.name,
                    "better": metric.better,
                    "format": metric.format,
                    "description": metric.description,
                }
                for metric in adapter.metrics
            ],
        }

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Check a job's options, inputs and floors before it is queued."""
        if self._adapter is None or question.get("type") not in (*JOB_METHODS, DATA_CHECK):
            raise BadInput(f"unknown job type {shown(question.get('type'))}")
        folder = str(question.get("cwd") or ".")
        try:
            os.chdir(folder)  # one request at a time: relative paths are those of who asks
        except OSError as error:
            raise BadInput(
                f"the working directory {folder!r} of the request cannot be entered: {error.strerror}",
                hint="Restart the server in a folder that exists, or give absolute paths.",
            ) from None
        kind, options = str(question["type"]), question.get("options")
        where = question.get("workspace")
        if not isinstance(where, dict):  # a client of version 0.2.0
            checked = check_job(self._adapter, kind, options)
            return {"adapter": self._adapter.name, "options": plain(checked, "options")}
        # Here, since holders of indexes need no database.
        from workbench.jobs.checking import check_beginning
        from workbench.workspace import Workspace

        with Workspace(str(where["path"]), database_url=str(where["database_url"])) as home:
            checked, floors = check_beginning(
                self._adapter, kind, options, home, floors=question.get("fail_below")
            )
        return {"adapter": self._adapter.name, "options": plain(checked, "options"), "fail_below": floors}


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as keyword arguments; the searcher's own parameters are not options of an adapter."""
    wrong = sorted(set(options) & {"k", "query", "data", "item_id", "left", "right", "self"})
    if wrong:
        raise BadOptions(f"unknown option: {', '.join(wrong)}", [(name, "unknown option") for name in wrong])
    return dict(options)


def _said(desk: IndexDesk | AdapterDesk, question: Mapping[str, Any], *, pictures: bool) -> bytes:
    try:
        if question.get("op") == "open":
            ok = desk.open()
        elif pictures and isinstance(desk, IndexDesk):
            ok = desk.open_picture(question)
        else:
            ok = desk.answer(question)
        data = wire.dumps({"ok": ok})
        if len(data) > messages.ANSWER_BYTES:
            raise SearchFailed(
                f"the answer must be at most {messages.ANSWER_BYTES:,} bytes, got {len(data):,}",
                hint="Request fewer results.",
            )
    except WorkbenchError as error:
        if isinstance(error, AdapterBroken):
            _LOG.error("%s", error.message, exc_info=error)
        return wire.dumps({"error": wire.error_json(error)})
    except Exception:
        # Visitors must not learn anything about the machine; the traceback goes to the publisher's log.
        _LOG.exception("%s could not answer %s", desk.what, question.get("op"))
        where = "the search" if question.get("op") in ("search", "explain", "file", "fields") else desk.what
        failed = SearchFailed(
            f"Internal error in {where}.", advice="The details are in the log, search-service.log."
        )
        return wire.dumps({"error": wire.error_json(failed)})
    return data


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer requests until the other side closes the connection."""
    parser = argparse.ArgumentParser(prog="python -m workbench.search.service.holder")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--pictures", type=int, help="a service of version 0.2.0 has no such socket")
    parser.add_argument("--index", nargs=2, metavar=("FOLDER", "NAME"))
    parser.add_argument("--adapter")
    args = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
    if args.index:  # the service may have been started in any folder
        os.chdir(args.index[0])
    desk = IndexDesk(Path(args.index[0]), args.index[1]) if args.index else AdapterDesk(args.adapter)
    if args.pictures is not None:
        pictures = socket.socket(fileno=args.pictures)
        threading.Thread(target=_serve, args=(pictures, desk, True), name="pictures", daemon=True).start()
    with socket.socket(fileno=args.socket) as connection:
        _serve(connection, desk, False)
    return 0


def _serve(connection: socket.socket, desk: IndexDesk | AdapterDesk, pictures: bool) -> None:
    """Answer requests over a socket, or only decode their pictures, until the other side closes it."""
    while True:
        try:
            question = json.loads(messages.receive(connection, messages.REQUEST_BYTES))
            connection.sendall(messages.framed(_said(desk, question, pictures=pictures)))
        except (EOFError, ConnectionError):
            return


if __name__ == "__main__":
    sys.exit(main())
