"""An adapter that cannot be loaded: one error with its name, the cause and what to do, at every door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import workbench as wb
from tests.conftest import workspace_in
from tests.workbench.conftest import Live, install, live_server, make_index, on_path
from workbench import cli, wire
from workbench.adapter.registry import import_name_shared, load_adapters
from workbench.commands.examination import examine
from workbench.panels.jobs.panel import JobsPanel
from workbench.panels.search.page import search_page
from workbench.search.client import SearchClient
from workbench.search.searcher import PUBLISHED

#: An adapter whose import raises, and keeps count of how often it was tried.
COUNTED = """
import os, pathlib
with pathlib.Path(os.environ["COUNTED"]).open("a") as file:
    file.write("x")
raise RuntimeError("not today")
"""

#: Adapters that cannot be loaded: source, entry point, part of the cause, part of the hint.
BROKEN = {
    "raising": (
        "raise RuntimeError('not today')",
        "",
        "RuntimeError: not today",
        "The whole trace: python -c",
    ),
    "leaving": ("import sys; sys.exit(3)", "", "SystemExit: 3", "leaving-adapter"),
    "needing": ("import no_such_thing", "", "module 'no_such_thing', which it needs", "pip install needing"),
    "extra": (
        "import workbench as wb\nraise wb.MissingExtra('PostgreSQL', 'postgres')",
        "",
        "PostgreSQL is not installed",
        'pip install "notebook-workbench[postgres]"',
    ),
    "wordless": ("", "", "'adapter' not found in its module 'wordless_adapter'", "Correct the entry point"),
    "moved": ("", "moved_adapter.inner:adapter", "module 'moved_adapter.inner' not found", "moved-adapter"),
    "gone": ("", "gone_away:adapter", "its module 'gone_away' not found", "--no-deps gone-adapter"),
    "text": ("adapter = 'me'", "", "is a str; it must be an instance of workbench.BaseAdapter", "Correct"),
    "kind": (
        "import workbench as wb\nclass Kind(wb.BaseAdapter): ...\nadapter = Kind",
        "",
        "is the class Kind",
        "adapter = Kind()",
    ),
    "crooked": ("", "not an entry point", "must have the form 'module:object'", "Correct the entry point"),
}


def point(folder: Path, name: str, source: str, value: str = "") -> None:
    """Install an adapter, with an entry point of another value if one is given."""
    install(folder, name, source)
    if value:
        file = folder / f"{name}_adapter-1.0.dist-info" / "entry_points.txt"
        file.write_text(f"[workbench.adapters]\n{name} = {value}\n")


def take_the_name(folder: Path, source: str = "", version: str = "1.2.0") -> Path:
    """Install a distribution whose regular package has the import name of the shelf of adapters."""
    package = folder / "adapters"
    package.mkdir()
    (package / "__init__.py").write_text(source)
    info = folder / f"adapters-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: adapters\nVersion: {version}\n")
    (info / "RECORD").write_text("adapters/__init__.py,,\nadapters-1.2.0.dist-info/METADATA,,\n")
    return package / "__init__.py"


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing of the shelf of adapters is imported yet."""

    def shelf() -> dict[str, ModuleType]:
        return {name: one for name, one in sys.modules.items() if name.split(".")[0] == "adapters"}

    def forget() -> None:
        for name in shelf():
            del sys.modules[name]

    before = shelf()
    forget()
    yield
    forget()
    sys.modules.update(before)


@dataclass
class Taken:
    """A place where the import name is another distribution's, and what the error then names."""

    folder: Path
    file: Path

    def check(self, message: str, hint: str) -> None:
        assert message.startswith("adapter 'vlm_quantization' cannot be loaded: ")
        assert "another distribution, adapters 1.2.0, at " in message
        assert str(self.file) in message
        assert "pip uninstall adapters" in hint
        assert "environment of its own" in hint


@pytest.fixture
def taken(tmp_path: Path, toy: wb.BaseAdapter, fresh: None) -> Iterator[Taken]:
    folder = tmp_path / "taken"
    folder.mkdir()
    file = take_the_name(folder)
    with on_path(folder):
        yield Taken(folder, file)


# In Python ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BROKEN)
def test_the_error_says_which_adapter_why_and_what_to_do(name: str, tmp_path: Path) -> None:
    source, value, cause, hint = BROKEN[name]
    point(tmp_path, name, source, value)
    with on_path(tmp_path):
        for _ in range(2):  # the second time it is remembered
            with pytest.raises(wb.AdapterBroken) as raised:
                wb.get_adapter(name)
            error = raised.value
            assert error.adapter == name
            assert error.message == f"adapter {name!r} cannot be loaded: {error.cause}"
            assert cause in error.cause
            assert hint in error.hint


def test_the_error_arrives_whole_from_another_process() -> None:
    error = wb.AdapterBroken("toy", "no reason", hint="Do it.")
    back = wire.error_from(json.loads(wire.dumps(wire.error_json(error))))
    assert isinstance(back, wb.AdapterBroken)
    assert (back.adapter, back.cause, str(back)) == ("toy", "no reason", str(error))
    assert wire.status_of(back) == 501


def test_what_was_raised_is_the_cause_of_the_first_error(tmp_path: Path) -> None:
    point(tmp_path, "raising", BROKEN["raising"][0])
    with on_path(tmp_path), pytest.raises(wb.AdapterBroken) as raised:
        wb.get_adapter("raising")
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_a_broken_import_is_not_run_again_until_something_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counted = tmp_path / "packages", tmp_path / "counted"
    folder.mkdir()
    monkeypatch.setenv("COUNTED", str(counted))
    point(folder, "counting", COUNTED)
    with on_path(folder):
        for _ in range(3):
            with pytest.raises(wb.AdapterBroken):
                wb.get_adapter("counting")
        assert counted.read_text() == "x"
        point(folder, "other", "")
        with pytest.raises(wb.AdapterBroken):
            wb.get_adapter("counting")
        assert counted.read_text() == "xx"
        (folder / "counting_adapter.py").write_text(
            "import workbench as wb\nclass A(wb.BaseAdapter):\n    name = 'counting'\nadapter = A()\n"
        )
        program = "import workbench as wb; print(wb.get_adapter('counting').name)"
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        assert done.stdout.strip() == "counting"


def test_another_distribution_that_owns_the_import_name_is_named(taken: Taken) -> None:
    with pytest.raises(wb.AdapterBroken) as raised:
        wb.get_adapter("vlm_quantization")
    taken.check(raised.value.message, raised.value.hint)
    assert wb.get_adapter("toy").name == "toy"


@pytest.mark.parametrize("source", ["import no_such_thing", "raise RuntimeError('half installed')"])
def test_it_is_named_too_where_it_cannot_be_imported_itself(tmp_path: Path, fresh: None, source: str) -> None:
    file = take_the_name(tmp_path, source)
    with on_path(tmp_path), pytest.raises(wb.AdapterBroken) as raised:
        wb.get_adapter("vlm_quantization")
    Taken(tmp_path, file).check(raised.value.message, raised.value.hint)
    assert "which raised " in raised.value.cause


@pytest.mark.parametrize("file", ["adapters/__init__.py", "adapters.py"])
def test_a_package_of_nobody_that_hides_the_adapter_is_named_by_its_path(
    tmp_path: Path, fresh: None, file: str
) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / file).write_text("")
    with on_path(tmp_path), pytest.raises(wb.AdapterBroken) as raised:
        wb.get_adapter("vlm_quantization")
    assert f"Python finds 'adapters' at {tmp_path / file}" in raised.value.cause
    assert "rename, move or uninstall it" in raised.value.hint


def test_a_distribution_that_is_installed_editable_is_named(tmp_path: Path, fresh: None) -> None:
    source, site = tmp_path / "a checkout", tmp_path / "site"
    source.mkdir()
    site.mkdir()
    take_the_name(source)
    info = (source / "adapters-1.2.0.dist-info").rename(site / "adapters-1.2.0.dist-info")
    (info / "RECORD").write_text("adapters.pth,,\n")
    (info / "direct_url.json").write_text(
        json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}})
    )
    with on_path(site), on_path(source), pytest.raises(wb.AdapterBroken) as raised:
        wb.get_adapter("vlm_quantization")
    assert "another distribution, adapters 1.2.0, at " in raised.value.cause


def test_a_package_that_an_adapter_requires_is_not_in_its_way(tmp_path: Path) -> None:
    point(tmp_path, "leaning", "", "base_library:adapter")
    metadata = tmp_path / "leaning_adapter-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + "Requires-Dist: base.library>=1\n")
    (tmp_path / "base_library.py").write_text("raise RuntimeError('of its own')")
    (tmp_path / "base_library-1.0.dist-info").mkdir()
    (tmp_path / "base_library-1.0.dist-info" / "METADATA").write_text("Name: base-library\nVersion: 1.0\n")
    (tmp_path / "base_library-1.0.dist-info" / "RECORD").write_text("base_library.py,,\n")
    with on_path(tmp_path), pytest.raises(wb.AdapterBroken) as raised:
        wb.get_adapter("leaning")
    assert raised.value.cause == "RuntimeError: of its own"


def test_two_distributions_in_one_folder_are_told_though_it_works(tmp_path: Path, fresh: None) -> None:
    take_the_name(tmp_path)
    (tmp_path / "adapters" / "near.py").write_text(
        "import workbench as wb\nclass A(wb.BaseAdapter):\n    name = 'near'\nadapter = A()\n"
    )
    point(tmp_path, "near", "", "adapters.near:adapter")
    (tmp_path / "near_adapter-1.0.dist-info" / "RECORD").write_text("adapters/near.py,,\n")
    with on_path(tmp_path):
        assert wb.get_adapter("near").name == "near"
        other = import_name_shared("near")
        assert other is not None
        assert (other.import_name, other.distribution) == ("adapters", "adapters 1.2.0")
        problems = [one for one in examine(tmp_path / "results").problems if one.check == "adapters"]
    assert [problem.level for problem in problems] == ["broken", "warning"]
    assert (
        "shares the import name 'adapters' with another distribution, adapters 1.2.0" in problems[1].message
    )
    assert "pip uninstall adapters" in problems[1].hint


def test_a_namespace_that_many_share_is_nobodys() -> None:
    assert import_name_shared("vlm_quantization") is None
    assert import_name_shared("nobody's") is None


def test_a_workspace_goes_on_with_the_others(workspace: wb.Workspace, taken: Taken) -> None:
    make_index(workspace.path, "words")
    make_index(workspace.path, "pictures", adapter="vlm_quantization")
    for ask in (
        lambda: workspace.submit("eval", "vlm_quantization"),
        lambda: workspace.open_search("pictures"),
        lambda: workspace.open_search("pictures", service=True),
        lambda: wb.job_scope("eval", "vlm_quantization", workspace=workspace).__enter__(),
    ):
        with pytest.raises(wb.AdapterBroken) as raised:
            ask()
        taken.check(raised.value.message, raised.value.hint)
    assert workspace.jobs() == []
    assert workspace.open_search("words").by_text("dog", 1)[0].id == "dog"
    working, broken = load_adapters(wb.adapters())
    assert set(working) == {"toy"}
    assert [error.adapter for error in broken] == ["vlm_quantization"]


def test_runs_of_a_broken_adapter_are_compared(workspace: wb.Workspace, taken: Taken) -> None:
    from workbench.compare.reading import family_metrics

    declared = family_metrics({"toy", "vlm_quantization"})
    assert {name: [metric.name for metric in metrics] for name, metrics in declared.items()} == {
        "toy": ["loss", "R@*"]
    }


# On the command line ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["jobs", "submit", "eval", "--adapter", "vlm_quantization"],
        ["demo", "--no-serve", "--adapter", "vlm_quantization"],
        ["search", "text", "dog", "--index", "pictures"],
    ],
)
def test_a_command_says_it_in_words_and_as_json(
    workspace: wb.Workspace, taken: Taken, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    make_index(workspace.path, "pictures", adapter="vlm_quantization")
    assert cli.run(["--workspace", str(workspace.path), *words]) == 1
    said = capsys.readouterr().err
    taken.check(said.removeprefix("error: "), said)
    assert "Traceback" not in said
    assert cli.run(["--workspace", str(workspace.path), *words, "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "AdapterBroken"
    taken.check(error["message"], error["hint"])


def command(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "workbench.cli", "--workspace", str(home), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)


def test_a_process_of_its_own_says_the_same(taken: Taken, tmp_path: Path) -> None:
    done = command("jobs", "submit", "eval", "--adapter", "vlm_quantization", "--json", home=tmp_path / "r")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["type"]) == (1, "AdapterBroken")
    taken.check(error["message"], error["hint"])
    assert "Traceback" not in done.stderr


def test_the_doctor_names_what_is_in_the_way_and_which_adapters_load(taken: Taken, tmp_path: Path) -> None:
    wb.Workspace(tmp_path / "r").close()
    done = command("doctor", "--json", home=tmp_path / "r")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["found"]["adapters"] == "toy; cannot be loaded: vlm_quantization"
    (problem,) = (one for one in told["problems"] if one["check"] == "adapters")
    assert problem["level"] == "broken"
    taken.check(problem["message"], problem["hint"])


# In panels --------------------------------------------------------------------------------------------------


def test_the_jobs_panel_shows_it_in_place_and_offers_the_others(
    workspace: wb.Workspace, taken: Taken
) -> None:
    panel = JobsPanel(workspace)
    try:
        (broken,) = panel.setup["broken"]
        assert broken["adapter"] == "vlm_quantization"
        taken.check(broken["message"], broken["hint"])
        offers = panel.setup["offers"]
        assert [offer["type"] for offer in offers] == ["data_check", "train", "eval", "index_build"]
        assert {form["adapter"] for offer in offers for form in offer["forms"]} == {"toy"}
    finally:
        panel.close()


def test_a_panel_of_a_broken_adapter_alone_still_runs_notebooks(
    workspace: wb.Workspace, taken: Taken
) -> None:
    panel = JobsPanel(workspace, adapter="vlm_quantization")
    try:
        assert panel.setup["offers"] == []
        assert len(panel.setup["broken"]) == 1
        assert [kind["type"] for kind in panel.look()[0]["types"]] == ["notebook"]
    finally:
        panel.close()


def test_options_that_cannot_be_read_are_told_in_place(
    workspace: wb.Workspace, toy: wb.BaseAdapter, tmp_path: Path
) -> None:
    (folder := tmp_path / "packages").mkdir()
    source = (
        "import workbench as wb\nclass A(wb.BaseAdapter):\n    name = 'odd'\n"
        "    def options(self, task): raise RuntimeError('no form')\n"
        "    def train(self, options, job): ...\nadapter = A()\n"
    )
    point(folder, "odd", source)
    with on_path(folder):
        panel = JobsPanel(workspace)
    try:
        (broken,) = panel.setup["broken"]
        assert broken["message"] == "the options of adapter 'odd' cannot be read: RuntimeError: no form"
        assert "toy" in {form["adapter"] for offer in panel.setup["offers"] for form in offer["forms"]}
    finally:
        panel.close()


def test_the_search_page_shows_it_and_strangers_learn_no_path(
    workspace: wb.Workspace, searched: Path, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_index(searched, "pictures", adapter="vlm_quantization")
    for home in (workspace, searched):  # in this process, and through the search service
        page = search_page(home, "pictures").data
        assert str(taken.file) in page
        assert "pip uninstall adapters" in page
    monkeypatch.setenv(PUBLISHED, "1")
    page = search_page(searched, "pictures").data
    assert "This collection cannot be searched right now" in page
    assert "workbench doctor" not in page
    assert str(taken.folder) not in page


# In the search service, and over HTTP -----------------------------------------------------------------


def test_the_service_does_not_import_it_for_each_question(
    searched: Path, toy: wb.BaseAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder := tmp_path / "packages").mkdir()
    counted = tmp_path / "counted"
    monkeypatch.setenv("COUNTED", str(counted))
    point(folder, "counting", COUNTED)
    make_index(searched, "counted", adapter="counting")
    make_index(searched, "words")
    with on_path(folder):
        client = SearchClient(searched, patience=300)
        for index in ("counted", "counted"):
            with pytest.raises(wb.AdapterBroken, match="RuntimeError: not today"):
                client.open_search(index)
        for _ in range(3):
            with pytest.raises(wb.AdapterBroken) as raised:
                client.ask({"op": "adapter", "adapter": "counting"})
        assert raised.value.adapter == "counting"
        assert counted.read_text() == "xx"  # once for the index, once for the adapter
        assert client.open_search("words").by_text("dog", 1)[0].id == "dog"
        assert "Traceback" in (searched / "search-service.log").read_text()  # for the person who repairs it
        # A package that is mended and installed again is found by the same service.
        (folder / "counting_adapter.py").write_text(
            "import toy_adapter\nadapter = toy_adapter.adapter\n# ok\n"
        )
        point(folder, "other", "")
        assert client.ask({"op": "adapter", "adapter": "counting"})["title"] == "A toy that counts"
        assert client.open_search("counted").by_text("dog", 1)[0].id == "dog"


@pytest.fixture(scope="module")
def hindered(toy_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Path]]:
    """A server whose environment has the other distribution, and the toy adapter."""
    folder = tmp_path_factory.mktemp("hindered")
    (site := folder / "site").mkdir()
    file = take_the_name(site)
    home = folder / "results"
    make_index(home, "words")
    make_index(home, "pictures", adapter="vlm_quantization")
    paths = [str(toy_package), str(site), os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with live_server(home, folder / "state", environment=environment) as live:
        yield live, file


def test_the_server_lists_it_with_what_is_wrong(hindered: tuple[Live, Path]) -> None:
    live, file = hindered
    listed = {one["name"]: one for one in live.get("adapters").json()["adapters"]}
    Taken(file.parent, file).check(listed["vlm_quantization"]["problem"], listed["vlm_quantization"]["hint"])
    assert listed["vlm_quantization"]["options"] == {}
    assert (listed["toy"]["problem"], listed["toy"]["hint"]) == ("", "")
    assert live.get("adapters/toy").json()["hint"] == ""


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("GET", "adapters/vlm_quantization", None),
        ("POST", "jobs/eval", {"adapter": "vlm_quantization"}),
        ("GET", "indexes/pictures", None),
        ("POST", "search/text", {"index": "pictures", "query": "dog"}),
    ],
)
def test_the_server_answers_501_and_goes_on(
    hindered: tuple[Live, Path], verb: str, path: str, body: object
) -> None:
    live, file = hindered
    answer = live.ask(verb, path, json=body) if body else live.ask(verb, path)
    assert answer.status_code == 501, answer.text
    error = answer.json()["error"]
    assert error["type"] == "AdapterBroken"
    assert error["details"]["adapter"] == "vlm_quantization"
    Taken(file.parent, file).check(error["message"], error["hint"])
    found = live.post("search/text", {"index": "words", "query": "dog", "k": 1})
    assert found.json()["hits"][0]["id"] == "dog"


def test_the_python_client_of_a_server_raises_the_same(hindered: tuple[Live, Path]) -> None:
    live, file = hindered
    with wb.connect(live.url, token=live.token) as there:
        with pytest.raises(wb.AdapterBroken) as raised:
            there.submit("eval", adapter="vlm_quantization")
        Taken(file.parent, file).check(raised.value.message, raised.value.hint)


def test_a_job_whose_adapter_breaks_before_it_runs_fails_with_the_reason(
    tmp_path: Path, toy: wb.BaseAdapter
) -> None:
    (folder := tmp_path / "packages").mkdir()
    point(
        folder,
        "fading",
        "import toy_adapter\nclass F(toy_adapter.Toy):\n    name = 'fading'\nadapter = F()\n",
    )
    with on_path(folder), workspace_in(tmp_path / "results") as home:
        adapter = wb.get_adapter("fading")
        (folder / "fading_adapter.py").write_text("raise RuntimeError('taken away')\n")
        job = home.submit("eval", adapter)
        with pytest.raises(wb.JobFailed, match="RuntimeError: taken away"):
            job.wait(timeout=300)
        assert "adapter 'fading' cannot be loaded" in job.error["message"]
