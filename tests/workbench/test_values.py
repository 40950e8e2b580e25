"""What may be logged: numbers, steps, columns and settings, and what each becomes."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import types
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
import torch

import workbench as wb
from workbench.values import (
    HIGHEST_STEP,
    MOST_NESTED,
    as_column,
    as_moment,
    as_number,
    as_step,
    as_times,
    described,
    exact,
    known_time,
    plain,
    restored,
)


def test_settings_become_plain_json() -> None:
    class Options(wb.Options):
        lr: float = 0.1

    given = {1: Options(), "path": Path("a/b"), "set": {"b", "a"}, "array": np.arange(2), "nan": math.nan}
    assert plain(given, "config") == {
        "1": {"lr": 0.1},
        "path": "a/b",
        "set": ["a", "b"],
        "array": [0, 1],
        "nan": "nan",
    }


def test_what_has_no_plain_form_is_named_by_its_place() -> None:
    with pytest.raises(wb.BadInput, match=r"config\.model\[1\]"):
        plain({"model": [1, object()]}, "config")


@dataclasses.dataclass
class Optim:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)


class Mode(enum.Enum):
    FAST = "fast"


class Level(enum.IntEnum):
    HIGH = 3


class Unprintable:
    def __repr__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (Optim(), {"lr": 1e-3, "betas": [0.9, 0.999]}),
        (argparse.Namespace(a=1, b="x"), {"a": 1, "b": "x"}),
        (types.SimpleNamespace(a=[1]), {"a": [1]}),
        (Mode.FAST, "fast"),
        (Level.HIGH, 3),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.time(1, 2), "01:02:00"),
        (datetime.timedelta(seconds=90), "0:01:30"),
        (decimal.Decimal("0.10"), "0.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (collections.deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        (np.float32, "numpy.float32"),
        (np.dtype("f4"), "float32"),
        (torch.float16, "torch.float16"),
        (torch.device("cuda", 1), "cuda:1"),
        (torch.tensor([1.5]), [1.5]),
        (np.int64(3), 3),
        (np.zeros((2, 600)), "ndarray of shape (2, 600), float64"),
        (math.nan, "nan"),
        (2**80, 2**80),
        ("x" * 5000, "x" * 5000),
        ("caf\udce9.csv", "caf\\udce9.csv"),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ({"\udce9": 1}, {"\\udce9": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_usual_settings_are_kept_without_a_word(value: Any, kept: Any) -> None:
    assert described({"v": value}, "config") == {"v": kept}


class Odd(pydantic.BaseModel):
    """A model whose field pydantic cannot write as JSON."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    lr: float = 0.5
    thing: Any = None


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (len, "builtins.len"),
        (Optim, f"{__name__}.Optim"),
        ((one for one in "ab"), "<genexpr>"),
        (b"ab", "b'ab'"),
        (1j, "1j"),
        (torch.empty(2, device="meta"), "tensor(..., device='meta', size=(2,))"),
        (Unprintable(), "<Unprintable>"),
        (Odd(thing=Unprintable()), {"lr": 0.5, "thing": "<Unprintable>"}),
        ({1: "a", "1": "b"}, {"1": "a", "1 (str)": "b"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_setting_keeps_a_training_from_starting(value: Any, kept: Any) -> None:
    with pytest.warns(UserWarning, match=r"kept as text.*: config\.v"):
        assert described({"v": value}, "config") == {"v": kept}


def test_one_warning_names_the_first_places(workspace: wb.Workspace) -> None:
    with pytest.warns(UserWarning, match=r"config\.f0, .*config\.f4 and 3 more") as warned:
        run = workspace.start_run("e", config={f"f{at}": len for at in range(8)})
    run.finish()
    assert [one.filename for one in warned] == [__file__]


def test_the_whole_description_may_be_any_of_the_usual_kinds() -> None:
    for whole in (
        Optim(1.0),
        argparse.Namespace(lr=1.0, betas=(0.9, 0.999)),
        {"lr": 1.0, "betas": (0.9, 0.999)},
    ):
        assert described(whole, "config") == {"lr": 1.0, "betas": [0.9, 0.999]}
    assert described(None, "config") == {}


@pytest.mark.parametrize("value", [[1, 2], "x", 5, Optim])
def test_what_is_no_description_is_refused(value: Any) -> None:
    with pytest.raises(wb.BadInput, match="config"):
        described(value, "config")


def test_a_long_text_of_an_object_is_cut() -> None:
    with pytest.warns(UserWarning, match="kept as text"):
        assert len(described({"v": bytes(10_000)}, "config")["v"]) == 1001


def test_numbers_that_json_lacks_come_back_where_they_must() -> None:
    given = {"a": math.inf, "b": [-math.inf, {"c": math.nan}], "d": "inf", "e": {"$number": "odd"}}
    kept = json.loads(json.dumps(exact(given, "parameters"), allow_nan=False))
    again = restored(kept)
    assert str(again) == str(given)
    assert kept["d"] == "inf"


@pytest.mark.parametrize("value", [1, 1.5, np.float32(1.5), np.array([2]), math.inf])
def test_one_real_number_is_taken(value: Any) -> None:
    assert as_number("m", value) == float(np.asarray(value).item())


@pytest.mark.parametrize("value", ["1", None, True, np.bool_(True), 1j, [1], np.arange(2), object()])
def test_what_is_no_real_number_is_refused_with_the_metrics_name(value: Any) -> None:
    with pytest.raises(wb.BadInput, match="'val/mAP'"):
        as_number("val/mAP", value)


def test_steps_are_whole_and_fit_a_database() -> None:
    assert as_step(np.int64(5)) == 5
    assert as_step(HIGHEST_STEP) == HIGHEST_STEP
    for step in (1.0, "1", True, None, HIGHEST_STEP + 1):
        with pytest.raises(wb.BadInput, match="step"):
            as_step(step)


def test_a_column_has_one_dimension_of_numbers() -> None:
    assert as_column("steps", [1, 2], np.int64).dtype == np.int64
    assert as_column("m", [1, 2.5], np.float64).tolist() == [1, 2.5]
    for values, kind in (
        ([1.5], np.int64),
        ([[1]], np.float64),
        (["x"], np.float64),
        (np.array([2**63], np.uint64), np.int64),
    ):
        with pytest.raises(wb.BadInput, match="steps"):
            as_column("steps", values, kind)


def nested(levels: int, *, kind: type = dict) -> Any:
    """Return that many dictionaries, or lists, one in the other."""
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if kind is dict else kind([value])
    return value


@pytest.mark.parametrize("kind", [dict, list, tuple])
def test_how_deep_a_value_may_be_nested_is_the_same_on_every_interpreter(kind: type) -> None:
    deepest = nested(MOST_NESTED, kind=kind)
    assert json.loads(json.dumps(plain(deepest, "config"))) == json.loads(json.dumps(deepest))
    for levels in (MOST_NESTED + 1, 700, 50_000):
        with pytest.raises(wb.BadInput, match=f"^config: .* nested at most {MOST_NESTED} levels"):
            plain(nested(levels, kind=kind), "config")


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(wb.BadInput, match="nested at most"):
        plain(value, "options")


def test_a_run_with_such_a_config_begins(workspace: wb.Workspace) -> None:
    """It did not: a training stopped because of what described it."""
    itself: dict[str, Any] = {"lr": 1}
    itself["all"] = itself
    for config in (nested(700), itself):
        with pytest.warns(UserWarning, match="kept as text"):
            workspace.start_run("e", config=config).finish()
    kept = workspace.runs()[0].config
    assert (kept["lr"], kept["all"]["all"]["lr"]) == (1, 1)


@pytest.mark.parametrize("at", [1e-3, 1.7e9, 253_402_300_799.0])
def test_a_time_is_a_date(at: float) -> None:
    moment = as_moment(at)
    assert moment is not None
    assert moment.timestamp() == pytest.approx(at)
    assert known_time(at) == at


@pytest.mark.parametrize("at", [None, 0.0, -1.0, math.nan, math.inf, -math.inf, 1.7e12, 1e300])
def test_what_no_date_can_show_is_unknown(at: float | None) -> None:
    assert as_moment(at) is None
    assert known_time(at) is None


def test_times_of_points_are_seconds() -> None:
    assert as_times([0, 1.5, 1e9]).tolist() == [0.0, 1.5, 1e9]
    for wrong in ([1.7e12], [0.0, math.nan], [-1.0], [math.inf]):
        with pytest.raises(wb.BadInput, match="times must be seconds since 1970") as raised:
            as_times(wrong)
        assert "1000" in raised.value.hint


@pytest.mark.parametrize("text", ["a\0b", "caf\udce9.csv"])
def test_a_parameter_is_never_changed_on_its_way(text: str) -> None:
    for value in (text, [text], {"deep": {"er": text}}):
        with pytest.raises(wb.BadInput, match=r"parameters.* without NUL or unpaired surrogates"):
            exact({"p": value}, "parameters")
