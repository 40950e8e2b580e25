"""CI may not skip tests: a test that is skipped when something is missing fails there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import second_try, tiers
from workbench.commands.examination import BROWSERS

ROOT = Path(__file__).parents[2]

#: The variable that CI sets, a test file that it concerns, and the skip message of that file.
REQUIRED = [
    ("WORKBENCH_REQUIRE_BROWSER", "tests/browser/test_compare_parts.py", "no Chromium found"),
    ("WORKBENCH_REQUIRE_UNSHARE", "tests/faults/test_disk.py", "no namespaces of a test's own here"),
    (
        "WORKBENCH_REQUIRE_STAMPS",
        "tests/adapters/vlm_quantization/data/test_installed_stamps.py",
        "tuxpaint-stamps-default is not installed",
    ),
    ("WORKBENCH_REQUIRE_NGINX", "tests/workbench/publish/test_proxy.py", "no nginx found"),
]

#: These runs need no cache, and no schemathesis plugin, which is slow to import.
_WITHOUT = ("-p", "no:cacheprovider", "-p", "no:schemathesis")


@pytest.mark.parametrize("variable", [*(variable for variable, *_ in REQUIRED), second_try.VARIABLE])
def test_ci_sets_the_variable_before_it_runs_the_tests(variable: str) -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.index(f"\nexport {variable}=1\n") < script.index("\n.venv/bin/pytest")


@pytest.mark.parametrize(("variable", "file", "says"), REQUIRED)
def test_a_missing_tool_skips_and_with_the_variable_fails(
    tmp_path: Path, variable: str, file: str, says: str
) -> None:
    """Run with a PATH that has no programs."""
    for required in (False, True):
        environment = {**os.environ, "PATH": str(tmp_path), variable: "1" if required else ""}
        none = str(tmp_path / "none")
        environment |= {"WORKBENCH_TEST_STAMPS": none, "WORKBENCH_TEST_NGINX": none, second_try.VARIABLE: ""}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-n0", *_WITHOUT, str(ROOT / file)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == int(required), done.stdout + done.stderr
        assert says in done.stdout
        assert bool(re.search(r"\d+ errors?\b", done.stdout)) is required
        assert bool(re.search(r"\d+ skipped", done.stdout)) is not required


#: Tests of which some fail at their first try only, by a count that a file keeps.
FLAKY = """
from pathlib import Path
import pytest

def first(name):
    told = Path(__file__).with_name(name)
    told.write_text(told.read_text() + "." if told.exists() else ".")
    return told.read_text() == "."

@pytest.fixture(scope="session")
def breaks():
    assert not first("session"), "the fixture broke"
    yield "made"
    first("ended")

@pytest.mark.slow
def test_slow_once(tmp_path):
    print("what it printed")
    assert not first("once"), "the first try broke"

@pytest.mark.slow
def test_slow_with_a_fixture(breaks):
    assert breaks == "made"

@pytest.mark.slow
def test_slow_and_broken():
    first("broken")
    assert False, "it is broken"

def test_quick():
    assert not first("quick"), "a quick one broke"

@pytest.mark.slow
def test_sound(breaks):
    first("sound")
"""


@pytest.mark.parametrize(("allowed", "workers"), [(True, 2), (False, 0)])
def test_a_slow_test_gets_a_second_try_where_the_variable_is_set(
    tmp_path: Path, allowed: bool, workers: int
) -> None:
    (tmp_path / "test_flaky.py").write_text(FLAKY, encoding="utf-8")
    # A folder without tests, for the hooks of its conftest.
    folders = [str(tmp_path), str(ROOT / "tests" / "quicker")]
    command = [sys.executable, "-m", "pytest", *_WITHOUT, f"-n{workers}", f"--basetemp={tmp_path / 'made'}"]
    environment = {**os.environ, second_try.VARIABLE: "1" if allowed else ""}
    done = subprocess.run(
        [*command, *folders],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    failed = set(re.findall(r"^FAILED \S*::(\w+)", done.stdout, re.MULTILINE))
    errors = set(re.findall(r"^ERROR \S*::(\w+)", done.stdout, re.MULTILINE))
    named = re.findall(r"^SECOND TRY \S*::(\w+)$", done.stdout, re.MULTILINE)
    tries = {
        path.name: len(path.read_text()) for path in tmp_path.iterdir() if not path.suffix and path.is_file()
    }
    if allowed:
        assert (failed, errors) == ({"test_slow_and_broken", "test_quick"}, set())
        assert sorted(named) == ["test_slow_and_broken", "test_slow_once", "test_slow_with_a_fixture"]
        assert tries == {"session": 2, "ended": 1, "once": 2, "broken": 2, "quick": 1, "sound": 1}
        told = done.stdout.partition(second_try.HEADING)[2]
        assert [
            part
            for part in ("the first try broke", "what it printed", "the fixture broke")
            if part not in told
        ] == []
        assert "2 failed, 3 passed, 3 rerun" in done.stdout
    else:
        assert failed == {"test_slow_once", "test_slow_and_broken", "test_quick"}
        assert errors == {"test_slow_with_a_fixture", "test_sound"}
        assert named == []
        assert second_try.HEADING not in done.stdout
        assert tries == {"session": 1, "once": 1, "broken": 1, "quick": 1}


def test_the_guide_says_what_a_second_try_means() -> None:
    guide = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert second_try.VARIABLE in guide
    assert "fault to mend" in guide


def test_a_second_try_needs_its_plugin(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    monkeypatch.setenv(second_try.VARIABLE, "1")
    monkeypatch.setattr(pytestconfig.pluginmanager, "hasplugin", lambda name: name != "rerunfailures")
    with pytest.raises(pytest.UsageError, match="pytest-rerunfailures is missing"):
        second_try.allow(pytestconfig, [])


def test_nothing_else_is_skipped_or_expected_to_fail() -> None:
    """A new skip is a decision: add it here, with the variable that turns it into a failure."""
    skips = re.compile(r"pytest\.(skip|xfail|importorskip)|mark\.(skip|skipif|xfail)\b")
    files = {
        path.relative_to(ROOT).as_posix()
        for folder in ("tests", "workbench", "adapters")
        for path in (ROOT / folder).rglob("*.py")
        if path != Path(__file__) and skips.search(path.read_text(encoding="utf-8"))
    }
    # The contract skips what an adapter does not offer; of ours a test says that they offer all of it.
    assert files == {
        "tests/adapters/vlm_quantization/data/test_installed_stamps.py",
        "tests/browser/conftest.py",
        "tests/faults/conftest.py",
        "tests/workbench/publish/test_proxy.py",
        "workbench/testing.py",
    }


@pytest.mark.parametrize(("user", "before"), [("0", ""), ("1000", "sudo ")])
def test_missing_system_packages_are_installed_by_root(tmp_path: Path, user: str, before: str) -> None:
    """Run where nothing is installed, with programs that only note their calls, so that little follows."""
    folder = tmp_path / "project"
    (folder / ".ci").mkdir(parents=True)
    script = folder / ".ci" / "run"
    script.write_text((ROOT / ".ci" / "run").read_text(encoding="utf-8"), encoding="utf-8")
    programs, calls = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    bash, dirname, env = map(shutil.which, ("bash", "dirname", "env"))
    bodies = {
        "id": f"echo {user}",
        "find": "exit 0",
        "sudo": f'echo sudo "$@" >> {calls}',
        "apt-get": f'echo apt-get "$@" >> {calls}',
        "python3": "exit 1",
        "dirname": f'exec {dirname} "$@"',
        "env": f'exec {env} "$@"',
    }
    for name, body in bodies.items():
        (programs / name).write_text(f"#!{bash}\n{body}\n")
        (programs / name).chmod(0o755)
    assert bash is not None
    done = subprocess.run([bash, script], env={"PATH": str(programs)}, capture_output=True, check=False)
    assert done.returncode != 0
    assert f"command -v {' '.join(BROWSERS)} >" in script.read_text(encoding="utf-8")
    update, install = calls.read_text().splitlines()
    assert update == f"{before}apt-get update -q"
    assert install.startswith(before)
    assert install.endswith(
        "apt-get install -y -q --no-install-recommends "
        "chromium-headless-shell fonts-noto-cjk tuxpaint-stamps-default nginx-light"
    )


def test_the_tiers_name_tests_that_exist() -> None:
    tests = ROOT / "tests"
    assert [name for name in tiers.SLOW_FOLDERS if not any((tests / name).rglob("test_*.py"))] == []
    assert [name for name in tiers.SLOW_FILES if not (tests / name).is_file()] == []
    assert [name for name in tiers.SLOW_FILES if name.startswith(tiers.SLOW_FOLDERS)] == []


@pytest.mark.parametrize(
    ("file", "fixtures", "slow"),
    [
        ("browser/test_lab.py", (), True),
        ("workbench/store/test_store.py", ("workspace",), False),
        ("workbench/store/test_store.py", ("postgres",), True),
    ],
)
def test_a_test_is_slow_by_its_file_or_its_fixtures(file: str, fixtures: tuple[str, ...], slow: bool) -> None:
    assert tiers.is_slow(file, frozenset(fixtures)) is slow


def test_what_the_guides_say_of_the_tiers_is_declared() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
        "ini_options"
    ]
    declared = {marker.partition(":")[0] for marker in options["markers"]}
    for guide in ("README.md", ".github/CONTRIBUTING.md"):
        text = (ROOT / guide).read_text(encoding="utf-8")
        named = set(re.findall(r'pytest -m "(?:not )?(\w+)"', text))
        assert named
        assert named <= declared
        assert "pytest --long" in text
