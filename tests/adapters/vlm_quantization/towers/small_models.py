"""Small two-tower models with random weights, and real processors and tokenizers trained on a few lines."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from adapters.vlm_quantization.towers.torchvision import import_transformers

#: What the tokenizers are trained on.
LINES = [
    "red circle",
    "blue square",
    "green triangle",
    "a yellow cross on white",
    "black circle, pink square",
    "빨간 원",
    "파란 사각형",
    "초록 삼각형",
    "노란 십자",
    "검은 원과 분홍 사각형",
    "강아지와 고양이",
    "A Photograph of TWO DOGS",
    "un chien rouge",
    "0123456789",
]

#: Texts to compare: Korean, capitals, punctuation, one character, none, and one longer than any context.
TEXTS = ["red circle", "빨간 원", "A RED Circle!", "강아지와 고양이", "a", "", "blue square " * 60]

_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
_TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def make_siglip(folder: Path) -> Path:
    """Save a SigLIP with a SentencePiece tokenizer, as google/siglip-base-patch16-224 has one."""
    import sentencepiece

    import_transformers()
    from transformers import SiglipTokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line.lower() for line in LINES * 5),
        model_writer=model,
        vocab_size=120,
        hard_vocab_limit=False,
        bos_id=-1,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        minloglevel=2,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(model.getvalue())
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"))
    tokenizer.save_pretrained(folder)
    return _siglip(folder, len(tokenizer) + 8, pad=1)


def make_siglip2(folder: Path) -> Path:
    """Save a SigLIP 2 of fixed resolution: SigLIP's network, and Gemma's tokenizer, which keeps capitals."""
    import_transformers()
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))  # noqa: S106
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)]
    trained.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=480, special_tokens=special + alphabet))
    made = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in made["merges"]]
    tokenizer = GemmaTokenizer(vocab=made["vocab"], merges=merges, add_bos_token=False, add_eos_token=True)
    tokenizer.save_pretrained(folder)
    return _siglip(folder, len(tokenizer), pad=0)


def _siglip(folder: Path, words: int, pad: int) -> Path:
    import torch
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    torch.manual_seed(0)
    text = {**_TEXT, "vocab_size": words, "max_position_embeddings": 64, "pad_token_id": pad}
    config = SiglipConfig(text_config={**text, "bos_token_id": 1, "eos_token_id": 1}, vision_config=_VISION)
    model = SiglipModel(config)
    _stir(model)
    model.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def make_clip(folder: Path) -> Path:
    """Save a CLIP with a byte-level tokenizer; it reads 20 tokens of a text."""
    import torch

    import_transformers()
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=special[1]))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, special_tokens=special, end_of_word_suffix="</w>"
    )
    trained.train_from_iterator(LINES, trainer)
    made = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in made["merges"]]
    tokenizer = CLIPTokenizer(vocab=made["vocab"], merges=merges, model_max_length=20)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    ends = {"bos_token_id": made["vocab"][special[0]], "eos_token_id": made["vocab"][special[1]]}
    text = {**_TEXT, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 20, "pad_token_id": 1}
    config = CLIPConfig(text_config=text, vision_config={**_VISION, "projection_dim": 24}, projection_dim=24)
    model = CLIPModel(config)
    _stir(model)
    model.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder


OPENCLIP_CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def make_openclip(folder: Path) -> Path:
    """Save an OpenCLIP model as its library saves them for the hub; it reads 16 tokens of a text."""
    import torch

    define_missing_operators()
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.CLIP(**OPENCLIP_CONFIG)
    _stir(model)
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"}
    config = {"model_cfg": OPENCLIP_CONFIG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    weights = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def _stir(model: Any) -> None:
    """Make random weights larger, so that different pictures and texts get clearly different vectors."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding" in name:
                parameter.normal_(std=1)
            elif parameter.ndim > 1:
                parameter.normal_(std=0.2)
            elif name.endswith("bias"):
                parameter.normal_(std=0.05)


def define_missing_operators() -> None:
    """Let torchvision be imported whose compiled part is for another torch: OpenCLIP needs its transforms."""
    from adapters.vlm_quantization.towers.torchvision import broken_torchvision

    if broken_torchvision():
        import torch

        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)  # the operators go with it


_KEPT: list[Any] = []
