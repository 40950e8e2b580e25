"""One pass over pictures or texts: prepared in one thread while the network encodes, and kept on a shelf.

This is the only loop that computes features. Items are pushed into it (:meth:`EncodingPass.add`), so that the
same loop serves a collection that is being opened, a list of texts, and pictures that are decoded ahead.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from adapters.vlm_quantization.towers.batch_size import BatchSize, is_out_of_memory, release_memory
from adapters.vlm_quantization.towers.feature_cache import SHARD_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from adapters.vlm_quantization.towers.feature_cache import Shelf


#: Batches that are prepared while one is encoded; bounds the decoded pictures in memory.
AHEAD = 2


class _Batch(NamedTuple):
    keys: list[bytes]
    prepared: Future[Any]


class EncodingPass:
    """Encode items in batches; use it as a context manager, which keeps what was encoded in any case.

    Parameters
    ----------
    tower : ImageTower or TextTower
        A tower with ``inputs`` and ``forward`` is prepared in a thread of its own; any other is called by its
        ``features``.
    shelf : Shelf
        Where the features are kept.
    size : BatchSize
    encoded : callable, optional
        Called as ``encoded(keys, features)`` after each batch, features float32 of shape (len(keys), dim); an
        exception stops the pass.

    Attributes
    ----------
    count : int
        Number of items that were encoded.
    forward_seconds : float
        Time of the forward passes alone.
    """

    def __init__(
        self,
        tower: Any,
        shelf: Shelf,
        size: BatchSize,
        encoded: Callable[[Sequence[bytes], NDArray[np.float32]], None] | None = None,
    ) -> None:
        self.size = size
        self.count = 0
        self.forward_seconds = 0.0
        self._tower = tower
        self._shelf = shelf
        self._encoded = encoded or (lambda keys, features: None)
        self._whole = not (hasattr(tower, "inputs") and hasattr(tower, "forward"))
        self._waiting: list[tuple[bytes, Any]] = []
        self._ahead: deque[_Batch] = deque()
        self._records: list[tuple[bytes, bytes]] = []
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> EncodingPass:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._keep()

    def add(self, key: bytes, item: Any) -> None:
        """Take an item; earlier ones are encoded while it waits for its batch."""
        self._waiting.append((key, item))
        if len(self._waiting) >= self.size.now:
            self._submit()
            while len(self._ahead) > AHEAD:
                self._encode(self._ahead.popleft())

    def finish(self) -> None:
        """Encode what is left."""
        self._submit()
        while self._ahead:
            self._encode(self._ahead.popleft())

    def _submit(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            items = [item for _, item in waiting]
            prepared = self._thread.submit(self._prepare, items)
            self._ahead.append(_Batch([key for key, _ in waiting], prepared))

    def _prepare(self, items: list[Any]) -> Any:
        return items if self._whole else self._tower.inputs(items)

    def _encode(self, batch: _Batch) -> None:
        features = self._forward(batch.prepared.result(), len(batch.keys))
        self.count += len(batch.keys)
        self._records += [(key, row.tobytes()) for key, row in zip(batch.keys, features, strict=True)]
        if len(self._records) >= SHARD_RECORDS:
            self._keep()
        self._encoded(batch.keys, features)

    def _forward(self, prepared: Any, count: int) -> NDArray[np.float32]:
        """Encode a batch; if the memory is too small for it, in parts."""
        try:
            if count > self.size.now:  # prepared before the size was halved
                return self._in_parts(prepared, count)
            started = time.perf_counter()
            call = self._tower.features if self._whole else self._tower.forward
            made = np.asarray(call(prepared), np.float32)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or not self.size.too_large(count):
                raise
        else:
            seconds = time.perf_counter() - started
            self.forward_seconds += seconds
            self.size.took(count, seconds)
            return made
        release_memory()  # after the except clause, which holds the frames of the failed pass
        return self._in_parts(prepared, count)

    def _in_parts(self, prepared: Any, count: int) -> NDArray[np.float32]:
        out: list[NDArray[np.float32]] = []
        start = 0
        while start < count:
            stop = min(start + self.size.now, count)
            out.append(self._forward(_rows(prepared, start, stop), stop - start))
            start = stop
        return np.concatenate(out)

    def _keep(self) -> None:
        records, self._records = self._records, []
        self._shelf.put(records)


def _rows(prepared: list[Any] | Mapping[str, NDArray[Any]], start: int, stop: int) -> Any:
    if isinstance(prepared, list):
        return prepared[start:stop]
    return {name: values[start:stop] for name, values in prepared.items()}
