"""The application's own errors, under the contract's `GibletError` tree, each with its exit code.

GibletError
├── Unreachable        3  the node cannot be reached, or does not let us in
│   ├── NotLetIn       3  its host key or our keys are not accepted: trying again will not help
│   ├── Dropped        3  the server drops the connection; it may accept the next one
│   └── SSHMayHelp     3  giblet's own client cannot connect; the system's ssh may
├── NotYours           5  the run is another user's, and may only be read
├── TargetNotReached   4  the state asked for was not reached; something survives
├── ProtocolError      1  the node answered something that this version of giblet does not understand
└── TimedOut         124  a deadline of ours ran out
"""

from __future__ import annotations

from giblet_train.schema.errors import NOT_REACHED, REFUSED, TIMED_OUT, UNREACHABLE, GibletError


class Unreachable(GibletError):
    """The node cannot be reached, or does not let us in."""

    exit_code = UNREACHABLE


class NotLetIn(Unreachable):
    """The host's key is not trusted, or ours are not taken: trying again by itself would only lock the account."""


class LoginRefused(NotLetIn):
    """The host is trusted, and does not accept our login: a master connection that is up may."""


class SSHMayHelp(Unreachable):
    """giblet's own client cannot connect for a reason that the system's ssh may not have."""

    needs_reason_of_ssh = False
    """If ssh fails too, its own reason says more than ours."""


class KeysRefused(LoginRefused, SSHMayHelp):
    """The host does not accept our keys; the system's ssh may have others."""


class Dropped(Unreachable):
    """The server closed the connection before its first message; a busy sshd does so."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"{name} drops the connection before it says that it is an SSH server ({reason}).",
            "A busy sshd does (MaxStartups), and so does a firewall: try again later, or ask its administrator.",
        )


class NotYours(GibletError):
    """The run belongs to another user, who lets the lab read it."""

    exit_code = REFUSED


class TargetNotReached(GibletError):
    """The requested state was not reached, and something survives."""

    exit_code = NOT_REACHED


class TimedOut(GibletError):
    """The node answered, but not in time."""

    exit_code = TIMED_OUT


class ProtocolError(GibletError):
    """The node answered something that this version of giblet does not understand."""
