"""Provenance of a run: the code revision and the environment.

Everything is cheap and never fails a run: unavailable values are omitted.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

#: Time limits for git in seconds: in a very large tree the check for changes takes longer and is omitted;
#: the revision itself is read from a few files.
GIT_SECONDS, REVISION_SECONDS = 5.0, 30.0


#: Distributions whose version may explain a difference between two runs.
PACKAGES = (
    "notebook-workbench",
    "numpy",
    "torch",
    "jax",
    "tensorflow",
    "transformers",
    "safetensors",
    "faiss-cpu",
    "numba",
    "openvino",
    "onnxruntime",
    "scikit-learn",
    "scipy",
    "pandas",
    "datasets",
    "accelerate",
    "lightning",
    "timm",
)


#: Maximum characters kept of each word of a command; a program given by ``-c`` is one word.
_WORD_CHARACTERS = 500


_SECRET = re.compile(r"(?i)(pass(word|wd)?|secret|token|api[-_]?key|credential)")


_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def git_revision(folder: Path | None = None) -> dict[str, Any]:
    """Return the git revision of a folder.

    Returns
    -------
    dict
        ``commit``, ``branch`` (None if no branch is checked out) and ``dirty`` (whether a tracked file has
        changed; None if git took too long). Empty outside a repository, without a commit, or if git is not
        installed.
    """
    status = _git(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if status is None:
        commit = (_git(folder, "rev-parse", "HEAD", seconds=REVISION_SECONDS) or "").strip()
        branch = (_git(folder, "rev-parse", "--abbrev-ref", "HEAD", seconds=REVISION_SECONDS) or "").strip()
        return {"commit": commit, "branch": _branch(branch), "dirty": None} if commit else {}
    lines = status.splitlines()
    heads = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# ") and " " in line[2:])
    commit = heads.get("branch.oid", "")
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return {}
    dirty = any(not line.startswith("#") for line in lines)
    return {"commit": commit, "branch": _branch(heads.get("branch.head", "")), "dirty": dirty}


def _branch(name: str) -> str | None:
    return None if name in ("", "HEAD", "(detached)") else name


def _git(folder: Path | None, *words: str, seconds: float = GIT_SECONDS) -> str | None:
    # Neither locks git's index nor runs hooks of an untrusted repository.
    settings = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")
    try:
        done = subprocess.run(  # noqa: S603  # fixed words
            ["git", *settings, *words],  # noqa: S607
            cwd=folder,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", errors="replace")


def environment(host: str) -> dict[str, Any]:
    """Return the environment of this process, as plain JSON.

    ``python``, ``implementation``, ``platform``, ``cpus``, ``host``, ``cwd``, ``command``, ``notebook`` (if
    Jupyter reports one) and ``packages``: the versions of the installed :data:`PACKAGES`.
    """
    try:
        cwd = str(Path.cwd())
    except OSError:  # it was deleted
        cwd = ""
    out: dict[str, Any] = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "host": host,
        "cwd": cwd,
        "command": command(sys.orig_argv),
        "packages": dict(_versions()),
    }
    if notebook := os.environ.get("JPY_SESSION_NAME"):
        out["notebook"] = notebook
    return out


@lru_cache(maxsize=1)
def _versions() -> Mapping[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except (metadata.PackageNotFoundError, ValueError, TypeError):
            continue  # not installed, or its metadata is broken
    return versions


def command(words: Sequence[str]) -> list[str]:
    """Return a command with the values of options that look secret masked."""
    out: list[str] = []
    hidden = False
    for word in words:
        name, equals, _ = word.partition("=")
        secret = word.startswith("-") and _SECRET.search(name) is not None
        if hidden and not word.startswith("-"):
            out.append("***")
        else:
            out.append(f"{name}=***" if secret and equals else _IN_URL.sub("***", word)[:_WORD_CHARACTERS])
        hidden = secret and not equals
    return out
