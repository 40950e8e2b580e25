"""What a run reads back: dictionaries and lists that refuse changes, which nothing would store."""

from __future__ import annotations

from typing import Any, NoReturn

from workbench.errors import WrongState
from workbench.store.outcome import of_training


def fixed(value: Any, what: str, hint: str) -> Any:
    """Return a copy of plain JSON whose dictionaries and lists raise when they are changed.

    Parameters
    ----------
    value : dict, list or plain value
        Plain JSON. A copy that may be changed is ``dict(…)`` of the result, or ``copy.deepcopy``.
    what : str
        What it is, for the error message: ``"the settings of run 3"``.
    hint : str
        What to do instead.
    """
    if isinstance(value, dict):
        return FixedDict({key: fixed(item, what, hint) for key, item in value.items()}, what, hint)
    if isinstance(value, list):
        return FixedList([fixed(item, what, hint) for item in value], what, hint)
    return value


def summary_of(run_id: int, summary: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the summary of a run's metrics; values that are set in it would not be stored."""
    made: dict[str, dict[str, Any]] = fixed(
        {name: summary[name] for name in of_training(summary)},
        f"the summary of run {run_id}",
        'Log a metric instead: run.log({"name": value}).',
    )
    return made


class _Fixed:
    """The methods of a dictionary or list that would change it."""

    _what = ""
    _hint = ""

    def _refuse(self, *_args: Any, **_more: Any) -> NoReturn:
        raise WrongState(f"{self._what} cannot be changed here: it would not be stored", hint=self._hint)

    __setitem__ = __delitem__ = __ior__ = __iadd__ = __imul__ = _refuse
    clear = pop = popitem = setdefault = update = append = extend = insert = remove = sort = reverse = _refuse


class FixedDict(_Fixed, dict[str, Any]):
    """A dictionary that cannot be changed."""

    def __init__(self, value: dict[str, Any], what: str, hint: str) -> None:
        dict.__init__(self, value)
        self._what, self._hint = what, hint

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class FixedList(_Fixed, list[Any]):
    """A list that cannot be changed."""

    def __init__(self, value: list[Any], what: str, hint: str) -> None:
        list.__init__(self, value)
        self._what, self._hint = what, hint

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)
