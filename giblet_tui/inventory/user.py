"""Who is at this terminal, as runs record who launched them."""

from __future__ import annotations

import getpass
import socket


def current_user() -> str:
    """Return the user at this terminal as `user@machine`."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
