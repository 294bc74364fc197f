"""The page in place of the panes while there is no run: what is missing, the exact command, the next key."""

from __future__ import annotations

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
            _command("giblet demo", "train a small study here"),
            _command("giblet node add tensor01", "a host that `ssh tensor01` reaches"),
        ]
    else:
        answered = all(node.observed_at is not None or node.link != "connecting" for node in fleet.nodes)
        sentence = "No run on any node yet." if answered else "Asking the nodes for their runs."
        rows += [join_parts((sentence, "bold"))]
        for node in fleet.nodes:
            word, style = LINKS[node.link]
            rows.append(join_parts(f"  {node.node:<14}", (word, style), (f"  {node.link_sentence}", MUTED)))
        rows += [
            join_parts(""),
            _command(f"giblet launch {fleet.nodes[0].node} demo", "start a run; it appears here"),
            _command(f"giblet doctor {fleet.nodes[0].node}", "what the node lacks, and the remedy"),
        ]
        keys.insert(0, ("ctrl+n", "launch a run, with a dry run first"))
    rows += [join_parts(""), *(join_parts((f"  {key:<8}", "bold"), words) for key, words in keys)]
    return Content("\n").join(rows)


def _command(command: str, purpose: str) -> Content:
    return join_parts(("  $ ", MUTED), (f"{command:<28}", "bold"), (f" {purpose}", MUTED))
