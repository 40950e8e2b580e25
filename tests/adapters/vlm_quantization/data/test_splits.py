import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.data.collection import CaptionedImages, Item
from adapters.vlm_quantization.data.leakage import LeakageError, check_leakage
from adapters.vlm_quantization.data.splits import PARTS, make_splits

SEEDS = range(5)


@pytest.fixture(scope="module")
def splits(emoji):
    return [make_splits(emoji, seed) for seed in SEEDS]


def side_of(emoji, splits):
    """Return for each concept the side it is on."""
    rows = {
        "train": np.concatenate([splits.train, splits.val_drawings, splits.test_drawings]),
        "val": splits.val_concepts,
        "test": splits.test_concepts,
    }
    return {emoji.items[row].concept: part for part, found in rows.items() for row in found.tolist()}


def thing(name, picture=None, concept=None, **more):
    """An item that needs no picture: its digest is its name."""
    captions = {"en": (name,)}
    return Item(name, concept or name, captions, b"", picture or f"picture of {name}", **more)


def test_the_parts_are_the_whole_collection_once(emoji, splits):
    for drawn in splits:
        rows = np.concatenate([getattr(drawn, part) for part in PARTS])
        assert sorted(rows.tolist()) == list(range(len(emoji)))
        assert all((np.diff(getattr(drawn, part)) > 0).all() for part in PARTS)
        assert drawn.counts == {part: len(getattr(drawn, part)) for part in PARTS}


def test_the_shares_are_as_decided(emoji, splits):
    for drawn in splits:
        for flag in (False, True):
            sides = side_of(emoji, drawn)
            flags = {item.concept for item in emoji.items if item.flag is flag}
            shares = [np.mean([sides[name] == part for name in flags]) for part in ("train", "val", "test")]
            assert shares == pytest.approx([0.75, 0.08, 0.17], abs=0.01)
        trained = sum(drawn.counts[part] for part in ("train", "val_drawings", "test_drawings")) / 2
        assert len(drawn.test_drawings) / trained == pytest.approx(0.45, abs=0.02)
        assert len(drawn.val_drawings) / trained == pytest.approx(0.10, abs=0.02)


def test_held_out_drawings_are_of_both_styles_and_one_per_concept(emoji, splits):
    for drawn in splits:
        rows = np.concatenate([drawn.val_drawings, drawn.test_drawings]).tolist()
        assert len({emoji.items[row].concept for row in rows}) == len(rows)
        share = np.mean([emoji.items[row].style == "openmoji" for row in rows])
        assert 0.4 < share < 0.6
        assert {emoji.items[row].concept for row in rows} <= {
            emoji.items[row].concept for row in drawn.train.tolist()
        }


@pytest.mark.parametrize(
    "siblings",
    [
        ("man running", "woman running", "person running: facing right"),
        ("red heart", "blue heart", "heart suit"),
        ("one o’clock", "twelve-thirty"),
        ("keycap: 1", "keycap: 9"),
        ("man: beard", "woman: red hair", "older person"),
        ("family: man, woman, boy", "family: woman, woman, girl", "family"),
        ("red circle", "blue circle"),
        ("black large square", "white small square"),
        ("right arrow", "left arrow curving right"),
        ("dog", "dog face"),
        ("man teacher", "teacher"),
        ("merman", "mermaid"),
        ("backhand index pointing left", "backhand index pointing up"),
        ("flag: Norway", "flag: Svalbard & Jan Mayen"),  # one picture, two names
        ("flag: Romania", "flag: Chad"),
    ],
)
def test_siblings_are_never_separated(emoji, splits, siblings):
    concepts = {item.caption("en"): item.concept for item in emoji.items}
    for drawn in splits:
        sides = side_of(emoji, drawn)
        assert len({sides[concepts[name]] for name in siblings}) == 1


def test_other_seeds_hold_out_other_concepts(emoji, splits):
    held = [{emoji.items[row].concept for row in drawn.test_concepts.tolist()} for drawn in splits]
    for first in SEEDS:
        for second in range(first):
            assert len(held[first] & held[second]) < 0.35 * len(held[first])


def test_a_seed_gives_the_same_splits_in_every_process(emoji, emoji_cache, splits):
    code = (
        "import sys; from pathlib import Path\n"
        "from adapters.vlm_quantization.data import make_splits, open_collection\n"
        "emoji = open_collection('emoji', cache_dir=Path(sys.argv[1])); print(emoji.fingerprint)\n"
        "print(*make_splits(emoji, 3).fingerprints.values())"
    )
    expected = f"{emoji.fingerprint}\n{' '.join(splits[3].fingerprints.values())}\n"
    for hash_seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(emoji_cache)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        assert done.stdout == expected


def test_fingerprints_differ_by_part_seed_and_contents(emoji, splits):
    prints = [fingerprint for drawn in splits for fingerprint in drawn.fingerprints.values()]
    assert len(set(prints)) == len(prints)
    row = int(splits[0].train[0])
    renamed = list(emoji.items)
    renamed[row] = replace(renamed[row], captions={"en": ("another name",)})
    other = CaptionedImages("emoji", renamed)
    assert other.fingerprint != emoji.fingerprint
    changed = make_splits(other).fingerprints
    same = {part: changed[part] == splits[0].fingerprints[part] for part in PARTS}
    assert same == {part: part != "train" for part in PARTS}


def test_flags_can_be_left_out(emoji, splits):
    plain = splits[0].without_flags(emoji)
    rows = np.concatenate([getattr(plain, part) for part in PARTS])
    assert len(rows) == len(emoji) - 540
    assert not any(emoji.items[row].flag for row in rows.tolist())
    assert set(plain.train.tolist()) < set(splits[0].train.tolist())
    assert plain.fingerprints["train"] != splits[0].fingerprints["train"]
    check_leakage(emoji, plain)


# --- leakage ------------------------------------------------------------------------------------------------


def test_the_default_splits_leak_nothing(emoji, splits):
    for drawn in splits:
        report = check_leakage(emoji, drawn)
        assert report["items"] == 3828
        assert report["concepts"] == 1914
        assert report["base_words"] > 1300
        assert report["held_out_drawings"] == len(drawn.val_drawings) + len(drawn.test_drawings)


@pytest.mark.parametrize("part", PARTS[1:])
def test_an_item_in_two_parts_is_detected(emoji, splits, part):
    row = getattr(splits[0], part)[:1]
    leaky = replace(splits[0], train=np.append(splits[0].train, row))
    with pytest.raises(LeakageError, match=f"two parts: {emoji.items[row[0]].id} in train and {part}"):
        check_leakage(emoji, leaky)


def test_an_item_moved_to_another_part_is_detected_by_its_siblings(emoji, splits):
    rows = splits[0].test_concepts.tolist()
    siblings = {}
    for row in rows:
        siblings.setdefault(emoji.items[row].base, {}).setdefault(emoji.items[row].concept, []).append(row)
    concept, moved = next(item for family in siblings.values() if len(family) > 1 for item in family.items())
    leaky = replace(
        splits[0],
        train=np.append(splits[0].train, moved),
        test_concepts=np.setdiff1d(splits[0].test_concepts, moved),
    )
    with pytest.raises(LeakageError, match="siblings") as caught:
        check_leakage(emoji, leaky)
    assert concept in caught.value.examples[0]
    assert isinstance(caught.value, wb.WorkbenchError)


def parts(collection, **rows):
    drawn = make_splits(collection)
    return replace(drawn, **{part: np.array(rows.get(part, []), dtype=np.int64) for part in PARTS})


@pytest.mark.parametrize(
    ("items", "rows", "message"),
    [
        (
            [thing("a", "same"), thing("b", "same")],
            {"train": [0], "test_concepts": [1]},
            r"same picture.*a \(train\) and b \(test_concepts\)",
        ),
        (
            [thing("a", concept="dog"), thing("b", concept="dog")],
            {"train": [0], "val_concepts": [1]},
            r"concept is on both sides.*a \(train\) and b \(val_concepts\)",
        ),
        (
            [thing("a", base="run"), thing("b", base="run")],
            {"val_concepts": [0], "test_concepts": [1]},
            r"siblings.*on both sides.*a \(val_concepts\) and b \(test_concepts\)",
        ),
        (
            [thing("a"), thing("b")],
            {"train": [0], "test_drawings": [1]},
            r"training part.*b \(test_drawings\)",
        ),
    ],
)
def test_every_kind_of_leak_is_detected(items, rows, message):
    collection = CaptionedImages("things", items)
    with pytest.raises(LeakageError, match=message):
        check_leakage(collection, parts(collection, **rows))


def test_items_without_a_digest_are_compared_by_their_pictures(emoji):
    items = [replace(emoji.items[0], id=name, concept=name, base=name, digest="") for name in "ab"]
    collection = CaptionedImages("twice", items)
    with pytest.raises(LeakageError, match="the same picture"):
        check_leakage(collection, parts(collection, train=[0], test_concepts=[1]))


def test_many_leaks_are_counted(emoji, splits):
    leaky = replace(splits[0], train=np.sort(np.concatenate([splits[0].train, splits[0].val_concepts])))
    with pytest.raises(LeakageError, match="and 303 more") as caught:
        check_leakage(emoji, leaky)
    assert len(caught.value.examples) == 308


# --- small and odd collections ------------------------------------------------------------------------------


def test_a_collection_with_one_drawing_per_concept_has_a_note():
    collection = CaptionedImages("things", [thing(f"thing {number}") for number in range(100)])
    drawn = make_splits(collection)
    assert drawn.counts == {
        "train": 75, "val_drawings": 0, "test_drawings": 0, "val_concepts": 8, "test_concepts": 17,
    }  # fmt: skip
    assert "no drawings are held out" in drawn.notes[0]
    check_leakage(collection, drawn)


@pytest.mark.parametrize(("n", "held"), [(1, (0, 0)), (2, (0, 0)), (3, (0, 1)), (4, (1, 1)), (8, (1, 1))])
def test_a_tiny_collection_still_trains_on_something(n, held):
    drawn = make_splits(CaptionedImages("things", [thing(f"thing {number}") for number in range(n)]))
    assert (len(drawn.val_concepts), len(drawn.test_concepts)) == held
    assert len(drawn.train) == n - sum(held)
    assert any("too small" in note for note in drawn.notes) is (held == (0, 0))


def test_one_family_of_siblings_is_trained_on_rather_than_held_out():
    items = [thing(f"thing {number}", base="thing") for number in range(50)]
    assert len(make_splits(CaptionedImages("things", items)).train) == 50


def test_concepts_that_share_a_picture_hold_out_the_same_drawing():
    items = []
    for number in range(40):
        shared = f"shared {number // 2}"
        items += [
            thing(f"a-{number}", shared, f"concept {number}", style="a"),
            thing(f"b-{number}", f"own {number}", f"concept {number}", style="b"),
        ]
    collection = CaptionedImages("twins", items)
    for seed in SEEDS:
        drawn = make_splits(collection, seed)
        assert len(drawn.test_drawings) > 0
        check_leakage(collection, drawn)


def test_a_drawing_equal_to_the_other_style_is_not_held_out():
    items = [thing(f"{style}-{n}", f"same {n}", f"c{n}", style=style) for n in range(40) for style in "ab"]
    assert make_splits(CaptionedImages("equal", items)).counts["test_drawings"] == 0


def test_an_empty_collection_cannot_be_split():
    with pytest.raises(wb.BadInput, match="empty collection"):
        make_splits(CaptionedImages("nothing", []))


@pytest.mark.parametrize("n", range(2, 9))
@pytest.mark.parametrize("seed", range(4))
def test_two_concepts_are_left_to_train_on(n, seed):
    collection = CaptionedImages("few", [thing(f"n{row}", flag=row % 3 == 0) for row in range(n)])
    splits = make_splits(collection, seed)
    assert len({collection.items[row].concept for row in splits.train}) >= 2
    check_leakage(collection, splits)
