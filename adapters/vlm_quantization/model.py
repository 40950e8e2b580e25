"""The trained model: two towers into one space, with one hash head per modality."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.vlm_quantization.encoding.checkpoint import (
    TUNED,
    ModelConfig,
    Provenance,
    read_checkpoint,
    write_checkpoint,
)
from adapters.vlm_quantization.hash_layer import NestedHashLayer
from adapters.vlm_quantization.towers.dummy import DummyTextModel, DummyVisionModel
from adapters.vlm_quantization.towers.ngrams import ngram_rows
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["CrossModalHashModel", "Dropout", "DummyTextModel", "DummyVisionModel", "Tower", "stack_rows"]


class Dropout(nn.Module):
    """Zero a share of the entries in training, and scale up the others to compensate.

    Like ``torch.nn.Dropout``, which draws one number per entry and takes four times as long on a CPU. Here
    each 64-bit number drawn serves eight entries, one byte each, so the share is rounded to 256ths.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout; outside training, or with a share of 0, return ``x``."""
        out = round(self.p * 256)
        if not self.training or not out:
            return x
        drawn = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        kept = drawn.view(torch.uint8)[: x.numel()].view(x.shape) >= out
        return x * kept * (256 / (256 - out))


class Tower(nn.Module):
    """One hidden layer and a linear skip connection: enough for frozen features, and quick to train."""

    def __init__(self, width: int, hidden: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, dim)
        self.skip = nn.Linear(width, dim, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return unit vectors, shape (n, dim)."""
        return F.normalize(self.second(self.dropout(F.relu(self.first(x)))) + self.skip(x), dim=1)


class CrossModalHashModel(nn.Module):
    """Maps picture features and texts to unit vectors in one space, and to nested codes.

    Parameters
    ----------
    config : ModelConfig
    dropout : float
        Dropout of both towers in training.
    ngram_dropout : float
        Share of a text's n-grams dropped in training, so that no word depends on a single n-gram.
    part_dropout : float
        In training, how often the n-grams of a text that has both parts are left out, so that its frozen
        features alone must do.
    """

    image_mean: Tensor
    image_projection: Tensor
    text_mean: Tensor
    text_projection: Tensor

    def __init__(
        self,
        config: ModelConfig,
        *,
        dropout: float = 0.0,
        ngram_dropout: float = 0.0,
        part_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config
        self.ngram_dropout = ngram_dropout
        self.part_dropout = part_dropout
        self.register_buffer("image_mean", torch.zeros(config.image_dim))
        self.register_buffer("image_projection", torch.eye(config.image_dim, config.image_components))
        self.image = Tower(config.image_components, config.hidden, config.dim, dropout)
        self.register_buffer("text_mean", torch.zeros(config.text_dim))
        self.register_buffer("text_projection", torch.eye(config.text_dim, config.text_components))
        self.embedding = (
            nn.EmbeddingBag(config.text_buckets, config.text_width, mode="sum") if config.ngrams else None
        )
        self.text = Tower(config.text_inputs, config.hidden, config.dim, dropout)
        self.image_code = NestedHashLayer(config.dim, config.bits)
        self.text_code = NestedHashLayer(config.dim, config.bits)

    def regularise(self, dropout: float, ngram_dropout: float) -> None:
        """Set the dropout shares used in training, from 0 to 1."""
        self.ngram_dropout = ngram_dropout
        for tower in (self.image, self.text):
            tower.dropout.p = dropout

    def fit_components(
        self,
        features: NDArray[np.float32],
        drawings: NDArray[np.float32] | None = None,
        agreement: float = 0.0,
    ) -> None:
        """Fit the principal components that picture features are reduced to.

        Each feature is first divided by its standard deviation. Components keep their variance (no
        whitening, which would amplify the noise of the last ones), with one exception: each is scaled by the
        ratio of its deviation within a concept to its total deviation, to the power ``-agreement``. A
        component in which two drawings of one concept differ nearly as much as drawings of any concepts says
        little about the concept, so it counts less (a diagonal form of within-class covariance
        normalisation, Hatch et al., Interspeech 2006). Finally, the components are scaled to an average
        deviation of one.

        Parameters
        ----------
        features : ndarray, float32, shape (n, image_dim)
            Features of the training pictures only.
        drawings : ndarray, float32, shape (m, 2, image_dim), optional
            Features of pairs of drawings of one concept, from training pictures only.
        agreement : float
            0 turns this scaling off.
        """
        mean, projection = _fitted(features, self.config.image_components, drawings, agreement)
        self.image_mean.copy_(torch.from_numpy(mean))
        self.image_projection.copy_(torch.from_numpy(projection))

    def fit_text_components(self, features: NDArray[np.float32]) -> None:
        """Fit the principal components that frozen text features are reduced to, as those of pictures.

        Parameters
        ----------
        features : ndarray, float32, shape (n, text_dim)
            Features of the training texts only.
        """
        mean, projection = _fitted(features, self.config.text_components)
        self.text_mean.copy_(torch.from_numpy(mean))
        self.text_projection.copy_(torch.from_numpy(projection))

    def text_components(self, features: Tensor) -> Tensor:
        """Return principal components of frozen text features, shape (n, text_components)."""
        return (features - self.text_mean) @ self.text_projection

    def components(self, features: Tensor) -> Tensor:
        """Return principal components of frozen picture features, shape (n, image_components)."""
        return (features - self.image_mean) @ self.image_projection

    def image_vectors(self, components: Tensor) -> Tensor:
        """Return unit vectors, shape (n, dim), from the output of :meth:`components`."""
        vectors: Tensor = self.image(components)
        return vectors

    def text_vectors(
        self, rows: Tensor | None = None, offsets: Tensor | None = None, components: Tensor | None = None
    ) -> Tensor:
        """Return unit vectors of texts, shape (n, dim).

        Parameters
        ----------
        rows : Tensor, int64, shape (total,), optional
            Embedding rows of all texts, one text after the other; needed if the model uses n-grams.
        offsets : Tensor, int64, shape (n,), optional
            Start of each text in ``rows``.
        components : Tensor, float32, shape (n, text_components), optional
            Output of :meth:`text_components`; needed if the model has a frozen text tower.

        Raises
        ------
        ValueError
            An input that the model needs is missing.
        """
        parts = []
        if self.embedding is not None:
            if rows is None or offsets is None:
                raise ValueError("this model needs the n-grams of a text")
            weights = None
            if self.training and self.ngram_dropout:
                keep = torch.rand(len(rows), device=rows.device) >= self.ngram_dropout
                weights = keep.float() / (1 - self.ngram_dropout)
            bags = self.embedding(rows, offsets, per_sample_weights=weights)
            softness = self.config.ngram_softness * self.config.text_width
            bags = bags / (softness + bags.square().sum(1, keepdim=True)).clamp(min=1e-24).sqrt()
            if self.training and self.part_dropout and components is not None:
                bags = bags * (torch.rand(len(bags), 1, device=bags.device) >= self.part_dropout)
            parts.append(bags * self.config.text_width**0.5)
        if self.config.text_tower:
            if components is None:
                raise ValueError("this model needs the frozen features of a text")
            parts.append(components)
        vectors: Tensor = self.text(torch.cat(parts, 1))
        return vectors

    def text_rows(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the embedding rows of texts and the offset of each text."""
        return stack_rows([ngram_rows(text, self.config.text_buckets) for text in texts])

    def save(
        self, path: Path, provenance: Provenance, tuned: Mapping[str, NDArray[np.float32]] | None = None
    ) -> None:
        """Write the model as a checkpoint file, with the tuned weights of its encoder if there are any."""
        tuned = tuned or {}
        shapes = {name: tensor.shape for name, tensor in tuned.items()}
        tensors = self._tensors() | {TUNED + name: tensor for name, tensor in tuned.items()}
        write_checkpoint(path, self.config.model_copy(update={"tuned": shapes}), provenance, tensors)

    @classmethod
    def load(cls, path: Path) -> CrossModalHashModel:
        """Load a checkpoint for further training; for inference, ``HashEncoder`` needs no torch.

        Raises
        ------
        CorruptFile
            The file is not a complete checkpoint of this format.
        """
        checkpoint = read_checkpoint(path)
        if checkpoint.config.head != "skip-relu":
            raise BadInput(f"{path} was trained elsewhere and taken over: it cannot be trained further here")
        model = cls(checkpoint.config)
        tensors = {name: torch.from_numpy(value.copy()) for name, value in checkpoint.tensors.items()}
        with torch.no_grad():
            model.image_mean.copy_(tensors["image.mean"])
            model.image_projection.copy_(tensors["image.projection"])
            if model.embedding is not None:
                model.embedding.weight.copy_(tensors["text.embedding"])
            if checkpoint.config.text_tower:
                model.text_mean.copy_(tensors["text.mean"])
                model.text_projection.copy_(tensors["text.projection"])
            for side, tower, code in (
                ("image", model.image, model.image_code),
                ("text", model.text, model.text_code),
            ):
                tower.first.weight.copy_(tensors[f"{side}.in.weight"])
                tower.first.bias.copy_(tensors[f"{side}.in.bias"])
                tower.second.weight.copy_(tensors[f"{side}.out.weight"])
                tower.second.bias.copy_(tensors[f"{side}.out.bias"])
                tower.skip.weight.copy_(tensors[f"{side}.skip.weight"])
                code.linear.weight.copy_(tensors[f"{side}.code.weight"])
                code.norm.get_buffer("running_mean").copy_(tensors[f"{side}.code.threshold"])
        return model.eval()

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        tensors = {
            "image.mean": self.image_mean,
            "image.projection": self.image_projection,
        }
        if self.embedding is not None:
            tensors["text.embedding"] = self.embedding.weight
        if self.config.text_tower:
            tensors |= {"text.mean": self.text_mean, "text.projection": self.text_projection}
        for side, tower, code in (
            ("image", self.image, self.image_code),
            ("text", self.text, self.text_code),
        ):
            # a deviation scales a margin but never changes its sign, so it is folded into weight and
            # threshold
            deviation = (code.norm.get_buffer("running_var") + code.norm.eps).sqrt()
            tensors |= {
                f"{side}.in.weight": tower.first.weight,
                f"{side}.in.bias": tower.first.bias,
                f"{side}.out.weight": tower.second.weight,
                f"{side}.out.bias": tower.second.bias,
                f"{side}.skip.weight": tower.skip.weight,
                f"{side}.code.weight": code.linear.weight / deviation[:, None],
                f"{side}.code.threshold": code.norm.get_buffer("running_mean") / deviation,
            }
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}


def _fitted(
    features: NDArray[np.float32],
    n: int,
    pairs: NDArray[np.float32] | None = None,
    agreement: float = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the mean, and the projection to n components; see ``CrossModalHashModel.fit_components``."""
    mean, deviation, standard, axes = _principal(features, n)
    if agreement and pairs is not None and len(pairs):
        apart = (pairs[:, 0] - pairs[:, 1]) / deviation @ axes
        within = np.sqrt(np.square(apart).mean(0) / 2) + 1e-6
        ratio = within / ((standard @ axes).std(0) + 1e-6)
        axes = axes * ratio**-agreement
    axes = axes / (standard @ axes).std()
    return mean, axes / deviation[:, None]


def _principal(
    features: NDArray[np.float32], n: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean, deviation, the standardised features, and their first n principal axes."""
    mean, deviation = features.mean(0), features.std(0) + np.float32(1e-3)
    standard = ((features - mean) / deviation).astype(np.float64)
    axes = np.linalg.eigh(standard.T @ standard)[1][:, ::-1][:, :n]
    # the sign of an axis is arbitrary: fix it, so that every machine gets the same
    axes = axes * np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    return mean, deviation, standard, axes


def stack_rows(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Concatenate the rows of several texts, and return the offset of each."""
    lengths = np.fromiter((len(part) for part in rows), np.int64, len(rows))
    joined = np.fromiter((row for part in rows for row in part), np.int64, int(lengths.sum()))
    return torch.from_numpy(joined), torch.from_numpy(np.concatenate([[0], lengths.cumsum()[:-1]]))
