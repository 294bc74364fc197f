"""The figures of `benchmarks.cluster` as records, as a page, and as promises kept or broken."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass

LINES_PER_S = 200.0
OUTAGES_S = (0.0, 1.0, 8.0)
"""How long the link is gone; 0: a reset, or the server's sessions killed."""
MOST_LOGINS = 1


@dataclass(frozen=True)
class Verb:
    """What one verb took of one node: logins, channels, turns of the conversation from us to the node, seconds."""

    name: str
    code: int
    logins: int
    channels: int
    turns: int
    seconds: float


@dataclass(frozen=True)
class Storm:
    """Stopping trees of processes: cycles, processes that lived on, and each stop's seconds."""

    cycles: int
    survivors: int
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Cuts:
    """A run followed over faults of the link: what was written, lost and doubled; seconds from link back to news."""

    faults: int
    written: int
    lost: int
    doubled: int
    fresh_s: tuple[float, ...]
    noticed_s: tuple[float, ...]


@dataclass(frozen=True)
class Fleet:
    """`ps` over many nodes with one dead, beside the dead one alone and one that is well: seconds, and connections."""

    nodes: int
    how: str
    all_s: float
    slowest_s: float
    one_s: float


@dataclass(frozen=True)
class Growth:
    """What so many connections, opened and closed in one process, left behind."""

    connects: int
    descriptors: int
    threads: int
    rss_mib: float


@dataclass(frozen=True)
class Figures:
    """All that was measured."""

    verbs: tuple[Verb, ...]
    cuts: Cuts
    fleets: tuple[Fleet, ...]
    growth: Growth
    storm: Storm


def broken_promises(figures: Figures) -> list[str]:
    """Return the promises that counts contradict; times depend on the machine."""
    cuts, growth = figures.cuts, figures.growth
    faults = [f"{verb.name}: exit code {verb.code}" for verb in figures.verbs if verb.code]
    faults += [f"{verb.name}: {verb.logins} logins" for verb in figures.verbs if verb.logins > MOST_LOGINS]
    if figures.storm.survivors:
        faults.append(f"{figures.storm.survivors} survivors of {figures.storm.cycles} stops")
    if cuts.lost or cuts.doubled:
        faults.append(f"{cuts.lost} lines lost, {cuts.doubled} doubled")
    if growth.descriptors > 0 or growth.threads > 0:
        faults.append(f"{growth.descriptors} descriptors and {growth.threads} threads left by connections")
    return faults


def page(figures: Figures) -> str:
    """Return the page, in Markdown."""
    return "\n".join(
        [
            _HEAD.format(cores=os.cpu_count()),
            _verbs(figures.verbs),
            _storm(figures.storm),
            _cuts(figures.cuts),
            _fleets(figures.fleets),
            _growth(figures.growth),
        ]
    )


_HEAD = """\
# Cluster operations, measured

`make test-cluster` writes this page: real sshd, tmux, screen and process trees on loopback; no GPU, no real network.
{cores} cores shared with other work: counts are exact, times are upper bounds.
"""


def _verbs(verbs: tuple[Verb, ...]) -> str:
    rows = [f"| `{v.name}` | {v.logins} | {v.channels} | {v.turns} | {v.seconds:.1f} |" for v in verbs]
    return "\n".join([_VERBS, *rows, ""])


_VERBS = """\
## Connections and round trips of each command

A login is an authenticated connection; a channel is one command on it. A turn is the laptop speaking after the node
did, all included: handshake, login, flow control, keep-alives. The watch's turns are those after its first picture.

| verb | logins | channels | turns | seconds |
|---|---|---|---|---|"""


def _storm(storm: Storm) -> str:
    return f"""\
## Stopping

{storm.cycles} stops of five process trees (plain; deaf to HUP; like torchrun, with sessions of their own and one deaf
to TERM; with a double-forked daemon; that with a cleared environment) on tmux and screen, every other one while the
tree still grew: **{storm.survivors} survivors**. With 1 s of grace a stop took {_at(storm.seconds, 50)} s (p50),
{_at(storm.seconds, 95)} s (p95).
"""


def _cuts(cuts: Cuts) -> str:
    delays = f"{_at(cuts.noticed_s, 50)} s (p50) to {max(cuts.noticed_s):.1f} s" if len(cuts.noticed_s) > 1 else "–"
    return f"""\
## Lost connections

A run writes {LINES_PER_S:.0f} times a second at most to its records and its log, watched and followed through
{cuts.faults} faults in turn: connections reset, the server's sessions killed, silence of {OUTAGES_S[1]:.0f} and of
{OUTAGES_S[2]:.0f} s. Of {cuts.written} lines, **{cuts.lost} were lost and {cuts.doubled} came twice**. From the link's
return to a step that was written after it: {_at(cuts.fresh_s, 50)} s (p50), {_at(cuts.fresh_s, 95)} s (p95).
The {len(cuts.noticed_s)} silences that were long enough to be called a lost link were so after {delays}.
"""


def _fleets(fleets: tuple[Fleet, ...]) -> str:
    rows = [
        f"| {f.how} | {f.all_s:.2f} | {f.slowest_s:.2f} | {f.all_s / f.slowest_s:.2f} | {f.one_s:.2f} |" for f in fleets
    ]
    return "\n".join([_FLEETS, *rows, ""])


_FLEETS = """\
## `ps` over 8 nodes, one of them dead

A dead node refuses connections, or accepts them and sends nothing.

| the dead one | all 8, s | slowest alone, s | ratio | a well one alone, s |
|---|---|---|---|---|"""


def _growth(growth: Growth) -> str:
    return f"""\
## Connections leave nothing behind

{growth.connects} connections opened, used and closed in one process: {growth.descriptors:+d} file descriptors,
{growth.threads:+d} threads, {growth.rss_mib:+.1f} MiB.
"""


def _at(values: tuple[float, ...], percent: int) -> str:
    return f"{statistics.quantiles(values, n=100, method='inclusive')[percent - 1]:.2f}" if len(values) > 1 else "–"
