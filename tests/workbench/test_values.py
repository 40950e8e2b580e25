"""What becomes plain JSON, and what does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

import workbench as wb
from workbench.values import MOST_NESTED, plain


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


def test_a_run_with_such_a_config_is_not_begun(workspace: wb.Workspace) -> None:
    with pytest.raises(wb.BadInput, match="nested at most"):
        workspace.start_run("e", config=nested(700))
    assert workspace.runs() == []
