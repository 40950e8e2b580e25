"""A torchvision that cannot be imported: a wheel for another torch, found beside a CPU build of it."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from workbench import BadInput


def broken_torchvision() -> str:
    """Return why the installed torchvision cannot be imported; empty if it can, or is not installed."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return ""
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # a wheel for another torch raises RuntimeError, OSError or ImportError
        return str(error).strip().splitlines()[0]
    return ""


def import_transformers() -> None:
    """Import transformers, which does without torchvision, but not with one that cannot be imported.

    It looks once whether torchvision is installed. During that look a broken one is hidden, so that
    transformers treats it as missing.

    Raises
    ------
    ImportError
        transformers is not installed.
    """
    hidden = "transformers" not in sys.modules and bool(broken_torchvision())
    if hidden:
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # Python's way to say: not importable
    try:
        from transformers.utils import is_torchvision_available

        is_torchvision_available()
    finally:
        if hidden:
            del sys.modules["torchvision"]


def need_torchvision(what: str) -> None:
    """Refuse a broken torchvision where a library cannot do without it.

    Raises
    ------
    BadInput
        It is installed and cannot be imported.
    """
    if reason := broken_torchvision():
        raise BadInput(
            f"{what} needs torchvision, and the installed one does not fit the installed torch: {reason}",
            hint="Install both from one place, for a CPU: pip install --force-reinstall torch torchvision "
            "--index-url https://download.pytorch.org/whl/cpu",
        )
