"""Measure opening and searching an index of very many items, and the memory it takes.

    python tests/benchmarks/bench_open.py --pictures 10000000 --captions 10000000
    python tests/benchmarks/bench_open.py --pictures 100000000 --short

The index is synthetic and made in bulk: the same files as those of ``IndexWriter``, with random codes and
thumbnails of a few bytes (``--verify`` reads and checks all of it; do that with few items). It is made in a
temporary folder and deleted; ``--keep FOLDER`` keeps it, and takes it from there the next time. ``--features
float16`` and the like add features. Times are wall time and, in brackets, time of the processor: on a machine
that does other things the second is the one to compare.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.index import blocks
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.blocks import BlockWriter
from adapters.vlm_quantization.index.features import stored
from adapters.vlm_quantization.index.item_table import ROWS, schema_of
from adapters.vlm_quantization.index.names import KEY, ROW, number_of
from adapters.vlm_quantization.index.opened import load_index
from adapters.vlm_quantization.index.thumbnails import SHARD_BYTES
from adapters.vlm_quantization.neighbours.by_numba import is_ready

DIM = 64
THUMBNAIL = b"not a picture"
PART = 1 << 20


class Encoder:
    """Encodes nothing: queries are taken from the index."""

    name, fingerprint, dim, bits = "none", "0" * 64, DIM, CODE_LENGTHS


def numbered(prefix: str, numbers: np.ndarray) -> pa.Array:
    """Return texts that end with a number of ten digits."""
    head = np.frombuffer(prefix.encode(), np.uint8)
    text = np.empty((len(numbers), len(head) + 10), np.uint8)
    text[:, : len(head)] = head
    rest = numbers.copy()
    for place in range(9, -1, -1):
        text[:, len(head) + place] = rest % 10 + ord("0")
        rest //= 10
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * text.shape[1]
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))


def item_batch(side: str, first: int, count: int, short: bool) -> pa.RecordBatch:
    """Return items; short ones have an id, a concept and a caption."""
    numbers = np.arange(first, first + count)
    schema = schema_of(side)
    caption = numbered("c" if short else "a photograph of something that has number ", numbers)
    columns = {
        "id": numbered("i", numbers),
        "concept": numbered("", numbers),
        "caption": caption,
        "subtitle": pa.repeat("", count),
    }
    if side == "captions":
        columns["language"] = pa.repeat("en", count)
    elif not short:
        each = pa.array(np.arange(count + 1, dtype=np.int32))
        english = pa.repeat("en", count)
        texts = pa.ListArray.from_arrays(each, caption)
        columns["captions"] = pa.MapArray.from_arrays(each, english, texts)
        columns["labels"] = pa.ListArray.from_arrays(each, english)
        columns["path"] = numbered("folder/picture-", numbers)
        columns["file_size"] = columns["file_mtime"] = pa.array(numbers)
    made = [
        columns[field.name].cast(field.type) if field.name in columns else pa.nulls(count, field.type)
        for field in schema
    ]
    return pa.record_batch(made, schema=schema)


class Maker:
    """Writes the files of an index in bulk."""

    def __init__(self, folder: Path, kind: str, short: bool) -> None:
        self.folder, self.kind, self.short = folder, kind, short
        self.random = np.random.default_rng(0)
        self.seals: dict[str, files.FileSeal] = {}
        self.checksums: dict[str, bytes] = {}

    def write(self, name: str, parts, header: bytes = b"") -> None:
        out = BlockWriter(self.folder / name, blocks.BLOCK)
        out.write(header)
        for part in parts:
            out.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
        self.seal(name, out)

    def seal(self, name: str, out: BlockWriter) -> None:
        self.checksums[name] = out.finish()
        self.seals[name] = files.FileSeal(size=out.size, sha256=blocks.seal_of(self.checksums[name]))

    def array(self, name: str, parts, shape: tuple[int, ...], dtype: str) -> None:
        self.write(name, parts, files.array_header(shape, dtype))

    def side(self, side: str, n: int) -> None:
        print(f"writing {n:,} {side}", flush=True)
        sizes = [min(PART, n - first) for first in range(0, n, PART)]
        for cut, name in files.column_files(side, CODE_LENGTHS).items():
            codes = (self.random.integers(0, 256, (size, cut.width), np.uint8) for size in sizes)
            self.array(name, codes, (n, cut.width), "u1")
        if self.kind != "none":
            self.array(
                files.features_file(side), (self.features(size)[0] for size in sizes), (n, DIM), self.kind
            )
        if self.kind == "int8":
            scales = (self.features(size)[1] for size in sizes)
            self.array(files.scales_file(side), scales, (n,), "float32")
        out = BlockWriter(self.folder / files.items_file(side), blocks.BLOCK)
        with pa.ipc.new_file(out, schema_of(side, ROWS)) as table:
            for first in range(0, n, ROWS):
                table.write_batch(item_batch(side, first, min(ROWS, n - first), self.short))
        self.seal(files.items_file(side), out)
        names, named = files.names_files(side)
        numbers = self.random.integers(0, 2**64, n, KEY)
        if n:
            numbers[n // 2] = number_of("the one")  # to be found: the rest are random
        numbers.sort()
        self.array(names, [numbers], (n,), KEY.str)
        del numbers
        self.array(named, [np.arange(n, dtype=ROW)], (n,), ROW.str)

    def features(self, size: int):
        rows = np.random.default_rng(size).standard_normal((size, DIM)).astype(np.float32)
        return stored(rows / np.linalg.norm(rows, axis=1, keepdims=True), self.kind)

    def thumbnails(self, n: int) -> None:
        offsets = (
            np.arange(first, min(first + PART, n + 1)) * len(THUMBNAIL) for first in range(0, n + 1, PART)
        )
        self.array(files.THUMBNAIL_OFFSETS, offsets, (n + 1,), "i8")
        total = n * len(THUMBNAIL)
        stream = np.frombuffer(THUMBNAIL * (SHARD_BYTES // len(THUMBNAIL) + 2), np.uint8)
        for number, start in enumerate(range(0, total, SHARD_BYTES)):
            first = start % len(THUMBNAIL)
            self.write(files.shard_file(number), [stream[first : first + min(SHARD_BYTES, total - start)]])

    def finish(self, counts: dict[str, int]) -> None:
        size, own = blocks.write_all(
            self.folder / files.CHECKSUMS, blocks.joined(self.checksums), blocks.BLOCK
        )
        self.seals[files.CHECKSUMS] = files.FileSeal(size=size, sha256=blocks.seal_of(own))
        manifest = files.Manifest(
            format=files.FORMAT,
            adapter=files.ADAPTER,
            name="bench",
            title="bench",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            code_bits=CODE_LENGTHS[-1],
            code_cuts=list(CODE_LENGTHS),
            feature_dim=DIM,
            counts={**counts, "skipped": 0},
            languages=["en"],
            model={"name": "none", "fingerprint": Encoder.fingerprint, "file": None},
            data={"name": "bench", "fingerprint": "0"},
            credits=[],
            thresholds={},
            provenance={},
            files=self.seals,
            features=self.kind,
            block_bytes=blocks.BLOCK,
        )
        (self.folder / files.MANIFEST).write_text(files.manifest_text(manifest), encoding="utf-8")


def make(folder: Path, pictures: int, captions: int, kind: str, short: bool) -> None:
    """Write an index."""
    folder.mkdir(parents=True)
    maker = Maker(folder, kind, short)
    maker.side("images", pictures)
    maker.side("captions", captions)
    maker.thumbnails(pictures)
    maker.finish({"images": pictures, "captions": captions})


# --- measuring ----------------------------------------------------------------------------------------------


def memory() -> dict[str, float]:
    """Return the resident memory of this process in MB: its own, and pages mapped from files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1e3 for line in lines if line.startswith("Rss")}
    return {"own": sizes["RssAnon"], "mapped": sizes["RssFile"]}


def timed(what, times: int = 1):
    """Return the result of a call, and the median wall and process time in ms."""
    took = []
    for _ in range(times):
        wall, process = time.perf_counter(), time.process_time()
        result = what()
        took.append((time.perf_counter() - wall, time.process_time() - process))
    return result, [statistics.median(column) * 1e3 for column in zip(*took, strict=True)]


def measure(folder: Path, verify: bool) -> dict:
    """Open an index in this process, and search it."""
    import pyarrow.ipc  # noqa: F401  # loading libraries is not opening

    out: dict = {"before": memory()}
    index, out["open"] = timed(lambda: load_index(folder, lambda _: Encoder()))
    out["opened"] = memory()
    if verify:
        index.check()
    images = index.sides["images"]
    images.prefixes.prepare()
    deadline = time.monotonic() + 300
    while not is_ready() and time.monotonic() < deadline:
        time.sleep(0.1)
    random = np.random.default_rng(1)
    queries = iter(random.integers(0, 256, (200, 16), np.uint8))
    for bits in (16, 128):
        rows, out[f"first at {bits} bits"] = timed(
            lambda bits=bits: index.search(next(queries), None, bits=bits, k=20)[0]
        )
        _, out[f"again at {bits} bits"] = timed(
            lambda bits=bits: index.search(next(queries), None, bits=bits, k=20), 11
        )
    if index.manifest.features != "none":
        vector = images.features[7]
        search = {"method": "cosine", "k": 20}
        _, out["first by cosine"] = timed(lambda: index.search(rows, vector, **search))
        _, out["again by cosine"] = timed(lambda: index.search(rows, vector, **search), 3)

    def fetch():
        return [(images.items[int(row)], index.thumbnail(int(row))) for row in rows]

    _, out["first 20 hits read"] = timed(fetch)
    _, out["again 20 hits read"] = timed(fetch, 5)
    middle = len(images) // 2
    found, out["item found by id"] = timed(lambda: images.items.find(f"i{middle:010d}"))
    assert found == middle
    named, out["item found by name"] = timed(lambda: images.names.rows("The one!"))
    assert len(named) == 1
    out["searched"] = memory()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--captions", type=int, default=0)
    parser.add_argument("--features", default="none")
    parser.add_argument("--short", action="store_true", help="items with hardly more than an id")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure, asked.verify)))
        return
    base = asked.keep or Path(tempfile.mkdtemp())
    folder = base / "bench"
    try:
        if not folder.exists():
            started = time.perf_counter()
            make(folder, asked.pictures, asked.captions, asked.features, asked.short)
            print(f"made in {time.perf_counter() - started:,.0f} s")
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        print(f"{sum(sizes.values()) / 1e9:.2f} GB in {len(sizes)} files")
        for name, size in sorted(sizes.items(), key=lambda one: -one[1])[:8]:
            print(f"  {size / 1e6:12,.1f} MB  {name}")
        command = [sys.executable, __file__, "--measure", str(folder)]
        done = subprocess.run(
            command + ["--verify"] * asked.verify, check=True, stdout=subprocess.PIPE, text=True
        )
        for name, value in json.loads(done.stdout).items():
            if isinstance(value, dict):
                print(f"{name:24} {value['own']:8.1f} MB own, {value['mapped']:8.1f} MB mapped")
            else:
                print(f"{name:24} {value[0]:8.2f} ms ({value[1]:.2f} ms)")
    finally:
        if not asked.keep:
            shutil.rmtree(base)


if __name__ == "__main__":
    main()
