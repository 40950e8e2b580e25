"""Ready-made places that open the tour: Binder and dev containers. Their services cannot run here.

Held are the files' agreement with the project, and that what they start opens the tour.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BINDER, DEVCONTAINER = ROOT / ".binder", ROOT / ".devcontainer"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
CONTAINER = json.loads((DEVCONTAINER / "devcontainer.json").read_text(encoding="utf-8"))
TOUR = "notebooks/start_here.ipynb"

#: What each place runs to start Jupyter.
STARTS = {
    "binder": ".binder/start jupyter lab --no-browser",
    "devcontainer": CONTAINER["postAttachCommand"],
}


def promised(python: str) -> bool:
    """Whether the package's classifiers name a Python version."""
    return f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]


def extras(command: str) -> set[str]:
    """Return the extras with which a command installs the project."""
    return set(re.findall(r"-e ['\"]\.\[(\w+)\]['\"]", command))


# Binder -----------------------------------------------------------------------------------------------


def test_binder_installs_what_the_project_asks_for() -> None:
    environment = yaml.safe_load((BINDER / "environment.yml").read_text(encoding="utf-8"))
    python, pip, torch = environment["dependencies"]
    # Binder reads the version from `python=X.Y` only; from `>=` it falls back to a Python that is too old.
    version = re.fullmatch(r"python=(3\.\d+)", python)
    assert version is not None
    assert promised(version[1])
    assert pip == "pip"
    (wanted,) = (line for line in PROJECT["dependencies"] if line.startswith("torch>"))
    assert torch == wanted.replace("torch", "pytorch-cpu", 1)
    script = (BINDER / "postBuild").read_text(encoding="utf-8")
    assert extras(script) == {"demo"}
    assert PROJECT["optional-dependencies"].keys() >= extras(script)


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_binders_scripts_can_be_run(name: str) -> None:
    assert os.access(BINDER / name, os.X_OK)
    subprocess.run(["bash", "-n", BINDER / name], check=True)


def test_binders_build_installs_first_and_stops_at_the_first_failure(tmp_path: Path) -> None:
    """Run with programs that only note their calls."""
    for failing, expected in (
        ("", ["python3 -m pip install --no-cache-dir -e .[demo]", "workbench demo --no-serve"]),
        ("python3", ["python3 -m pip install --no-cache-dir -e .[demo]"]),
    ):
        calls = tmp_path / f"calls-{failing}"
        for name in ("python3", "workbench"):
            program = f'#!/bin/sh\necho {name} "$@" >> {calls}\nexit {int(name == failing)}\n'
            (tmp_path / name).write_text(program)
            (tmp_path / name).chmod(0o755)
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run([BINDER / "postBuild"], env={**os.environ, "PATH": path}, check=False)
        assert done.returncode == int(bool(failing))
        assert calls.read_text().splitlines() == expected


# Dev container ----------------------------------------------------------------------------------------


def test_the_container_is_built_from_its_dockerfile_for_a_user_who_is_not_root() -> None:
    dockerfile = (DEVCONTAINER / CONTAINER["build"]["dockerfile"]).read_text(encoding="utf-8")
    (python,) = re.findall(r"^FROM python:(3\.\d+)-\w+$", dockerfile, re.MULTILINE)
    assert promised(python)
    (user,) = re.findall(r"^USER (\w+)$", dockerfile, re.MULTILINE)
    assert user == CONTAINER["remoteUser"] != "root"
    for package in re.findall(r"missing\+=\((\S+)\)", CI):
        assert re.search(rf"apt-get install .*\b{re.escape(package)}\b", dockerfile)


def test_the_container_installs_what_the_tests_need_and_fills_the_tour() -> None:
    install, demo = CONTAINER["postCreateCommand"].split(" && ")
    assert extras(install) == {"test"}
    assert demo == "workbench demo --no-serve"


# Both -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", STARTS)
def test_what_is_started_opens_the_tour(place: str, tmp_path: Path) -> None:
    """The root of the server, which is where services send their visitors, leads to the notebook."""
    for name in (".binder", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / "project" / name)
    assert (tmp_path / "project" / TOUR).is_file()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A test may be root, and what it asks has to be let in.
    command = f"{STARTS[place]} --allow-root --ServerApp.port={port} --IdentityProvider.token=t0ken"
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("WORKBENCH", "JUPYTER"))}
    path = os.pathsep.join([str(Path(sys.prefix, "bin")), kept.get("PATH", os.defpath)])
    with subprocess.Popen(
        shlex.split(command),
        cwd=tmp_path / "project",
        env={**kept, "HOME": str(home), "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            address = final_address(f"http://127.0.0.1:{port}/?token=t0ken", server)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(300)
    assert address.partition("?")[0] == f"http://127.0.0.1:{port}/lab/tree/{TOUR}"


def final_address(url: str, server: subprocess.Popen[Any]) -> str:
    """Return where a page leads, once its server answers."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=300) as answer:  # noqa: S310
                return str(answer.url)
        except urllib.error.URLError as error:
            refused = isinstance(error.reason, ConnectionError)
            if not refused or server.poll() is not None or time.monotonic() > deadline:
                raise
        time.sleep(0.1)
