"""Checkpoints as the predecessor's trainer writes them, with torch's own modules as the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LENGTHS = (8, 16, 32, 48, 64, 128)


class PeerHead(nn.Module):
    """The predecessor's head, from its description."""

    def __init__(self, width: int, hidden: int, lengths: Sequence[int]) -> None:
        super().__init__()
        self.lengths = tuple(sorted(lengths))
        self.hash_head = nn.Sequential(
            nn.Linear(width, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, max(lengths)),
        )
        self.batch_norms = nn.ModuleList([nn.BatchNorm1d(length) for length in self.lengths])

    def margins(self, features: Tensor) -> dict[int, Tensor]:
        """Return what the sign is taken of, by length."""
        raw = self.hash_head(features)
        return {
            length: norm(raw[:, :length]) for length, norm in zip(self.lengths, self.batch_norms, strict=True)
        }


class Peer(nn.Module):
    """Both heads, and weights of a backbone."""

    def __init__(self, width: int, hidden: int, lengths: Sequence[int]) -> None:
        super().__init__()
        self.image_hash = PeerHead(width, hidden, lengths)
        self.text_hash = PeerHead(width, hidden, lengths)


def peer(
    width: int = 12, hidden: int = 20, lengths: Sequence[int] = LENGTHS, *, apart: float = 0.3, seed: int = 0
) -> Peer:
    """Return a peer whose BatchNorms have seen different batches; ``apart`` is how different they are."""
    torch.manual_seed(seed)
    model = Peer(width, hidden, lengths)
    with torch.no_grad():
        for head in (model.image_hash, model.text_hash):
            base = torch.randn(max(lengths)) * 0.1
            for norm in head.batch_norms:
                shown = base[: norm.num_features]
                norm.running_mean.copy_(shown + apart * 0.3 * torch.randn(norm.num_features))
                norm.running_var.copy_(0.05 + 0.05 * torch.rand(norm.num_features))
                norm.weight.copy_(1 + apart * (torch.rand(norm.num_features) - 0.5))
                norm.bias.copy_(apart * 0.3 * torch.randn(norm.num_features))
    return model.eval()


def content(model: Peer, backbone: Mapping[str, Tensor] | None = None, **settings: Any) -> dict[str, Any]:
    """Return what Lightning saves of a model."""
    state = {
        f"backbone.{name}": value for name, value in (backbone or {"logit_scale": torch.ones(1)}).items()
    }
    head = model.image_hash
    return {
        "epoch": 3,
        "global_step": 1200,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {**state, **model.state_dict(), "loss_fn.ema": torch.zeros(3)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "model_name": "google/siglip2-base-patch16-224",
            "bit_list": list(head.lengths),
            "hidden_dim": head.hash_head[0].out_features,
            "dropout": 0.1,
            **settings,
        },
    }


def write(path: Path, model: Peer, backbone: Mapping[str, Tensor] | None = None, **settings: Any) -> Path:
    """Save a model as Lightning does, and return the path."""
    torch.save(content(model, backbone, **settings), path)
    return path
