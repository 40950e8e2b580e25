"""Build an index of a collection, and open one: the public names of ``index``."""

from adapters.vlm_quantization.index.build import IndexReport, Skipped, build_index
from adapters.vlm_quantization.index.opened import Index, load_index

__all__ = ["Index", "IndexReport", "Skipped", "build_index", "load_index"]
