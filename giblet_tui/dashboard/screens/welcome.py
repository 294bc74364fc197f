"""The page in place of the panes while there is no run: what is missing, the exact command, the next key."""

from __future__ import annotations

from collections.abc import Mapping

from textual.content import Content

from giblet_train import __version__
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED
from giblet_tui.dashboard.widgets.status_line import LINKS
from giblet_tui.monitor.snapshots import Fleet


def welcome(fleet: Fleet) -> Content:
    """Return the page for a fleet without runs."""
    rows = [join_parts(("giblet", "bold $accent"), (f" {__version__}", MUTED))]
    keys = [("ctrl+p", "all commands"), ("?", "all keys"), ("q", "quit")]
    if not fleet.nodes:
        rows += [
            join_parts(("No node is known yet.", "bold")),
            *_commands(
                {
                    "giblet demo": "train a small study here",
                    "giblet node add tensor01": "a host that `ssh tensor01` reaches",
                }
            ),
        ]
    else:
        answered = all(node.observed_at is not None or node.link != "connecting" for node in fleet.nodes)
        sentence = "No run on any node yet." if answered else "Asking the nodes for their runs."
        rows += [join_parts((sentence, "bold"))]
        for node in fleet.nodes:
            word, style = LINKS[node.link]
            rows.append(join_parts(f"  {node.node:<14}", (word, style), (f"  {node.link_sentence}", MUTED)))
        first = fleet.nodes[0].node
        commands = {
            f"giblet launch {first} demo": "start a run",
            f"giblet launch {first} -- python train.py": "run your own",
            f"giblet doctor {first}": "check the node",
        }
        rows += [join_parts(""), *_commands(commands)]
        keys.insert(0, ("ctrl+n", "launch a run, with a dry run first"))
    rows += [join_parts(""), *(join_parts((f"  {key:<8}", "bold"), words) for key, words in keys)]
    return Content("\n").join(rows)


def _commands(purposes: Mapping[str, str]) -> list[Content]:
    """Return a row per command, their purposes below one another."""
    cells = max(map(len, purposes))
    return [
        join_parts(("  $ ", MUTED), (f"{command:<{cells}}", "bold"), (f"  {purpose}", MUTED))
        for command, purpose in purposes.items()
    ]
