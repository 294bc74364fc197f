"""What a person asks for when they launch a run, and which options exclude one another. Pure."""

from __future__ import annotations

import msgspec

from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import Promotion, SweepCell
from giblet_tui.agent.sessions import starts_later
from giblet_tui.inventory.nodes import Multiplexer
from giblet_tui.launch.command import CommandRequest


class LaunchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be launched, as a person asked for it."""

    config: Config
    """The plan of the training; for a command only its name and its device count."""
    launched_by: str
    command: CommandRequest | None = None
    """A program of the user's to run in place of giblet's trainer."""
    gpus: int | tuple[int, ...] | None = None
    """How many GPUs of each node, or which by index; None: as many as the configuration has processes."""
    session: Multiplexer | None = None
    """What the run lives in; None: what the node prefers."""
    note: str = ""
    grace_s: float = 120.0
    """How long the run may take to save when it is stopped."""
    promotion: Promotion | None = None
    drill: str = ""
    """A fault to inject into the run; empty for an ordinary run."""
    again: bool = False
    """Start even if this configuration is already running on the node."""
    force: bool = False
    """Start even if a GPU is in use or a logout would kill the run."""
    when_free: bool = False
    """Wait on the node until GPUs are free."""
    replace: bool = False
    """Stop the node's live runs of the same name once everything else has been checked."""
    sbatch: tuple[str, ...] = ()
    """Options of the Slurm job, `partition=gpu`, if the session is one."""
    sweep: SweepCell | None = None
    """The sweep that the run belongs to."""

    @property
    def is_job(self) -> bool:
        """Return True if a scheduler chooses machine, time and GPUs."""
        return self.session is not None and starts_later(self.session)

    @property
    def use_the_cpu(self) -> str:
        """Return what to type to train on the CPU."""
        return "--set device=cpu" if self.command is None else "--gpus 0"


class LaunchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one launch that exclude one another."""

    nodes: tuple[str, ...]
    when_free: bool = False
    replace: bool = False
    resume: bool = False
    follow: bool = False
    ensemble: bool = False
    """Several runs: members, folds, or both."""
    command: bool = False
    """A command of the user's in place of a configuration."""
    sweep: bool = False
    """A run for each combination of a grid's values."""


def check_options(options: LaunchOptions) -> None:
    """Raise ConfigError if two options exclude one another."""
    several_nodes = len(options.nodes) > 1
    if options.command and (several_nodes or options.resume or options.ensemble):
        raise ConfigError(
            "A command of your own is one run on one node; giblet cannot resume it or change its seed.",
            "Leave out --resume, --ensemble, --all-folds and more nodes.",
        )
    if options.ensemble and (several_nodes or options.replace or options.resume or options.follow):
        raise ConfigError(
            "An ensemble is several new runs on one node.", "Leave out --replace, --resume, --follow and more nodes."
        )
    if options.sweep and (several_nodes or options.replace or options.resume or options.follow or options.ensemble):
        raise ConfigError(
            "A sweep is several new runs on one node.",
            "Leave out --replace, --resume, --follow, --ensemble, --all-folds and more nodes.",
        )
    if several_nodes and options.when_free:
        raise ConfigError(
            "--when-free works on one node only: of several, those with free GPUs would hold them idle.",
            f"See what is free (giblet doctor {options.nodes[0]}), and launch on all once there is enough.",
        )
    if several_nodes and options.replace:
        raise ConfigError(
            "--replace works on one node only: no node can check and stop for all of them.",
            "giblet stop RUN, then launch.",
        )


def parse_gpus(text: str | None) -> int | tuple[int, ...] | None:
    """Parse the value of --gpus: a number, or indices separated by commas. Raises ConfigError."""
    if text is None:
        return None
    try:
        if "," in text:
            return tuple(int(part) for part in text.split(",") if part.strip())
        n_gpus = int(text)
    except ValueError:
        n_gpus = 0
    if n_gpus < 1:
        raise ConfigError(
            f"--gpus {text} is neither a number of GPUs nor a list of them.", "For example: --gpus 6, or --gpus 0,1,2"
        )
    return n_gpus
