"""MLflow's runs in the workbench's terms, whichever way they were read."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from workbench.runs.imports import ForeignRun
from workbench.runs.imports.report import Clock, Report, in_seconds
from workbench.store.points import Batch
from workbench.values import HIGHEST_STEP, LOWEST_STEP

_STATUS = {
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FINISHED": "succeeded",
    "FAILED": "failed",
    "KILLED": "cancelled",
}


#: Status numbers in run files.
_NUMBERS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


#: MLflow's databases store the largest float in place of infinity.
_GREATEST = 1.7976931348623157e308


class RunProblems:
    """What one run lacks: named in the report, and kept with the run under ``not_imported``.

    Parameters
    ----------
    where : str
        The run, as a prefix of file names in the report.
    about : dict
        The description that is kept with the run.
    report : Report
        The report of the import.
    meta : str
        The file of its status and times, if it has files.
    """

    def __init__(self, where: str, about: dict[str, Any], report: Report, meta: str = "") -> None:
        self.where, self.report = where, report
        self._about, self._meta = about, meta

    def leave_out(self, what: str) -> None:
        """Name a part of the run that is not imported, with the reason."""
        self._about.setdefault("not_imported", []).append(what)
        self.report.leave_out(self.named(what))

    def leave_out_of_meta(self, what: str) -> None:
        """Name a part of the run's description that is not imported."""
        self.leave_out(f"{self._meta}: {what}" if self._meta else what)

    def named(self, what: str) -> str:
        """Return a part of the run with the run's name."""
        return f"{self.where}{'/' if self._meta else ', '}{what}"


class Points:
    """The points of one metric while they are read."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps, self._times, self._values = array("q"), array("d"), array("d")

    def add(self, step: Any, milliseconds: Any, value: Any) -> None:
        """Add a point.

        Raises
        ------
        ValueError, TypeError, OverflowError
            The step is not a whole number of eight bytes, or a part is not a number.
        """
        whole = int(step)
        if whole != step and not isinstance(step, (str, bytes)):
            raise ValueError("the step is not a whole number")
        if not LOWEST_STEP <= whole <= HIGHEST_STEP:
            raise OverflowError("the step is too large")
        number, at = float(value), self._clock.seconds(float(milliseconds) / 1000)
        self._steps.append(whole)
        self._times.append(at)
        self._values.append(number)

    @property
    def batch(self) -> Batch:
        """The points."""
        return Batch(self._steps, self._times, self._values)


def points_of(
    rows: Iterable[tuple[Any, Any, Any]], what: str, fallback: float, problems: RunProblems
) -> Batch:
    """Return the points in rows of (step, milliseconds, value); rows that are none are named."""
    clock = Clock(problems.named(what), fallback, "milliseconds")
    points, wrong, example = Points(clock), 0, ""
    for row in rows:
        try:
            points.add(*row)
        except (ValueError, TypeError, OverflowError):
            wrong += 1
            example = example or repr(tuple(row))[:100]
    clock.tell(problems.report)
    if wrong:
        problems.leave_out(f"{what}: {wrong:,} points are not numbers (such as {example})")
    return points.batch


def foreign_run(
    run_id: str,
    experiment: str,
    name: str,
    status: Any,
    times: tuple[Any, Any],
    params: Mapping[str, str],
    tags: Mapping[str, str],
    about: dict[str, Any],
    metrics: Callable[[float], Iterable[tuple[str, Batch]]],
    problems: RunProblems,
) -> ForeignRun:
    """Return a run in the workbench's terms; MLflow's system tags go to other columns.

    Parameters
    ----------
    times : (begin, end)
        In milliseconds since 1970, as recorded.
    about : dict
        Kept with the run; the same that ``problems`` adds to.
    metrics : callable
        Yields its metrics, given the time of points that have none.
    problems : RunProblems
        Gets what cannot be used.
    """
    system = {key: value for key, value in tags.items() if key.startswith("mlflow.")}
    git = {
        "commit": system.get("mlflow.source.git.commit"),
        "branch": system.get("mlflow.source.git.branch"),
        "dirty": None,
    }
    state = _NUMBERS.get(status, "") if isinstance(status, int) else status
    if not isinstance(state, str) or state not in _STATUS:
        problems.leave_out_of_meta(f"the status {_short(status)}, which is none of MLflow's")
        state = ""
    begun = _moment("start_time", times[0], problems)
    ended = _moment("end_time", times[1], problems)
    for key in [key for key, value in about.items() if value is None]:
        del about[key]
    about |= {"run_id": run_id, "status": state or _short(status), "tags": system}
    return ForeignRun(
        origin=f"mlflow:{run_id}",
        experiment=experiment,
        name=name or system.get("mlflow.runName", "") or run_id,
        status=_STATUS.get(state, "lost"),
        created_at=begun or 0.0,
        finished_at=ended if ended is not None or state in ("RUNNING", "SCHEDULED") else begun,
        metrics=lambda: metrics(begun or 0.0),
        config={key: parameter_value(text) for key, text in sorted(params.items())},
        tags={key: value for key, value in sorted(tags.items()) if key not in system},
        notes=system.get("mlflow.note.content", ""),
        git=git if git["commit"] else {},
        environment={"mlflow": about},
    )


def _moment(what: str, milliseconds: Any, problems: RunProblems) -> float | None:
    if milliseconds is None:
        return None
    try:
        seconds = float(milliseconds) / 1000
        found = None if isinstance(milliseconds, bool) else in_seconds(seconds)
    except (ValueError, TypeError, OverflowError):
        found = None
    if found is None:
        problems.leave_out_of_meta(f"{what} {_short(milliseconds)}, which is not a time in milliseconds")
    elif found != seconds:
        problems.report.note(f"{problems.where}: {what} was in a finer unit than milliseconds, and converted")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def parameter_value(text: str) -> Any:
    """Return a parameter's value if its text is unambiguous: MLflow stores only text."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    for kind in (int, float):
        try:
            value: Any = kind(text)
        except ValueError:
            continue
        if str(value) == text and text not in ("nan", "inf", "-inf"):
            return value
    return text


def number_of(value: float, is_nan: bool = False) -> float:
    """Return a value of MLflow's databases as the number that was logged."""
    if is_nan:
        return float("nan")
    return value if abs(value) != _GREATEST else value * 10  # overflows to infinity
