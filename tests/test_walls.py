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

#: The rooms, floor by floor: a module imports from its own floor and from those below, never upward.
GROUND = {"home", "store", "engine", "host", "wire", "values", "text", "errors"}
NOUNS = {
    *("workspace", "base_workspace", "scope", "runs", "jobs"),
    *("notebooks", "adapter", "results", "search", "compare"),
}
#: Doors do not import each other either.
DOORS = {"panels", "server", "remote", "publish", "labextension"}
#: What opens every door: the command line, and the contract that adapters are tested against.
TERMINAL = {"cli", "commands", "testing"}
FLOORS = {"ground": GROUND, "nouns": NOUNS, "doors": DOORS, "terminal": TERMINAL}
FLOOR = {room: number for number, rooms in enumerate(FLOORS.values()) for room in rooms}


#: Faces that import what they hand on only when it is first used.
LAZY_FACES = {"workbench", "workbench.panels"}


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    """Each absolute module that a file imports, inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: say the whole name"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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
    assert circles(import_graph()) == set()


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


def rooms() -> set[str]:
    """Return the folders and modules at the top of the package."""
    names = {path.name for path in PACKAGE.iterdir() if not path.name.startswith(("_", "."))}
    return {name.removesuffix(".py") for name in names} - {"LICENSE", "py.typed"}


def test_every_room_has_its_floor() -> None:
    assert rooms() == set(FLOOR)


def test_the_readme_draws_the_floors_as_they_are() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("## How it is built")[2]
    drawing = re.search(r"```text\n(.*?)```", readme, re.DOTALL)
    assert drawing
    drawn: dict[str, set[str]] = {}
    floor = ""
    for line in drawing[1].splitlines():
        words = line.partition("opens every door")[0].split()
        if words and not words[0].startswith("-"):
            floor, words = (floor, words) if line.startswith(" ") else (words[0], words[1:])
            drawn.setdefault(floor, set()).update(words)
    assert drawn == FLOORS
    table = re.search(r"\| room of `workbench/`.*?\n\n", readme, re.DOTALL)
    assert table
    rows = [line.split("|")[1] for line in table[0].splitlines()[2:] if line]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(FLOOR)


@pytest.mark.parametrize("path", modules(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_never_go_upward(path: Path) -> None:
    room = room_of(path)
    for name in imports(path):
        top, *rest = name.split(".")
        assert top != "adapters", f"{path.name} imports an adapter: {name}"
        if top != "workbench" or room == "__init__" or rest[:1] == ["__version__"]:
            continue
        assert rest, f"{path.name} imports the whole face; it should name the module it needs"
        assert FLOOR[rest[0]] <= FLOOR[room], f"{room} imports {name}, which is above it"
        if {room, rest[0]} <= DOORS:
            assert room == rest[0], f"{room} imports {name}: doors do not import each other"


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
        "print([name for name in ('torch', 'numba', 'numpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


#: Modules of the standard library that ``import workbench`` may load. Python 3.11 takes 28, most of them
#: for ``typing`` and ``importlib``.
FEW_MODULES = 40


def test_importing_the_workbench_loads_little() -> None:
    """Counted, not timed: the time on a busy machine does not describe the package."""
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


#: Public methods of a named tuple, whose names begin with an underscore so that no field hides them.
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}


@pytest.mark.parametrize(
    "path", modules(PACKAGE / "server"), ids=lambda path: str(path.relative_to(PACKAGE / "server"))
)
def test_the_server_uses_public_methods_only(path: Path) -> None:
    private = [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and re.match(r"_(?!_)", node.attr)
        and node.attr not in NAMED_TUPLE
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]
    assert private == []


def test_only_notebooks_runs_papermill() -> None:
    users = {
        path.name for path in modules(PACKAGE) if any(name.startswith("papermill") for name in imports(path))
    }
    assert users == {"client.py", "execution.py"}
