"""A wheel built from this checkout works in a separate environment, away from the checkout."""

import fnmatch
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
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


def test_the_wheel_contains_all_package_files(wheel: Path) -> None:
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


LAB = "share/jupyter/labextensions/notebook-workbench"


def lab_sources() -> dict[str, bytes]:
    """The files for JupyterLab by destination: the extension as written, and the notebooks."""
    extension = ROOT / "workbench" / "labextension"
    files = {str(path.relative_to(extension)): path for path in extension.rglob("*") if path.is_file()}
    files |= {f"static/notebooks/{path.name}": path for path in (ROOT / "notebooks").glob("*.ipynb")}
    return {f"{LAB}/{name}": path.read_bytes() for name, path in files.items()}


def lab_files(archive: Path) -> dict[str, bytes]:
    """The files that a wheel installs into the environment's `share/`."""
    with zipfile.ZipFile(archive) as opened:
        return {
            name.partition(".data/data/")[2]: opened.read(name)
            for name in opened.namelist()
            if f".data/data/{LAB}/" in name
        }


def test_the_wheel_installs_the_lab_extension_as_it_is_written(wheel: Path) -> None:
    assert lab_files(wheel) == lab_sources()


def test_an_editable_install_installs_it_too(tmp_path: Path) -> None:
    program = f"from hatchling.build import build_editable as b; print(b({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert lab_files(tmp_path / done.stdout.splitlines()[-1]) == lab_sources()


def test_the_lab_extension_has_the_metadata_jupyterlab_reads() -> None:
    folder = ROOT / "workbench" / "labextension"
    package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (package["name"], package["version"]) == (project["name"], project["version"])
    assert (folder / package["jupyterlab"]["_build"]["load"]).is_file()
    # Its parts exist: the files that it imports, and the notebooks that its cards copy.
    for path in (folder / "static").glob("*.js"):
        for name in re.findall(r"""(?:from|URL\()\s*"(\./[^"]+)\"""", path.read_text(encoding="utf-8")):
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"
    pages = re.findall(r'"(\w+\.ipynb)"', (folder / "static" / "pages.js").read_text(encoding="utf-8"))
    assert {path.name for path in (ROOT / "notebooks").glob("*.ipynb")} == set(pages)


def test_each_page_is_marked_as_ours() -> None:
    for name in ("start_here", "jobs", "compare", "search_demo"):
        notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
        assert notebook["metadata"]["workbench"] == {"page": f"{name}.ipynb"}


def test_an_installed_wheel_runs_the_demo_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    # The dependencies come from the environment of the tests, through a path file in site-packages: the test
    # is about the wheel being complete, not about a registry. The editable install of the checkout cannot
    # stand in for the wheel: it is found through an import hook, which a path file does not run.
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
    # Installing it enables it: the server of this environment serves the API.
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
    document = json.loads(done.stdout)
    assert [job["status"] for job in document["jobs"]] == ["succeeded"] * 3
    assert Path(document["workspace"]) == empty / "results"
    assert 0 < document["metrics"]["t2i/R@10@128"] <= 1
    assert (empty / "results" / "indexes" / document["index"]["name"] / "manifest.json").is_file()
