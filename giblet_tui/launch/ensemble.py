"""The runs of an ensemble that is launched on one node: which they are, and where they would share the CPU."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from giblet_train.schema import ensemble_configs
from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_tui.launch.plan import LaunchPlan
from giblet_tui.launch.request import LaunchRequest


def member_requests(request: LaunchRequest, n_members: int, every_fold: bool) -> list[LaunchRequest]:
    """Return one request per member; each waits on the node for GPUs of its own.

    Raises ConfigError for folds without a number, and for GPUs by index, which all members would want at once.
    """
    if isinstance(request.gpus, tuple):
        raise ConfigError(
            f"--gpus {','.join(map(str, request.gpus))} names GPUs that every member would need.",
            "Say how many each member gets; one if --gpus is not given.",
        )
    config = request.config
    folds = ensemble_configs.all_folds(config) if every_fold else [config.split.fold]
    members = ensemble_configs.members(config, n_members, folds)
    return [replace(request, config=member, when_free=True) for member in members]


def check_capacity(first_plan: LaunchPlan, requests: Sequence[LaunchRequest]) -> None:
    """Raise PreflightRefused if the members would all train on the CPU at once: only GPUs have a queue."""
    if first_plan.gpus is None and len(requests) > 1 and not requests[0].force:
        raise PreflightRefused(
            f"{first_plan.run.node} would train {len(requests)} members on the CPU, all at once.",
            "One after another: python -m giblet_train ensemble RUN_DIR --seeds N, there. Or insist with --force.",
        )
