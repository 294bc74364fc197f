"""Write metrics from any program so that giblet shows them live: copy this file, or import it.

    from giblet_train.log import log

    log(step, loss=loss.item(), lr=scheduler.get_last_lr()[0])
    log(step, epoch=epoch, train_loss=0.91, val_loss=1.02)

It needs nothing but Python 3.8.
"""

from __future__ import annotations

import json
import os

PATH = os.environ.get("GIBLET_LOG") or "giblet_log.jsonl"
"""A run that `giblet launch` started has a file of its own; any other program writes next to itself."""


def log(step: int, **values: float) -> None:
    """Append one line of metrics.

    Args:
        step: Optimizer step, or the number of the epoch if nothing else is counted.
        values: Named numbers, such as `loss`, `train_loss`, `val_loss`, `lr`, `epoch`. Tensors and NumPy numbers are
            accepted; nan and inf are written as such.
    """
    numbers = {name: value if isinstance(value, (int, float)) else float(value) for name, value in values.items()}
    line = json.dumps({"step": int(step), **numbers}) + "\n"
    descriptor = os.open(PATH, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        os.write(descriptor, line.encode("ascii"))  # in one piece, so that several processes do not mix their lines
    finally:
        os.close(descriptor)
