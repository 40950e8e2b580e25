"""Small collections of every form, made on the spot: each shows three pictures, with the same captions."""

import csv
import io
import json
import shutil
import struct
import tarfile
import zlib
from pathlib import Path

from PIL import Image

COLOURS = {"red": "빨간 네모", "blue": "파란 네모", "green": "초록 네모"}
SPLITS = {"red": "train", "blue": "val", "green": "test"}


def png(colour, size=(10, 10)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def declared_png(width, height):
    """A PNG that declares a size and holds almost no pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (head, b"IDAT" + zlib.compress(b"\0" * 100), b"IEND")
    chunks = (struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def pictures(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(png(colour))
    return folder


def captions(colour):
    return [f"a {colour} square", f"a square in {colour}"]


def write_json(path: Path, document) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False))
    return path


def folder(base: Path) -> str:
    pictures(base / "deep")
    for colour in COLOURS:
        (base / "deep" / f"{colour}.txt").write_text("\n".join(captions(colour)))
    return f"{base}?captions_from=sidecar"


def jsonl(base: Path) -> str:
    pictures(base)
    rows = [{"filepath": f"{c}.png", "caption": text} for c in COLOURS for text in captions(c)]
    path = base / "lines.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def coco(base: Path) -> str:
    pictures(base / "val2017")
    images = [{"id": n, "file_name": f"{c}.png"} for n, c in enumerate(COLOURS)]
    texts = [{"image_id": n, "caption": text} for n, c in enumerate(COLOURS) for text in captions(c)]
    where = base / "annotations"
    write_json(
        where / "instances_val2017.json",
        {
            "categories": [{"id": 7, "name": "square"}],
            "annotations": [{"image_id": n, "category_id": 7} for n in (0, 1, 2, 2)],
        },
    )
    return str(write_json(where / "captions_val2017.json", {"images": images, "annotations": texts}))


def karpathy(base: Path) -> str:
    pictures(base / "val2014")
    images = [
        {
            "filepath": "val2014",
            "filename": f"{c}.png",
            "cocoid": n,
            "split": SPLITS[c],
            "sentences": [{"raw": text} for text in captions(c)],
        }
        for n, c in enumerate(COLOURS)
    ]
    return str(write_json(base / "dataset_coco.json", {"dataset": "coco", "images": images}))


def flickr(base: Path) -> str:
    pictures(base / "flickr30k-images")
    path = base / "results_20130124.token"
    path.write_text("".join(f"{c}.png#{n}\t{t}\n" for c in COLOURS for n, t in enumerate(captions(c))))
    return str(path)


def flickr_bars(base: Path) -> str:
    pictures(base)
    lines = [f"{c}.png| {n}| {t} .\n" for c in COLOURS for n, t in enumerate(captions(c))]
    path = base / "results.csv"
    path.write_text("image_name| comment_number| comment\n" + "".join(lines).replace(" .\n", "\n"))
    return str(path)


def table(base: Path, delimiter=",") -> str:
    pictures(base / "files")
    path = base / f"table.{'tsv' if delimiter == chr(9) else 'csv'}"
    with path.open("w", newline="") as file:
        out = csv.writer(file, delimiter=delimiter)
        out.writerow(["where", "words", "kind", "part"])
        for c in COLOURS:
            for text in captions(c):
                out.writerow([f"files/{c}.png", text, "square|flat", SPLITS[c]])
    return f"{path}?image=where&caption=words&label=kind&split=part"


def tsv(base: Path) -> str:
    return table(base, "\t")


def parquet(base: Path) -> str:
    import pyarrow
    import pyarrow.parquet

    pictures(base)
    columns = {
        "image": [f"{c}.png" for c in COLOURS],
        "captions": [captions(c) for c in COLOURS],
        "split": [SPLITS[c] for c in COLOURS],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), base / "table.parquet")
    return str(base / "table.parquet")


def parquet_pictures(base: Path, *, raw: bool = False, group: int = 2) -> str:
    """Write a table with the pictures in it, as Hugging Face does, or with their bytes alone."""
    import pyarrow
    import pyarrow.parquet

    pictures(base / "loose")
    data = [(base / "loose" / f"{c}.png").read_bytes() for c in COLOURS]
    structs = [{"bytes": one, "path": f"{c}.png"} for one, c in zip(data, COLOURS, strict=True)]
    columns = {
        "image": data if raw else structs,
        "captions": [captions(c) for c in COLOURS],
        "split": [SPLITS[c] for c in COLOURS],
    }
    shutil.rmtree(base / "loose")
    pyarrow.parquet.write_table(pyarrow.table(columns), base / "table.parquet", row_group_size=group)
    return str(base / "table.parquet")


def parquet_folder(base: Path) -> str:
    (base / "set").mkdir(parents=True)
    Path(parquet_pictures(base)).rename(base / "set" / "data-00000.parquet")
    return str(base / "set")


def imagefolder(base: Path) -> str:
    for c in COLOURS:
        where = pictures(base / SPLITS[c])
        rows = [{"file_name": f"{c}.png", "text": text} for text in captions(c)]
        (where / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(base)


def tar(base: Path, names=None) -> str:
    base.mkdir(parents=True, exist_ok=True)
    for c in COLOURS:
        with tarfile.open(base / f"{SPLITS[c]}-0000.tar", "w") as out:
            for ending, data in (("png", png(c)), ("txt", "\n".join(captions(c)).encode())):
                member = tarfile.TarInfo((names or {}).get(c, c) + f".{ending}")
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
    return str(base)


def tar_pattern(base: Path) -> str:
    tar(base)
    return f"{base}/{{train,val,test}}-{{0000..0000}}.tar"


#: By the name of the form that recognises it.
FORMS = {
    "folder": folder,
    "jsonl": jsonl,
    "coco": coco,
    "karpathy": karpathy,
    "flickr": flickr,
    "flickr bars": flickr_bars,
    "table": table,
    "table tsv": tsv,
    "table parquet": parquet,
    "parquet": parquet_pictures,
    "parquet bytes": lambda base: parquet_pictures(base, raw=True),
    "parquet folder": parquet_folder,
    "imagefolder": imagefolder,
    "webdataset": tar,
    "webdataset pattern": tar_pattern,
}
