"""The walls of the house: what may say what, and who may import whom."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench as wb

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workbench"

#: Words of one model family; the generic half knows none of them. `hashlib` and `orbit` are other words.
FORBIDDEN = re.compile(
    r"(?<![a-z])(vlm|hash(es|ing|ed)?|siglip\d*|clip(?!-path)|coco|bits?|hamming|emojis?"
    r"|image[- ]text model)(?![a-z])",
    re.IGNORECASE,
)
TEXTS = {".py", ".js", ".css", ".html", ".j2", ".mako", ".json", ".ipynb", ".toml", ".md", ".svg", ""}

#: Who may import whom: a module imports from its own floor and from those below, never upward.
FLOORS = [
    {"errors", "values"},
    {"host", "wire"},
    {"store", "results"},
    {"home"},
    {"runs", "adapter", "compare", "notebooks", "search"},
    {"engine"},
    {"workspace", "jobs", "scope"},
    {"panels", "publish", "server", "client", "remote_compare", "remote_runs"},
    {"testing"},
    {"commands"},
    {"cli"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


#: Circles of today, each to be cut by the move of its modules; nothing may be added.
CIRCLES: set[frozenset[str]] = {
    frozenset({"workbench.client", "workbench.remote_compare", "workbench.remote_runs"}),
}

#: Faces that import what they hand on only when it is first used.
LAZY_FACES = {"workbench", "workbench.panels"}


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    """Each absolute module that a file imports, inside functions too; not those for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for part in test.body
        for node in ast.walk(part)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: say the whole name"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph() -> dict[str, set[str]]:
    """Return which module of the project imports which: also inside functions, and for type checkers only."""
    paths = {module_name(path): path for top in ("workbench", "adapters") for path in modules(ROOT / top)}
    graph: dict[str, set[str]] = {name: set() for name in paths}
    for module in paths.keys() - LAZY_FACES:
        for node in ast.walk(ast.parse(paths[module].read_text(encoding="utf-8"))):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name.name}" for name in node.names]
            for name in names:
                while name and name not in paths:
                    name = name.rpartition(".")[0]
                if name and name != module and name not in LAZY_FACES:
                    graph[module].add(name)
    return graph


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the groups of modules in which each reaches every other one."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - found
            found |= new
            waiting += new
        reached[start] = found
    return {
        frozenset({start} | {other for other in found if start in reached[other]})
        for start, found in reached.items()
        if start in found
    }


def forbidden(text: str) -> list[str]:
    return [match[0] for match in FORBIDDEN.finditer(text)]


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {frozenset("abc")}
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == set()


def test_no_modules_import_each_other() -> None:
    assert circles(import_graph()) == CIRCLES


@pytest.mark.parametrize("text", ["a hash", "hash_layer", "CODE_BITS", "Hamming", "siglip2", "clip()"])
def test_the_words_of_a_family_are_seen(text: str) -> None:
    assert forbidden(text)


@pytest.mark.parametrize("text", ["hashlib", "orbit", "clipboard", "arbitrary", "a 64-bitmap", "clip-path"])
def test_other_words_are_not(text: str) -> None:
    assert not forbidden(text)


def test_the_generic_half_names_no_family() -> None:
    texts = [path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix in TEXTS]
    assert len(texts) > 20
    said = {
        f"{path.relative_to(ROOT)}:{number}": forbidden(line)
        for path in texts
        if "__pycache__" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if forbidden(line)
    }
    assert said == {}
    assert [path for path in PACKAGE.rglob("*") if forbidden(path.name)] == []


def test_every_module_has_its_floor() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules(PACKAGE)}
    assert rooms - {"__init__", "_notebooks"} <= FLOOR.keys()


@pytest.mark.parametrize("path", modules(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_never_go_upward(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        top, *rest = name.split(".")
        assert top != "adapters", f"{path.name} imports an adapter: {name}"
        if top != "workbench" or room == "__init__" or rest[:1] == ["__version__"]:
            continue
        assert rest, f"{path.name} imports the whole face; it should name the module it needs"
        assert FLOOR[rest[0]] <= FLOOR[room], f"{room} imports {name}, which is above it"
        assert {room, rest[0]} != {"panels", "server"}, "panels and server never import each other"


@pytest.mark.parametrize(
    "path", modules(ROOT / "adapters"), ids=lambda path: str(path.relative_to(ROOT / "adapters"))
)
def test_an_adapter_imports_the_face_and_its_own_folder_only(path: Path) -> None:
    family = path.relative_to(ROOT / "adapters").parts[0]
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "workbench" and rest:
            assert rest[0] in wb.__all__, f"{name} is not on the face"
        if top == "adapters":
            assert rest[0] == family, f"{name} belongs to another adapter"


HEAVY = ("torch", "numpy", "pandas", "ipywidgets", "jupyter_server", "matplotlib", "sqlalchemy", "papermill")


def test_importing_the_workbench_loads_nothing_heavy() -> None:
    program = f"import sys, workbench; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_importing_an_adapter_loads_nothing_heavy() -> None:
    program = (
        "import sys, workbench as wb\nfor name in wb.adapters(): wb.get_adapter(name)\n"
        "print([name for name in ('torch', 'faiss', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


#: Modules of the standard library that ``import workbench`` may load. Python 3.11 takes 28, most of them
#: for ``typing`` and ``importlib``.
FEW_MODULES = 40


def test_importing_the_workbench_loads_little() -> None:
    """Counted and not timed: what a busy machine takes says nothing of the package."""
    program = (
        "import sys; before = set(sys.modules); import workbench; print(*sorted(set(sys.modules) - before))"
    )
    # Isolated and without site packages, so that nothing else has been, or is, imported on the way.
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = done.stdout.split()
    ours = [name for name in loaded if name.partition(".")[0] == "workbench"]
    others = [name for name in loaded if name not in ours]
    assert ours == ["workbench"]
    assert [name for name in others if name.partition(".")[0] not in sys.stdlib_module_names] == []
    assert len(others) <= FEW_MODULES


def test_help_loads_no_more_than_the_parser() -> None:
    program = (
        "import sys\nfrom workbench.cli import make_parser\nmake_parser().format_help()\n"
        "print([name for name in ('sqlalchemy', 'pydantic', 'rich', 'argcomplete', 'workbench.adapter')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_first_adapter_is_this_projects() -> None:
    assert "vlm_quantization" in wb.adapters()
    import adapters.vlm_quantization as family

    assert Path(str(family.__file__)).is_relative_to(ROOT)
    assert wb.get_adapter("vlm_quantization") is family.adapter


def test_only_notebooks_runs_papermill() -> None:
    users = {
        path.name for path in modules(PACKAGE) if any(name.startswith("papermill") for name in imports(path))
    }
    assert users == {"execution.py"}
