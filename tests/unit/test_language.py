"""The language of the code: docstrings open with a verb, variables are nouns, private idiom is banned.

Each allowance is a ceiling for the whole product; lower it after rewriting prose, never raise it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.paths import ROOT

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
IMPERATIVES = """
Accept Acknowledge Add Adopt Agree All-gather All-reduce Allocate Allow Analyse Announce Answer Append Apply
Arrange Ask Attend Average Become Begin Blur Break Bring Broadcast Build Call Cancel Carry Centre Check Choose
Claim Clip Close Collect Combine Compare Compile Compute Concatenate Connect Continue Convert Convolve Copy
Correlate Count Create Crop Cut Decide Decode Decompose Defer Delay Describe Diagnose Discard Divide Do Download
Draw Encode End Estimate Evaluate Exchange Expand Explain Filter Find Finish Fit Follow Forget Format Forward
Gather Give Have Hide Hold Import Infer Install Interpolate Join Judge KILL Keep Kill Launch Lay Learn Leave Let
Limit List Load Log Look Lower Make Map Match Measure Merge Monitor Move Multiply Name Normalise Note Observe
Offer Open Order Pack Paint Parse Pass Permute Place Plan Play Poll Predict Prepare Print Process Project
Propose Publish Put Quote Raise Read Reap Rebuild Reconstruct Record Refresh Refuse Register Regress Release
Remember Remove Rename Repeat Replace Report Require Reserve Reset Restore Resume Retry Return Rewrite Rotate
Round Run Sanitise Save Scale Score Select Send Serve Set Shard Share Shift Show Shuffle Signal Simulate Skip
Sleep Sort Split Start Step Stop Store Stream Stretch Sum Summarise Supervise Take Talk Train Try Turn Undo
Unpack Update Use Validate Wait Warn Watch Whiten Withdraw Write Yield Z-score
"""
VERBS = frozenset(IMPERATIVES.split())
"""First words of the docstrings of functions. Add another imperative if it fits better."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


PRODUCT = ("giblet_train", "giblet_tui")
AROUND = ("tests", "benchmarks", "tools")


def sources(folders: tuple[str, ...] = PRODUCT) -> Iterator[tuple[Path, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


@cache
def functions(folders: tuple[str, ...]) -> list[tuple[Path, Function]]:
    return [
        (path, node)
        for path, text in sources(folders)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, Function)
    ]


def bare_participles(function: Function) -> set[str]:
    stored = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    arguments = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
    return (stored | arguments) & BARE


def check(lines: list[str], allowed: int) -> None:
    assert len(lines) <= allowed, f"{len(lines)} of at most {allowed}:\n" + "\n".join(lines)


def opens_with_a_verb(function: Function) -> bool:
    """Return True also for a constructor, which may explain its arguments, and for a test, which states its case."""
    text = ast.get_docstring(function)
    return not text or function.name.startswith(("__init__", "test_")) or text.split()[0].rstrip(",;") in VERBS


def test_docstrings_open_with_a_verb() -> None:
    check(
        [
            f"{path}:{function.lineno}: begins with none of VERBS: {(ast.get_docstring(function) or '')[:80]}"
            for path, function in [*functions(PRODUCT), *functions(AROUND)]
            if not opens_with_a_verb(function)
        ],
        0,
    )


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
    assert not opens_with_a_verb(function)
    assert BANNED.search("it is told to the user") and not BANNED.search("it is reported to the user")
