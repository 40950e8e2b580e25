import importlib
import inspect
import subprocess
import sys

import pytest

import workbench as wb
from workbench import _HOMES, errors


def test_the_face_is_one_sorted_list() -> None:
    assert list(wb.__all__) == sorted(set(wb.__all__))
    assert set(wb.__all__) == set(_HOMES)
    assert set(wb.__all__) <= set(dir(wb))


@pytest.mark.parametrize("name", wb.__all__)
def test_each_name_is_what_its_module_says(name: str) -> None:
    home = _HOMES[name]
    found = getattr(wb, name)
    if not home:
        assert found is importlib.import_module(f"workbench.{name}")
        return
    assert found is getattr(importlib.import_module(f"workbench.{home}"), name)
    if inspect.isclass(found) or inspect.isfunction(found):
        assert found.__module__ == f"workbench.{home}"
        assert found.__doc__


def test_every_error_is_on_the_face() -> None:
    made = {
        name
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, Exception)
    }
    assert made <= set(wb.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = wb.nonsense


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert wb.__version__ == version("notebook-workbench")


def test_star_import_gives_the_whole_face() -> None:
    program = "from workbench import *; import workbench; print(set(workbench.__all__) - set(globals()))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"
