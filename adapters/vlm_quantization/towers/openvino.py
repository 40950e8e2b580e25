"""Execution of a tower by OpenVINO, which is several times faster than torch on a CPU with AMX.

A network is converted once per machine and kept on disk. At conversion its vectors are compared with those of
torch in float32; a precision that gives other vectors is not used.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from adapters.vlm_quantization.towers.torch_tower import TorchTower
from workbench import BadInput, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

Item = TypeVar("Item")

#: What the name of an encoder begins with that OpenVINO executes.
PREFIX = "openvino:"


#: Lowest cosine between a vector and torch's in float32; a precision below it is not used.
LEAST_COSINE = 0.999


#: Precisions to try, the fastest first, and the capability of a CPU that each needs.
PRECISIONS = {"bf16": "BF16", "f32": "FP32"}


#: Environment variable: folder of converted networks.
CACHE = "WORKBENCH_ENCODER_CACHE"


#: Texts that a converted text tower is compared on.
SAMPLE_TEXTS = (
    "dog",
    "a red heart",
    "two people walking on a beach at sunset",
    "A photograph of a steam locomotive, 1938",
    "강아지",
    "빨간 하트",
    "바닷가에서 연을 날리는 아이",
    "猫が窓のそばで寝ている",
    "ein Fahrrad vor einer Mauer",
    "un plat de pâtes",
    "أزهار في حديقة",
    "x",
)


class OpenVinoTower(Generic[Item]):
    """A tower whose network OpenVINO executes; pictures and texts are prepared as by the tower itself.

    Parameters
    ----------
    tower : TorchTower
        The tower to execute.
    samples : sequence
        Pictures or texts to compare both on.

    Attributes
    ----------
    precision : str
        ``bf16`` or ``f32``.
    cosine : float
        Lowest cosine to torch in float32 over the samples.

    Raises
    ------
    MissingExtra
        OpenVINO is not installed.
    BadInput
        OpenVINO cannot convert the network, or every precision gives other vectors.
    """

    def __init__(self, tower: TorchTower[Item], samples: Sequence[Item], cache: Path | None = None) -> None:
        self.tower = tower
        self.name, self.dim = f"{PREFIX}{tower.name}", tower.dim
        # without the precision: vectors of either differ from torch's by less than the limit above
        self.fingerprint = f"openvino/{tower.fingerprint}"
        folder = converted(tower, samples, cache_folder() if cache is None else cache)
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        self.precision, self.cosine = str(report["precision"]), float(report["cosine"])
        self.most_tokens = int(getattr(tower, "most_tokens", 0))
        self.languages: tuple[str, ...] = tower.languages
        self._folder = folder
        self._compiled: Any = None

    def about(self) -> dict[str, Any]:
        """Return what a checkpoint records about the execution."""
        return {
            "library": f"openvino {_openvino().__version__}",
            "precision": self.precision,
            "cosine": self.cosine,
        }

    def features(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Return unit vectors, float32, shape (n, dim)."""
        return run(self.network(), self.tower, items)

    @property
    def batch(self) -> int:
        """Items per forward pass of :meth:`features`."""
        return self.tower.batch

    def inputs(self, items: Sequence[Item]) -> Mapping[str, NDArray[Any]]:
        """Return the network's inputs, as the tower does."""
        return self.tower.inputs(items)

    def forward(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the vectors of inputs, float32, shape (n, dim), in one pass."""
        return _forward(self.network(), self.tower, inputs)

    def network(self) -> Any:
        """Return the compiled network: called with a list of inputs, it returns the vectors."""
        if self._compiled is None:
            self._compiled = _compile(self._folder / "network.xml", self.precision)
        return self._compiled

    def cut_texts(self, texts: Sequence[str]) -> int:
        """Return how many texts are longer than what the tower reads."""
        count = getattr(self.tower, "cut_texts", None)
        return count(texts) if count else 0


def cache_folder() -> Path:
    """Return the folder of converted networks: :data:`CACHE`, or the user's cache."""
    if folder := os.environ.get(CACHE, "").strip():
        return Path(folder).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("notebook-workbench") / "openvino"


def converted(tower: TorchTower[Item], samples: Sequence[Item], cache: Path) -> Path:
    """Return the folder with a tower's converted network and its report; it is converted at the first call.

    The folder's name is a digest of the tower's fingerprint, OpenVINO's version and this CPU's precisions. It
    appears whole: a conversion that is killed leaves nothing that is used.

    Raises
    ------
    BadInput
        As :class:`OpenVinoTower`.
    """
    import hashlib

    openvino = _openvino()
    able = ",".join(_able())
    key = hashlib.sha256(f"{tower.fingerprint}\n{openvino.__version__}\n{able}".encode()).hexdigest()[:24]
    final = cache / key
    if (final / "report.json").is_file():
        return final
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=cache) as name:
        work = Path(name) / "made"
        work.mkdir()
        _convert(tower, samples[:1], work / "network.xml")
        report = _compared(tower, samples, work / "network.xml")
        report |= {"fingerprint": tower.fingerprint, "openvino": openvino.__version__}
        (work / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        try:
            work.rename(final)
        except OSError:  # another process was quicker
            if not (final / "report.json").is_file():
                raise
    return final


def _convert(tower: TorchTower[Item], sample: Sequence[Item], path: Path) -> None:
    import torch

    openvino = _openvino()
    values = tuple(torch.from_numpy(value) for value in tower.inputs(list(sample) * 2).values())
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of each size that it takes as fixed
            network = openvino.convert_model(tower.network(), example_input=values)
        shapes = {}
        for port, value in zip(network.inputs, values, strict=True):
            rest = [-1] * (value.ndim - 1) if tower.lengths_vary else list(value.shape[1:])
            shapes[port] = openvino.PartialShape([-1, *rest])
        network.reshape(shapes)
        openvino.save_model(network, path, compress_to_fp16=False)
    except Exception as error:  # OpenVINO's frontends raise several types
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"OpenVINO cannot convert {tower.name}: {reason}",
            hint=f"Leave out {PREFIX!r}: torch executes it.",
        ) from None


def _compared(tower: TorchTower[Item], samples: Sequence[Item], path: Path) -> dict[str, Any]:
    """Return the fastest precision that is near enough to torch, and the cosines of all that were tried."""
    wanted = tower.features(samples)
    tried: dict[str, float] = {}
    for precision in _able():
        found = run(_compile(path, precision), tower, samples)
        norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1)
        tried[precision] = float(((wanted * found).sum(1) / np.maximum(norms, 1e-12)).min())
        if tried[precision] >= LEAST_COSINE:
            return {"precision": precision, "cosine": tried[precision], "tried": tried}
    cosines = ", ".join(f"{precision} {cosine:.5f}" for precision, cosine in tried.items())
    raise BadInput(
        f"OpenVINO gives other vectors than torch for {tower.name}: lowest cosine {cosines}; "
        f"at least {LEAST_COSINE} is needed",
        hint=f"Leave out {PREFIX!r}: torch executes it.",
    )


def _able() -> list[str]:
    """Return the precisions that this CPU executes natively, the fastest first."""
    able = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [precision for precision, capability in PRECISIONS.items() if capability in able]


def _compile(path: Path, precision: str) -> Any:
    import torch

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    return _openvino().Core().compile_model(path, "CPU", settings)


def run(compiled: Any, tower: TorchTower[Item], items: Sequence[Item]) -> NDArray[np.float32]:
    """Return the vectors of a compiled network, float32, shape (n, dim), in the tower's batches."""
    out = np.empty((len(items), tower.dim), np.float32)
    for start in range(0, len(items), tower.batch):
        part = items[start : start + tower.batch]
        out[start : start + len(part)] = _forward(compiled, tower, tower.inputs(part))
    return out


def _forward(compiled: Any, tower: TorchTower[Any], inputs: Mapping[str, Any]) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = tower.checked(next(iter(compiled(list(inputs.values())).values())))
    return vectors


def sample_pictures(count: int = 12, size: int = 320) -> list[Image]:
    """Return pictures that a converted picture tower is compared on: noise of several scales, in colour."""
    from PIL import Image as Pillow

    rng = np.random.Generator(np.random.PCG64(0))
    made = []
    for place in range(count):
        cells = 2 ** (1 + place % 6)
        coarse = Pillow.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        sharp = Pillow.Resampling.NEAREST if place % 2 else Pillow.Resampling.BICUBIC
        made.append(coarse.resize((size, size * 3 // 4), sharp))
    return made


def _openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise MissingExtra("openvino", "openvino") from None
    return openvino
