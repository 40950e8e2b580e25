"""Search: options, queries, and the ranking functions to call by themselves."""

from adapters.vlm_quantization.index.ranking import PrefixCodes, cosine_search, hamming_search

__all__ = ["PrefixCodes", "cosine_search", "hamming_search"]
