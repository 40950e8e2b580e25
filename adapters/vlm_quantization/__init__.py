"""Image-text retrieval with nested binary codes: a frozen picture network, and hash heads trained on it.

``adapter`` is the object the entry point names; heavy imports wait until one of its methods is called.
"""

from adapters.vlm_quantization.adapter import VlmQuantization

adapter = VlmQuantization()

__all__ = ["VlmQuantization", "adapter"]
