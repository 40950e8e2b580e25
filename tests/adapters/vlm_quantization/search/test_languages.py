from pathlib import Path

import pytest

from adapters.vlm_quantization.index.opened import Index, load_index
from adapters.vlm_quantization.search.languages import joined, names_of, unknown_note, unknown_words
from adapters.vlm_quantization.search.options import SearchOptions
from adapters.vlm_quantization.search.queries import search_text
from adapters.vlm_quantization.towers.multilingual import Multilingual
from tests.adapters.vlm_quantization.small_index import SmallEncoder, build

SIXTEEN = Multilingual.languages


class Knowing(SmallEncoder):
    """The small encoder, with the languages of a trained model."""

    def __init__(self, languages: tuple[str, ...]) -> None:
        super().__init__()
        self.languages = languages


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("languages")
    model = folder / "model.safetensors"
    model.write_bytes(bytes(range(256)) * 4)
    return build(folder / "indexes", model_file=model).path


def opened(built: Path, languages: tuple[str, ...]) -> Index:
    return load_index(built, lambda _file: Knowing(languages))


@pytest.mark.parametrize(
    ("text", "languages", "unknown"),
    [
        ("dog 강아지", SIXTEEN, {}),
        ("собака 狗 犬 いぬ หมา كلب köpek", SIXTEEN, {}),
        ("कुत्ता", SIXTEEN, {"कुत्ता": "Devanagari, as in Hindi"}),
        ("நாய் dog", SIXTEEN, {"நாய்": "Tamil"}),
        ("Σκύλος", SIXTEEN, {"σκύλος": "Greek"}),
        ("собака dog", ("en", "ko"), {"собака": "Cyrillic, as in Russian"}),
        ("dog", ("ko",), {}),  # Latin letters are everywhere
        ("σκύλος", ("el",), {}),
        ("σκύλος", ("en", "x-own"), {}),  # a language whose script is not known
        ("犬 2023", ("zh-TW",), {}),
        ("?! 🐶", ("en",), {}),
    ],
)
def test_words_in_a_script_of_no_known_language_are_found(
    text: str, languages: tuple[str, ...], unknown: dict[str, str]
) -> None:
    assert unknown_words(text, languages) == unknown


def test_a_note_quotes_a_few_words_and_names_the_languages_that_are_known() -> None:
    words = unknown_words("α β γ δ", ("en", "ko"))
    assert unknown_note(words, ("en", "ko")) == (
        "“α”, “β” and “γ” and 1 more are in a script that this search does not know (Greek); "
        "it knows English and 한국어"
    )
    assert names_of(["zh", "zh-TW", "en", "xx"]) == ["中文", "English", "xx"]
    assert joined(["a"]) == "a"
    assert joined([]) == ""


def test_a_query_in_an_unknown_script_says_so_and_has_nothing_near(built: Path) -> None:
    index = opened(built, SIXTEEN)
    result = search_text(index, "कुत्ता", 5, SearchOptions())
    assert "“कुत्ता” is in a script that this search does not know (Devanagari, as in Hindi)" in result.note
    assert "English" in result.note
    assert "中文" in result.note
    assert not result.cutoff
    for known in ("собака", "thing 3", "물건 3"):
        assert "script" not in search_text(index, known, 5, SearchOptions()).note
    assert "script" in search_text(index, "thing 3 कुत्ता", 5, SearchOptions()).note


def test_a_model_of_unknown_languages_gives_no_such_note(built: Path) -> None:
    assert search_text(opened(built, ()), "कुत्ता", 5, SearchOptions()).note == ""


def test_an_index_describes_the_languages_it_knows(built: Path) -> None:
    assert opened(built, ()).describe()["languages"] == ["en", "ko"]
    both = opened(built, ("en", "ko")).describe()
    assert "type in English or 한국어, or" in both["subtitle"]
    many = opened(built, SIXTEEN).describe()
    assert many["languages"] == list(SIXTEEN)
    assert "type in English, 한국어 or 13 other languages, or drop" in many["subtitle"]
    assert "type in English, or drop" in opened(built, ("en",)).describe()["subtitle"]
