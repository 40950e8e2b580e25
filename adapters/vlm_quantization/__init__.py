"""Image-text retrieval with nested binary codes: a frozen picture network, and hash heads trained on it.

``adapter`` is what the workbench finds by entry point; nothing heavy is imported until it is asked to work.
"""

from adapters.vlm_quantization.adapter import VlmQuantization

adapter = VlmQuantization()

__all__ = ["VlmQuantization", "adapter"]
