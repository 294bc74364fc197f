"""A training process on the synthetic study: what tests start, kill and start again.

GIBLET_LEAVE_AT: the step, from 0, in which the last of its processes is told to terminate.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from giblet_train.schema.errors import GibletError
from giblet_train.training.process import train_with_error_file
from tests.engine_study import load


def arm(training):
    """Terminate at a step, as if by a signal that comes just then."""
    take, leave_at = training.learner.step, int(os.environ.get("GIBLET_LEAVE_AT", "-1"))

    def step(number, wishes):
        if number == leave_at and training.ranks.rank == training.ranks.world_size - 1:
            wishes = {**wishes, "terminate": True}
        return take(number, wishes)

    training.learner.step = step


if __name__ == "__main__":
    try:
        sys.exit(train_with_error_file(Path(sys.argv[1]), load, arm))
    except GibletError as error:
        print(error, file=sys.stderr)
        os._exit(error.exit_code)
