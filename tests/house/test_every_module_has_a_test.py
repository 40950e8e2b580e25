"""Every module has a test that names it, or that uses it through the door that people use."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Modules that are reached through a door, such as a command or a route: the file of tests that goes through
#: it, and what is typed, sent or shown there that no other module answers.
THROUGH: dict[str, tuple[str, str]] = {
    "workbench.adapter.loading": ("tests/workbench/adapter/test_loading.py", "AdapterBroken"),
    "workbench.remote.kept_files": ("tests/workbench/remote/test_runs.py", "kept.save("),
    "workbench.commands.cluster": ("tests/workbench/commands/test_cluster.py", '"cluster", "certs"'),
    "workbench.commands.doctor": ("tests/workbench/commands/test_examination.py", "doctor"),
    "workbench.commands.explain": ("tests/workbench/commands/test_cli.py", '"explain"'),
    "workbench.commands.imports": ("tests/workbench/commands/test_commands.py", "import mlflow"),
    "workbench.commands.jobs": ("tests/workbench/commands/test_cli.py", '"jobs", "submit"'),
    "workbench.commands.metrics": ("tests/workbench/commands/test_metrics.py", '"metrics"'),
    "workbench.publish.page_kernel": ("tests/workbench/publish/test_server.py", "site.kernels()"),
    "workbench.commands.notebooks": ("tests/workbench/commands/test_notebooks.py", '"notebooks", "sync"'),
    "workbench.commands.new": ("tests/workbench/adapter/test_scaffold.py", '"new", "adapter"'),
    "workbench.commands.runs": ("tests/workbench/commands/test_commands.py", '"runs"'),
    "workbench.commands.search": ("tests/workbench/commands/test_cli.py", '"search", "text"'),
    "workbench.commands.serve": ("tests/workbench/commands/test_commands.py", '"serve"'),
    "workbench.commands.worker": ("tests/workbench/commands/test_commands.py", '"worker"'),
    "workbench.compare.writing": ("tests/workbench/compare/test_writing.py", ".to_latex("),
    "workbench.home": ("tests/workbench/test_workspace.py", "WORKBENCH_HOME"),
    "workbench.host.signals": ("tests/workbench/host/test_signals.py", "SIGTERM"),
    "workbench.jobs.worker.runner": ("tests/workbench/notebooks/test_execution.py", "Runner("),
    "workbench.notebooks.client": ("tests/workbench/notebooks/test_execution.py", "CHATTY"),
    "workbench.notebooks.kernel_output": ("tests/workbench/notebooks/test_execution.py", "SLOW_READER"),
    "workbench.notebooks.execution": ("tests/workbench/notebooks/test_execution.py", "Runner("),
    "workbench.runs.imports.mlflow": ("tests/workbench/runs/imports/test_mlflow.py", "import_mlflow"),
    "workbench.runs.imports.tensorboard": (
        "tests/workbench/runs/imports/test_tensorboard.py",
        "import_tensorboard",
    ),
    "workbench.commands.order": ("tests/workbench/commands/test_order.py", '"runs", "delete"'),
    "workbench.runs.files": ("tests/workbench/runs/test_kept_files.py", "KeptFiles("),
    "workbench.runs.media_log": ("tests/workbench/runs/test_media.py", ".log_histogram("),
    "workbench.search.index_order": ("tests/workbench/runs/test_order.py", ".rename_index("),
    "workbench.server.api.media": ("tests/workbench/runs/test_order.py", "must be a PNG"),
    "workbench.server.api.order": ("tests/workbench/runs/test_order.py", ".resume_run("),
    "workbench.store.order": ("tests/workbench/runs/test_order.py", ".delete_experiment("),
    "workbench.runs.kept_files": ("tests/workbench/runs/test_kept_files.py", "log_artifact"),
    "workbench.search.service.__main__": (
        "tests/workbench/search/test_service.py",
        "workbench.search.service",
    ),
    "workbench.search.service.holder": ("tests/workbench/search/test_service.py", "search-service.log"),
    "workbench.search.service.holding": ("tests/workbench/search/test_service.py", "SearchClient"),
    "workbench.search.service.service": ("tests/workbench/search/test_service.py", "SearchClient"),
    "workbench.server.api.adapters": ("tests/workbench/server/test_server.py", '("GET", "adapters")'),
    "workbench.server.api.jobs": ("tests/workbench/server/test_server.py", '"jobs/eval"'),
    "workbench.server.api.kept_files": ("tests/workbench/server/test_server.py", "artifacts/"),
    "workbench.server.api.run_logging": ("tests/workbench/remote/test_runs.py", "start_run("),
    "workbench.server.api.runs": ("tests/workbench/server/test_server.py", "/summary"),
    "workbench.server.api.search": ("tests/workbench/server/test_server.py", '"search/text"'),
    "workbench.server.events": ("tests/workbench/server/test_server.py", "/events"),
    "workbench.server.handlers": ("tests/workbench/server/test_server.py", "X-XSRFToken"),
    "workbench.server.openapi": ("tests/workbench/server/test_schema.py", "openapi.json"),
    "workbench.server.rules": ("tests/workbench/server/test_server.py", "openapi.json"),
    "workbench.store.ingest": ("tests/workbench/store/test_points.py", ".add_batches("),
    "workbench.store.jobs": ("tests/workbench/store/test_store.py", ".claim_job("),
    "workbench.store.kept_files": ("tests/workbench/store/test_kept_files.py", ".forget_checkpoint("),
    "workbench.store.metrics": ("tests/workbench/store/test_store.py", ".summary_table("),
    "workbench.store.writer": ("tests/workbench/runs/test_run.py", "run.log("),
    "adapters.vlm_quantization.adapter": ("tests/adapters/test_contract.py", "vlm_quantization"),
    "adapters.vlm_quantization.evaluate.measuring": (
        "tests/adapters/vlm_quantization/evaluate/test_job.py",
        "Precision and recall",
    ),
    "adapters.vlm_quantization.evaluate.report.against_baselines": (
        "tests/adapters/vlm_quantization/evaluate/test_job.py",
        "Other codes of the same features",
    ),
    "adapters.vlm_quantization.evaluate.report.health": (
        "tests/adapters/vlm_quantization/evaluate/test_job.py",
        "Code health",
    ),
    "adapters.vlm_quantization.evaluate.report.tables": (
        "tests/adapters/vlm_quantization/evaluate/test_job.py",
        "Range over tie orders",
    ),
    "adapters.vlm_quantization.evaluate.report.worst": (
        "tests/adapters/vlm_quantization/evaluate/test_job.py",
        "Worst queries by text",
    ),
    "adapters.vlm_quantization.index.job": ("tests/adapters/test_contract.py", '"index_build"'),
    "adapters.vlm_quantization.index_builder": (
        "tests/adapters/vlm_quantization/test_names.py",
        '"index_builder"',
    ),
    "adapters.vlm_quantization.metrics.records": (
        "tests/adapters/vlm_quantization/metrics/test_evaluator.py",
        ".per_query",
    ),
    "adapters.vlm_quantization.search": ("tests/adapters/vlm_quantization/test_names.py", '"search"'),
}


def holds_code(path: Path) -> bool:
    """Whether a file says more than its docstring."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)) for one in body)


def modules() -> Iterator[str]:
    """Yield the modules of the project; what Alembic runs by path is what opening a database runs."""
    for top in ("workbench", "adapters"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "migrations" not in parts and (path.name != "__init__.py" or holds_code(path)):
                yield ".".join(parts[:-1] if path.name == "__init__.py" else parts)


def home_of(module: str, name: str) -> str:
    """Return where a name that a module hands on was made."""
    if not module.startswith(("workbench", "adapters")):
        return ""
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return ""
    return str(getattr(found, "__module__", ""))


def named(path: Path) -> set[str]:
    """Return the modules that a file of tests imports, names in a text, or uses by way of a face."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {module, *(f"{module}.{one.name}" for one in node.names)}
            found |= {home_of(module, one.name) for one in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"(?:workbench|adapters)(?:\.\w+)+", node.value))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "wb":
            found.add(home_of("workbench", node.attr))
    return found


@pytest.fixture(scope="module")
def tested() -> set[str]:
    """Every module that a test names."""
    # This file names modules in its table and tests none of them; a benchmark asserts nothing.
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    return {name for path in files for name in named(path)}


def test_every_module_has_a_test(tested: set[str]) -> None:
    assert [name for name in modules() if name not in tested and name not in THROUGH] == []


def test_every_door_is_there() -> None:
    assert THROUGH.keys() - set(modules()) == set()
    missing = [
        (module, file, words)
        for module, (file, words) in THROUGH.items()
        if not (ROOT / file).is_file() or words not in (ROOT / file).read_text(encoding="utf-8")
    ]
    assert missing == []
