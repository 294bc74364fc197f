"""The language of the code: docstrings open with a verb, variables are nouns, private idiom is banned.

Each allowance is a ceiling for the whole product; lower it after rewriting prose, never raise it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.paths import ROOT

ALLOWED_NOUN_PHRASES = 2
"""Docstrings of functions that do not open with a verb."""
ALLOWED_NOUN_PHRASES_IN_TESTS = 8
"""The same in fixtures and helpers of tests, in benchmarks and tools; a test's own docstring may state its case."""
ALLOWED_BARE_PARTICIPLES = 5
"""Functions that store a value in a variable such as `found` or `kept`: all are a `left` that is a side."""
ALLOWED_BARE_PARTICIPLES_IN_TESTS = 5
"""The same in tests, benchmarks and tools: left hemispheres and a left channel."""
ALLOWED_BANNED_LINES = 10
"""Lines of code and prose with a word of the private idiom."""

BARE = frozenset({
    "asked", "brought", "chosen", "done", "each", "found", "given", "gone", "heard", "held", "kept", "known", "lacking",
    "learnt", "left", "lying", "made", "meant", "one", "put", "said", "seen", "shown", "taken", "told", "wanted",
})  # fmt: skip
BANNED = re.compile(
    r"\b(told|tells?|telling|said|anew|beside|whoever|so many|mends?|mended|stands|goes on|went on|lies|lie)\b", re.I
)
NOUN_PHRASE = re.compile(
    r"^(The|A|An|What|How|Whether|Where|Which|Who|When|Is|Are|Does|Has|Do|Can|All|Each|Every|No|One|Its|This|That|Those|"
    r"These|Such|Of|In|On|As|By|For|From|With|Not|Nothing|\(|`|[0-9])\b"
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


PRODUCT = ("giblet_train", "giblet_tui")
AROUND = ("tests", "benchmarks", "tools")


def sources(folders: tuple[str, ...] = PRODUCT) -> Iterator[tuple[Path, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


def functions(folders: tuple[str, ...] = PRODUCT) -> Iterator[tuple[Path, Function]]:
    for path, text in sources(folders):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, Function):
                yield path, node


def bare_participles(function: Function) -> set[str]:
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    arguments = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
    return (stored | arguments) & BARE


def check(lines: list[str], allowed: int) -> None:
    assert len(lines) <= allowed, f"{len(lines)} of at most {allowed}:\n" + "\n".join(lines)


def noun_phrases(folders: tuple[str, ...]) -> list[str]:
    return [
        f"{path}:{function.lineno}: {text.splitlines()[0]}"
        for path, function in functions(folders)
        if (text := ast.get_docstring(function)) and NOUN_PHRASE.match(text) and not function.name.startswith("test_")
    ]


def test_docstrings_open_with_a_verb() -> None:
    check(noun_phrases(PRODUCT), ALLOWED_NOUN_PHRASES)
    check(noun_phrases(AROUND), ALLOWED_NOUN_PHRASES_IN_TESTS)


def bare_variables(folders: tuple[str, ...]) -> list[str]:
    return [
        f"{path}:{function.lineno}: {', '.join(sorted(names))} in {function.name}"
        for path, function in functions(folders)
        if (names := bare_participles(function))
    ]


def test_variables_are_nouns() -> None:
    check(bare_variables(PRODUCT), ALLOWED_BARE_PARTICIPLES)
    check(bare_variables(AROUND), ALLOWED_BARE_PARTICIPLES_IN_TESTS)


def test_private_idiom_is_banned() -> None:
    check(
        [
            f"{path}:{number}: {match[0]}"
            for path, text in sources()
            for number, line in enumerate(text.splitlines(), 1)
            if (match := BANNED.search(line))
        ],
        ALLOWED_BANNED_LINES,
    )


def test_the_checks_recognise_what_they_forbid() -> None:
    function = ast.parse('def f(kept):\n    """The newest checkpoint."""\n    found, path = 1, 2\n').body[0]
    assert isinstance(function, Function)
    assert bare_participles(function) == {"kept", "found"}
    assert NOUN_PHRASE.match(ast.get_docstring(function) or "")
    assert not NOUN_PHRASE.match("Return the newest checkpoint.")
    assert BANNED.search("it is told to the user") and not BANNED.search("it is reported to the user")
