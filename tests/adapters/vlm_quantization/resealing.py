"""Changes an index and seals it again, as an attacker would, or makes one of an earlier format."""

import json

import numpy as np
import pyarrow as pa

from adapters.vlm_quantization.index import blocks
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.item_table import ROWS, batch_of, schema_of
from adapters.vlm_quantization.index.items import ItemFile


def seal_again(folder, change=lambda body: None):
    """Change the manifest, and seal it and every file again."""
    body = json.loads((folder / "manifest.json").read_text())
    del body["checksum"]
    block = body.get("block_bytes")
    if body["format"] == files.FORMAT and isinstance(block, int) and block:
        parts = {}
        for name in body["files"]:
            if name != files.CHECKSUMS and (folder / name).is_file():
                parts[name] = blocks.checksums_of(folder / name, block)
        (folder / files.CHECKSUMS).write_bytes(b"".join(blocks.joined(parts)))
    for name, seal in body["files"].items():
        if (folder / name).is_file():
            seal.update(size=(folder / name).stat().st_size, sha256=seal_of(folder / name, body))
    change(body)
    (folder / "manifest.json").write_text(json.dumps({**body, "checksum": files._checksum(body)}))


def seal_of(path, body):
    """Return the seal of a file."""
    if body["format"] != files.FORMAT:
        return files.sha256_of(path)
    return blocks.seal_of(blocks.checksums_of(path, body["block_bytes"]))


def items_of(folder, side):
    """Return the items of a side."""
    n = files.read_manifest(folder).counts[side]
    items = ItemFile(blocks.CheckedFile(folder / files.items_file(side)), side, n)
    return [items[row] for row in range(n)]


def write_table(path, batches, schema):
    """Write an Arrow file."""
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_items(folder, side, items):
    """Write other items of a side, and seal the index again."""
    batches = [batch_of(items[start : start + ROWS], side) for start in range(0, len(items), ROWS)]
    write_table(folder / files.items_file(side), batches, schema_of(side, ROWS))
    seal_again(folder)


def make_old(folder, version=2):
    """Make an index one of format 2, or of format 1, that of 0.2.0."""
    body = json.loads((folder / "manifest.json").read_text())
    del body["checksum"], body["features"], body["block_bytes"]
    for side in files.SIDES:
        items = items_of(folder, side)
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        (folder / files.lines_file(side)).write_text(lines, encoding="utf-8")
        columns = list(files.column_files(side, body["code_cuts"]).values())
        new = [files.items_file(side), *files.names_files(side)]
        if version == 1:
            table = np.concatenate([np.load(folder / name) for name in columns], axis=1)
            np.save(folder / files.codes_file(side), table)
            new += columns
        for name in new:
            (folder / name).unlink()
    (folder / files.shard_file(0)).rename(folder / files.THUMBNAILS)
    (folder / files.CHECKSUMS).unlink()
    body["format"] = version
    if version == 1:
        body["code_lengths"] = body.pop("code_cuts")
    names = sorted(path.name for path in folder.iterdir() if path.name != "manifest.json")
    body["files"] = {
        name: {"size": (folder / name).stat().st_size, "sha256": files.sha256_of(folder / name)}
        for name in names
    }
    (folder / "manifest.json").write_text(json.dumps({**body, "checksum": files._checksum(body)}))
    return folder
