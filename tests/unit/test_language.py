"""The language of the code: docstrings open with a verb, variables are nouns, private idiom is banned.

Each allowance is a ceiling for the whole product; lower it after rewriting prose, never raise it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

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
Arrange Ask Assign Attach Attend Average Avoid Become Begin Bind Blur Break Bring Broadcast Build Calculate
Calibrate Call Cancel Carry Centre Check Choose Claim Clear Clip Close Collect Combine Commit Compare Compile
Compute Concatenate Configure Confirm Connect Construct Continue Convert Convolve Copy Correct Correlate Count
Create Crop Cut Decide Decode Decompose Defer Delay Derive Describe Detach Detect Determine Detrend Diagnose
Disable Discard Discover Divide Do Download Draw Drop Dump Emit Enable Encode End Ensure Enter Estimate Evaluate
Exchange Exclude Execute Expand Explain Export Extend Extract Fetch Fill Filter Find Finish Fit Fix Flatten
Flush Follow Forget Format Forward Freeze Gather Generate Get Give Handle Hash Have Hide Hold Identify Ignore
Import Include Infer Insert Inspect Install Interpolate Interrupt Join Judge KILL Keep Kill Launch Lay Learn
Leave Let Limit List Load Lock Log Look Lower Make Map Mark Match Measure Merge Monitor Move Multiply Name
Normalise Note Notify Observe Offer Open Order Override Pack Pad Paint Parse Pass Pause Permute Pick Place Plan
Play Poll Pool Predict Prefer Prefix Prepare Prevent Print Probe Process Project Promote Propose Protect Prune
Publish Pull Push Put Quantise Quote Raise Reach Read Reap Rebuild Receive Reconnect Reconstruct Record Reduce
Refit Refresh Refuse Register Regress Reject Release Reload Remember Remove Rename Render Reopen Repeat Replace
Report Request Require Resample Reserve Reset Resolve Restore Resume Retry Return Reuse Rewrite Rotate Round Run
Sanitise Save Scale Score Search Select Send Serve Set Shard Share Shift Shorten Show Shuffle Signal Simplify
Simulate Skip Sleep Smooth Solve Sort Split Standardise Start Step Stop Store Stream Stretch Subtract Suggest
Sum Summarise Supervise Swap Switch Take Talk Toggle Train Transfer Transform Translate Transpose Trim Truncate
Try Turn Undo Unlock Unpack Update Use Validate Verify Wait Warn Watch Weigh Whiten Withdraw Wrap Write Yield
Z-score
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


class Faults(NamedTuple):
    """What is wrong in the functions of some folders."""

    docstrings: list[str]
    variables: list[str]


@cache
def faults(folders: tuple[str, ...]) -> Faults:
    """Parse each file once and keep no tree: those of all files take a gigabyte, which garbage collection scans."""
    result = Faults([], [])
    for path, text in sources(folders):
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, Function):
                continue
            if not opens_with_a_verb(node):
                first = (ast.get_docstring(node) or "")[:80]
                result.docstrings.append(f"{path}:{node.lineno}: begins with none of VERBS: {first}")
            if names := bare_participles(node):
                result.variables.append(f"{path}:{node.lineno}: {', '.join(sorted(names))} in {node.name}")
    return result


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
    check([*faults(PRODUCT).docstrings, *faults(AROUND).docstrings], 0)


def test_variables_are_nouns() -> None:
    check(faults(PRODUCT).variables, ALLOWED_BARE_PARTICIPLES)
    check(faults(AROUND).variables, ALLOWED_BARE_PARTICIPLES_IN_TESTS)


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
