"""One pass over pictures or texts: prepared in other threads while the network encodes, and kept on a shelf.

This is the only loop that computes features. Items are pushed into it (:meth:`EncodingPass.add`), so that the
same loop serves a collection that is being opened, a list of texts, and pictures that are decoded ahead.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from adapters.vlm_quantization.towers.batch_size import BatchSize, is_out_of_memory, release_memory
from adapters.vlm_quantization.towers.feature_cache import SHARD_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from adapters.vlm_quantization.towers.feature_cache import Shelf


#: Batches whose inputs are ready, or being made, while one is encoded.
AHEAD = 2


#: Pictures whose inputs are made together: those that are ready give back their pixels.
GROUP = 8


#: Bytes of decoded pictures that wait for their inputs to be made.
WAITING_BYTES = 2**28


class _Group(NamedTuple):
    """The inputs of some items of a batch, and the bytes of their pixels."""

    size: int
    prepared: Future[Any]


class _Batch(NamedTuple):
    keys: list[bytes]
    groups: list[_Group]


class EncodingPass:
    """Encode items in batches; use it as a context manager, which keeps what was encoded in any case.

    Parameters
    ----------
    tower : ImageTower or TextTower
        Of a tower with ``inputs`` and ``forward``, inputs are made in other threads; any other is called by
        its ``features``.
    shelf : Shelf
        Where the features are kept.
    size : BatchSize
    encoded : callable, optional
        Called as ``encoded(keys, features)`` after each batch, features float32 of shape (len(keys), dim); an
        exception stops the pass.
    threads : int
        Threads that make the network's inputs.
    group : int
        Items whose inputs are made together; 0: those of a batch, for texts, which are padded to one length.

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
        *,
        threads: int = 1,
        group: int = 0,
    ) -> None:
        self.size = size
        self.count = 0
        self.forward_seconds = 0.0
        self._tower = tower
        self._shelf = shelf
        self._encoded = encoded or (lambda keys, features: None)
        self._whole = not (hasattr(tower, "inputs") and hasattr(tower, "forward"))
        self._group = group
        self._waiting: list[Any] = []
        self._batch = _Batch([], [])
        self._ahead: deque[_Batch] = deque()
        self._unprepared: deque[_Group] = deque()
        self._unprepared_bytes = 0
        self._records: list[tuple[bytes, bytes]] = []
        self._threads = ThreadPoolExecutor(threads)

    def __enter__(self) -> EncodingPass:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self._threads.shutdown(cancel_futures=True)
            self._keep()

    def add(self, key: bytes, item: Any) -> None:
        """Take an item; earlier ones are encoded while it waits for its batch."""
        self._batch.keys.append(key)
        self._waiting.append(item)
        whole = len(self._batch.keys) >= self.size.now
        if whole or len(self._waiting) == self._group:
            self._prepare_waiting()
        if whole:
            self._submit()
            while len(self._ahead) > (0 if self._whole else AHEAD):
                self._encode(self._ahead.popleft())

    def finish(self) -> None:
        """Encode what is left."""
        self._prepare_waiting()
        self._submit()
        while self._ahead:
            self._encode(self._ahead.popleft())

    def _prepare_waiting(self) -> None:
        """Have the inputs of the waiting items made; wait where too many pixels wait for that."""
        items, self._waiting = self._waiting, []
        if not items:
            return
        group = _Group(sum(map(_bytes_of, items)), self._threads.submit(self._prepare, items))
        self._batch.groups.append(group)
        self._unprepared.append(group)
        self._unprepared_bytes += group.size
        while self._unprepared and (
            self._unprepared[0].prepared.done() or self._unprepared_bytes > WAITING_BYTES
        ):
            first = self._unprepared.popleft()
            wait([first.prepared])
            self._unprepared_bytes -= first.size

    def _submit(self) -> None:
        if self._batch.keys:
            self._ahead.append(self._batch)
            self._batch = _Batch([], [])

    def _prepare(self, items: list[Any]) -> Any:
        return items if self._whole else self._tower.inputs(items)

    def _encode(self, batch: _Batch) -> None:
        prepared = _joined([group.prepared.result() for group in batch.groups])
        features = self._forward(prepared, len(batch.keys))
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


def _bytes_of(item: Any) -> int:
    """Return the bytes of a picture's pixels; 0 for a text."""
    size = getattr(item, "size", None)
    return 3 * size[0] * size[1] if isinstance(size, tuple) else 0


def _joined(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], list):
        return [item for part in parts for item in part]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows(prepared: list[Any] | Mapping[str, NDArray[Any]], start: int, stop: int) -> Any:
    if isinstance(prepared, list):
        return prepared[start:stop]
    return {name: values[start:stop] for name, values in prepared.items()}
