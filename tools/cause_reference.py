"""Write docs/troubleshooting.md: what to do by symptom, with every cause that the diagnosis knows.

`python -m tools.cause_reference > docs/troubleshooting.md`. Causes, examples and remedies come from the rules themselves,
evaluated on the simulated runs of tests/collection.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import get_args

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import parse
from giblet_train.diagnosis.rules.case import Finding
from giblet_train.diagnosis.rules.registry import Group, Rule, ordered_rules
from tests.collection.balanced_logs import UNBALANCED
from tests.collection.cases import Case, collection
from tests.collection.log_ends import DEAD, log_of

HEAD = """\
# Troubleshooting by symptom

For everyone whose run does not do what it should. The second part is generated from the diagnosis rules by `make docs`.

## giblet itself

| symptom | what to do |
|---|---|
| `No node is called ...` | Add a `Host` block to `~/.ssh/config`, or use `giblet node add`. The node comes before the configuration. |
| exit code 3, the node cannot be reached | Try `ssh NODE`. If that works and giblet does not, run `giblet doctor NODE`; see [login](nodes.md#login). |
| the host key is refused | The message has the command that fixes it. giblet never writes `known_hosts`. |
| `giblet setup` fails on a node without network | Use [a wheelhouse](nodes.md#a-node-without-network). |
| a launch is refused with exit code 5 | The message says why; `giblet doctor NODE CONFIG` shows everything that is missing. |
| a configuration is refused | `giblet config check ./mine.yaml` lists every problem with its line. |
| the verdict is missing | The configuration has no `criteria`; see [the verdict](plan.md#verdict). |
| a run is `unknown` | Its node does not answer. The run itself is not affected. |
| a run is `waiting` | It waits for GPUs; `giblet ps` shows its place in the queue. |
| GPU memory is in use although no run is shown | `giblet stop --stale` shows what holds it. |
| a report of a bug | Include the output of `giblet version NODE`. |

## What `giblet why` reports

`giblet why RUN` lists the causes below, most likely first; an alert has the name of its cause. `giblet demo FAULT` injects the fault
into a small run, so that you can see what it looks like.
"""
SYMPTOMS: Mapping[str, str] = {
    "ending": "The run ended, or makes no step",
    "numbers": "Losses are not numbers, or rise",
    "plan": "The learning rate is not the planned one",
    "scale": "A loss dominates, or does not start near 1",
    "data": "Film, brain or split are wrong",
    "curve": "The loss does not fall, or held-out data are not predicted",
    "speed": "Steps are slow",
    "verdict": "A success criterion cannot be met",
    "fallback": "Anything else",
}
"""Group of causes -> heading."""


def main() -> None:
    print(HEAD)
    examples = _examples()
    for group in get_args(Group):
        print(f"### {SYMPTOMS[group]}\n")
        for rule in ordered_rules():
            if rule.group == group:
                print("\n".join(_section(rule, examples.get(rule.name))))


def _section(rule: Rule, example: Finding | None) -> list[str]:
    """Return the lines about one cause."""
    lines = [f"#### {rule.name}", "", _sentence(rule), ""]
    if example:
        lines += [f"> {example.sentence}", "", f"**Remedy:** {example.action}", ""]
    if rule.fault:
        lines += [f"Try it: `giblet demo {rule.fault.name}` ({rule.fault.says}).", ""]
    return lines


def _sentence(rule: Rule) -> str:
    """Return what a rule reports, as a sentence."""
    text = re.sub(r"^Report (that )?", "", inspect.cleandoc(rule.evaluate.__doc__ or ""))
    return text[:1].upper() + text[1:]


def _examples() -> dict[str, Finding]:
    """Return cause -> the finding for the first simulated run that has it."""
    examples: dict[str, Finding] = {}
    for case in collection("tuning", n_seeds=1):
        if case.kind == "records" and case.cause and case.cause not in examples:
            examples |= {finding.cause: finding for finding in _causes(case) if finding.cause == case.cause}
    return {**_examples_of_logs(), **examples}


def _examples_of_logs() -> dict[str, Finding]:
    """Return cause -> the finding for the first log that has it, for causes that only logs of other programs show."""
    examples: dict[str, Finding] = {}
    for lines in (*(log_of(last) for _, last in DEAD.values()), *UNBALANCED.values()):
        log = parse("\n".join(lines).split("\n"))
        first = next(iter(diagnose(None, log.metrics, log=log.log).causes), None)
        if first is not None:
            examples.setdefault(first.cause, first)
    return examples


def _causes(case: Case) -> tuple[Finding, ...]:
    return diagnose(case.config, case.metrics, health=case.health, log_tail=case.log_tail).causes


if __name__ == "__main__":
    main()
