"""Inject every fault of `giblet demo FAULT` on this machine and report which were caught: docs/benchmarks/drills.md.

    python -m benchmarks.drills               all of them: some twenty minutes on two cores
    python -m benchmarks.drills nan stall     these

Each is a real run of the demo study in which the fault really happens. Steps are exact; seconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from giblet_train.diagnosis.fault_catalog import FAULTS

GIBLET = Path(sys.executable).with_name("giblet")
LIMIT_S = 900.0

HEAD = """\
# Injected faults, and when they are detected

Made by `make drills`: each line is one run of `giblet demo FAULT` on the demo study (real film, simulated brain), in
which the fault is injected into the engine. "Shown after": steps from its beginning until `giblet why`, given the
records so far, names it first. "Raised after": until the watcher next to the run had written its alert; it looks every
two seconds, and waits for a second look where a cause is not certain, so its steps depend on the pace ({pace:.2g} s a
step here, the median). A stalled run writes no record; its heartbeat shows it.
"""


def drill(name: str) -> dict[str, Any]:
    """Return what `giblet demo NAME --json` tells; its last words on stderr where it tells nothing."""
    result = subprocess.run(
        [GIBLET, "demo", name, "--json"], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    lines = result.stdout.splitlines()
    if not lines or not lines[-1].startswith("{"):
        return {
            "name": name,
            "caught": False,
            "sentence": result.stderr.strip().splitlines()[-1:],
            "named": "no answer",
        }
    return {"name": name, **json.loads(lines[-1])}


def row(outcome: dict[str, Any]) -> str:
    """Return one line of the table."""
    name = outcome["name"]
    shown_after = outcome.get("shown_after")
    delay = outcome.get("raised_after")
    after = "–" if delay is None else f"{delay} steps, {outcome['raised_s']:.0f} s"
    cells = (
        name,
        FAULTS[name].says,
        FAULTS[name].cause or "nothing",
        outcome["named"] or "nothing",
        "–" if shown_after is None else f"{shown_after} steps",
        after,
        ", ".join(outcome.get("others") or ()) or "–",
        "yes" if outcome["caught"] else "**no**",
    )
    return f"| {' | '.join(cells)} |"


def pace_of(outcomes: list[dict[str, Any]]) -> float:
    """Return the median seconds of a step while a fault was waited for, over the drills."""
    paces = sorted(s["raised_s"] / s["raised_after"] for s in outcomes if s.get("raised_after"))
    return paces[len(paces) // 2] if paces else float("nan")


def main() -> None:
    """Run the drills and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(FAULTS), metavar="FAULT")
    outcomes = []
    for name in parser.parse_args().names:
        outcomes.append(drill(name))
        print(row(outcomes[-1]), file=sys.stderr, flush=True)
    n_caught = sum(s["caught"] for s in outcomes)
    print(HEAD.format(pace=pace_of(outcomes)))
    print(f"Caught: {n_caught} of {len(outcomes)}.\n")
    print("| fault | what happens | must be named | named first | shown after | raised after | also raised | caught |")
    print("| --- | --- | --- | --- | ---: | ---: | --- | --- |")
    print("\n".join(map(row, outcomes)))


if __name__ == "__main__":
    main()
