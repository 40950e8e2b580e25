"""``workbench metrics``: the names that a gate may use."""

from __future__ import annotations

import json

import pytest

import workbench as wb
from workbench import cli
from workbench.adapter.registry import get_adapter
from workbench.jobs.floors import unknown_metrics


def run(*words: str) -> int:
    return cli.run(["metrics", *words])


def test_the_listed_metrics_are_those_that_a_gate_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vlm_quantization", "eval", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["adapter"], document["task"]) == ("vlm_quantization", "eval")
    rows = {row["name"]: row["better"] for row in document["metrics"]}
    assert rows["t2i/R@10@128"] == "higher"
    adapter = get_adapter("vlm_quantization")
    names = adapter.metric_names("eval", adapter.options("eval")())
    assert unknown_metrics(rows, names) == []
    assert unknown_metrics(["t2i/R@10@127"], names) != []


def test_options_decide_and_a_pattern_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vlm_quantization", "eval", "--option", "ks=[3]", "--like", "i2t/R@*@64") == 0
    printed = capsys.readouterr().out
    assert "i2t/R@3@64" in printed
    assert "R@10" not in printed
    assert run("vlm_quantization", "eval", "--like", "none of them") == 0
    assert "is like 'none of them'" in capsys.readouterr().out


def test_what_the_data_decide_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("vlm_quantization", "eval") == 0
    assert "stands for what the data decide" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("vlm_quantisation", "eval"), "vlm_quantization"),
        (("vlm_quantization", "evl"), "train, eval"),
        (("vlm_quantization", "eval", "--option", "kz=[3]"), "ks"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_known_ones(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert says in capsys.readouterr().err


def test_an_adapter_that_does_not_say_is_no_error_of_the_user(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(get_adapter("vlm_quantization")), "metric_names", wb.BaseAdapter.metric_names)
    assert run("vlm_quantization", "eval") != 0
    assert "jobs show lists its metrics" in capsys.readouterr().err
