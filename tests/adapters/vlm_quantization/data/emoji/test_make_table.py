import hashlib
import io
import json
import subprocess
import sys
import tarfile

import pytest

import workbench as wb
from adapters.vlm_quantization.data.emoji import make_table
from adapters.vlm_quantization.data.emoji.base_words import base_word
from adapters.vlm_quantization.data.emoji.emoji import read_table
from adapters.vlm_quantization.data.emoji.make_table import COLUMNS, TABLES, code_of, main, table_text

# An excerpt of the three packages, in their own layout.
ANNOTATIONS = {
    "en": {
        "|": {"default": ["|", "bar"], "tts": ["vertical bar"]},
        "❤": {"default": ["emotion", "heart", "love", "red"], "tts": ["red heart"]},
        "🐶": {"default": ["Dog face", "dog", "pet", "dog"], "tts": ["dog face"]},
        "🦰": {"default": ["red hair"], "tts": ["red hair"]},
        "🇺": {"default": ["letter"]},
        "🏃": {"default": ["run"], "tts": ["person running"]},
    },
    "ko": {
        "❤": {"default": ["감정", "빨간색 하트", "하트"], "tts": ["빨간색 하트"]},
        "🐶": {"default": ["강아지", "개"], "tts": ["강아지 얼굴"]},
        "🦰": {"default": ["빨간 머리"], "tts": ["빨간 머리"]},
    },
}
DERIVED = {
    "en": {
        "🏃‍♀": {"default": ["run", "woman"], "tts": ["woman running"]},
        "🏃🏽‍♀": {"default": ["run"], "tts": ["woman running: medium skin tone"]},
        "🇰🇷": {"default": ["flag"], "tts": ["flag: South Korea"]},
    },
    "ko": {
        "🏃‍♀": {"default": ["달리기"], "tts": ["뛰는 여자"]},
        "🏃🏽‍♀": {"default": ["달리기"], "tts": ["뛰는 여자: 갈색 피부"]},
        "🇰🇷": {"default": ["깃발"], "tts": ["깃발: 대한민국"]},
    },
}
EMOJI = [
    {"hexcode": "1F1FA"},
    {"hexcode": "1F1F0-1F1F7", "order": 9, "group": 9, "subgroup": 98},
    {"hexcode": "1F436", "order": 5, "group": 3, "subgroup": 34},
    {"hexcode": "1F3C3", "order": 2, "group": 1, "subgroup": 27},
    {"hexcode": "1F3C3-200D-2640-FE0F", "order": 3, "group": 1, "subgroup": 27},
    {"hexcode": "1F3C3-1F3FD-200D-2640-FE0F", "order": 4, "group": 1, "subgroup": 27},
    {"hexcode": "1F9B0", "order": 8, "group": 2, "subgroup": 33},
    {"hexcode": "2764-FE0F", "order": 1, "group": 0, "subgroup": 14},
    {"hexcode": "007C", "order": 6, "group": 8, "subgroup": 90},
]
HEADINGS = {
    "groups": {"0": "smileys-emotion", "1": "people-body", "2": "component", "3": "animals-nature",
               "8": "symbols", "9": "flags"},
    "subgroups": {"14": "heart", "27": "person-activity", "33": "hair-style", "34": "animal-mammal",
                  "90": "math", "98": "country-flag"},
}  # fmt: skip
EXPECTED = [
    COLUMNS,
    ("2764", "smileys-emotion", "heart", "heart",
     "red heart", "emotion|heart|love|red", "빨간색 하트", "감정|하트"),
    ("1F3C3-200D-2640", "people-body", "person-activity", "running",
     "woman running", "run|woman", "뛰는 여자", "달리기"),
    ("1F436", "animals-nature", "animal-mammal", "dog",
     "dog face", "dog|pet", "강아지 얼굴", "강아지|개"),
    ("1F1F0-1F1F7", "flags", "country-flag", "flag: south korea",
     "flag: South Korea", "South Korea|flag", "깃발: 대한민국", "대한민국|깃발"),
]  # fmt: skip
EXPECTED_TEXT = "".join("\t".join(row) + "\n" for row in EXPECTED)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")


@pytest.fixture
def packages(tmp_path):
    """The excerpt, unpacked as by npm."""
    names = list(make_table.PACKAGES)
    folders = [tmp_path / name for name in names]
    for folder, name in zip(folders, names, strict=True):
        write(folder / "package.json", {"name": name, "version": "1.2.3"})
        write(folder / "LICENSE", f"Licence of {name}, © somebody\n")
    for language in ("en", "ko"):
        for folder, kind, entries in (
            (folders[0], "annotations", ANNOTATIONS),
            (folders[1], "annotationsDerived", DERIVED),
        ):
            write(folder / kind / language / "annotations.json", {kind: {"annotations": entries[language]}})
    write(folders[2] / "meta/groups.json", HEADINGS)
    write(folders[2] / "en/data.json", EMOJI)
    return folders


def test_the_table_is_derived_byte_by_byte(packages, tmp_path, capsys):
    assert main([*map(str, packages), "--out", str(tmp_path / "out")]) == 0
    assert "4 emoji written" in capsys.readouterr().out
    first = (tmp_path / "out/emoji.tsv").read_bytes()
    assert first.decode() == EXPECTED_TEXT
    notice = (tmp_path / "out/NOTICE").read_text(encoding="utf-8")
    assert "cldr-annotations-full 1.2.3" in notice
    assert "Licence of cldr-annotations-full, © somebody" in notice
    assert "Licence of emojibase-data, © somebody" in notice
    assert hashlib.sha256(first).hexdigest() in notice
    command = [sys.executable, "-m", "adapters.vlm_quantization.data.emoji.make_table", *map(str, packages)]
    subprocess.run([*command, "--out", str(tmp_path / "again")], check=True, capture_output=True, timeout=300)
    assert (tmp_path / "again/emoji.tsv").read_bytes() == first
    assert (tmp_path / "again/NOTICE").read_text(encoding="utf-8") == notice


def test_without_folders_npm_fetches_pinned_packages(packages, tmp_path, monkeypatch, capsys):
    fetched = []

    def npm(command, cwd, **options):
        name, _, version = command[-1].rpartition("@")
        fetched.append((name, version))
        with tarfile.open(cwd / f"{name}.tgz", "w:gz") as archive:
            archive.add(tmp_path / name, "package")
        return subprocess.CompletedProcess(command, 0, f"{name}.tgz\n", "")

    monkeypatch.setattr(make_table.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(make_table.subprocess, "run", npm)
    assert main(["--out", str(tmp_path / "out")]) == 0
    assert dict(fetched) == make_table.PACKAGES
    assert (tmp_path / "out/emoji.tsv").read_text(encoding="utf-8") == EXPECTED_TEXT


def test_a_missing_or_failing_npm_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(make_table.shutil, "which", lambda name: None)
    assert main(["--out", str(tmp_path)]) == 1
    assert "npm is not installed" in capsys.readouterr().err
    monkeypatch.setattr(make_table.shutil, "which", lambda name: f"/usr/bin/{name}")
    failed = subprocess.CompletedProcess([], 1, "", "E404 not found")
    monkeypatch.setattr(make_table.subprocess, "run", lambda *_, **__: failed)
    assert main(["--out", str(tmp_path)]) == 1
    assert "npm could not fetch cldr-annotations-full@48.2.0: E404" in capsys.readouterr().err


def test_a_folder_that_is_not_the_package_is_named_and_nothing_is_written(packages, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*map(str, reversed(packages)), "--out", str(out)]) == 1
    assert "annotations.json cannot be read" in capsys.readouterr().err
    (packages[2] / "en/data.json").write_text("{")
    assert main([*map(str, packages), "--out", str(out)]) == 1
    assert "data.json is not JSON" in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(SystemExit):
        main([str(packages[0])])


def test_texts_that_would_break_the_table_are_refused():
    with pytest.raises(wb.BadInput, match=r"tab or line break.* 1F436"):
        table_text([["1F436", "a\tb"]])


@pytest.mark.parametrize(
    ("hexcode", "code"),
    [("1f436", "1F436"), ("23-fe0f-20e3", "0023-20E3"), ("1F441-FE0F-200D-1F5E8-FE0F", "1F441-200D-1F5E8")],
)
def test_codes_have_one_spelling(hexcode, code):
    assert code_of(hexcode) == code


# --- the shipped table --------------------------------------------------------------------------------------


def test_the_shipped_table_is_the_one_its_notice_names():
    data = (TABLES / "emoji.tsv").read_bytes()
    notice = (TABLES / "NOTICE").read_text(encoding="utf-8")
    assert f"sha256 of emoji.tsv: {hashlib.sha256(data).hexdigest()}" in notice
    for name, version in make_table.PACKAGES.items():
        assert f"- {name} {version}" in notice
    for words in ("UNICODE LICENSE V3", "Copyright © 2004-", "MIT License", "Miles Johnson"):
        assert words in notice
    assert len(data) < 600_000


def test_the_shipped_table_is_consistent():
    rows = read_table()
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len({row["code"] for row in rows}) == 1914
    for language in ("en", "ko"):
        assert len({row[language] for row in rows}) == 1914  # a name identifies its concept
    for row in rows:
        assert all(row[column] for column in ("code", "group", "subgroup", "base", "en", "ko")), row
        assert row["code"] == code_of(row["code"])
        assert row["base"] == base_word(row["en"], row["subgroup"]), row
    text = io.StringIO(newline="")
    text.write(table_text([list(row.values()) for row in rows]))
    assert text.getvalue().encode() == (TABLES / "emoji.tsv").read_bytes()


# --- base words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "names"),
    [
        ("running", ["man running", "woman running", "person running: facing right"]),
        ("person", ["man", "old woman", "child", "person: blond hair", "woman: bald"]),
        ("teacher", ["teacher", "man teacher", "woman teacher"]),
        ("clock face", ["one o’clock", "twelve-thirty"]),
        ("keycap", ["keycap: #", "keycap: 10"]),
        ("heart", ["red heart", "light blue heart", "heart with ribbon", "two hearts", "heart suit"]),
        ("circle", ["red circle", "hollow red circle"]),
        ("square", ["black medium-small square", "blue square"]),
        ("arrow", ["up arrow", "up-right arrow", "right arrow curving left"]),
        ("dog", ["dog", "dog face"]),
        ("monkey", ["see-no-evil monkey", "monkey face"]),
        ("blood type", ["A button (blood type)", "AB button (blood type)"]),
        ("wheelchair", ["man in motorized wheelchair: facing right", "manual wheelchair"]),
        ("mailbox", ["open mailbox with raised flag", "closed mailbox with lowered flag"]),
        ("moon", ["full moon", "new moon face", "waxing crescent moon"]),
        ("umbrella", ["umbrella", "closed umbrella", "umbrella on ground"]),
    ],
)
def test_siblings_share_their_base_word(base, names):
    assert {base_word(name, "anything") for name in names} == {base}


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "lion", "tiger"),
        ("heart", "anatomical heart", "broken heart"),
        ("moon", "moon cake", "moon viewing ceremony"),
        ("turkey", "flag: Turkey"),
        ("watch", "alarm clock", "one o’clock"),
        ("crying face", "smiling face"),
        ("umbrella", "beach with umbrella"),
        ("man running", "man walking"),
    ],
)
def test_merely_related_things_do_not_share_a_base_word(names):
    assert len({base_word(name, "anything") for name in names}) == len(names)


def test_every_country_flag_has_its_own_base_word():
    rows = [row for row in read_table() if row["subgroup"] in ("country-flag", "subdivision-flag")]
    assert len({row["base"] for row in rows}) == len(rows) > 250


def test_no_base_word_covers_too_many_emoji():
    sizes = {}
    for row in read_table():
        sizes[row["base"]] = sizes.get(row["base"], 0) + 1
    assert max(sizes.values()) <= 30
    assert len(sizes) > 1350
