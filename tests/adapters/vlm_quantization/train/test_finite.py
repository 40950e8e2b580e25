"""Which items are named when a number is not finite."""

from __future__ import annotations

import torch

from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.train.batches import Batches
from adapters.vlm_quantization.train.finite import NotFinite, gradient_norm
from adapters.vlm_quantization.train.steps import FrozenStep
from tests.adapters.vlm_quantization import shapes


def test_the_message_names_the_step_the_items_and_who_is_suspected() -> None:
    items = [f"item-{number}" for number in range(1200)]
    error = NotFinite("the loss is nan", 1234, items, suspects=["picture item-3"])
    assert error.message.startswith("step 1,234: the loss is nan; its batch of 1,200 items: item-0, item-1,")
    assert "item-7 and 1,192 more. Not finite already before the loss: picture item-3" in error.message
    assert error.items == tuple(items)
    assert "learning rates" in error.hint


def test_frozen_features_that_are_not_finite_are_named() -> None:
    collection, options = shapes.collection(), shapes.options()
    batches = Batches(collection, make_splits(collection, 0).train, options)
    batch = batches.draw()
    components = torch.zeros(len(collection), 3)
    components[batch.pictures[2, 0], 1] = float("nan")
    texts = torch.zeros(len(batches.texts), 3)
    texts[batch.texts[0, 0]] = float("inf")
    ids = [item.id for item in collection.items]
    step = FrozenStep(None, batches, components, None, texts, ids, options)  # type: ignore[arg-type]
    assert f"picture {ids[batch.pictures[2, 0]]}" in step.suspects(batch)
    assert f"text {batches.texts.texts[batch.texts[0, 0]]!r}" in step.suspects(batch)


def test_the_norm_is_that_of_all_gradients_together() -> None:
    one, other, unused = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    assert gradient_norm([unused]) == 0
    one.grad, other.grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    assert gradient_norm([one, other, unused]) == 5
    other.grad = torch.tensor([0.0, float("nan")])
    assert gradient_norm([one, other]) != gradient_norm([one, other])
