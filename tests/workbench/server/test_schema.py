"""``openapi.json`` is accurate: for random requests, and for the answer of every route."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import workbench as wb
from tests.conftest import installed, with_database
from tests.workbench.conftest import DOG, Live, job_row, live_server, make_index
from workbench.host.locks import take_lock
from workbench.runs.media import file_name
from workbench.server.api.table import ROUTES
from workbench.store.migrations import HEAD

#: The checks of schemathesis for every answer. Requests that match the schema may still be refused: by an
#: adapter, or because a run is missing.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)

#: 501 means that the adapter does not offer something; it is not a server error.
SETTINGS = """
[checks.not_a_server_error]
expected-statuses = ["2XX", "3XX", "4XX", "501"]

[checks.negative_data_rejection]
expected-statuses = ["400", "403", "404", "405", "409", "413", "415", "422", "5xx"]
"""

#: Ids that exist, so that answers other than 404 are seen.
EXISTING = """
[parameters]
"path.job_id" = 1
"path.run_id" = 1
"path.experiment_id" = 1
"path.name" = "words"
"""


#: What takes away, for good or from its place, what other requests ask for.
DESTRUCTIVE = (
    *(f"delete_{nouns}_{noun}" for nouns, noun in (("runs", "run_id"), ("jobs", "job_id"))),
    *("delete_experiments_experiment_id", "delete_indexes_name"),
    *("post_indexes_name_rename", "post_indexes_name_archive", "post_indexes_name_restore"),
)


@pytest.fixture(scope="module")
def served(
    toy_package: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Live]:
    """A server for a workspace with one of everything, and working adapters.

    Jobs of random requests stay queued, since no worker starts while its lock is held: twenty kernels would
    show no answer that the jobs in their final states do not. With ``--long`` they run.
    """
    folder = tmp_path_factory.mktemp("schema")
    home = with_database(folder / "results")
    with installed(toy_package), ExitStack() as stack:
        if not request.config.getoption("--long"):
            stack.enter_context(take_lock(home / f".worker-{HEAD}.lock", seconds=5))
        make_index(home, "words")
        with wb.Workspace(home) as workspace:
            for status in ("succeeded", "failed", "cancelled"):  # the events of a running job would never end
                error = {"cell": 1, "type": "ValueError", "message": "강"} if status == "failed" else None
                job_row(workspace, status, error=error, started_at=1e9)
            with workspace.start_run("e", config={"deep": {"a": [1, None]}}, better={"m": "higher"}) as run:
                for value in (0.5, float("nan"), float("inf")):
                    run.log({"m": value, "n": 1})
                for name in ("words", "model.bin"):
                    run.log_checkpoint(name, home / "indexes" / "words" / "manifest.json")
            with live_server(home, folder / "state") as live:
                yield live


@pytest.mark.parametrize("existing", [False, True], ids=["any ids", "existing ids"])
def test_schemathesis_finds_nothing(
    served: Live, tmp_path: Path, existing: bool, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "schemathesis.toml").write_text(SETTINGS + (EXISTING if existing else ""))
    program = Path(sysconfig.get_path("scripts")) / "schemathesis"
    long = request.config.getoption("--long")
    # The systematic phase takes the longest. With any ids, most of its requests end at the id.
    phases = "examples,coverage,fuzzing" if existing or long else "examples,fuzzing"
    options = ["--phases", phases, "--max-examples", "50" if long else "6", "--seed", "1"]
    command = [program, "--config-file", tmp_path / "schemathesis.toml", "run", f"{served.api}/openapi.json"]
    command += ["--header", f"Authorization: token {served.token}", "--checks", ",".join(CHECKS), *options]
    command += ["--no-color", "--request-timeout", "60", "--continue-on-failure"]
    for operation in DESTRUCTIVE:  # the tests that follow need what is there, and ask for these at the end
        command += ["--exclude-operation-id", operation]
    if not existing:  # the events of a randomly started job may never end
        command += ["--exclude-path", "/jobs/{job_id}/events"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, re.sub(r"(.)\1{100,}", r"\1…", done.stdout)[-6000:]
    # The document itself is not counted.
    count = len(ROUTES) - len(DESTRUCTIVE) + (1 if existing else 0)
    assert f"Tested: {count}" in done.stdout
    generated = re.search(r"([\d,]+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1].replace(",", "")) > (20 if "coverage" in phases else 5) * count
    print(f"schemathesis: {generated[0]}", file=sys.stderr)
    assert served.alive()


@pytest.fixture(scope="module")
def document(served: Live) -> dict[str, Any]:
    document: dict[str, Any] = served.get("openapi.json").json()
    return document


def test_the_document_has_every_route_and_valid_schemas(document: dict[str, Any]) -> None:
    documented = {(verb.upper(), path) for path, verbs in document["paths"].items() for verb in verbs}
    routes = {(route.verb, f"/{route.path}") for route in ROUTES}
    assert documented == routes | {("GET", "/openapi.json"), ("GET", "/jobs/{job_id}/events")}
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    operations = [operation for verbs in document["paths"].values() for operation in verbs.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all("403" in operation["responses"] for operation in operations)


SENT = b"\0what was sent"
SHA256 = hashlib.sha256(SENT).hexdigest()
NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
POINTS = {"m": {"steps": [1, 2], "times": [1.0, 2], "values": [0.5, None]}}

ANSWERS: list[tuple[str, str, str, Any]] = [
    ("GET", "adapters", "adapters", None),
    ("GET", "adapters/{name}", "adapters/toy", None),
    ("GET", "jobs", "jobs?limit=3", None),
    ("GET", "jobs/{job_id}", "jobs/2", None),
    ("GET", "jobs/{job_id}/progress", "jobs/3/progress", None),
    ("GET", "jobs/{job_id}/logs", "jobs/1/logs", None),
    ("GET", "jobs/{job_id}/output", "jobs/1/output", None),
    ("POST", "jobs/{job_id}/cancel", "jobs/1/cancel", {}),
    ("GET", "experiments", "experiments", None),
    ("GET", "experiments/{experiment_id}/metrics", "experiments/1/metrics", None),
    ("POST", "experiments/compare", "experiments/compare", {"runs": [1]}),
    ("GET", "runs", "runs", None),
    ("GET", "runs/marks", "runs/marks?newest=2&also=1,7", None),
    ("POST", "runs/table", "runs/table", {"runs": [1, 7]}),
    ("POST", "runs/points", "runs/points", {"curves": [{"run": 1, "name": "m"}]}),
    ("GET", "runs/{run_id}", "runs/1", None),
    ("GET", "runs/{run_id}/summary", "runs/1/summary", None),
    ("GET", "runs/{run_id}/metrics", "runs/1/metrics?name=m", None),
    ("GET", "runs/{run_id}/checkpoints", "runs/1/checkpoints", None),
    ("DELETE", "runs/{run_id}/checkpoints/{name}", "runs/1/checkpoints/model.bin", None),
    ("GET", "indexes", "indexes", None),
    ("GET", "indexes/{name}", "indexes/words", None),
    ("GET", "indexes/{name}/fields", "indexes/words/fields", None),
    ("GET", "indexes/{name}/items/{item}/file", "indexes/words/items/dog/file", None),
    ("POST", "search/text", "search/text", {"index": "words", "query": "강아지", "k": 3}),
    ("POST", "search/image", "search/image", {"index": "words", "image": "ZG9n"}),
    ("POST", "search/item", "search/item", {"index": "words", "item": "dog"}),
    (
        "POST",
        "search/compose",
        "search/compose",
        {"index": "words", "terms": [{"text": "dog"}, {"item": "dot", "weight": -0.5}]},
    ),
    (
        "POST",
        "search/explain",
        "search/explain",
        {"index": "words", "left": {"text": "dog"}, "right": {"item": "dot"}},
    ),
    ("POST", "jobs/eval", "jobs/eval", {"adapter": "toy", "options": {"k": 2}, "fail_below": {"R@2": 0.1}}),
    ("POST", "jobs/train", "jobs/train", {"adapter": "toy", "options": {"steps": 1}}),
    ("POST", "jobs/index-build", "jobs/index-build", {"adapter": "toy", "options": {"name": "more"}}),
    ("POST", "jobs/data-check", "jobs/data-check", {"adapter": "toy", "options": {"source": "words"}}),
    ("POST", "jobs/notebook", "jobs/notebook", {"name": "a.ipynb", "notebook": NOTEBOOK}),
    ("POST", "jobs/{job_id}/retry", "jobs/1/retry", {}),
    ("POST", "runs", "runs", {"key": "k" * 32, "experiment": "sent", "seed": 2**70}),
    ("POST", "runs/{run_id}/points", "runs/2/points", {"key": "p" * 32, "number": 1, "points": POINTS}),
    ("PATCH", "runs/{run_id}", "runs/1", {"notes": "나", "tags": {"a": None}}),
    ("GET", "runs/{run_id}/outcome", "runs/1/outcome", None),
    ("POST", "runs/{run_id}/end", "runs/1/end", {"status": "failed", "error": {"type": "E", "message": "m"}}),
    ("PUT", "runs/{run_id}/checkpoints/{name}", f"runs/1/checkpoints/sent.bin?sha256={SHA256}&step=-5", SENT),
    ("GET", "runs/{run_id}/checkpoints/{name}", "runs/1/checkpoints/sent.bin", None),
    ("PUT", "runs/{run_id}/artifacts/{name}", f"runs/1/artifacts/sent.bin?sha256={SHA256}", SENT),
    ("GET", "runs/{run_id}/artifacts", "runs/1/artifacts", None),
    ("GET", "runs/{run_id}/artifacts/{name}", "runs/1/artifacts/sent.bin", None),
    ("GET", "runs/{run_id}/system", "runs/1/system", None),
    ("PUT", "runs/{run_id}/media", f"runs/1/media?sha256={SHA256}&kind=text&name=t&step=0&caption=c", SENT),
    ("GET", "runs/{run_id}/media", "runs/1/media", None),
    ("GET", "runs/{run_id}/media/{name}", f"runs/1/media/{file_name('text', 't', 0)}", None),
    ("POST", "runs/{run_id}/rename", "runs/1/rename", {"name": "강"}),
    ("POST", "runs/{run_id}/move", "runs/1/move", {"experiment": "other"}),
    ("POST", "runs/{run_id}/archive", "runs/1/archive", {}),
    ("POST", "runs/{run_id}/restore", "runs/1/restore", {}),
    ("POST", "runs/{run_id}/resume", "runs/1/resume", {"key": "r" * 32, "step": 5}),
    ("POST", "experiments/{experiment_id}/rename", "experiments/1/rename", {"name": "renamed"}),
    ("POST", "experiments/{experiment_id}/archive", "experiments/1/archive", {}),
    ("POST", "experiments/{experiment_id}/restore", "experiments/1/restore", {}),
    ("POST", "jobs/{job_id}/rename", "jobs/2/rename", {"name": "night"}),
    ("POST", "jobs/{job_id}/archive", "jobs/2/archive", {}),
    ("POST", "jobs/{job_id}/restore", "jobs/2/restore", {}),
    ("POST", "indexes/{name}/rename", "indexes/words/rename", {"name": "other"}),
    ("POST", "indexes/{name}/archive", "indexes/other/archive", {}),
    ("POST", "indexes/{name}/restore", "indexes/other/restore", {}),
    ("DELETE", "indexes/{name}", "indexes/other", None),
    ("DELETE", "jobs/{job_id}", "jobs/2", None),
    ("DELETE", "runs/{run_id}", "runs/1", None),
    ("DELETE", "experiments/{experiment_id}", "experiments/1", None),
]


def test_every_route_is_answered() -> None:
    assert {(verb, path) for verb, path, *_ in ANSWERS} == {(route.verb, route.path) for route in ROUTES}


@pytest.mark.parametrize(("verb", "path", "url", "body"), ANSWERS, ids=lambda value: str(value)[:40])
def test_an_answer_matches_the_document(
    served: Live, document: dict[str, Any], verb: str, path: str, url: str, body: Any
) -> None:
    if path in ("runs/{run_id}", "runs/{run_id}/resume", "experiments/{experiment_id}") and verb != "GET":
        with wb.Workspace(served.home) as home:  # neither runs while others go on
            for one in home.runs(archived=None):
                one.finish()
    if verb == "DELETE" and "checkpoints" in path:  # schemathesis knows its name and may have deleted it
        with wb.Workspace(served.home) as home:
            home.run(1).log_checkpoint("model.bin", home.indexes / "words" / "manifest.json", step=0)
    if path == "jobs/{job_id}/output":
        (folder := served.home / "jobs" / "1").mkdir(parents=True, exist_ok=True)
        (folder / "output.txt").write_bytes(SENT)
    if path == "runs/{run_id}/points":  # of a running run
        with wb.Workspace(served.home) as home:
            url = f"runs/{home.start_run('running').id}/points"
            answer = served.ask(verb, url, json=body)
    elif isinstance(body, bytes):
        answer = served.ask(verb, url, content=body)
    else:
        answer = served.ask(verb, url) if body is None else served.ask(verb, url, json=body)
    responses = document["paths"][f"/{path}"][verb.lower()]["responses"]
    if path != "search/item":  # the toy does not offer this search
        assert answer.status_code in (200, 201), answer.text
    content = responses[str(answer.status_code)]["content"]
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert any(fnmatch(kind, documented) for documented in content), kind
    if "application/json" not in content:
        assert answer.content == (DOG if path.startswith("indexes/") else SENT)
        return
    schema = content["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
    assert [error.message for error in validator.iter_errors(answer.json())] == []
