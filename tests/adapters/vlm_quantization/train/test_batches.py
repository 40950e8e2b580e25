from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.towers.ngrams import ngram_rows
from adapters.vlm_quantization.train.batches import Batches, Texts, drawn_texts, versions_of
from tests.adapters.vlm_quantization import shapes


def batches(two_words: float = 0.0, **changes: Any) -> Batches:
    collection = shapes.collection()
    rows = make_splits(collection, 0).train
    return Batches(collection, rows, shapes.options(**changes), two_words=two_words)


def test_positives_are_all_concepts_a_text_describes() -> None:
    collection = shapes.collection()
    concepts = collection.items[::2]
    texts = Texts(concepts, ("en", "ko"), 64)
    red = texts.keywords[0][0][0]  # the keyword "red" of the first concept
    assert concepts[0].keywords["en"][0] == "red"
    chosen = np.array([5, 0, 6, 12])
    marks = texts.positives(np.array([red, texts.names[5][0][0]]), chosen)
    assert marks.tolist() == [
        [concepts[place].labels[0] == "red" for place in chosen],
        [True, False, False, False],
    ]


def test_captions_and_keywords_of_every_picture_of_a_concept_are_trained_on() -> None:
    whole = shapes.collection()
    items = list(whole.items)
    assert items[0].concept == items[1].concept
    items[1] = replace(
        items[1], captions={"en": ("Red circle!", "a disc")}, keywords={"en": ("disc",), "ko": ("원반",)}
    )
    changed = CaptionedImages("shapes", items)
    texts = Batches(changed, np.arange(len(items)), shapes.options()).texts
    plain = Batches(whole, np.arange(len(items)), shapes.options()).texts
    assert [len(names) for names in texts.names[0]] == [3, 1]
    assert [len(words) for words in texts.keywords[0]] == [3, 3]
    assert [len(names) for names in plain.names[0]] == [1, 1]


def test_a_word_of_a_name_describes_every_concept_that_has_it() -> None:
    collection = shapes.collection()
    concepts = list(collection.items[::2])
    texts = Texts(concepts, ("en", "ko"), 64)
    everything = np.arange(len(concepts))
    for place, concept in enumerate(concepts):
        for language, words in (("en", 0), ("ko", 1)):
            assert len(texts.words[place][words]) == 2
            for number, word in zip(
                texts.words[place][words], concept.captions[language][0].split(), strict=True
            ):
                described = texts.positives(np.array([number]), everything)[0]
                assert described.tolist() == [
                    word in other.captions[language][0].split() for other in concepts
                ]


def test_two_words_describe_concepts_that_have_both() -> None:
    drawn = batches(two_words=1.0).draw()
    # two words identify one shape in one colour here, so no other concept of the batch matches
    assert drawn.positives.tolist() == np.eye(len(drawn.concepts), dtype=bool).tolist()
    some = batches(two_words=1.0)
    names = {some.texts.names[c][k][0] for c in drawn.concepts for k in (0, 1)}
    whole = {tuple(sorted(some.texts.rows[name])) for name in names}
    buckets = some.options.text_buckets
    assert all(tuple(sorted(rows)) in whole for rows in drawn.rows)
    assert ngram_rows("red circle", buckets) == ngram_rows("red", buckets) + ngram_rows("circle", buckets)


@pytest.mark.parametrize("two_words", [0.0, 0.5])
def test_each_text_describes_its_own_concept_and_each_picture_shows_it(two_words: float) -> None:
    some = batches(two_words=two_words, texts=2)
    for _ in range(5):
        drawn = some.draw()
        for part in np.split(drawn.positives, some.options.texts):
            assert part.diagonal().all()
        for concept, pictures in zip(drawn.concepts, drawn.pictures, strict=True):
            assert set(pictures) <= set(some.pictures[concept])


@pytest.mark.parametrize("texts", [1, 2, 3])
def test_a_batch_has_several_texts_of_each_concept(texts: int) -> None:
    drawn = batches(texts=texts).draw()
    n = len(drawn.concepts)
    assert len(drawn.rows) == texts * n
    assert drawn.positives.shape == (texts * n, n)
    if texts > 1:
        assert drawn.rows[:n] != drawn.rows[n : 2 * n]


def test_pairs_are_two_drawings_of_one_concept_among_the_rows_drawn_from() -> None:
    collection = shapes.collection()
    rows = make_splits(collection, 0).train
    pairs = Batches(collection, rows, shapes.options()).pairs
    assert len(pairs)
    assert set(pairs.ravel().tolist()) <= set(rows.tolist())
    for first, second in pairs.tolist():
        assert first != second
        assert collection.items[first].concept == collection.items[second].concept


def test_without_concepts_with_two_drawings_there_are_no_pairs() -> None:
    collection = shapes.collection()
    alone = Batches(collection, np.arange(0, len(collection), 2), shapes.options())
    drawn = alone.draw()
    assert alone.pairs.shape == (0, 2)
    assert len(drawn.other) == len(drawn.push) == 0


def test_the_seed_determines_the_batches() -> None:
    def several(seed: int) -> list[Any]:
        some = batches(seed=seed, two_words=0.5)
        drawn = [some.draw() for _ in range(4)]
        return [(d.concepts.tolist(), d.pictures.tolist(), d.rows, d.push.tolist()) for d in drawn]

    assert several(0) == several(0)
    assert several(0) != several(1)


def test_unseen_concepts_fill_half_a_batch() -> None:
    collection = shapes.collection()
    splits = make_splits(collection, 0)
    some = Batches(collection, np.arange(len(collection)), shapes.options(batch=6), splits.test_concepts)
    new = {collection.items[row].concept for row in splits.test_concepts.tolist()}
    drawn = some.draw()
    shown = [collection.items[row].concept in new for row in drawn.pictures[:, 0].tolist()]
    assert sum(shown) == 3


def test_one_concept_is_too_few_to_train_on() -> None:
    collection = shapes.collection()
    collection.items = collection.items[:2]
    splits = make_splits(collection, 0)
    with pytest.raises(wb.BadInput, match="at least 2"):
        Batches(collection, splits.train, shapes.options())


def test_only_the_texts_of_the_languages_asked_for_are_drawn() -> None:
    some = batches(languages=("ko",), texts=3)
    drawn = {some.texts.texts[number] for _ in range(5) for number in some.draw().texts.ravel().tolist()}
    assert drawn
    assert not any(letter.isascii() for text in drawn for letter in text if letter.isalpha())


def test_concepts_without_a_text_in_the_language_are_left_out() -> None:
    collection = shapes.collection()
    whole = collection.items
    bare = [replace(item, captions={"en": item.captions["en"]}, keywords={}) for item in whole[:10]]
    collection.items = (*bare, *whole[10:])
    some = Batches(collection, np.arange(48), shapes.options(languages=("ko",)))
    assert len(some.pictures) == 24 - 5
    some.draw()


def test_a_language_that_no_caption_is_in_is_an_error() -> None:
    with pytest.raises(wb.BadInput, match=r"no caption is in 'fr'; languages of shapes: en, ko"):
        batches(languages=("en", "fr"))


def test_two_words_are_near_the_mean_of_the_two_and_noise_is_added() -> None:
    some = batches(two_words=1.0)
    drawn = some.draw()
    components = torch.randn(len(some.texts), 4, generator=torch.Generator().manual_seed(0))
    first, second = drawn.texts.T
    mean = (components[first] + components[second]) / 2
    assert torch.allclose(drawn_texts(drawn, components, shapes.options()), mean)
    noisy = drawn_texts(drawn, components, shapes.options(text_noise=0.5))
    assert 0.3 < float((noisy - mean).std()) < 0.7


def test_views_are_drawn_by_the_seed_and_leave_the_rest_of_a_batch_alone() -> None:
    plain = batches().draw()
    assert not plain.views.any()
    assert not plain.compared.any()
    drawn = [batches(views=2, view_share=0.5).draw() for _ in range(2)]
    one = drawn[0]
    assert np.array_equal(one.views, drawn[1].views)
    assert set(one.views.ravel().tolist()) == {0, 1, 2, 3, 4}
    assert set(one.compared[:, 0].tolist()) == {1, 2}, "weak"
    assert set(one.compared[:, 1].tolist()) == {3, 4}, "strong"
    for name in ("concepts", "pictures", "mix", "other", "push", "texts", "positives"):
        assert np.array_equal(getattr(one, name), getattr(plain, name)), name


def test_a_version_of_a_picture_is_the_picture_or_one_of_its_views() -> None:
    components = torch.arange(3.0)[:, None]
    views = torch.stack([components + 10 * (number + 1) for number in range(4)])
    rows, versions = np.array([0, 1, 2, 2]), np.array([0, 1, 4, 2])
    out = versions_of(rows, versions, components, views)
    assert out[:, 0].tolist() == [0, 11, 42, 22]
    assert versions_of(rows, versions, components, None)[:, 0].tolist() == [0, 1, 2, 2]


def test_token_dropout_shows_a_shorter_text_of_the_same_concepts() -> None:
    drops, plain = batches(token_dropout=1.0), batches()
    batch, before = drops.draw(), plain.draw()
    assert np.array_equal(batch.positives, before.positives)
    assert drops.texts.texts[: len(plain.texts)] == plain.texts.texts
    shortened = 0
    for now, was, rows in zip(batch.texts, before.texts, batch.rows, strict=True):
        text, whole = drops.texts.texts[now[0]], plain.texts.texts[was[0]]
        rest = iter(whole.split())
        assert all(word in rest for word in text.split())
        shortened += text != whole
        assert text or not whole
        assert rows == ngram_rows(text, 512)
        if " " not in whole:
            assert text == whole
    assert shortened


def test_words_are_dropped_as_often_as_said() -> None:
    drawn = batches(token_dropout=0.25, batch=256)
    plain = batches(batch=256)
    changed = total = 0
    for _ in range(60):
        now, was = drawn.draw(), plain.draw()
        longer = np.array([" " in plain.texts.texts[number] for number in was.texts[:, 0]])
        total += int(longer.sum())
        changed += int((now.texts[:, 0] != was.texts[:, 0]).sum())
    assert 0.15 < changed / total < 0.35
