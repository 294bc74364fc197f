"""Who is at this terminal, as runs record who launched them."""

from __future__ import annotations

import os
import socket

from giblet_tui.agent.proc import user_name


def current_user() -> str:
    """Return the user at this terminal as `user@machine`."""
    return f"{user_name(os.getuid())}@{socket.gethostname()}"
