"""A training process on the synthetic study: what tests start, kill and start again."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from giblet_train.contract.errors import GibletError
from giblet_train.trainer import train_recorded
from tests.engine_study import load

if __name__ == "__main__":
    try:
        sys.exit(train_recorded(Path(sys.argv[1]), load))
    except GibletError as error:
        print(error, file=sys.stderr)
        os._exit(error.exit_code)
