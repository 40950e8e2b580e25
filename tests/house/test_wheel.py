"""A wheel built from this checkout works in a separate environment, away from the checkout."""

import fnmatch
import hashlib
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib.metadata import version
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from adapters.vlm_quantization.notebooks import job_notebooks
from tests.conftest import DemoResults, Environment

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pip(env: Path, *command: str) -> str:
    """Let the pip of this environment work on another one."""
    words = [sys.executable, "-m", "pip", "--python", str(env / "bin" / "python"), *command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_the_wheel_contains_all_package_files(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        str(path.relative_to(ROOT))
        for folder in ("workbench", "adapters")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"workbench/_notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    jobs = job_notebooks().values()
    expected |= {f"adapters/vlm_quantization/_notebooks/{path.name}" for path in jobs}
    assert expected <= inside
    enabled = "notebook_workbench-*.data/data/etc/jupyter/jupyter_server_config.d/notebook_workbench.json"
    assert [name for name in inside if fnmatch.fnmatchcase(name, enabled)]
    assert not [name for name in inside if name.startswith(("tests/", "results/"))]


# The wheel's own metadata -------------------------------------------------------------------------------


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(opened.read(name))


def test_the_wheel_carries_the_licence_and_the_notices(wheel: Path) -> None:
    fields = metadata(wheel)
    assert fields["License-Expression"] == "Apache-2.0"
    notices = {path.relative_to(ROOT).as_posix() for path in (ROOT / "adapters").rglob("NOTICE")}
    assert notices
    assert set(fields.get_all("License-File")) == {"workbench/LICENSE", *notices}
    with zipfile.ZipFile(wheel) as opened:
        for name in fields.get_all("License-File"):
            (stored,) = (one for one in opened.namelist() if one.endswith(f".dist-info/licenses/{name}"))
            assert opened.read(stored) == (ROOT / name).read_bytes()


def test_the_licence_is_the_whole_text_unchanged() -> None:
    text = (ROOT / "workbench" / "LICENSE").read_bytes()
    assert text.split(maxsplit=4)[:4] == [b"Apache", b"License", b"Version", b"2.0,"]
    # The text as its authors publish it, from the title to the appendix.
    expected = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256(text).hexdigest() == expected


def test_pip_names_the_licence_of_what_is_installed(wheel_environment: Environment) -> None:
    shown = pip(wheel_environment.folder, "show", "--verbose", "--files", "notebook-workbench")
    assert re.search(r"dist-info/licenses/workbench/LICENSE$", shown, re.MULTILINE)
    if Version(version("pip")) >= Version("25.0"):  # the first that reads licence expressions
        assert "License-Expression: Apache-2.0\n" in shown


def test_the_wheel_links_to_the_project(wheel: Path) -> None:
    links = dict(line.split(", ", 1) for line in metadata(wheel).get_all("Project-URL"))
    source = links["Source"]
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+", source)
    assert {"Issues", "Documentation", "Changes"} <= links.keys()
    assert [link for link in links.values() if not re.match(rf"{re.escape(source)}(/|#|$)", link)] == []


def test_the_wheel_names_its_audience_and_its_pythons(wheel: Path) -> None:
    # The build itself refuses an unknown classifier; the Python versions must also fit Requires-Python.
    fields = metadata(wheel)
    classifiers = fields.get_all("Classifier")
    assert sorted(classifiers) == sorted(PROJECT["classifiers"])
    pythons = re.findall(r":: Python :: (\d+\.\d+)$", "\n".join(classifiers), re.MULTILINE)
    allowed = SpecifierSet(fields["Requires-Python"])
    assert pythons == sorted(pythons, key=Version)
    assert all(one in allowed for one in pythons)
    major, minor = map(int, pythons[0].split("."))
    assert f"{major}.{minor - 1}" not in allowed
    assert set(fields["Keywords"].split(",")) >= {"jupyter", "image-text retrieval"}


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
    assert (package["name"], package["version"]) == (PROJECT["name"], PROJECT["version"])
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


def test_an_installed_wheel_is_found_and_enables_its_server(
    wheel_environment: Environment, tmp_path: Path
) -> None:
    installed = wheel_environment

    def said(*words: str) -> str:
        done = subprocess.run(
            [installed.python, *words],
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=installed.variables,
            timeout=300,
        )
        return done.stdout + done.stderr

    program = "import workbench, adapters.vlm_quantization as a; print(workbench.__file__, a.__file__)"
    assert all(path.startswith(str(installed.packages)) for path in said("-c", program).split())
    # Installing it enables it: the server of this environment serves the API.
    config = installed.folder / "etc" / "jupyter" / "jupyter_server_config.d" / "notebook_workbench.json"
    assert json.loads(config.read_text()) == {
        "ServerApp": {"jpserver_extensions": {"workbench.server": True}}
    }
    assert "workbench.server" in said("-m", "jupyter_server.extension.serverextension", "list")


def test_an_installed_wheel_runs_the_demo_in_an_empty_folder(demo_results: DemoResults) -> None:
    # The demo whose results other tests look at is that of the installed wheel.
    document, home = demo_results.said, demo_results.home
    assert [job["status"] for job in document["jobs"]] == ["succeeded"] * 3
    assert [path.name for path in home.parent.iterdir()] == ["results"]
    assert Path(document["workspace"]) == home
    assert 0 < document["metrics"]["t2i/R@10@128"] <= 1
    assert (home / "indexes" / document["index"]["name"] / "manifest.json").is_file()
