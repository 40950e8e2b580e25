"""Which language and which kernel a notebook asks for; jobs run Python, in their worker's interpreter."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import BadInput

#: Names of kernels that mean "Python", of whatever environment runs the notebook.
_ANY_PYTHON = ("", "python", "python3")


def check_language(page: Mapping[str, Any], name: str) -> None:
    """Raise if a notebook is not written in Python.

    Parameters
    ----------
    page : mapping
        The notebook as JSON.
    name : str
        Its name, for the message.

    Raises
    ------
    BadInput
        It is written in another language.
    """
    kernel = asked_kernel(page)
    language = _text(page, "kernelspec", "language") or _text(page, "language_info", "name")
    if not language and kernel not in _ANY_PYTHON:
        language = str(getattr(_installed(kernel), "language", ""))
    if language and not language.lower().startswith(("python", "ipython")):
        of = f" (kernel {kernel!r})" if kernel else ""
        raise BadInput(
            f"{name} is a notebook in {language}{of}; jobs run notebooks in Python only",
            hint="Run it where its kernel is installed, or call its program from a Python notebook.",
        )


def asked_kernel(page: Mapping[str, Any]) -> str:
    """Return the name of the kernel that a notebook was saved with; empty if it names none."""
    return _text(page, "kernelspec", "name")


def kernel_note(page: Mapping[str, Any]) -> str:
    """Return a sentence if a notebook asks for the kernel of another environment; else nothing."""
    kernel = asked_kernel(page)
    if kernel in _ANY_PYTHON:
        return ""
    spec = _installed(kernel)
    command = getattr(spec, "argv", None) or [""]
    program = shutil.which(command[0]) if command[0] else None
    if program and Path(program).absolute() == Path(sys.executable).absolute():
        return ""
    absent = "" if spec else ", which is not installed here"
    here = f"Python {platform.python_version()} of {sys.executable}"
    return f"The notebook was saved with the kernel {kernel!r}{absent}; as a job it runs in {here}."


def _installed(kernel: str) -> Any:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        return KernelSpecManager().get_kernel_spec(kernel)
    except (NoSuchKernel, ValueError, OSError):  # ValueError: no valid name, or a broken kernel.json
        return None


def _text(page: Mapping[str, Any], part: str, key: str) -> str:
    metadata = page.get("metadata")
    found = metadata.get(part) if isinstance(metadata, Mapping) else None
    value = found.get(key) if isinstance(found, Mapping) else None
    return value.strip() if isinstance(value, str) else ""
