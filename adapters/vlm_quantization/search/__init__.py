"""Search: options, queries, and the ranking functions for direct use."""

from adapters.vlm_quantization.index.ranking import PrefixCodes, cosine_search, hamming_search

__all__ = ["PrefixCodes", "cosine_search", "hamming_search"]
