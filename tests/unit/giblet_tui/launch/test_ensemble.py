"""Who the members of an ensemble are when they are launched together, and where that is refused."""

from __future__ import annotations

import pytest

from giblet_train.schema.config import Config, SplitConfig, content_hash
from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_tui.launch.ensemble import check_capacity, member_requests
from giblet_tui.launch.request import LaunchRequest
from tests.unit.giblet_tui.launch.test_plan import facts, gpu, plan_for

CONFIG = Config(name="demo", seed=7, split=SplitConfig(n_folds=3, fold=1, validation_block=2), resume_from="x")


def request(**changes: object) -> LaunchRequest:
    return LaunchRequest(config=CONFIG, launched_by="x@y", **changes)


def own(members: list[LaunchRequest]) -> list[tuple[int, int, int]]:
    return [(m.config.split.fold, m.config.seed, m.config.split.validation_block) for m in members]


def test_each_member_has_the_next_seed_and_validation_block_and_queues() -> None:
    members = member_requests(request(gpus=2, note="five"), 3, every_fold=False)
    assert own(members) == [(1, 7, 2), (1, 8, 3), (1, 9, 4)]
    assert all(m.when_free and m.gpus == 2 and m.note == "five" and m.config.resume_from is None for m in members)
    assert len({content_hash(m.config) for m in members}) == 3


def test_every_fold_gets_as_many() -> None:
    members = member_requests(request(), 2, every_fold=True)
    assert own(members) == [(fold, seed, seed - 5) for fold in range(3) for seed in (7, 8)]
    scans = LaunchRequest(config=Config(name="demo", split=SplitConfig(kind="scans")), launched_by="x@y")
    with pytest.raises(ConfigError, match="counts blocks"):
        member_requests(scans, 2, every_fold=True)


def test_gpus_by_index_are_refused_as_all_would_want_them() -> None:
    with pytest.raises(ConfigError, match="--gpus 0,1 names GPUs that every member would need"):
        member_requests(request(gpus=(0, 1)), 2, every_fold=False)


def test_a_crowd_on_the_cpu_is_refused_and_one_that_queues_for_gpus_is_not() -> None:
    def planned(member_request: LaunchRequest, n_gpus: int) -> None:
        check_capacity(plan_for(member_request, facts(*map(gpu, range(n_gpus)))), [member_request, member_request])

    with pytest.raises(PreflightRefused, match="tensor01 would train 2 members on the CPU, all at once"):
        planned(request(), 0)
    planned(request(force=True), 0)
    (member_request,) = member_requests(request(), 1, every_fold=False)
    planned(member_request, 1)
