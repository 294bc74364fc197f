"""The runs of an ensemble, launched together on one node: who they are, and where they would be in each other's way."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from giblet_train.schema import ensemble_configs
from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_tui.launch.plan import LaunchPlan, LaunchRequest


def member_requests(request: LaunchRequest, n_members: int, every_fold: bool) -> list[LaunchRequest]:
    """What a person asked for, once for each member; each waits in line for GPUs of its own.

    Raises ConfigError for folds without a number, and for GPUs by index, which all members would want at once.
    """
    if isinstance(request.gpus, tuple):
        raise ConfigError(
            f"--gpus {','.join(map(str, request.gpus))}: every member would want these.",
            "Say how many each member gets; one if --gpus is not given.",
        )
    config = request.config
    folds = ensemble_configs.all_folds(config) if every_fold else [config.split.fold]
    return [
        replace(request, config=each, when_free=True) for each in ensemble_configs.members(config, n_members, folds)
    ]


def check_capacity(planned: LaunchPlan, requests: Sequence[LaunchRequest]) -> None:
    """Raises PreflightRefused where the members would share the CPU: there nobody waits for anybody.

    planned: the first member's plan.
    """
    on_cpu = not planned.run.gpus and planned.run.awaits is None
    if on_cpu and len(requests) > 1 and not requests[0].force:
        raise PreflightRefused(
            f"{planned.run.node} would train {len(requests)} members on the CPU, all at once.",
            "One after another: python -m giblet_train ensemble RUN_DIR --seeds N, there. Or insist with --force.",
        )
