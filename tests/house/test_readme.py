"""Every command and code block of the README is run, in reading order.

They run in a copy of the checkout with the ``results`` of a short demo. CI runs the two commands that set up
an environment; here they are compared with ``.ci/run``. Settings that make a job slow are reduced;
nothing else is changed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import workspace_in
from tests.house.readme import (
    BLOCKS,
    PATIENCE,
    README,
    ROOT,
    SHORTER,
    Block,
    checkout,
    environment,
    run,
    shorter,
)

#: Programs whose commands are run, wherever the text contains one.
PROGRAMS = ("workbench", "papermill", "jupyter", "pip", "python", "python3", "pytest", "pre-commit", "source")

#: The only commands that are not run: they create an environment, and `.ci/run` runs the second.
SETUP = {
    'python3 -m venv .venv && .venv/bin/pip install -e ".[demo]" && .venv/bin/workbench demo',
    'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest',
}


def of(*languages: str) -> list[Any]:
    return [pytest.param(block, id=f"line-{block.line}") for block in BLOCKS if block.language in languages]


@pytest.fixture(scope="module")
def project(demo_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout after ``workbench demo``, with a second run to compare with."""
    folder = checkout(tmp_path_factory.mktemp("readme") / "project")
    demo_copy.rename(folder / "results")
    with workspace_in(folder / "results") as home:
        with home.start_run("emoji", name="second", config={"steps": 1}) as run:
            run.log({"train/loss": 1.0}, step=1)
        yield folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str) -> None:
    """Wait until a page answers; Jupyter prints its address a moment before."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310
                assert answer.status == 200
                return
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


# Commands and blocks ----------------------------------------------------------------------------------


def test_every_block_is_in_a_language_that_is_run() -> None:
    # The drawing of the floors is text, which tests/test_walls.py compares with the tree.
    assert {block.language for block in BLOCKS} == {"sh", "python", "json", "yaml", "text"}
    assert len(BLOCKS) >= 12


def test_every_command_named_in_the_text_is_in_a_block() -> None:
    text = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    named = {code for code in re.findall(r"`([^`\n]+)`", text) if code.split()[0] in PROGRAMS and " " in code}
    shown = "\n".join(block.text for block in BLOCKS if block.language == "sh")
    helps = {code for code in named if code.endswith(" --help")}
    assert helps
    # The tiers are the suite itself, which cannot run inside one of its tests; test_ci.py checks their names.
    tiers = {'pytest -m "not slow"', "pytest --long"}
    assert tiers <= named
    assert [code for code in named - helps - tiers if code not in shown] == []
    for command in helps:
        subprocess.run(
            [sys.executable, "-m", "workbench.cli", *shlex.split(command)[1:]],
            check=True,
            capture_output=True,
        )


def test_every_shortened_setting_occurs() -> None:
    assert [long for long in SHORTER if long not in README] == []


def test_the_setup_commands_are_those_that_ci_runs() -> None:
    assert {block.text.strip() for block in BLOCKS} >= SETUP
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]"' in ci
    assert "\n.venv/bin/pytest" in ci


def _runs_by_itself(block: Block) -> bool:
    return not block.serves and "wb.connect" not in block.text


@pytest.mark.parametrize("block", [one for one in of("sh", "python") if _runs_by_itself(one.values[0])])
def test_a_block_runs(project: Path, block: Block) -> None:
    if block.text.strip() in SETUP:
        return  # checked above
    if block.language == "python":
        (project.parent / "block.py").write_text(shorter(block.text), encoding="utf-8")
        run(project, f"{shlex.quote(sys.executable)} {project.parent / 'block.py'}")
        return
    out = run(project, shorter(block.text))
    if "search text 강아지" in block.text:
        assert "dog" in out


def test_the_client_drives_a_workspace_on_a_server(project: Path) -> None:
    (block,) = (block for block in BLOCKS if "wb.connect" in block.text)
    port = _free_port()
    flags = f"--no-browser --allow-root --ServerApp.port={port} --IdentityProvider.token=t0ken"
    text = shorter(block.text).replace("http://localhost:8888", f"http://127.0.0.1:{port}")
    text = text.replace("the server's token", "t0ken")
    assert text.count("t0ken") == text.count(f":{port}") == 1
    (project.parent / "client.py").write_text(text, encoding="utf-8")
    with subprocess.Popen(
        ["bash", "-c", f"exec jupyter server {flags}"],
        cwd=project,
        env=environment(project),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token=t0ken")
            output = run(project, f"{shlex.quote(sys.executable)} {project.parent / 'client.py'}")
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)
    assert output.strip()


@pytest.mark.parametrize("block", [one for one in of("sh") if one.values[0].serves])
def test_a_server_comes_up(project: Path, block: Block) -> None:
    """Pages answer at the printed address; a worker reports that it is running."""
    script = block.text.strip()
    if script.startswith("jupyter lab"):  # a test has no browser to open, and may be root
        script += f" --no-browser --allow-root --ServerApp.port={_free_port()}"
    with subprocess.Popen(
        ["bash", "-c", f"exec {script}"],
        cwd=project,
        env=environment(project),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        output = ""
        try:
            for line in server.stdout:
                output += line
                if "stop it with Ctrl-C" in line:
                    break
                if match := re.search(r"http://(?:127\.0\.0\.1|localhost):\d+/\S*", line):
                    _wait_for(match[0])
                    break
            else:
                pytest.fail(f"{script} ended:\n{output[-3000:]}")
        finally:
            os.killpg(server.pid, signal.SIGINT)
            os.killpg(server.pid, signal.SIGTERM)
            server.communicate(timeout=60)


def test_the_collection_is_read_as_shown(tmp_path: Path) -> None:

    (block,) = (block for block in BLOCKS if block.language == "json")
    (line,) = block.text.splitlines()
    shown = json.loads(line)
    (tmp_path / shown["image"]).parent.mkdir(parents=True)
    Image.new("RGB", (40, 40), "orange").save(tmp_path / shown["image"])
    (tmp_path / "captions.jsonl").write_text(line + "\n", encoding="utf-8")
    from adapters.vlm_quantization.data import open_collection

    (item,) = open_collection(tmp_path / "captions.jsonl").items
    assert item.captions == {name: tuple(texts) for name, texts in shown["captions"].items()}
    assert list(item.labels) == shown["labels"]
