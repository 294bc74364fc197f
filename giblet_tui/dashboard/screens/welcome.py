"""What stands in place of the panes while there is no run: what is missing, the exact command, the next key."""

from __future__ import annotations

from textual.content import Content

from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED
from giblet_tui.dashboard.widgets.status_line import LINKS
from giblet_tui.monitor.snapshots import Fleet


def welcome(fleet: Fleet) -> Content:
    """The page for a fleet without runs."""
    rows = [join_parts(("giblet", "bold $accent")), join_parts("")]
    if not fleet.nodes:
        rows += [
            join_parts(("No node is known yet.", "bold")),
            join_parts(""),
            _command("giblet demo", "trains a small study on this machine and shows it here"),
            _command("giblet node add tensor01", "a host that `ssh tensor01` reaches"),
        ]
    else:
        asked = all(node.observed_at is not None or node.link != "connecting" for node in fleet.nodes)
        rows += [
            join_parts(("No run on any node yet." if asked else "Asking the nodes for their runs.", "bold")),
            join_parts(""),
        ]
        for node in fleet.nodes:
            word, ink = LINKS[node.link]
            rows.append(join_parts(f"  {node.node:<14}", (word, ink), (f"  {node.link_sentence}", MUTED)))
        rows += [
            join_parts(""),
            _command(f"giblet launch {fleet.nodes[0].node} demo", "starts one; it appears here by itself"),
            _command(f"giblet doctor {fleet.nodes[0].node}", "what the node lacks, and the fix"),
        ]
    return Content("\n").join(
        [*rows, join_parts(""), join_parts(("ctrl+p", "bold"), "  all commands     ", ("q", "bold"), "  quit")]
    )


def _command(command: str, what: str) -> Content:
    return join_parts(("  $ ", MUTED), (f"{command:<28}", "bold"), (f"  {what}", MUTED))
