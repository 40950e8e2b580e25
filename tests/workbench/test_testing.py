"""The contract to inherit notices an adapter that breaks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOY = Path(__file__).parents[1] / "adapters" / "toy.py"

#: What an adapter does wrong, and the promise that it breaks.
BROKEN = {
    "title = ''": "name_a_title",
    "metrics = (wb.Metric('x', format='nonsense'),)": "name_a_title",
    "def options(self, task): return wb.Options": "unknown_task_or_option",
    "def train(self, options, job): return wb.Result(summary='x', made={'run': 1})": "leaves_a_run",
    "def search_by_text(self, index, query, k, options):"
    " return wb.SearchResult([wb.Hit('a', 0, caption='a'), wb.Hit('b', 1, caption='b')])": "best_first",
    "def search_by_text(self, index, query, k, options): return wb.SearchResult([])": "best_first",
    "def search_by_text(self, index, query, k, options):"
    " return wb.SearchResult([wb.Hit(str(time.monotonic()), 1, caption='a')])": "same_answer",
    "def demo(self): return {'train': {'nonsense': 1}}": "demo_submits",
    "def load_model(self, path): raise KeyError": "",
}


def test_it_notices_what_is_broken(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(TOY.read_text(encoding="utf-8"), encoding="utf-8")
    lines = [
        "import time",
        "import workbench as wb",
        "import toy",
        "from workbench.testing import AdapterContract",
    ]
    for number, broken in enumerate(BROKEN):
        lines += [f"class Broken{number}(toy.Toy):", f"    {broken}"]
        lines += [f"class TestBroken{number}(AdapterContract):", f"    adapter = Broken{number}()"]
    (tmp_path / "test_broken.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", "test_broken.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    for number, (broken, promise) in enumerate(BROKEN.items()):
        mine = [line for line in said if f"TestBroken{number}::" in line]
        if promise:
            assert [line for line in mine if promise in line], (broken, done.stdout[-2000:])
        else:
            assert mine == [], broken


def test_the_workbench_itself_imports_no_pytest() -> None:
    package = Path(__file__).parents[2] / "workbench"
    users = [
        path.name
        for path in package.rglob("*.py")
        if any(line.startswith(("import pytest", "from pytest")) for line in path.read_text().splitlines())
    ]
    assert users == ["testing.py"]
