"""Words that name nothing a picture could show."""

import pytest

from adapters.vlm_quantization.search.function_words import says_nothing


@pytest.mark.parametrize("text", ["a", "The", "of the", "ＴＨＥ", "그", "그 것", "그리고 the", " a, "])
def test_a_text_of_function_words_says_nothing(text):
    assert says_nothing(text)


@pytest.mark.parametrize(
    "text", ["", "!", "dog", "a dog", "the up", "I", "그 개", "이", "은", "7", "theatre", "그네"]
)
def test_another_text_may_say_something(text):
    assert not says_nothing(text)
