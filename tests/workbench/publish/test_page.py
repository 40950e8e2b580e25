"""Publishing: the settings, the environment, and a server that responds before its URL is returned."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import workbench as wb
from workbench.publish import page as voila
from workbench.publish.rendering import KERNEL_VARIABLES
from workbench.search import client
from workbench.search.searcher import SHOW_PATHS


def test_the_settings_expose_nothing() -> None:
    settings = voila.settings()
    page = settings["VoilaConfiguration"]
    assert page["strip_sources"] is True
    assert page["show_tracebacks"] is False
    assert (page["file_allowlist"], page["file_denylist"]) == ([], [".*"])
    assert (page["allow_template_override"], page["allow_theme_override"]) == ("NO", "NO")
    assert settings["PublishedPage"]["ip"] == "127.0.0.1"


def test_voila_knows_every_setting() -> None:
    from jupyter_client.connect import ConnectionFileMixin
    from jupyter_client.manager import KernelManager
    from voila.configuration import VoilaConfiguration
    from voila.execute import VoilaExecutor

    from workbench.publish.server import PublishedPage

    jupyters = (VoilaConfiguration, VoilaExecutor, KernelManager, ConnectionFileMixin)
    owners = {owner.__name__: owner for owner in (PublishedPage, *jupyters)}
    for owner, values in voila.settings(silent_seconds=5).items():
        assert set(values) <= set(owners[owner].class_trait_names(config=True))


def test_the_command_passes_the_settings_to_this_interpreter() -> None:
    command = voila.command(
        Path("page.ipynb"), 8123, preheat=False, silent_seconds=9, host_names=["a.example"]
    )
    assert command[:3] == [sys.executable, "-m", "workbench.publish.server"]
    assert command[-1] == "page.ipynb"
    assert "--port=8123" in command
    assert "--PublishedPage.prepare_page=False" in command
    assert "--PublishedPage.host_names=['a.example']" in command
    assert "--PublishedPage.silent_seconds=9" in command
    assert "--VoilaConfiguration.file_denylist=['.*']" in command


def test_the_pages_kernel_gets_only_the_environment_it_needs(tmp_path: Path) -> None:
    variables = {
        "PATH": "/bin",
        "HOME": "/h",
        "SECRET_TOKEN": "s",
        "WORKBENCH_WORKER_IDLE": "5",
        "WORKBENCH_DATABASE_URL": "postgresql://me:password@db/x",
        "WORKBENCH_SEARCH_LIMITS": "{}",
        "WORKBENCH_MAX_MEGAPIXELS": "50",
        "JUPYTER_TOKEN": "t",
    }
    passed = voila.environment(tmp_path, "words", variables)
    assert not {"SECRET_TOKEN", "JUPYTER_TOKEN", "WORKBENCH_DATABASE_URL", "WORKBENCH_WORKER_IDLE"} & set(
        passed
    )
    assert passed["WORKBENCH_HOME"] == str(tmp_path)
    assert passed["WORKBENCH_INDEX"] == "words"
    # The search service that the page's kernel starts takes its limits from the environment.
    limits = {"WORKBENCH_SEARCH_LIMITS", "WORKBENCH_MAX_MEGAPIXELS"}
    assert {passed[name] for name in limits} == {"{}", "50"}
    assert limits <= KERNEL_VARIABLES
    assert "WORKBENCH_INDEX" not in voila.environment(tmp_path, None, variables)


def test_visitors_see_paths_only_if_the_publisher_says_so(tmp_path: Path) -> None:
    # What the publisher's shell has set says nothing about this page.
    assert SHOW_PATHS not in voila.environment(tmp_path, "words", {SHOW_PATHS: "1"})
    assert voila.environment(tmp_path, "words", {}, show_paths=True)[SHOW_PATHS] == "1"
    assert SHOW_PATHS in KERNEL_VARIABLES


def test_the_page_is_in_this_package_and_its_kernel_runs_any_interpreter() -> None:
    assert voila.search_notebook().is_file()
    spec = json.loads((voila.SHARE / "kernels" / "python3" / "kernel.json").read_text())
    assert spec["argv"][0] == "python"  # Jupyter replaces it with its own interpreter
    template = voila.SHARE / "voila" / "templates" / "workbench"
    assert json.loads((template / "conf.json").read_text()) == {"base_template": "base"}
    assert "http" not in (template / "page.css").read_text()


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        with pytest.raises(wb.BadInput, match=f"port {used.getsockname()[1]}.*in use"):
            voila.serve(tmp_path, port=used.getsockname()[1])


@pytest.mark.parametrize("name", ["https://a.example", "a.example:80", "a.example/page", "", "a b"])
def test_what_is_no_host_name_is_refused_before_anything_starts(tmp_path: Path, name: str) -> None:
    with pytest.raises(wb.BadInput, match="is not a host name"):
        voila.serve(tmp_path, host_names=[name])
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_ends_immediately_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [sys.executable, "-c", "raise SystemExit('no such template')"]
    monkeypatch.setattr(voila, "command", lambda *_, **__: broken)
    with pytest.raises(wb.WorkbenchError, match=r"code 1[\s\S]*no such template"):
        voila.serve(tmp_path)


def test_a_workspace_that_cannot_be_written_has_its_log_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir(mode=0o755)
    elsewhere.mkdir()
    monkeypatch.setattr(client.os, "access", lambda path, mode: Path(path) != home)
    monkeypatch.setattr(client.tempfile, "gettempdir", lambda: str(elsewhere))
    monkeypatch.setattr(voila, "command", lambda *_, **__: [sys.executable, "-c", "raise SystemExit('no')"])
    with pytest.raises(wb.WorkbenchError, match=r"code 1[\s\S]*no"):
        voila.serve(home)
    assert list(home.iterdir()) == []
    assert [path.name for path in elsewhere.rglob("*.log")] == [voila.LOG_NAME]


def test_a_server_that_never_responds_is_terminated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def remembered(*arguments: object, **more: object) -> subprocess.Popen[bytes]:
        started.append(real(*arguments, **more))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(voila.subprocess, "Popen", remembered)
    monkeypatch.setattr(
        voila, "command", lambda *_, **__: [sys.executable, "-c", "import time; time.sleep(600)"]
    )
    with pytest.raises(wb.WorkbenchError, match=r"within 0\.2 s"):
        voila.serve(tmp_path, timeout=0.2)
    assert started[0].poll() is not None


def test_a_published_page_responds_when_its_url_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(voila.webbrowser, "open", opened.append)
    process, url = voila.serve(tmp_path / "results", preheat=False, open_browser=True)
    try:
        with urllib.request.urlopen(url + voila.HEALTH_PATH, timeout=300) as answer:  # noqa: S310  # our own server
            assert answer.status == 200
        assert opened == [url]
    finally:
        process.terminate()
        process.wait(300)
    log = tmp_path / "results" / voila.LOG_NAME
    assert log.is_file()
    assert log.stat().st_mode & 0o777 == 0o600
