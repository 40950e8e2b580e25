import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.data.jsonl import read_jsonl
from adapters.vlm_quantization.data.leakage import check_leakage
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.dummy import COLOURS, SHAPES, write_dummy_collection
from adapters.vlm_quantization.encoding.encoder import HashEncoder


def test_a_collection_reads_without_problems(tmp_path):
    path = write_dummy_collection(tmp_path / "도형", n=24)
    collection = read_jsonl(path)
    assert path.name == "shapes.jsonl"
    assert (len(collection), collection.problems) == (24, [])
    assert collection.languages == ("en", "ko")
    assert len({item.digest for item in collection.items}) == 24
    assert len({item.caption("ko") for item in collection.items}) == 24
    drawn = make_splits(collection)
    assert check_leakage(collection, drawn)["items"] == 24
    assert min(len(drawn.train), len(drawn.val_concepts), len(drawn.test_concepts)) >= 1


def test_pictures_match_their_captions(tmp_path):
    collection = read_jsonl(write_dummy_collection(tmp_path, n=len(COLOURS) * len(SHAPES)))
    paints = {english: paint for english, _, paint in COLOURS}
    for row, item in enumerate(collection.items):
        colour, shape = item.labels
        assert item.caption("en") == f"{colour} {shape}"
        pixels = Counter(collection.open(row).get_flattened_data())
        (first, _), (second, _) = pixels.most_common(2)
        red, green, blue = min(first, second)
        assert max(first, second) == (255, 255, 255)
        assert f"#{red:02x}{green:02x}{blue:02x}" == paints[colour]


def test_a_seed_writes_the_same_bytes_and_another_seed_others(tmp_path):
    def files(folder, seed):
        path = write_dummy_collection(tmp_path / folder, n=6, seed=seed)
        return {file.name: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}

    first = files("a", 0)
    assert len(first) == 7
    assert files("b", 0) == first
    assert files("c", 1) != first


def test_more_pictures_than_kinds_repeat_a_kind_in_another_drawing(tmp_path):
    collection = read_jsonl(write_dummy_collection(tmp_path, n=60))
    assert len({item.concept for item in collection.items}) == 48
    assert len({item.digest for item in collection.items}) == 60


def test_no_pictures_are_refused(tmp_path):
    with pytest.raises(wb.BadInput, match=r"at least 1 picture.* 0"):
        write_dummy_collection(tmp_path, n=0)


def test_the_command_writes_a_collection_and_a_checkpoint_that_knows_it(tmp_path):
    command = [sys.executable, "-m", "adapters.vlm_quantization.dummy", str(tmp_path), "-n", "12"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    collection = read_jsonl(tmp_path / "shapes.jsonl")
    encoder = HashEncoder.load(tmp_path / "refit.safetensors")
    pictures = encoder.encode_images([collection.open(row) for row in range(12)]).features
    for language in ("en", "ko"):
        texts = encoder.encode_texts([item.caption(language) for item in collection.items]).features
        nearest = (texts @ pictures.T).argmax(1)
        assert (nearest == np.arange(12)).mean() > 0.5  # chance level: one in twelve


def test_the_command_reports_an_error_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "adapters.vlm_quantization.dummy", str(tmp_path), "-n", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    (message,) = done.stderr.strip().splitlines()
    assert re.fullmatch(r"(?!Traceback).*at least 1 picture.* 0", message)
