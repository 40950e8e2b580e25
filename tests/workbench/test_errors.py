import inspect
import json
import re

import pytest

import workbench as wb
from workbench import errors, wire
from workbench.wire import STATUS, status_of


def drawn() -> dict[str, str]:
    """The tree in the module docstring: each class with its parent."""
    out: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ([│├└─ ]*)(\w+)", line):
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            out[match[2]] = above[depth - 1] if depth else "Exception"
    return out


def test_the_tree_is_drawn_as_it_is() -> None:
    made = {
        name: thing.__mro__[1].__name__
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, Exception) and thing.__module__ == errors.__name__
    }
    assert drawn() == made


def drawn_statuses() -> dict[str, int]:
    """The HTTP statuses in the tree."""
    lines = re.findall(r"^    [│├└─ ]*(\w+).*?(?:HTTP (\d+))?$", errors.__doc__ or "", re.MULTILINE)
    return {name: int(status) for name, status in lines if status}


def test_the_tree_names_the_http_status_of_every_class() -> None:
    statuses, above = drawn_statuses(), drawn()
    for name in above:
        kind = getattr(errors, name)
        nearest = name
        while nearest not in statuses:
            nearest = above[nearest]
        assert statuses[nearest] == status_of(kind.__new__(kind)), name
    assert {kind.__name__ for kind in STATUS} <= statuses.keys()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (wb.BadInput("x"), ValueError),
        (wb.UnknownJob(3), LookupError),
        (wb.NotSupported("toy", "train"), NotImplementedError),
        (wb.MissingExtra("x", "postgres"), ImportError),
    ],
)
def test_an_error_is_also_what_python_calls_it(error: Exception, kind: type[Exception]) -> None:
    assert isinstance(error, wb.WorkbenchError)
    assert isinstance(error, kind)


def test_a_message_is_followed_by_what_to_do_next() -> None:
    assert str(wb.BadInput("no.", hint="Try yes.")) == "no.\nTry yes."
    assert str(wb.BadInput("no.")) == "no."
    assert str(wb.BadInput("no.", advice="Set X.")) == "no.\nSet X."


def test_the_advice_for_the_owner_is_apart_from_the_hint_for_everyone() -> None:
    words = {"hint": "Send less.", "advice": "Raise $X_MAX in /etc/x, or run `x --most 9`."}
    for error in (
        wb.TooLarge("no", **words),
        wb.AdapterBroken("a", "no", **words),
        wb.BadOptions("no", **words),
        wb.Busy("no", **words),
        wb.CorruptFile("x", "no", **words),
        wb.NotSupported("a", "search", **words),
        wb.JobFailed(1, "no", **words),
    ):
        assert error.help == f"{words['hint']} {words['advice']}"
        back = wire.error_from(json.loads(wire.dumps(wire.error_json(error))))
        assert (type(back), back.hint, back.advice) == (type(error), *words.values())
    assert wire.error_from({"type": "Busy", "message": "of an older service", "hint": "Wait."}).advice == ""


def test_an_unknown_name_lists_the_known_and_guesses_the_meant() -> None:
    message = wb.UnknownIndex("emojo", ["photos", "emoji"]).message
    assert "did you mean 'emoji'?" in message
    assert "photos" in message
    assert "no indexes yet" in wb.UnknownIndex("x").message
    many = wb.UnknownAdapter("x", [f"a{number}" for number in range(30)]).message
    assert "22 more" in many


def test_unknown_ids_say_which_is_the_newest() -> None:
    assert "newest is 7" in wb.UnknownJob(99, 7).message
    assert "no runs yet" in wb.UnknownRun(1).message


def test_an_error_carries_its_subject() -> None:
    assert wb.JobFailed(4, "x", cell=3).cell == 3
    assert wb.CorruptFile("a.bin", "cut short").reason == "cut short"
    assert wb.BadOptions("x", [("k", "too big")]).problems == (("k", "too big"),)
    assert wb.Busy("x", retry_after=2).retry_after == 2
    assert "notebook-workbench[dask]" in wb.MissingExtra("Dask", "dask").hint
