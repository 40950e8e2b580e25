"""Build the table of emoji names from its source packages.

::

    python -m adapters.vlm_quantization.data.emoji.make_table
    python -m adapters.vlm_quantization.data.emoji.make_table ANNOTATIONS DERIVED EMOJIBASE

Without arguments, the three packages are downloaded with npm. The arguments are the unpacked folders of the
npm packages ``cldr-annotations-full`` and ``cldr-annotations-derived-full`` (names and keywords, Unicode-3.0)
and ``emojibase-data`` (groups, MIT). The same packages give the same bytes. Emoji with a skin tone,
hair-style components and characters without a name in one of the languages are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import workbench as wb
from adapters.vlm_quantization.data.emoji.base_words import base_word

TABLES = Path(__file__).parent / "tables"


#: The source packages, with the versions the shipped table is built from.
PACKAGES = {
    "cldr-annotations-full": "48.2.0",
    "cldr-annotations-derived-full": "48.2.0",
    "emojibase-data": "17.0.0",
}


LANGUAGES = ("en", "ko")


COLUMNS = ("code", "group", "subgroup", "base", "en", "en_keywords", "ko", "ko_keywords")


_VARIATION_SELECTOR = "FE0F"


_SKIN_TONES = frozenset(("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"))


def code_of(hexcode: str) -> str:
    """Return hex code points in the form that joins tables and file names: ``"1f441-fe0f"`` → ``"1F441"``.

    Upper case, at least four digits, without variation selectors.
    """
    points = (point.upper().zfill(4) for point in hexcode.split("-"))
    return "-".join(point for point in points if point != _VARIATION_SELECTOR)


def table_rows(annotations: Path, derived: Path, emojibase: Path) -> list[list[str]]:
    """Return the rows of the table in Unicode's own order, without the header.

    Raises
    ------
    BadInput
        A folder is not the expected package.
    """
    names = {language: _annotations(annotations, derived, language) for language in LANGUAGES}
    headings = _json(emojibase / "meta/groups.json")
    rows = []
    for emoji in sorted(_json(emojibase / "en/data.json"), key=lambda emoji: emoji.get("order", 0)):
        code = code_of(emoji["hexcode"])
        group = headings["groups"].get(str(emoji.get("group")), "component")
        if group == "component" or _SKIN_TONES & set(code.split("-")):
            continue
        if all(code in names[language] for language in LANGUAGES):
            subgroup = headings["subgroups"][str(emoji["subgroup"])]
            row = [code, group, subgroup, base_word(names["en"][code][0], subgroup)]
            for language in LANGUAGES:
                name, *keywords = names[language][code]
                row += [name, "|".join(keywords)]
            rows.append(row)
    return rows


def table_text(rows: Iterable[Sequence[str]]) -> str:
    """Return the table as tab-separated text with a header line.

    Raises
    ------
    BadInput
        A text contains a tab or a line break.
    """
    lines = ["\t".join(COLUMNS)]
    for row in rows:
        if any("\t" in cell or "\n" in cell for cell in row):
            raise wb.BadInput(f"a tab or line break in the texts of {row[0]}")
        lines.append("\t".join(row))
    return "\n".join(lines) + "\n"


def notice_text(table: str, annotations: Path, derived: Path, emojibase: Path) -> str:
    """Return the notice that must accompany the table; it includes the table's digest."""
    described = [_json(folder / "package.json") for folder in (annotations, derived, emojibase)]
    sources = "\n".join(f"- {package['name']} {package['version']}" for package in described)
    return (
        "emoji.tsv is derived from data of these npm packages, by make_table.py:\n\n"
        f"{sources}\n\n"
        f"sha256 of emoji.tsv: {hashlib.sha256(table.encode()).hexdigest()}\n\n"
        "English and Korean names and keywords are from the Unicode CLDR annotations, shortened to the\n"
        "emoji used here; groups and subgroups are emojibase's. The column 'base' was added. The licences\n"
        "follow.\n\n"
        f"==== Unicode CLDR ====\n\n{_text(annotations / 'LICENSE').strip()}\n\n"
        f"==== emojibase ====\n\n{_text(emojibase / 'LICENSE').strip()}\n"
    )


def _annotations(annotations: Path, derived: Path, language: str) -> dict[str, list[str]]:
    """Return for each code the name, then the keywords in the source's order, without repetitions."""
    merged: dict[str, Any] = {}
    for folder, kind in ((derived, "annotationsDerived"), (annotations, "annotations")):
        merged |= _json(folder / kind / language / "annotations.json")[kind]["annotations"]
    out = {}
    for text, entry in merged.items():
        if entry.get("tts"):
            name = entry["tts"][0]
            # CLDR's only keyword for a flag is "flag": the place is only in the name.
            place = [name.split(": ", 1)[1]] if name.startswith(("flag: ", "깃발: ")) else []
            words = [name, *place, *entry.get("default", ())]
            if any("|" in word for word in words[1:]):
                continue  # the character | itself, which is not an emoji
            out[code_of("-".join(f"{ord(point):04X}" for point in text))] = _distinct(words)
    return out


def _distinct(words: Iterable[str]) -> list[str]:
    """Return the words in order without repetitions, ignoring case."""
    out: dict[str, str] = {}
    for word in words:
        out.setdefault(word.casefold(), word)
    return list(out.values())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise wb.BadInput(
            f"{path} cannot be read ({error.strerror})",
            hint="Pass the unpacked folders of " + ", ".join(PACKAGES) + ", in this order.",
        ) from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except ValueError as error:
        raise wb.BadInput(f"{path} is not JSON: {error}") from error


def fetch(folder: Path) -> list[Path]:
    """Download the packages with npm and return their unpacked folders.

    Raises
    ------
    BadInput
        npm is not installed or could not fetch a package.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise wb.BadInput("npm is not installed", hint="Unpack the packages by hand and pass their folders.")
    out = []
    for name, version in PACKAGES.items():
        done = subprocess.run(  # noqa: S603 - a fixed command
            [npm, "pack", "--silent", f"{name}@{version}"], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            raise wb.BadInput(f"npm could not fetch {name}@{version}: {done.stderr.strip()[-500:]}")
        with tarfile.open(folder / done.stdout.strip().splitlines()[-1]) as archive:
            archive.extractall(folder / name, filter="data")
        out.append(folder / name / "package")
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table and its notice; return the exit code."""
    parser = argparse.ArgumentParser(prog="make_table", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "packages", nargs="*", type=Path, metavar="FOLDER", help="the three unpacked packages"
    )
    parser.add_argument(
        "--out", type=Path, default=TABLES, help="where to write (default: the shipped table)"
    )
    args = parser.parse_args(arguments)
    if len(args.packages) not in (0, len(PACKAGES)):
        parser.error(f"pass none or all {len(PACKAGES)} folders: {', '.join(PACKAGES)}")
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folders = args.packages or fetch(Path(temporary))
            rows = table_rows(*folders)
            table = table_text(rows)
            notice = notice_text(table, *folders)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "emoji.tsv").write_text(table, encoding="utf-8", newline="\n")
        (args.out / "NOTICE").write_text(notice, encoding="utf-8", newline="\n")
    except wb.WorkbenchError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(rows)} emoji written to {args.out / 'emoji.tsv'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
