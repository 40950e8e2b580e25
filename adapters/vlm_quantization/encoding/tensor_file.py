"""Write safetensors files part by part: equal contents give equal bytes, and memory holds one tensor more.

The library collects a whole file in memory, and writes the header's keys in a random order.
"""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

#: How such a file begins: the length of its header, which is padded to a multiple of as many bytes.
_HEADER_LENGTH = struct.Struct("<Q")


#: The format's names of the types that are written here.
_TYPES = {"float32": "F32", "float64": "F64", "int64": "I64", "uint8": "U8", "bool": "BOOL"}


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write tensors, sorted by name, and metadata to a file, and sync it; the caller moves it into place.

    Parameters
    ----------
    path : Path
    tensors : mapping of str to ndarray
        Of type float32, float64, int64, uint8 or bool.
    metadata : mapping of str to str

    Raises
    ------
    ValueError
        A tensor is of another type.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    # wider types first, so that every tensor is aligned
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    for name in names:
        tensor = tensors[name]
        if tensor.dtype.name not in _TYPES:
            raise ValueError(f"{name} is {tensor.dtype}; known types: {', '.join(_TYPES)}")
        offsets = [end, end := end + tensor.nbytes]
        header[name] = {
            "dtype": _TYPES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % _HEADER_LENGTH.size)
    with path.open("wb") as file:
        file.write(_HEADER_LENGTH.pack(len(text)) + text)
        for name in names:
            # a little-endian array is written as it lies in memory
            array = np.ascontiguousarray(tensors[name], tensors[name].dtype.newbyteorder("<"))
            file.write(array.reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())
