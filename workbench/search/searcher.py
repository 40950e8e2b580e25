"""An opened index that answers queries."""

from __future__ import annotations

import io
import operator
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from workbench.adapter.contract import BaseAdapter
from workbench.adapter.options import check_options
from workbench.errors import BadInput, NotSupported, TooLarge
from workbench.host.files import check_file_name, copy_stream
from workbench.results.explanation import Explanation, Term
from workbench.results.hits import Hit, SampleQuery, SearchResult
from workbench.search.filters import FilterField

#: Number of items that a page shows to start a search with.
SAMPLE_ITEMS = 12


#: Maximum length of a query, in characters; longer ones are refused rather than silently cut.
MAX_QUERY_CHARACTERS = 2_000


#: Maximum length of an item's id in a request, in characters.
MAX_ITEM_CHARACTERS = 10_000


#: Maximum size of an uploaded picture, in bytes; larger ones are refused before they are opened.
MAX_IMAGE_BYTES = 20 * 2**20


#: Environment variable: set for published pages, whose visitors must not learn anything about the machine.
PUBLISHED = "WORKBENCH_PUBLISHED"


#: Environment variable: set for published pages that show where the files of pictures are.
SHOW_PATHS = "WORKBENCH_SHOW_PATHS"


class OpenedPicture(NamedTuple):
    """A decoded picture, and the time that took."""

    value: Any
    decode_ms: float


class Searcher:
    """An opened index that answers queries, whatever the model family.

    Parameters
    ----------
    adapter : BaseAdapter
        The adapter that built the index.
    index : object
        The index, as the adapter's ``load_index`` returned it.
    name : str
        Name of the index.
    """

    def __init__(self, adapter: BaseAdapter, index: Any, name: str) -> None:
        self.adapter = adapter
        self.index = index
        self.name = name

    def __repr__(self) -> str:
        return f"<Searcher {self.name!r} ({self.adapter.name})>"

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the search options."""
        return self.adapter.options("search").model_json_schema()

    def describe(self) -> dict[str, Any]:
        """Return the title, subtitle, count and credits of the index."""
        default = {"title": self.name, "subtitle": "", "credits": []}
        return {**default, **self.adapter.describe_index(self.index)}

    def sample_queries(self) -> list[SampleQuery]:
        """Return queries worth trying."""
        return list(self.adapter.sample_queries(self.index))

    def sample_items(self) -> list[Hit]:
        """Return items to start a search with, with thumbnails; none if the adapter offers none."""
        return list(self.adapter.sample_items(self.index, SAMPLE_ITEMS))

    def filter_fields(self) -> list[FilterField]:
        """Return the fields for the search option ``filter``, with their most frequent values.

        Raises
        ------
        NotSupported
            The adapter does not filter.
        """
        return list(self.adapter.filter_fields(self.index))

    def item_file(self, item: str | Hit) -> Path:
        """Return the path of an item's file, once it is known to be the one that was indexed.

        Parameters
        ----------
        item : str or Hit
            The id of an item, or a hit of a search.

        Raises
        ------
        NotFound
            The index has no such item, it has no file of its own, or the file is missing.
        WrongState
            The file has changed since it was indexed, or its path leads elsewhere by now.
        NotSupported
            The adapter does not offer files.
        """
        return self.adapter.item_file(self.index, _checked_item(item.id if isinstance(item, Hit) else item))

    def save_file(self, item: str | Hit, target: str | os.PathLike[str]) -> Path:
        """Copy an item's file to a local file, or into a folder under its own name, and return the copy.

        An existing file is replaced atomically.

        Raises
        ------
        NotFound, WrongState, NotSupported
            As :meth:`item_file`.
        BadName
            The target is a folder, and the file's name could lead out of it.
        """
        source = self.item_file(item)
        path = target_of(target, source.name)
        with source.open("rb") as file:
            copy_stream(file, path)
        return path

    def by_text(self, query: str, k: int = 20, **options: Any) -> SearchResult:
        """Search with a text.

        Raises
        ------
        BadInput
            The query is empty or too long, or ``k`` is below 1.
        BadOptions
            The adapter does not accept the options.
        """
        return self._ask(self.adapter.search_by_text, _checked_text(query, "query"), k, options)

    def by_image(self, data: Any, k: int = 20, **options: Any) -> SearchResult:
        """Search with a picture.

        Parameters
        ----------
        data : bytes, path, PIL picture or array
            An encoded picture (PNG, JPEG, WebP), the path of one, a picture that Pillow has opened, or its
            pixels: uint8 of shape (height, width), or (height, width, 3 or 4).
        k : int
            Number of hits.

        Raises
        ------
        BadInput
            ``data`` is empty, cannot be read, or is not a picture.
        TooLarge
            ``data`` is larger than :data:`MAX_IMAGE_BYTES`.
        """
        return self._ask(self.adapter.search_by_image, picture_bytes(data), k, options)

    def open_picture(self, data: bytes) -> OpenedPicture:
        """Decode an encoded picture for :meth:`by_opened`.

        Raises
        ------
        BadInput, TooLarge
            As :meth:`by_image`.
        """
        encoded = picture_bytes(data)
        start = time.perf_counter()
        return OpenedPicture(self.adapter.open_picture(encoded), (time.perf_counter() - start) * 1e3)

    def by_opened(self, picture: OpenedPicture, k: int = 20, **options: Any) -> SearchResult:
        """Search with a picture that :meth:`open_picture` decoded."""
        return self._ask(self.adapter.search_by_image, picture, k, options)

    def by_item(self, item_id: str, k: int = 20, **options: Any) -> SearchResult:
        """Search with an item of the index itself, by its id."""
        return self._ask(self.adapter.search_by_item, _checked_item(item_id), k, options)

    def explain(self, left: Any, right: Any, **options: Any) -> Explanation:
        """Explain why two things are near, or far from each other; ``wb.show`` draws the explanation.

        Parameters
        ----------
        left, right : str, Hit, Term, or a picture
            A string is a text, and a hit is the item that was found. ``Term("item", id)`` names an item by
            its id. A picture may be anything that :meth:`by_image` takes but a string: for a file, a
            ``pathlib.Path``.
        **options
            The search options.

        Raises
        ------
        BadInput
            A text is empty or too long, or a picture cannot be read.
        NotFound
            The index has no such item.
        NotSupported
            The adapter does not explain.
        """
        if not self.adapter.offers("explain"):
            raise NotSupported(self.adapter.name, "explain")
        return self._explain(term_of(left), term_of(right), options)

    def _explain(self, left: Term, right: Term, options: dict[str, Any]) -> Explanation:
        checked = check_options(self.adapter, "search", options)
        return self.adapter.explain(self.index, self._opened(left), self._opened(right), checked)

    def _opened(self, term: Term) -> Term:
        """Return a term with its picture decoded."""
        value = term.value
        if term.by != "image":
            return term
        picture = value if isinstance(value, OpenedPicture) else self.open_picture(value)
        return Term("image", picture.value, term.name)

    def _ask(self, method: Callable[..., SearchResult], query: Any, k: int, options: Any) -> SearchResult:
        try:
            number = operator.index(k)  # numpy's integers too
        except TypeError:
            number = 0
        if isinstance(k, bool) or number < 1:
            raise BadInput(f"k must be a whole number of at least 1, got {k!r}")
        k = number
        checked = check_options(self.adapter, "search", options)
        decode_ms = 0.0
        if isinstance(query, bytes):
            query = self.open_picture(query)
        if isinstance(query, OpenedPicture):
            query, decode_ms = query
        start = time.perf_counter()
        result = method(self.index, query, k, checked)
        result.took_ms.setdefault("total", decode_ms + (time.perf_counter() - start) * 1e3)
        if decode_ms:
            result.took_ms.setdefault("decode", decode_ms)
        return result


def target_of(target: str | os.PathLike[str], name: str) -> Path:
    """Return where a file is saved: the target, or within it under its own name if it is a folder.

    Raises
    ------
    BadName
        The target is a folder, and the name could lead out of it.
    """
    path = Path(target)
    return path / check_file_name(name) if path.is_dir() else path


def term_of(value: Any) -> Term:
    """Return one side of a comparison from what Python programs hold; see :meth:`Searcher.explain`.

    Raises
    ------
    BadInput, TooLarge
        It is no text, item or picture, or over a limit.
    """
    if isinstance(value, Hit):
        return Term("item", _checked_item(value.id), value.caption)
    if isinstance(value, str):
        return Term("text", _checked_text(value, "text"))
    if not isinstance(value, Term):
        return Term("image", picture_bytes(value), value.name if isinstance(value, Path) else "")
    if value.by == "text":
        return Term("text", _checked_text(value.value, "text"), value.name)
    if value.by == "item":
        return Term("item", _checked_item(value.value), value.name)
    if value.by != "image":
        raise BadInput(f"cannot compare {value.by!r}; allowed: text, image, item")
    if isinstance(value.value, OpenedPicture):
        return value
    return Term("image", picture_bytes(value.value), value.name)


def _checked_text(text: Any, what: str) -> str:
    if not isinstance(text, str):
        raise BadInput(
            f"the {what} must be a string, got {type(text).__name__}", hint=f"One {what} per call."
        )
    if not text.strip():
        raise BadInput(f"the {what} is empty", hint="Type a word or two.")
    if len(text) > MAX_QUERY_CHARACTERS:
        limit = f"{MAX_QUERY_CHARACTERS:,}"
        raise BadInput(f"the {what} must be at most {limit} characters, got {len(text):,}")
    return text.strip()


def _checked_item(item_id: Any) -> str:
    if not isinstance(item_id, str):
        raise BadInput(f"an item's id must be a string, got {type(item_id).__name__}")
    if len(item_id) > MAX_ITEM_CHARACTERS:
        limit = f"{MAX_ITEM_CHARACTERS:,}"
        raise BadInput(f"an item's id must be at most {limit} characters, got {len(item_id):,}")
    return item_id


def picture_bytes(data: Any) -> bytes:
    """Return an encoded picture from what Python programs hold a picture in.

    Raises
    ------
    BadInput
        It is empty, cannot be read, or is not a picture.
    TooLarge
        It is larger than :data:`MAX_IMAGE_BYTES`.
    """
    if isinstance(data, (str, os.PathLike)):
        encoded = _read(Path(data))
    elif isinstance(data, (bytes, bytearray, memoryview)):
        encoded = bytes(data)
    else:
        encoded = _as_png(data)
    if not encoded:
        raise BadInput("the picture is empty (0 bytes)")
    _check_size(len(encoded))
    return encoded


def _check_size(size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        limit = MAX_IMAGE_BYTES // 2**20
        raise TooLarge(
            f"the picture must be at most {limit} MiB, got {size / 2**20:.1f} MiB",
            hint="Make it smaller and try again.",
        )


def _read(path: Path) -> bytes:
    try:
        _check_size(path.stat().st_size)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"the picture {str(path)!r} cannot be read: {reason}") from None


def _as_png(data: Any) -> bytes:
    from PIL import Image

    if not isinstance(data, Image.Image):
        if not hasattr(data, "__array_interface__") and not hasattr(data, "__array__"):
            raise BadInput(
                f"a picture must be bytes, a path, a PIL picture or an array, got {type(data).__name__}"
            )
        import numpy as np

        pixels = np.asarray(data)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise BadInput(
                f"pixels must be uint8 of shape (height, width) or (height, width, 3 or 4), "
                f"got {pixels.dtype} {pixels.shape}"
            )
        try:
            data = Image.fromarray(pixels)
        except (TypeError, ValueError):
            raise BadInput(f"pixels must have 3 or 4 channels, got {pixels.shape}") from None
    out = io.BytesIO()
    try:
        kept = data if data.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else data.convert("RGB")
        kept.save(out, "PNG")
    except (OSError, ValueError) as error:
        raise BadInput(f"the picture cannot be used: {error}") from None
    return out.getvalue()
