"""Options of `giblet launch NODE -- COMMAND`, on the command line and in the launch form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.launch_steps import build_request
from giblet_tui.launch.command import GRACE_S, build_command, command_config
from giblet_tui.launch.request import LaunchRequest


class CommandOptions(NamedTuple):
    """Values of these options."""

    name: str | None = None
    cwd: str | None = None
    untracked: bool = False
    push: tuple[Path, ...] = ()
    env: tuple[str, ...] = ()
    log: str | None = None

    def request(
        self, words: Sequence[str], gpus: str | None, common: Mapping[str, Any], *, packs: bool = True
    ) -> LaunchRequest:
        """Build the request for a command, with everything packed that is sent. Raises ConfigError, PreflightRefused.

        gpus: the value of --gpus; `0` is no GPU. common: the options that every launch has. packs: False
        leaves out the archive, for a request that is shown and not launched.
        """
        command = build_command(
            words,
            here=Path.cwd(),
            cwd=self.cwd,
            environment=self.env,
            push_paths=self.push,
            with_untracked=self.untracked,
            log=self.log or "",
            packs=packs,
        )
        uses_gpus = gpus != "0"
        config = command_config(command, self.name, uses_gpus=uses_gpus)
        request = build_request(config, gpus=gpus if uses_gpus else None, **common)
        return replace(request, command=command, grace_s=GRACE_S)

    def refuse(self) -> None:
        """Raise ConfigError if one of them was given, because there is no command."""
        for option, value in self._asdict().items():
            if value:
                raise ConfigError(
                    f"--{option} is for a command of your own, behind --.", "giblet launch NODE -- COMMAND"
                )
