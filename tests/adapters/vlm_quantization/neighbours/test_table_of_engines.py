"""The benchmark of searches prints its table, and leaves it where the compare panel shows it."""

import sys

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.neighbours.prefix_codes import PrefixCodes
from tests.adapters.vlm_quantization.small_index import build
from tests.benchmarks import bench_scale


def two_engines(codes, bits, graphs):
    """Yield a slow measure and what is measured; faiss need not be installed for the tests."""

    def slow(query):
        far = np.unpackbits(codes ^ query, axis=1)[:, :bits].sum(axis=1)
        rows = np.argsort(far, kind="stable")[: bench_scale.K]
        return rows, far[rows]

    yield bench_scale.FLAT, slow
    ours = PrefixCodes(codes, engine="numpy")
    yield bench_scale.ALONE, lambda query: ours.search(query, bits=bits, k=bench_scale.K)


def test_the_table_is_printed_and_each_engine_is_a_run_that_can_be_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_scale, "engines", two_engines)
    index = build(tmp_path / "indexes").path
    home = str(tmp_path / "home")
    bench_scale.main(
        ["--items", "300", "--queries", "3", "--bits", "8", "128", "--index", str(index), "--workspace", home]
    )
    printed = capsys.readouterr().out
    sets = (
        "random",
        "trained-like, picture",
        "trained-like, text",
        "index small, picture",
        "index small, text",
    )
    for name in sets:
        assert printed.count(f"| {name} |") == 2 * 4  # two lengths; two engines, a batch, and two threads

    workspace = wb.Workspace(home)
    runs = workspace.runs("code search")
    assert {run.name for run in runs} == {
        bench_scale.FLAT, bench_scale.ALONE, "ours, 64 at once", bench_scale.TWO,
    }  # fmt: skip
    comparison = workspace.compare([run.id for run in runs])
    shown = comparison.to_markdown()
    for name in ("random/300/8 bits/ratio", "random/300/8 bits/ratio 25 %", "random/300/8 bits/recall"):
        assert name in shown
    (flat,) = (run for run in runs if run.name == bench_scale.FLAT)
    assert flat.summary["random/300/128 bits/ratio"]["last"] == 1
    with flat.artifact("scale.md").open() as file:
        table = file.read().decode()
    assert "| index small, text | 60 |" in table
    row = next(row for row in comparison.final if row.name == "random/300/128 bits/ratio")
    assert row.better == "lower"
    assert "random/300/8 bits/two threads beside one" in shown  # by another measure, so in another row


def test_missing_packages_are_named_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SystemExit, match=r'faiss is missing: pip install -e "\.\[bench\]"'):
        next(bench_scale.engines(np.zeros((3, 16), np.uint8), 8, graphs=False))
