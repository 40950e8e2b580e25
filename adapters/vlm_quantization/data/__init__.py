"""Collections of captioned pictures, their splits, and the check that nothing leaks between them."""

from adapters.vlm_quantization.data.collection import (
    CaptionedImages,
    Item,
    OnProgress,
    UnusableLine,
    picture_digest,
)
from adapters.vlm_quantization.data.leakage import LeakageError, check_leakage
from adapters.vlm_quantization.data.pictures import decode_picture
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.data.splits import Splits, make_splits

__all__ = [
    "CaptionedImages",
    "Item",
    "LeakageError",
    "OnProgress",
    "Splits",
    "UnusableLine",
    "check_leakage",
    "decode_picture",
    "make_splits",
    "open_collection",
    "picture_digest",
]
