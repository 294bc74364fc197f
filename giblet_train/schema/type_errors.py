"""Type errors of msgspec in words that do not name types of the code."""

from __future__ import annotations

import re

from giblet_train.schema.config import NAME_PATTERN

TYPES_IN_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "object": "a group of keys",
    "array": "a list",
    "null": "null",
}


PATTERNS_IN_WORDS = {
    NAME_PATTERN: "1 to 40 small letters, digits, _ and -, beginning with a letter or digit",
}
"""Regular expressions of texts, and what a person types to match them."""


def type_error_in_words(error: str) -> str:
    """Return a type error of msgspec, such as "Expected `int | null`, got `str`", without names of types in code."""

    def words(match: re.Match[str]) -> str:
        names = match[1].split(" | ")
        return " or ".join(TYPES_IN_WORDS[n] for n in names) if set(names) <= set(TYPES_IN_WORDS) else match[0]

    for pattern, meaning in PATTERNS_IN_WORDS.items():
        error = error.replace(f"`str` matching regex {pattern!r}", meaning)
    sentence = re.sub(r"`([a-z |]+)`", words, error).replace(" matching regex ", " of the form ")
    return sentence.replace("a whole number, got a number", "a whole number, got one with decimals")
