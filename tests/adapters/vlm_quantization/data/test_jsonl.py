import io
import json
import os
import re
import time
import unicodedata

import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.data import digests, jsonl
from adapters.vlm_quantization.data.jsonl import read_jsonl
from adapters.vlm_quantization.data.leakage import check_leakage
from adapters.vlm_quantization.data.splits import make_splits
from tests.adapters.vlm_quantization.data.hostile import HOSTILE


def png(colour, size=(10, 10)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """A folder with pictures, one of them with a Korean name, and a picture outside the folder."""
    folder = tmp_path / "내 사진"
    (folder / "pictures").mkdir(parents=True)
    for name, colour in (("red.png", "red"), ("blue.png", "blue"), ("초록.png", "green")):
        (folder / "pictures" / name).write_bytes(png(colour))
    (folder / "broken.png").write_bytes(png("red", (500, 500))[:-40])
    (tmp_path / "outside.png").write_bytes(png("white"))
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    return folder


def write(folder, *lines):
    path = folder / "collection.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_bytes("\n".join(texts).encode("utf-8", "surrogateescape"))
    return path


def line(image="pictures/red.png", **more):
    return {"image": image, "captions": {"en": ["a red square"]}, **more}


def test_a_collection_is_read(folder):
    path = write(
        folder,
        {
            "image": "pictures/red.png",
            "captions": {"en": ["red square", " red tile "], "ko": ["빨간 네모"]},
            "labels": ["red", "red", " square "],
            "keywords": {"en": ["colour"]},
        },
        "",
        {"id": "파랑", "image": "pictures/blue.png", "captions": {"en": "blue square"}},
        {"image": "pictures/초록.png", "captions": {"en": ["", "green square"], "ko": [" "]}},
    )
    collection = read_jsonl(path)
    red, blue, green = collection.items
    assert not collection.problems
    assert collection.problem_summary == ""
    assert collection.languages == ("en", "ko")
    assert red.captions == {"en": ("red square", "red tile"), "ko": ("빨간 네모",)}
    assert (red.id, red.labels, red.keywords) == ("pictures/red.png", ("red", "square"), {"en": ("colour",)})
    assert red.caption("ko") == "빨간 네모"
    assert blue.caption("ko") == "blue square"
    assert (blue.id, blue.labels) == ("파랑", ())
    assert (green.id, green.captions) == ("pictures/초록.png", {"en": ("green square",)})
    assert collection.open(2).getpixel((0, 0)) == (0, 128, 0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("\udcff\udcfe", "not UTF-8"),
        ('["pictures/red.png"]', "object.*list"),
        ("null", "object.*NoneType"),
        ({"captions": {"en": ["x"]}}, "'image' must be"),
        (line(image=7), "'image' must be"),
        (line(image=""), "'image' must be"),
        (line(image="a\0b.png"), "'image' must be"),
        (line(image="pictures/nothing.png"), "no such file: 'pictures/nothing.png'"),
        (line(image="pictures"), "no such file"),
        (line(image="x" * 5000), "cannot be used|no such file"),
        (line(image="../outside.png"), "'../outside.png'.*outside"),
        (line(image="link.png"), "'link.png'.*outside"),
        (line(image="/etc/hostname"), "'/etc/hostname'.*outside"),
        (line(image="broken.png"), "broken.png: broken picture"),
        (line(image="collection.jsonl"), "not a picture"),
        (line(id=""), "'id' must be"),
        (line(id=True), "'id' must be"),
        (line(id=1.5), "'id' must be"),
        (json.dumps(line(captions={"en": ["cut emoji \ud83d"]})), "half a character"),
        (json.dumps(line(labels=["\ud83d"])), "'labels' must be"),
        (json.dumps(line(id="\ud83d")), "'id' must be"),
        ('{"image": "\\ud83d.png", "captions": {"en": ["a"]}}', "'image' must be"),
        (line(id="first"), "id 'first'.*line 1"),
        ({"image": "pictures/초록.png"}, "no captions"),
        ({"image": "pictures/red.png", "captions": {}}, "no captions"),
        ({"image": "pictures/red.png", "captions": {"en": ["", " "]}}, "no captions"),
        ({"image": "pictures/red.png", "captions": 7}, "'captions' must map a language"),
        ({"image": "pictures/red.png", "captions": [7]}, "'captions' of 'en' must be a list"),
        ({"image": "pictures/red.png", "captions": {"en": [1]}}, "'captions' of 'en' must be a list"),
        ({"image": "pictures/red.png", "captions": {"English!": ["a"]}}, "'English!'.*language tag"),
        (line(labels=[3]), "'labels' must be a list"),
        (line(labels={"x": "x" * 100_000}), "…"),
        (line(id="x" * 1_000_001), "over 1,000,000"),
    ],
)
def test_a_bad_line_is_skipped_and_reported(folder, bad, message):
    good = {"id": "first", "image": "pictures/blue.png", "captions": {"en": ["blue"]}}
    path = write(folder, good, bad, line(id="last"))
    collection = read_jsonl(path)
    assert [item.id for item in collection.items] == ["first", "last"]
    (problem,) = collection.problems
    assert problem.line == 2
    assert re.search(message, problem.message), problem.message
    assert len(problem.message) < 300
    assert re.match("1 line .*collection: line 2: ", collection.problem_summary)


def test_many_problems_are_counted_in_order_and_the_first_are_named(folder):
    path = write(folder, line(image="broken.png"), "{", line(), "{", line(image="no.png"))
    collection = read_jsonl(path)
    assert [problem.line for problem in collection.problems] == [1, 2, 4, 5]
    assert re.match("4 lines .*collection: line 1: broken.png", collection.problem_summary)
    assert collection.problem_summary.endswith("; and 1 more")


@pytest.mark.parametrize(
    ("lines", "message"),
    [([], "no lines"), (["{", line(image="broken.png")], r"2 lines .*line 1: not JSON")],
)
def test_a_file_without_a_valid_line_is_an_error_that_names_the_first_problems(folder, lines, message):
    with pytest.raises(wb.BadInput, match=message):
        read_jsonl(write(folder, *lines))


def test_a_missing_collection_is_named(tmp_path):
    with pytest.raises(wb.BadInput, match=r"no\.jsonl cannot be read"):
        read_jsonl(tmp_path / "no.jsonl")


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(folder):
    path = folder / "collection.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(line()).encode() + b"\r\n\r\n")
    assert len(read_jsonl(path)) == 1


def test_composed_and_decomposed_korean_are_the_same_text(folder):
    path = write(folder, line(captions={"ko": ["\u1100\u1161\u11bc"]}))
    assert read_jsonl(path).items[0].caption("ko") == "강"


def test_pictures_with_equal_captions_are_one_concept_and_stay_together(folder):
    for number in range(40):
        (folder / f"{number}.png").write_bytes(png("red", (10, 10 + number)))
    lines = [{"image": f"{number}.png", "captions": {"en": [f"thing {number // 2}"]}} for number in range(40)]
    collection = read_jsonl(write(folder, *lines))
    assert len({item.concept for item in collection.items}) == 20
    splits = make_splits(collection)
    assert splits.counts == {
        "train": 30, "val_drawings": 0, "test_drawings": 0, "val_concepts": 4, "test_concepts": 6,
    }  # fmt: skip
    assert "no drawings are held out" in splits.notes[0]
    assert check_leakage(collection, splits)["items"] == 40


def test_copies_of_a_picture_are_one_picture_with_all_their_captions(folder):
    for number in range(30):
        (folder / f"{number}.png").write_bytes(png("red", (10, 10 + number // 2)))
    lines = [{"image": f"{n}.png", "captions": {"en": [f"thing {n}"]}} for n in range(30)]
    collection = read_jsonl(write(folder, *lines))
    assert [item.captions for item in collection.items] == [
        {"en": (f"thing {2 * number}", f"thing {2 * number + 1}")} for number in range(15)
    ]
    assert collection.notes[0].startswith("15 lines list a picture again")
    for seed in range(5):
        assert check_leakage(collection, make_splits(collection, seed))["pictures"] == 15


@pytest.mark.parametrize("with_ids", [False, True])
def test_a_picture_with_one_line_per_caption_is_one_picture(folder, with_ids):
    """The commonest form of a collection; four of five captions were lost, or five pictures made of one."""
    lines = []
    for number, (picture, caption) in enumerate(
        (picture, f"{picture} said in way {way}") for way in range(5) for picture in ("red", "blue")
    ):
        lines.append({"image": f"pictures/{picture}.png", "captions": {"en": [caption], "ko": ["말"]}})
        if with_ids:
            lines[-1] |= {"id": number, "labels": [f"label {number % 2}"]}
    lines[3]["image"] = "pictures/../pictures/blue.png"
    collection = read_jsonl(write(folder, *lines))
    assert collection.problems == []
    assert [item.captions for item in collection.items] == [
        {"en": tuple(f"{picture} said in way {way}" for way in range(5)), "ko": ("말",)}
        for picture in ("red", "blue")
    ]
    assert [item.id for item in collection.items] == (
        ["0", "1"] if with_ids else ["pictures/red.png", "pictures/blue.png"]
    )
    assert collection.notes == [
        "8 lines list a picture again: each picture counts once, with the captions of all its lines."
    ]
    assert [caption.text for caption in collection.captions(range(2), "ko")] == ["말", "말"]


def test_what_tables_write_is_read(folder):
    """Null for an absent value, whole numbers as ids, captions without a language, and more columns."""
    more = {"labels": None, "keywords": None, "width": 640, "split": "Training", "url": None}
    lines = [
        {"id": 391895, "image": "pictures/red.png", "captions": {"en": ["red"], "ko": None}, **more},
        {"id": None, "image": "pictures/blue.png", "captions": ["blue", "파랑"], "labels": "cold"},
        {"image": "pictures/초록.png", "captions": "초록", "split": "val"},
    ]
    collection = read_jsonl(write(folder, *lines))
    assert collection.problems == []
    assert [(item.id, dict(item.captions)) for item in collection.items] == [
        ("391895", {"en": ("red",)}),
        ("pictures/blue.png", {"en": ("blue",), "ko": ("파랑",)}),
        ("pictures/초록.png", {"ko": ("초록",)}),
    ]
    assert collection.items[1].labels == ("cold",)
    assert collection.notes == [
        "Ignored fields: 'url' (1 line), 'width' (1 line). "
        "Fields in use: image, captions, labels, id, keywords, split."
    ]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_file_name_is_found_in_either_unicode_form(folder, form):
    """A Mac stores Korean names decomposed."""
    stored = unicodedata.normalize(form, "강아지.png")
    (folder / stored).write_bytes(png("brown"))
    for written in ("NFC", "NFD"):
        name = unicodedata.normalize(written, "강아지.png")
        collection = read_jsonl(write(folder, line(image=name)))
        assert (collection.problems, collection.items[0].id) == ([], "강아지.png")
        assert collection.items[0].image.name == stored


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_lines_may_end_as_on_any_system(folder, end, chunk, monkeypatch):
    monkeypatch.setattr(jsonl, "_CHUNK_BYTES", chunk)
    texts = [json.dumps(line("pictures/red.png")), "", "{", json.dumps(line("pictures/blue.png", id="b"))]
    path = folder / "collection.jsonl"
    for last in ("", end):
        path.write_bytes((end.join(texts) + last).encode())
        collection = read_jsonl(path)
        assert [item.id for item in collection.items] == ["pictures/red.png", "b"]
        assert [problem.line for problem in collection.problems] == [3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"image": "a"}'.encode("utf-16"), "UTF-16"),
        ('{"image": "a"}'.encode("utf-16-le"), "UTF-16"),
        ('{"image": "a"}'.encode("utf-16-be"), "UTF-16"),
        ('{"image": "a"}'.encode("utf-32"), "UTF-32"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "compressed"),  # gzip
        (b"PK\x03\x04\x14\0", "compressed"),  # zip
        (b' [\n{"image": "a.png"}]', "JSON array"),
    ],
)
def test_a_file_of_another_kind_says_what_to_do(folder, data, message):
    (folder / "collection.jsonl").write_bytes(data)
    with pytest.raises(wb.BadInput, match=message) as refused:
        read_jsonl(folder / "collection.jsonl")
    assert refused.value.hint


def test_a_key_that_stands_twice_is_reported_and_loses_no_caption_in_silence(folder):
    twice = '{"image": "pictures/red.png", "captions": {"en": ["a"], "en": ["b"]}}'
    collection = read_jsonl(write(folder, twice, line("pictures/blue.png")))
    assert [str(problem) for problem in collection.problems] == ["line 1: 'en' occurs twice in one object"]
    assert len(collection) == 1


def test_pictures_are_decoded_once_and_again_when_they_change(folder, tmp_path, monkeypatch):
    path = write(folder, line(), line("pictures/blue.png"), line("broken.png"))
    long_ago = time.time() - 60
    for image in folder.rglob("*.png"):
        os.utime(image, (long_ago, long_ago))
    decoded = []
    original = digests.picture_file_digest

    def counted(data, **options):
        decoded.append(options["name"])
        return original(data, **options)

    monkeypatch.setattr(digests, "picture_file_digest", counted)
    first = read_jsonl(path, cache_dir=tmp_path / "cache")
    assert sorted(decoded) == ["broken.png", "pictures/blue.png", "pictures/red.png"]
    decoded.clear()
    second = read_jsonl(path, cache_dir=tmp_path / "cache")
    assert decoded == ["broken.png"]  # broken pictures are decoded again
    assert second.fingerprint == first.fingerprint
    assert second.problems == first.problems
    (folder / "pictures/red.png").write_bytes(png("pink"))
    decoded.clear()
    third = read_jsonl(path, cache_dir=tmp_path / "cache")
    assert sorted(decoded) == ["broken.png", "pictures/red.png"]  # decoded in parallel, in any order
    assert third.fingerprint != first.fingerprint


@pytest.mark.parametrize("kept", [b"", b"{", b"[1]", b'{"pictures/red.png": 3}', b"\xff"])
def test_a_broken_cache_of_digests_is_ignored(folder, tmp_path, kept):
    path = write(folder, line())
    fresh = read_jsonl(path, cache_dir=tmp_path / "cache")
    os.utime(folder / "pictures/red.png", (1, 1))
    read_jsonl(path, cache_dir=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(kept)
    assert read_jsonl(path, cache_dir=tmp_path / "cache").fingerprint == fresh.fingerprint


def test_progress_is_reported(folder):
    reports = []
    read_jsonl(write(folder, line()), progress=lambda *report: reports.append(report))
    assert reports == [(0, 1, "opening pictures"), (1, 1, "opening pictures")]


def test_a_picture_that_breaks_later_is_named(folder):
    collection = read_jsonl(write(folder, line()))
    (folder / "pictures/red.png").unlink()
    with pytest.raises(wb.BadInput, match=r"red\.png: cannot be read"):
        collection.open(0)


def test_pictures_made_to_keep_a_decoder_busy_are_named_and_the_rest_is_read(folder):
    names = [name for name, (_, reason) in HOSTILE.items() if reason in ("scans", "segments", "chunks")]
    for number, name in enumerate(names):
        (folder / f"hostile-{number}.png").write_bytes(HOSTILE[name][0]())
    lines = [line(f"hostile-{number}.png") for number in range(len(names))]
    collection = read_jsonl(write(folder, *lines, line()))
    assert [item.id for item in collection.items] == ["pictures/red.png"]
    for number, (name, problem) in enumerate(zip(names, collection.problems, strict=True)):
        assert problem.line == number + 1
        assert f"hostile-{number}.png: more than" in problem.message, name


def test_a_path_that_is_written_in_two_ways_is_one_picture(folder):
    collection = read_jsonl(
        write(folder, line("pictures/red.png"), line("./pictures/red.png"), line("pictures/blue.png"))
    )
    assert [item.id for item in collection.items] == ["pictures/red.png", "pictures/blue.png"]


def test_captions_with_equal_words_are_one_concept(folder):
    def named(image, *texts):
        return line(image, captions={"en": list(texts)})

    same = read_jsonl(
        write(folder, named("pictures/red.png", "A red kite."), named("pictures/blue.png", "a  ＲＥＤ kite"))
    )
    assert len({item.concept for item in same.items}) == 1
    assert {item.captions["en"][0] for item in same.items} == {"A red kite.", "a  ＲＥＤ kite"}
    other = read_jsonl(
        write(folder, named("pictures/red.png", "a red kite"), named("pictures/blue.png", "a red kit"))
    )
    assert len({item.concept for item in other.items}) == 2
    emoji = read_jsonl(write(folder, named("pictures/red.png", "🪁"), named("pictures/blue.png", "🐶")))
    assert len({item.concept for item in emoji.items}) == 2
    assert emoji.notes == [
        "2 captions have no letter or digit ('🪁', '🐶'): such captions all look the same to a model."
    ]
