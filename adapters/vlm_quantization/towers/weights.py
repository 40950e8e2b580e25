"""The files of a pretrained model: found on disk or on the Hugging Face hub, safe to load, and recorded.

Only ``safetensors`` weights are loaded, since other formats can run code when they are opened, and no code of
a model's own is ever run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench import BadInput, MissingExtra

#: Files of a model that determine its vectors; others, such as a README, are ignored.
KINDS = (".json", ".safetensors", ".model", ".txt")


#: Weights in formats that can run code when they are opened.
PICKLED = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


#: A name on the hub: owner and model, and a revision behind an ``@``.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model in one folder.

    Attributes
    ----------
    folder : Path
    revision : str
        The hub's commit; empty for a folder of one's own.
    digests : dict of str to str
        SHA-256 (hex) of each file that determines the vectors, by name.
    """

    folder: Path
    revision: str
    digests: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """A digest of all files, 16 hex digits."""
        text = "".join(f"{name} {digest}\n" for name, digest in sorted(self.digests.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def about(self) -> dict[str, Any]:
        """Return what a checkpoint records about the files."""
        return {"revision": self.revision, "files": dict(self.digests)}


def model_files(name: str) -> ModelFiles:
    """Return the files of a model, given by its folder or by its name on the hub.

    Raises
    ------
    BadInput
        The folder is missing or has no safetensors weights, or the hub could not be reached, or has no such
        model or revision.
    """
    folder, revision = find_folder(name)
    check_folder(folder)
    files = {file.name: _digest_of(file, *_state(file)) for file in _files_of(folder)}
    return ModelFiles(folder, revision, files)


def state_of(name: str) -> tuple[Any, ...]:
    """Return what changes when a file of a model does: names, sizes and times. It reads no file."""
    folder, revision = find_folder(name)
    return revision, *((file.name, *_state(file)) for file in _files_of(folder))


def find_folder(name: str) -> tuple[Path, str]:
    """Return the folder of a model and its revision on the hub; a hub's model is downloaded once."""
    if is_folder_name(name):
        path = Path(name).expanduser()
        if not path.is_dir():
            raise BadInput(
                f"no folder {name!r}",
                hint="Give the folder that holds the model's config.json and model.safetensors, "
                "or a name on the hub such as google/siglip2-base-patch16-224.",
            )
        return path.resolve(), ""
    return _snapshot(name)


def is_folder_name(name: str) -> bool:
    """Return whether a name means a folder: it exists, or no name on the hub looks like it."""
    return Path(name).expanduser().is_dir() or not HUB_NAME.fullmatch(name)


def check_folder(folder: Path) -> None:
    """Refuse a folder without safetensors weights; nothing is read.

    Raises
    ------
    BadInput
        The message says what was found instead, and how to convert it.
    """
    names = sorted(file.name for file in folder.iterdir())
    if any(name.endswith(".safetensors") for name in names):
        return
    if pickled := [name for name in names if name.endswith(PICKLED)]:
        raise BadInput(
            f"{folder} has its weights as {', '.join(pickled)}, which can run code when it is opened; "
            "only safetensors files are loaded",
            hint="Where you trust its origin, convert it: open it with its library and save it again with "
            "model.save_pretrained(folder), or take a revision that has model.safetensors.",
        )
    raise BadInput(
        f"{folder} has no weights: no file ends with .safetensors",
        hint="Give the folder that holds config.json and model.safetensors.",
    )


def weights_file(folder: Path) -> Path:
    """Return the one safetensors file of a folder.

    Raises
    ------
    BadInput
        There are several, and none has a usual name.
    """
    found = sorted(folder.glob("*.safetensors"))
    usual = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
    for name in usual:
        if folder / name in found:
            return folder / name
    if len(found) != 1:
        raise BadInput(
            f"{folder} holds several weights: {', '.join(file.name for file in found)}",
            hint="Give the one to load as openclip:ARCHITECTURE:FILE.safetensors.",
        )
    return found[0]


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return a JSON file of a model's folder.

    Raises
    ------
    BadInput
        The file is missing or is not a JSON object.
    """
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"{folder} has no {name}", hint="Give the folder that save_pretrained wrote, or the hub's name."
        ) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder / name} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{folder / name} must be a JSON object")
    return value


def is_offline() -> bool:
    """Return whether the environment forbids downloads."""
    return any(os.environ.get(name, "").strip().upper() in ("1", "ON", "TRUE", "YES") for name in _OFFLINE)


@lru_cache(maxsize=8)
def _snapshot(name: str) -> tuple[Path, str]:
    """Download a model's files to the hub's own cache, or find them there."""
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise MissingExtra("huggingface_hub", "transformers") from None
    repository, _, revision = name.partition("@")
    offline = is_offline()
    advice = "Download it beforehand on a machine with network, and give the folder; or check the name."
    try:
        folder = snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=[f"*{kind}" for kind in KINDS],
            ignore_patterns=["*/*"],
            local_files_only=offline,
        )
    except errors.GatedRepoError:
        raise BadInput(
            f"{repository} asks its users to agree to its terms first",
            hint=f"Open https://huggingface.co/{repository}, agree, and log in with `hf auth login`.",
        ) from None
    except errors.RevisionNotFoundError:
        raise BadInput(f"{repository} has no revision {revision!r} on the hub") from None
    except errors.RepositoryNotFoundError:
        raise BadInput(f"the hub has no model {repository!r}, nor is it a folder here", hint=advice) from None
    except errors.LocalEntryNotFoundError:
        reason = (
            "downloads are switched off ($HF_HUB_OFFLINE or $TRANSFORMERS_OFFLINE)"
            if offline
            else "the hub could not be reached"
        )
        raise BadInput(f"{name} is not in the local cache, and {reason}", hint=advice) from None
    except (OSError, errors.HfHubHTTPError) as error:
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise BadInput(f"{name} could not be downloaded: {first[0]}", hint=advice) from None
    return Path(folder), Path(folder).name


def _files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in KINDS and file.is_file())


def _state(file: Path) -> tuple[int, int]:
    state = file.stat()
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=256)
def _digest_of(file: Path, _size: int, _time: int) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
