"""Training data: texts and the concepts they describe, and batches drawn from them by a seed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adapters.vlm_quantization.data.augmentation import generator_of, with_words_dropped
from adapters.vlm_quantization.data.joining import joined
from adapters.vlm_quantization.towers.features import words_in
from adapters.vlm_quantization.towers.ngrams import ngram_rows
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from adapters.vlm_quantization.data.collection import CaptionedImages, Item
    from adapters.vlm_quantization.options import TrainOptions


#: Versions of a text with words dropped that token dropout chooses from.
DROPPED_VERSIONS = 4


class Texts:
    """Every text of the training concepts, and which concepts it describes.

    Besides names and keywords, their single words are texts too. A word describes every concept that has it,
    so that two words can be combined into a query (:meth:`positives` of both).

    Attributes
    ----------
    names, keywords, words : list
        For each concept, a list of languages, each a list of text numbers.
    texts : list of str
        The distinct texts, case-folded.
    rows : list of list of int
        For each text, the rows of its n-grams.
    dropped : dict of int to list of int
        For texts of several words, the numbers of their versions without some words. These are texts too, but
        describe no concept of their own.
    """

    def __init__(
        self, concepts: Sequence[Item], languages: Sequence[str], buckets: int, *, drop_words: bool = False
    ) -> None:
        numbers: dict[str, int] = {}
        described: list[tuple[int, int]] = []
        self.names: list[list[list[int]]] = []
        self.keywords: list[list[list[int]]] = []
        self.words: list[list[list[int]]] = []
        for place, item in enumerate(concepts):
            for kept in (self.names, self.keywords, self.words):
                kept.append([])
            for language in languages:
                names, keywords = item.captions.get(language, ()), item.keywords.get(language, ())
                for texts, kept in (
                    (names, self.names),
                    (keywords, self.keywords),
                    (_words((*names, *keywords)), self.words),
                ):
                    row = [numbers.setdefault(text.casefold(), len(numbers)) for text in texts]
                    kept[place].append(row)
                    described += [(number, place) for number in row]
        pairs = np.unique(np.array(described, np.int64).reshape(-1, 2), axis=0)
        self.dropped: dict[int, list[int]] = _dropped(numbers) if drop_words else {}
        self.texts = list(numbers)
        self.rows = [ngram_rows(text, buckets) for text in numbers]
        self._concepts = pairs[:, 1]
        self._starts = np.searchsorted(pairs[:, 0], np.arange(len(numbers) + 1))
        self._n_concepts = len(concepts)

    def __len__(self) -> int:
        return len(self.rows)

    def positives(self, texts: NDArray[np.int64], concepts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which text describes which concept, shape (len(texts), len(concepts)).

        Memory grows with the result and with the lists of these texts, not with all concepts per text.
        """
        column = np.full(self._n_concepts, -1)
        column[concepts] = np.arange(len(concepts))
        counts = self._starts[texts + 1] - self._starts[texts]
        row = np.repeat(np.arange(len(texts)), counts)
        within = np.arange(len(row)) - np.repeat(counts.cumsum() - counts, counts)
        columns = column[self._concepts[np.repeat(self._starts[texts], counts) + within]]
        out = np.zeros((len(texts), len(concepts)), bool)
        out[row[columns >= 0], columns[columns >= 0]] = True
        return out


def _dropped(numbers: dict[str, int]) -> dict[int, list[int]]:
    """Return, for texts of several words, the numbers of versions without some words; add those that are new.

    Which words are left out depends on the text alone.
    """
    out = {}
    for text, number in list(numbers.items()):
        versions = {
            with_words_dropped(text, generator_of("words", text, version))
            for version in range(DROPPED_VERSIONS)
        }
        if versions := versions - {text}:
            out[number] = [numbers.setdefault(one, len(numbers)) for one in sorted(versions)]
    return out


def _words(texts: Iterable[str]) -> list[str]:
    """Return the distinct words of texts, in order of first occurrence."""
    return list(dict.fromkeys(word for text in texts for word in words_in(text)))


@dataclass(frozen=True)
class TrainingBatch:
    """The data of one training step: n concepts, with one picture and t texts of each.

    Attributes
    ----------
    concepts : ndarray, int64, shape (n,)
        Indices of the concepts among those drawn from.
    pictures : ndarray, int64, shape (n, 2)
        Two pictures of each concept (the same one twice if it has only one), as rows of the collection.
    mix : ndarray, float32, shape (n, 1)
        Share of the first picture in the mix.
    other, push : ndarray, int64, shape (n,), and float32, shape (n, 1)
        The pair of drawings whose difference is added, and its factor; empty if there are no pairs.
    rows : list of list of int
        Rows of the n-grams of each text: one text of every concept, then another of every concept, and so on.
    texts : ndarray, int64, shape (t * n, 2)
        The number of each text twice, or the numbers of the two words that make it up.
    positives : ndarray, bool, shape (t * n, n)
        Which text describes which concept.
    views : ndarray, int64, shape (n, 2)
        Which version of each picture of ``pictures``: 0 is the picture itself, 1 to V are its weak views, and
        V + 1 to 2 V its strong ones.
    compared : ndarray, int64, shape (n, 2)
        A weak and a strong view of the first picture, to compare their codes; all 0 without views.
    """

    concepts: NDArray[np.int64]
    pictures: NDArray[np.int64]
    mix: NDArray[np.float32]
    other: NDArray[np.int64]
    push: NDArray[np.float32]
    rows: list[list[int]]
    texts: NDArray[np.int64]
    positives: NDArray[np.bool_]
    views: NDArray[np.int64]
    compared: NDArray[np.int64]


class Batches:
    """Draws batches: concepts, with a picture and some texts of each.

    Parameters
    ----------
    collection : CaptionedImages
    rows : ndarray, int64
        The items to draw from.
    options : TrainOptions
    unseen : ndarray, int64, optional
        Items whose concepts fill half of every batch, since the model has not been trained on them yet.
    two_words : float
        How often a text is two words of a concept, like a typical query, instead of its name or a keyword.

    Attributes
    ----------
    pictures : list of ndarray of int64
        For each concept, its rows in the collection.
    pairs : ndarray, int64, shape (m, 2)
        Rows of two drawings of one concept, for every concept that has two.

    Raises
    ------
    BadInput
        Fewer than two concepts, so there is nothing to tell apart, or an unknown language.
    """

    def __init__(
        self,
        collection: CaptionedImages,
        rows: NDArray[np.int64],
        options: TrainOptions,
        unseen: NDArray[np.int64] | None = None,
        two_words: float = 0.0,
    ) -> None:
        languages = trained_languages(collection, options)
        by_concept: dict[str, list[int]] = {}
        for row in rows.tolist():
            item = collection.items[row]
            if any(item.captions.get(tag) or item.keywords.get(tag) for tag in languages):
                by_concept.setdefault(item.concept, []).append(row)
        if len(by_concept) < 2:
            raise BadInput(f"{len(by_concept)} concepts to train on; at least 2 are needed")
        self.pictures = [np.array(rows) for rows in by_concept.values()]
        pairs = [rows[:2] for rows in by_concept.values() if len(rows) > 1]
        self.pairs = np.array(pairs, np.int64).reshape(-1, 2)
        concepts = [
            functools.reduce(joined, (collection.items[row] for row in rows)) for rows in by_concept.values()
        ]
        self.texts = Texts(concepts, languages, options.text_buckets, drop_words=bool(options.token_dropout))
        self.options = options
        self.two_words = two_words
        new = {collection.items[row].concept for row in ([] if unseen is None else unseen.tolist())}
        self._new = np.array([concept in new for concept in by_concept])
        self._rng = np.random.Generator(np.random.PCG64(options.seed))
        # of its own, so that batches without views and token dropout are what they were before there were any
        self._changes = generator_of("changes", options.seed)

    def draw(self) -> TrainingBatch:
        """Return the next batch; the same seed gives the same batches in the same order."""
        rng = self._rng
        size = min(self.options.batch, len(self.pictures))
        new = rng.permutation(np.flatnonzero(self._new))[: size // 2]
        concepts = np.concatenate([new, rng.permutation(np.flatnonzero(~self._new))[: size - len(new)]])
        n = len(concepts)
        # one vectorised call: one call per number would take longer than the step
        chance = rng.random((n, 2))
        pictures = [
            [_pick(self.pictures[concept], one[0]), _pick(self.pictures[concept], one[1])]
            for concept, one in zip(concepts, chance, strict=True)
        ]
        again = np.tile(concepts, self.options.texts)
        texts = np.array(
            [self._text(c, one) for c, one in zip(again, rng.random((len(again), 6)), strict=True)]
        )
        positives = self.texts.positives(texts[:, 0], concepts) & self.texts.positives(texts[:, 1], concepts)
        texts = self._with_words_dropped(texts)
        views, compared = self._views(n)
        rows = self.texts.rows
        return TrainingBatch(
            concepts=concepts,
            pictures=np.array(pictures, np.int64),
            mix=rng.random((n, 1)).astype(np.float32),
            other=rng.integers(max(1, len(self.pairs)), size=n if len(self.pairs) else 0),
            push=rng.standard_normal((n if len(self.pairs) else 0, 1)).astype(np.float32),
            rows=[rows[a] if a == b else rows[a] + rows[b] for a, b in texts.tolist()],
            texts=texts,
            positives=positives,
            views=views,
            compared=compared,
        )

    @property
    def position(self) -> dict[str, Any]:
        """Where in the order of batches this is, as JSON data; set it to go on from there."""
        return {
            "batches": dict(self._rng.bit_generator.state),
            "changes": dict(self._changes.bit_generator.state),
        }

    @position.setter
    def position(self, position: Mapping[str, Any]) -> None:
        self._rng.bit_generator.state = position["batches"]
        self._changes.bit_generator.state = position["changes"]

    def _views(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the version of each of ``n`` pairs of pictures, and a weak and a strong view of each."""
        count = self.options.views
        if not count:
            return np.zeros((n, 2), np.int64), np.zeros((n, 2), np.int64)
        chosen = self._changes.integers(1, 2 * count + 1, size=(n, 2))
        views = np.where(self._changes.random((n, 2)) < self.options.view_share, chosen, 0)
        compared = self._changes.integers(1, count + 1, size=(n, 2)) + np.array([0, count])
        return views, compared

    def _with_words_dropped(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of texts, some replaced by a version without some of its words."""
        share, dropped = self.options.token_dropout, self.texts.dropped
        if not share:
            return texts
        chance = self._changes.random((len(texts), 2))
        out = texts.copy()
        for place, (first, second) in enumerate(texts.tolist()):
            if first == second and first in dropped and chance[place, 0] < share:
                out[place] = _pick(dropped[first], chance[place, 1])
        return out

    def _text(self, concept: int, chance: NDArray[np.float64]) -> tuple[int, int]:
        """Return a text of a concept twice, or two of its words."""
        names, keywords = self.texts.names[concept], self.texts.keywords[concept]
        place = _pick([place for place, texts in enumerate(names) if texts or keywords[place]], chance[0])
        words = self.texts.words[concept][place]
        if len(words) > 1 and chance[1] < self.two_words:
            first = int(chance[2] * len(words))
            second = (first + 1 + int(chance[3] * (len(words) - 1))) % len(words)
            return words[first], words[second]
        use_name = names[place] and (not keywords[place] or chance[4] < self.options.name_share)
        text = _pick(names[place] if use_name else keywords[place], chance[5])
        return text, text


def trained_languages(collection: CaptionedImages, options: TrainOptions) -> tuple[str, ...]:
    """Return the languages of the captions to train on.

    Raises
    ------
    BadInput
        The options name a language that no caption of the collection is in.
    """
    known = collection.languages
    if unknown := [tag for tag in options.languages if tag not in known]:
        raise BadInput(
            f"no caption is in {', '.join(map(repr, unknown))}; languages of {collection.name}: "
            f"{', '.join(known)}",
            hint="Name languages of the collection in `languages`, or leave it empty for all.",
        )
    return tuple(dict.fromkeys(options.languages)) or known


def _pick(choices: Sequence[int] | NDArray[np.int64], chance: float) -> int:
    """Return the choice selected by a number in [0, 1)."""
    return int(choices[int(chance * len(choices))])


def drawn_rows(
    batch: TrainingBatch,
    components: Tensor,
    pairs: Tensor,
    options: TrainOptions,
    views: Tensor | None = None,
) -> Tensor:
    """Return components of synthetic pictures that stand for drawings in another style.

    A mix of two drawings of a thing still shows the thing, so the two are mixed. The difference between two
    drawings of another thing is mostly one of style, so a multiple of it is added. Noise covers the remaining
    variation. ``views``, float32 (2 V, n, width), are the components of each picture's views.
    """
    two = versions_of(batch.pictures, batch.views, components, views)
    share = torch.from_numpy(batch.mix).to(two.device)
    x = two[:, 0] * share + two[:, 1] * (1 - share)
    if len(batch.other) and options.style_noise:
        other = components[pairs[torch.from_numpy(batch.other)]]
        push = torch.from_numpy(batch.push).to(two.device)
        x = x + (other[:, 0] - other[:, 1]) * push * options.style_noise
    return x + torch.randn_like(x) * options.noise


def versions_of(
    pictures: NDArray[np.int64], versions: NDArray[np.int64], components: Tensor, views: Tensor | None
) -> Tensor:
    """Return components of pictures (by row) in the given versions; see :class:`TrainingBatch`."""
    rows = torch.from_numpy(pictures).to(components.device)
    out = components[rows]
    if views is not None:
        number = torch.from_numpy(versions).to(components.device)
        out = torch.where((number > 0)[..., None], views[(number - 1).clamp(min=0), rows], out)
    return out


def drawn_texts(batch: TrainingBatch, components: Tensor, options: TrainOptions) -> Tensor:
    """Return components of a batch's texts with noise, which stands for other wordings.

    Two words together are near the mean of the two.
    """
    two = components[torch.from_numpy(batch.texts)]
    x = (two[:, 0] + two[:, 1]) / 2
    return x + torch.randn_like(x) * options.text_noise
