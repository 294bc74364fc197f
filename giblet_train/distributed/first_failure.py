"""Find which process of a node failed first, and why, from the files that torchrun and the ranks leave behind."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 256 * 1024
_ROOT_CAUSE = re.compile(
    r"Root Cause \(first observed failure\):.*?local_rank: (\d+)\).*?exitcode\s*: (-?\d+)", re.DOTALL
)
_ECHO = re.compile(
    r"Connection (closed|reset) by peer|Broken pipe|Socket Timeout|recvValue failed|Dist(Network|Backend|Store)Error"
    r"|ncclRemoteError|ncclSystemError|NCCL communicator was aborted|Gloo connectFullMesh failed",
)
"""Messages of a rank that lost another one: a consequence of the failure, not its cause."""


@dataclass(frozen=True)
class Failure:
    """A process that failed."""

    local_rank: int
    """Rank on this node."""
    sentence: str
    """Why it failed."""
    at: float
    """When, by this node's clock (s since the epoch)."""
    echo: bool
    """True if it only lost another process."""


def first_failure(output: str, ranks: Path) -> Failure | None:
    """Return the first process of this node that failed according to torchrun; None if it named none.

    Args:
        output: the end of what torchrun printed.
        ranks: its folder with the files of the ranks.
    """
    root_causes = _ROOT_CAUSE.findall(output)
    if not root_causes:
        return None
    local_rank, code = int(root_causes[-1][0]), int(root_causes[-1][1])
    folder = next(iter(sorted(ranks.glob(f"*/attempt_0/{local_rank}"), reverse=True)), None)
    exception_text = _raised(folder / "error.json") if folder else None
    last_words = _answered(folder / "stderr.log") if folder else ""
    fallback = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    sentence = last_words or exception_text or fallback
    files = [folder / name for name in ("error.json", "stderr.log")] if folder else []
    times = [file.stat().st_mtime for file in files if file.exists()] or [time.time()]
    return Failure(local_rank, sentence, times[0], bool(_ECHO.search(sentence)))


def _answered(log: Path) -> str:
    """Return the engine's last error message."""
    messages = [line.removeprefix("giblet: ") for line in _tail(log).splitlines() if line.startswith("giblet: ")]
    return messages[-1].strip() if messages else ""


def _raised(file: Path) -> str:
    """Return the exception in torchrun's error file as one line."""
    try:
        message = json.loads(file.read_text(encoding="utf-8"))["message"]
        text = str(message["message"] if isinstance(message, dict) else message)
    except (OSError, ValueError, KeyError):
        return ""
    return text.strip().splitlines()[0][:400] if text.strip() else ""


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
