"""Languages that a search knows, and words in a script that none of them uses."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from adapters.vlm_quantization.towers.ngrams import words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Native names of languages.
NAMES = {
    "ar": "العربية",
    "de": "Deutsch",
    "en": "English",
    "es": "Español",
    "fr": "Français",
    "it": "Italiano",
    "ja": "日本語",
    "ko": "한국어",
    "nl": "Nederlands",
    "pl": "Polski",
    "pt": "Português",
    "ru": "Русский",
    "th": "ไทย",
    "tr": "Türkçe",
    "zh": "中文",
}


#: Scripts besides Latin, by the first word of their letters' Unicode names: a name for the reader, and the
#: languages that use it.
_SCRIPTS = {
    "ARABIC": ("Arabic", "ar fa ur"),
    "ARMENIAN": ("Armenian", "hy"),
    "BENGALI": ("Bengali", "bn"),
    "BOPOMOFO": ("Bopomofo, as in Chinese", "zh"),
    "CJK": ("Chinese characters", "ja zh"),
    "CYRILLIC": ("Cyrillic, as in Russian", "be bg kk mk mn ru sr uk"),
    "DEVANAGARI": ("Devanagari, as in Hindi", "hi mr ne"),
    "ETHIOPIC": ("Ethiopic, as in Amharic", "am"),
    "GEORGIAN": ("Georgian", "ka"),
    "GREEK": ("Greek", "el"),
    "GUJARATI": ("Gujarati", "gu"),
    "GURMUKHI": ("Gurmukhi, as in Punjabi", "pa"),
    "HANGUL": ("Hangul, as in Korean", "ko"),
    "HEBREW": ("Hebrew", "he"),
    "HIRAGANA": ("Hiragana, as in Japanese", "ja"),
    "KANNADA": ("Kannada", "kn"),
    "KATAKANA": ("Katakana, as in Japanese", "ja"),
    "KHMER": ("Khmer", "km"),
    "LAO": ("Lao", "lo"),
    "MALAYALAM": ("Malayalam", "ml"),
    "MYANMAR": ("Myanmar, as in Burmese", "my"),
    "ORIYA": ("Odia", "or"),
    "SINHALA": ("Sinhala", "si"),
    "TAMIL": ("Tamil", "ta"),
    "TELUGU": ("Telugu", "te"),
    "THAI": ("Thai", "th"),
    "TIBETAN": ("Tibetan", "bo dz"),
}


#: Languages written in Latin letters. One that is neither here nor above is not judged.
_LATIN = (
    "af ca cs cy da de en es et eu fi fil fr ga gl hr hu id is it lt lv ms mt nb nl nn no pl pt ro sk sl sq "
    "sv sw tr vi"
)


#: Maximum number of words that a note quotes.
_QUOTED = 3


def names_of(languages: Iterable[str]) -> list[str]:
    """Return the native names of languages, each once; the tag itself where no name is known."""
    return list(dict.fromkeys(NAMES.get(tag, NAMES.get(_plain(tag), tag)) for tag in languages))


def joined(names: Sequence[str], last: str = "or") -> str:
    """Return names as part of a sentence."""
    return f" {last} ".join(part for part in (", ".join(names[:-1]), "".join(names[-1:])) if part)


def unknown_words(text: str, languages: Iterable[str]) -> dict[str, str]:
    """Return the words of a text in a script of none of the languages, with the name of the script.

    Empty if a language is not in the tables here, since its script is then not known. Latin letters are
    everywhere, so they always count as known.
    """
    known: set[str] = set()
    for tag in map(_plain, languages):
        scripts = {script for script, (_, users) in _SCRIPTS.items() if tag in users.split()}
        if not scripts and tag not in _LATIN.split():
            return {}
        known |= scripts
    out = {}
    for word in words_of(text):
        for letter in word:
            script = unicodedata.name(letter, "").partition(" ")[0]
            if script in _SCRIPTS and script not in known:
                out[word] = _SCRIPTS[script][0]
                break
    return out


def unknown_note(words: dict[str, str], languages: Iterable[str]) -> str:
    """Return a note about words in an unknown script, which names the languages that are known."""
    quoted = joined([f"“{word}”" for word in words][:_QUOTED], "and")
    more = f" and {len(words) - _QUOTED} more" if len(words) > _QUOTED else ""
    verb = "is" if len(words) == 1 else "are"
    scripts = "; ".join(dict.fromkeys(words.values()))
    return (
        f"{quoted}{more} {verb} in a script that this search does not know ({scripts}); "
        f"it knows {joined(names_of(languages), 'and')}"
    )


def _plain(tag: str) -> str:
    """Return the language of a tag, without region or script."""
    return tag.partition("-")[0].lower()
