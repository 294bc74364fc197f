"""Where giblet is typed in tests: its command line as a person runs it, with settings of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fork_server import giblet_server

GIBLET = Path(sys.executable).with_name("giblet")
SMALL_CONFIG = """\
extends: demo
name: small
num_epochs: 400
warmup_epochs: 1
steps_per_epoch: 6
threads: 1
data: {simulate: tiny, data_dir: studies/tiny, scan_lengths_trs: null}
split: {usable_trs: null, gap_trs: 4}
criteria: {}
"""


class Laptop:
    """Where giblet is typed: its own settings, and the cluster's ssh config in place of the user's."""

    def __init__(self, folder: Path, ssh_config: Path) -> None:
        self.folder = folder
        names = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "GIBLET_HOME": "local", "HOME": "home"}
        own = {k: v for k, v in os.environ.items() if not k.startswith(("GIBLET_", "TMUX", "SSH_"))}
        self.environment = own | {k: str(folder / v) for k, v in names.items()} | {"GIBLET_SSH_CONFIG": str(ssh_config)}
        (folder / "small.yaml").write_text(SMALL_CONFIG)

    def giblet(self, *words: str, limit_s: float = 240.0) -> subprocess.CompletedProcess[str]:
        return giblet_server().run(words, self.environment, self.folder, limit_s)

    def name_nodes(self, text: str) -> None:
        path = self.folder / "config" / "giblet" / "nodes.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, run_id: str) -> dict[str, Any]:
        result = self.giblet("ps", "-a", "--json")
        assert result.returncode == 0, result.stderr
        return next(run for run in json.loads(result.stdout)["runs"] if run["run_id"] == run_id)
