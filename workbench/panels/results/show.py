"""Show a result, a comparison or an explanation in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from workbench.errors import BadInput
from workbench.panels.results.html import explanation_html, result_html
from workbench.results.explanation import Explanation
from workbench.results.result import Result, View
from workbench.text import short_number

if TYPE_CHECKING:
    from workbench.compare.results import ResultsComparison
    from workbench.runs.media import MediaFile


#: What is drawn as it is.
Shown: TypeAlias = "Result | ResultsComparison | Explanation"


def render_html(result: Result | ResultsComparison | Explanation) -> str:
    """Return a result, several side by side, or an explanation, as one piece of HTML; texts are escaped.

    Raises
    ------
    BadInput
        Not one of these, a view of an unknown kind, or data that do not fit their kind.
    """
    if isinstance(result, Result):
        return result_html(result)
    if isinstance(result, Explanation):
        return explanation_html(result)
    from workbench.compare.results import ResultsComparison  # imports numpy
    from workbench.panels.results.side_by_side import comparison_html

    if isinstance(result, ResultsComparison):
        return comparison_html(result)
    raise BadInput(
        f"only a Result can be shown, got {type(result).__name__}",
        hint="job.result is None until the job has succeeded." if result is None else "",
    )


def show(
    result: Result
    | ResultsComparison
    | Explanation
    | View
    | Sequence[View]
    | MediaFile
    | Sequence[MediaFile],
) -> None:
    """Display a result, several side by side, an explanation, views, or media of a run, in a notebook.

    Raises
    ------
    BadInput
        Not one of these, or a view that cannot be drawn.
    """
    from IPython.display import display

    display(_Shown(_as_result(result)))  # type: ignore[no-untyped-call]


def _as_result(given: Any) -> Shown:
    """Return what is to be drawn; views, and media of a run, as a result of nothing else."""
    from workbench.runs.media import MediaFile, views

    parts = [given] if isinstance(given, (View, MediaFile)) else given
    if not isinstance(parts, Sequence):
        return parts  # type: ignore[no-any-return]  # it is checked where it is drawn
    media = [one for one in parts if isinstance(one, MediaFile)]
    drawn = views(media) if media else [one for one in parts if isinstance(one, View)]
    if len(media or drawn) < len(parts):
        raise BadInput(
            "only a Result, views alone, or media of a run alone, can be shown",
            hint="A view is a wb.View; run.media() returns media.",
        )
    return Result(views=drawn)


class _Shown:
    """What ``show`` displays; drawn immediately, so that errors are raised where ``show`` was called."""

    def __init__(self, result: Result | ResultsComparison | Explanation) -> None:
        self._html = render_html(result)
        if not isinstance(result, Result):
            self._text = repr(result)
            return
        metrics = (f"{name} = {short_number(value)}" for name, value in sorted(result.metrics.items()))
        titles = () if result.metrics or result.summary else (view.title for view in result.views)
        lines = [result.summary, *metrics, *titles]
        self._text = "\n".join(line for line in lines if line) or "a result with nothing to show"

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._html
