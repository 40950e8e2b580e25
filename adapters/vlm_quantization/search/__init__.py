"""Search: options, queries, and the ranking functions for direct use."""

from adapters.vlm_quantization.index.ranking import cosine_search, hamming_search
from adapters.vlm_quantization.neighbours.prefix_codes import PrefixCodes

__all__ = ["PrefixCodes", "cosine_search", "hamming_search"]
