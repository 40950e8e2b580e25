"""What a run reads back refuses changes, which would be lost without a word."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import workbench as wb
from workbench.runs.fixed import fixed

CHANGES: list[Callable[[Any], object]] = [
    lambda config: config.update(z=3),
    lambda config: config.setdefault("z", 3),
    lambda config: config.pop("lr"),
    lambda config: config.clear(),
    lambda config: config.__setitem__("lr", 2),
    lambda config: config["optim"].__setitem__("name", "sgd"),
    lambda config: config["sizes"].append(3),
    lambda config: config["sizes"].sort(),
    lambda config: config["sizes"].__delitem__(0),
    lambda config: config["sizes"].__iadd__([1]),
    lambda config: config.__ior__({"z": 1}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_settings_of_a_run_cannot_be_changed(
    workspace: wb.Workspace, change: Callable[[Any], object]
) -> None:
    settings = {"lr": 1, "optim": {"name": "adam"}, "sizes": [2, 1]}
    with workspace.start_run("e", config=settings, tags={"a": [1]}) as run:
        with pytest.raises(wb.WrongState, match=f"settings of run {run.id}") as refused:
            change(run.config)
        assert "start_run(config" in refused.value.hint
        with pytest.raises(wb.WrongState) as refused:
            run.tags["b"] = 1
        assert "annotate" in refused.value.hint
        run.log({"m": 1.0}, step=0)
        with pytest.raises(wb.WrongState, match="summary"):
            run.summary["best"] = {"last": 1.0}
    assert run.config == workspace.run(run.id).config == settings
    assert settings == {"lr": 1, "optim": {"name": "adam"}, "sizes": [2, 1]}
    run.annotate(tags={"b": 1})
    assert run.tags == {"a": [1], "b": 1}


def test_they_are_dictionaries_and_lists_in_every_other_way() -> None:
    plain = {"a": {"b": [1, {"c": None}]}}
    value = fixed(plain, "x", "y")
    assert value == plain
    assert json.loads(json.dumps(value)) == plain
    for copied in (copy.deepcopy(value), pickle.loads(pickle.dumps(value)), dict(value)):  # noqa: S301
        assert type(copied) is dict
        copied["z"] = 1
        assert copied == {**plain, "z": 1}
    deep = copy.deepcopy(value)
    deep["a"]["b"].append(2)
    assert (deep["a"]["b"][-1], value) == (2, plain)
    assert {**value, "z": 1} == plain | {"z": 1} == value | {"z": 1}
