"""Command that checks which files of a study exist; a launch waits for it, so it imports little."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from giblet_train.cli.arguments import Workdir
from giblet_train.data.checks.presence import file_report
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.yaml_io import load_text


def files(workdir: Workdir = None) -> None:
    """Check that the files of the configuration on stdin exist. Prints a JSON object; reads no file."""
    config = from_mapping(load_text(sys.stdin.read(), "standard input"), "standard input").config
    print(json.dumps(file_report(config, (workdir or Path("~/giblet")).expanduser().absolute())))
