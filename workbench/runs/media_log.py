"""The part of a run that logs and reads pictures, figures, tables, texts and histograms."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from workbench.runs import media
from workbench.runs.media import MediaFile
from workbench.values import as_step


class MediaLog(ABC):
    """What a run logs besides numbers: small files, each with a name, a step and a caption.

    The same name and step replace what was there. At most :data:`workbench.runs.media.MOST_KEPT` are kept
    under one name: after that a warning says so, and the training goes on.
    """

    _full_labels: set[str]

    def log_image(self, name: str, image: Any, step: int | None = None, *, caption: str = "") -> None:
        """Log a picture, copied and made smaller if it is large.

        Parameters
        ----------
        name : str
            What it shows, such as ``"val/worst queries"``; shown over its steps.
        image : PIL image, path, bytes, or array
            An array has shape (height, width) or (height, width, 3 or 4), a torch tensor also
            (3, height, width): uint8 from 0 to 255, or floats from 0 to 1.
        step : int, optional
            Default: the last logged step.
        caption : str
            A short text below it.

        Raises
        ------
        BadInput
            It cannot be read as a picture.
        """
        self._log_media("image", name, media.image_bytes(image), step, caption)

    def log_figure(self, name: str, figure: Any, step: int | None = None, *, caption: str = "") -> None:
        """Log a matplotlib figure, or that of axes, as a picture; see :meth:`log_image`."""
        self._log_media("figure", name, media.figure_bytes(figure), step, caption)

    def log_table(
        self,
        name: str,
        table: Any,
        step: int | None = None,
        *,
        columns: Sequence[str] | None = None,
        caption: str = "",
    ) -> None:
        """Log a table; of a long one the first rows are kept, and how many are left out.

        Parameters
        ----------
        name, step, caption
            As for :meth:`log_image`.
        table : data frame, mapping of str to column, or sequence of rows
            A row is a mapping, or a sequence of cells in the order of ``columns``.
        columns : sequence of str, optional
            Names of the columns, for rows that are sequences.

        Raises
        ------
        BadInput
            It is none of these, or its rows differ in length.
        """
        self._log_media("table", name, media.table_bytes(table, columns), step, caption)

    def log_text(self, name: str, text: str, step: int | None = None, *, caption: str = "") -> None:
        """Log a text; a long one is cut, which its end says. See :meth:`log_image`."""
        self._log_media("text", name, media.text_bytes(text), step, caption)

    def log_histogram(
        self, name: str, values: Any, step: int | None = None, *, bins: int = 64, caption: str = ""
    ) -> None:
        """Log how often values lie in each of some bins of equal width.

        Parameters
        ----------
        name, step, caption
            As for :meth:`log_image`.
        values : array or sequence of numbers, or (counts, edges)
            Any shape; NaN and infinity are counted apart. A pair is what ``numpy.histogram`` returns.
        bins : int
            Number of bins, 1 to 512.

        Raises
        ------
        BadInput
            They are not real numbers, or the number of bins is not allowed.
        """
        self._log_media("histogram", name, media.histogram_bytes(values, bins), step, caption)

    def _log_media(self, kind: str, name: str, data: bytes, step: int | None, caption: str) -> None:
        label, caption = media.check_label(name), media.check_caption(caption)
        place = max(self._next_step() - 1, 0) if step is None else as_step(step)
        if label in self._full_labels or self._keep_media(kind, label, data, place, caption):
            return
        self._full_labels.add(label)
        warnings.warn(
            f"run {self.id} keeps {media.MOST_KEPT:,} files of {label!r}: further ones are not kept. "
            "Log it less often.",
            UserWarning,
            stacklevel=3,
        )

    def media(self, kind: str | None = None, name: str | None = None) -> list[MediaFile]:
        """Return what was logged besides numbers, by name and step.

        Parameters
        ----------
        kind : {"image", "figure", "table", "text", "histogram"}, optional
            Only of this kind.
        name : str, optional
            Only what was logged under this name.

        Returns
        -------
        list of MediaFile
            ``wb.show(run.media())`` shows them; ``value()`` returns the content of one, ``save(path)`` copies
            its file.

        Raises
        ------
        BadInput
            There is no such kind.
        """
        return self._media(None if kind is None else media.check_kind(kind), name)

    @property
    @abstractmethod
    def id(self) -> int:
        """The run's id."""

    @abstractmethod
    def _next_step(self) -> int:
        """Return the next automatic step."""

    @abstractmethod
    def _keep_media(self, kind: str, label: str, data: bytes, step: int, caption: str) -> bool:
        """Keep a file whose content, label and caption are checked; return whether there was room."""

    @abstractmethod
    def _media(self, kind: str | None, label: str | None) -> list[MediaFile]:
        """Return the files; see :meth:`media`."""
