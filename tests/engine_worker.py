"""A training process on the synthetic study: what tests start, kill and start again.

GIBLET_LEAVE_AT: the step, from 0, in which the last of its processes is told to terminate.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from giblet_train.schema.errors import GibletError
from giblet_train.training.hooks import TrainerHook
from giblet_train.training.process import train_with_error_file
from tests.engine_study import load


class TerminateAtStep(TrainerHook):
    """Request termination on the last rank at a step, as if by a signal that arrives just then."""

    def on_start(self, trainer):
        """Remember whether this is the last rank."""
        self.is_last = trainer.ranks.rank == trainer.ranks.world_size - 1

    def stop_requests(self, step):
        """Return the request at the step."""
        return {"terminate": True} if self.is_last and step == int(os.environ.get("GIBLET_LEAVE_AT", "-1")) else {}


def main():
    """Train the run directory that the command line names."""
    try:
        sys.exit(train_with_error_file(Path(sys.argv[1]), load, TerminateAtStep()))
    except GibletError as error:
        print(error, file=sys.stderr)
        os._exit(error.exit_code)


if __name__ == "__main__":
    main()
