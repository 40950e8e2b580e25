"""A wheel built from this checkout works in an environment of its own, far from the checkout."""

import fnmatch
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(out.glob("*.whl"))


def test_the_wheel_carries_everything_that_is_not_python(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(ROOT))
        for folder in ("workbench", "adapters")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"workbench/_notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert expected <= inside
    enabled = "notebook_workbench-*.data/data/etc/jupyter/jupyter_server_config.d/notebook_workbench.json"
    assert [name for name in inside if fnmatch.fnmatchcase(name, enabled)]
    assert not [name for name in inside if name.startswith(("tests/", "results/"))]


def test_an_installed_wheel_runs_the_demo_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    # The dependencies are those of the environment the tests run in, by a path file of site-packages: what is
    # proved is that the wheel is whole, not that a registry answers. The editable install of the checkout is
    # found through a finder of its own there, which a path file does not run, so it cannot stand in.
    env = tmp_path / "env"
    venv.create(env, with_pip=False, symlinks=True)
    python = env / "bin" / "python"
    target = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    install = ["pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True, text=True)
    (target / "dependencies.pth").write_text(
        "import sys; sys.path.append({!r})\n".format(sysconfig.get_path("purelib"))
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("WORKBENCH", "PYTHON"))
    }
    where = subprocess.run(
        [
            python,
            "-c",
            "import workbench, adapters.vlm_quantization as a; print(workbench.__file__, a.__file__)",
        ],
        check=True,
        capture_output=True,
        text=True,
        cwd=empty,
        env=clean,
    ).stdout.split()
    assert all(str(target) in path for path in where)
    # Installing it was enabling it: the server of this environment serves the API.
    config = env / "etc" / "jupyter" / "jupyter_server_config.d" / "notebook_workbench.json"
    assert json.loads(config.read_text()) == {
        "ServerApp": {"jpserver_extensions": {"workbench.server": True}}
    }
    listed = subprocess.run(
        [python, "-m", "jupyter_server.extension.serverextension", "list"],
        capture_output=True,
        text=True,
        cwd=empty,
        env=clean,
        timeout=120,
        check=True,
    )
    assert "workbench.server" in listed.stdout + listed.stderr
    small = ["train.steps=20", "train.validate_every=10", "train.refit_steps=10", "train.image_tower=random"]
    command = [str(env / "bin" / "workbench"), "demo", "--no-serve", "--json"]
    done = subprocess.run(
        [*command, *(word for option in small for word in ("--option", option))],
        capture_output=True,
        text=True,
        cwd=empty,
        env=clean,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert [job["status"] for job in said["jobs"]] == ["succeeded"] * 3
    assert Path(said["workspace"]) == empty / "results"
    assert 0 < said["metrics"]["t2i/R@10@128"] <= 1
    assert (empty / "results" / "indexes" / said["index"]["name"] / "manifest.json").is_file()
