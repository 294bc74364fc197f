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
ALLOWED_PARTICIPLES = 5
"""The same with any other participle that is no quantity of the field, such as `placed` or `stated`."""
ALLOWED_PARTICIPLES_IN_TESTS = 62
"""The same in tests, benchmarks and tools."""
ALLOWED_BANNED_LINES = 10
"""Lines of code and prose with a word of the private idiom."""

BARE = frozenset({
    "asked", "brought", "chosen", "done", "each", "found", "given", "gone", "heard", "held", "kept", "known", "lacking",
    "learnt", "left", "lying", "made", "meant", "one", "put", "said", "seen", "shown", "taken", "told", "wanted",
})  # fmt: skip
IRREGULAR = frozenset({
    "begun", "bent", "bought", "bound", "broken", "built", "caught", "drawn", "driven", "fallen", "felt", "frozen",
    "grown", "hidden", "lost", "met", "paid", "proven", "read", "sent", "shaken", "sought", "spent", "spoken", "struck",
    "stuck", "taught", "thought", "thrown", "understood", "undone", "woken", "won", "worn", "written",
})  # fmt: skip
"""Participles that do not end in -ed."""
NO_PARTICIPLES = frozenset({"bed", "feed", "hundred", "need", "red", "seed", "speed", "weed"})
QUANTITIES = frozenset({
    "centred", "clipped", "decoded", "delayed", "detrended", "encoded", "expected", "fitted", "masked", "measured",
    "observed", "padded", "planned", "pooled", "predicted", "scaled", "squared", "summed", "weighted", "whitened",
})  # fmt: skip
"""Adjectives that are names of series and values in the field: the predicted and the measured responses."""
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
TRUTH = ("bool", "Annotated[bool")


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
    """Those with one of BARE."""
    participles: list[str]


@cache
def faults(folders: tuple[str, ...]) -> Faults:
    """Parse each file once and keep no tree: those of all files take a gigabyte, which garbage collection scans."""
    result = Faults([], [], [])
    for path, text in sources(folders):
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, Function):
                continue
            if not opens_with_a_verb(node):
                first = (ast.get_docstring(node) or "")[:80]
                result.docstrings.append(f"{path}:{node.lineno}: begins with none of VERBS: {first}")
            if names := bare_participles(node):
                result.variables.append(f"{path}:{node.lineno}: {', '.join(sorted(names))} in {node.name}")
            if names := participles(node):
                result.participles.append(f"{path}:{node.lineno}: {', '.join(sorted(names))} in {node.name}")
    return result


def bare_participles(function: Function) -> set[str]:
    names = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    arguments = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
    return (names | arguments) & BARE


def participles(function: Function) -> set[str]:
    """Return the variables and arguments that are called by a participle alone, except those that are True or False."""
    arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    names = {a.arg for a in arguments if not (a.annotation and ast.unparse(a.annotation).startswith(TRUTH))}
    for node in own_nodes(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    for node in own_nodes(function):
        if isinstance(node, ast.Assign | ast.NamedExpr | ast.AnnAssign) and node.value and is_truth_value(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names -= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if is_participle(name)}


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of functions within it."""
    nodes: list[ast.AST] = list(ast.iter_child_nodes(function))
    while nodes:
        node = nodes.pop()
        if not isinstance(node, Function):
            yield node
            nodes += ast.iter_child_nodes(node)


def is_participle(name: str) -> bool:
    if name in NO_PARTICIPLES or name in QUANTITIES:
        return False
    return name in IRREGULAR or re.fullmatch(r"[a-z]+ed", name) is not None


def is_truth_value(value: ast.expr) -> bool:
    """Return True if the expression is True or False by its form."""
    if isinstance(value, ast.BoolOp):
        return all(map(is_truth_value, value.values))
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func).rpartition(".")[2]
        return name.startswith(("is_", "has_")) or name in ("all", "any", "bool", "exists", "isinstance")
    return (
        isinstance(value, ast.Compare)
        or (isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not))
        or (isinstance(value, ast.Constant) and isinstance(value.value, bool))
    )


def check(lines: list[str], limit: int) -> None:
    assert len(lines) <= limit, f"{len(lines)} of at most {limit}:\n" + "\n".join(lines)


def opens_with_a_verb(function: Function) -> bool:
    """Return True also for a constructor, which may explain its arguments, and for a test, which states its case."""
    text = ast.get_docstring(function)
    return not text or function.name.startswith(("__init__", "test_")) or text.split()[0].rstrip(",;") in VERBS


def test_docstrings_open_with_a_verb() -> None:
    check([*faults(PRODUCT).docstrings, *faults(AROUND).docstrings], 0)


def test_variables_are_nouns() -> None:
    check(faults(PRODUCT).variables, ALLOWED_BARE_PARTICIPLES)
    check(faults(AROUND).variables, ALLOWED_BARE_PARTICIPLES_IN_TESTS)
    check(faults(PRODUCT).participles, ALLOWED_PARTICIPLES)
    check(faults(AROUND).participles, ALLOWED_PARTICIPLES_IN_TESTS)


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
    text = "def f(placed, is_new, cached: bool):\n    ended = not placed\n    sent, speed, measured = 1, 2, 3\n"
    function = ast.parse(text).body[0]
    assert isinstance(function, Function)
    assert participles(function) == {"placed", "sent"}
    assert BANNED.search("it is told to the user") and not BANNED.search("it is reported to the user")
