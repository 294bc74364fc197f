"""Each success criterion, waiting, under way, reached and missed, with its arithmetic in words."""

from typing import Any

import pytest

from giblet_train.diagnosis.criteria import CriterionVerdict, FailOn, reaches_level, verdict_of
from giblet_train.schema.config import Config, Criterion
from giblet_train.schema.records import AnyMetric, EpochMetric, EvaluationMetric, RunMetric, SplitLoss, StepMetric

EPOCHS, STEPS = 20, 10
FAIL_ON: tuple[FailOn, ...] = ("fail", "at_risk", "on_track")


def run_record(**facts: Any) -> RunMetric:
    total = EPOCHS * STEPS
    first = {"seq": 0, "step": 0, "epoch": 1, "at": 0.0, "start_total": 2.0}
    return RunMetric(steps_per_epoch=STEPS, total_steps=total, warmup_steps=10, **{**first, **facts})


def epoch(
    number: int, train: float, validation: float | None = None, *, best: bool = False, **skill: float
) -> EpochMetric:
    return EpochMetric(
        seq=number,
        step=number * STEPS,
        epoch=number,
        at=0,
        lr=1e-3,
        train=SplitLoss(total=train, loss={}),
        validation=None if validation is None else SplitLoss(total=validation, loss={}, skill=dict(skill)),
        best=best,
    )


def step(
    number: int,
    lr: float = 1e-3,
    share: float = 0.25,
    gradient: float | None = 0.25,
    total: float | None = 1.0,
    **loss: float | None,
) -> StepMetric:
    rest = (1 - share) / 3
    shares: dict[str, float | None] = {"fmri": rest, "video": rest, "audio": share, "text": rest}
    return StepMetric(
        seq=number,
        step=number,
        epoch=number // STEPS + 1,
        at=0,
        lr=lr,
        total=total,
        loss={"fmri": 1.0, **loss},
        weight={},
        share=shares,
        gradient_share=None if gradient is None else {**shares, "audio": gradient},
    )


def evaluation(skill: dict[str, float] | None = None, **encoding: float) -> EvaluationMetric:
    facts: dict[str, Any] = {"encoding": dict(encoding), "decoding": {}, "skill": dict(skill or {})}
    return EvaluationMetric(seq=999, step=200, epoch=20, at=0, folds=(0,), **facts)


def judge(criterion: Criterion, metrics: list[AnyMetric], *, ended: bool = False) -> CriterionVerdict:
    config = Config(name="x", num_epochs=EPOCHS, criteria={"it": criterion})
    verdict = verdict_of(config, metrics, ended=ended)
    assert verdict.status == verdict.criteria[0].status
    return verdict.criteria[0]


DROP = Criterion(kind="loss_drop", threshold=0.5)
RUN = run_record()


def falling(per_epoch: float, n: int) -> list[AnyMetric]:
    return [RUN, *(epoch(i, 2.0 * (1 - per_epoch * i)) for i in range(1, n + 1))]


def test_a_fall_fast_enough_is_on_track_and_says_its_pace() -> None:
    found = judge(DROP, falling(0.04, 5))
    assert (found.status, found.seen) == ("on_track", pytest.approx(0.2))
    assert "needs -2.00%/epoch, doing -4.00%" in found.sentence
    assert found.deadline_epoch == 12 and "at its best pace it can wait until epoch 12" in found.sentence
    assert (found.pace_needed, found.pace_seen) == (pytest.approx(0.02), pytest.approx(0.04))


def test_a_fall_too_slow_is_at_risk_and_fails_at_the_end() -> None:
    found = judge(DROP, falling(0.001, 10))
    assert found.status == "at_risk"
    assert found.deadline_epoch == 0 and "not even its best pace so far" in found.sentence
    assert judge(DROP, falling(0.001, 20), ended=True).status == "fail"


def test_what_is_too_bad_is_ones_own_choice() -> None:
    worse = [[reaches_level(status, limit) for status in ("fail", "at_risk", "on_track", "pass")] for limit in FAIL_ON]
    assert worse == [[True, False, False, False], [True, True, False, False], [True, True, True, False]]


def test_a_fall_that_is_reached_passes_at_once() -> None:
    assert judge(DROP, falling(0.1, 5)).status == "pass"


def test_the_labs_own_flat_run_is_at_risk_from_its_second_epoch() -> None:
    flat: list[AnyMetric] = [run_record(start_total=275959.0), epoch(1, 275958.9), epoch(2, 275950.0)]
    found = judge(DROP, flat)
    assert found.status == "at_risk"
    assert "275,959.0 → 275,950.0" in found.sentence


def test_a_drop_of_what_can_be_explained_waits_for_the_evaluation() -> None:
    criterion = Criterion(kind="loss_drop", threshold=0.5, scale="explainable", split="held-out")
    assert judge(criterion, falling(0.001, 10)).seen is None
    assert judge(criterion, [RUN, evaluation(explainable_skill=0.6)]).status == "pass"
    assert judge(criterion, [RUN, evaluation(explainable_skill=0.4)]).status == "fail"


SKILL = {"video": 0.2, "audio": 0.1, "text": 0.01}
BELOW_NULL = {"r_difference": 0.1, "r_difference_low": 0.01, "r_responsive": 0.1, "null_r_99": 0.2}


@pytest.mark.parametrize(
    ("kind", "threshold", "metrics", "status", "words"),
    [
        ("val_gap", 2.0, [RUN], "on_track", "no validation yet"),
        ("val_gap", 2.0, [RUN, epoch(1, 1.0, 1.5)], "on_track", "1.50× training"),
        ("val_gap", 2.0, [RUN, epoch(1, 1.0, 1.5, best=True), epoch(2, 0.5, 1.6)], "on_track", "at epoch 1"),
        ("val_gap", 2.0, [RUN, epoch(1, 0.5, 1.5)], "at_risk", "3.00× training"),
        ("no_dominance", 0.9, [RUN, step(5, share=0.99, gradient=0.99)], "on_track", "from the end of warm-up"),
        ("no_dominance", 0.9, [RUN, step(30, share=0.99, gradient=0.99)], "at_risk", "audio holds 99%"),
        ("no_dominance", 0.9, [RUN, step(30, share=0.99, gradient=0.3)], "on_track", "audio holds 30%"),
        ("no_dominance", 0.9, [RUN, step(30, share=0.99, gradient=None)], "on_track", "measured from"),
        ("starts_at_one", 0.1, [run_record(first_loss={"fmri": 1.02, "audio": 0.99})], "pass", "fmri starts at 1.02"),
        ("starts_at_one", 0.1, [run_record(first_loss={"audio": 169162.0})], "fail", "audio starts at 1.692e+05"),
        ("lr_reaches_peak", 0.9, [RUN, step(3, lr=2e-4)], "on_track", "reached 20%"),
        ("lr_reaches_peak", 0.9, [RUN, step(25, lr=1e-4)], "at_risk", "warm-up was to end at step 10"),
        ("lr_reaches_peak", 0.9, [RUN, step(20, lr=1e-3)], "pass", "reached 100%"),
        ("beats_null", 0.05, [RUN, epoch(1, 1.0)], "on_track", "judged at the end"),
        ("beats_null", 0.05, [RUN, evaluation(r_difference=0.1, r_difference_low=0.05, r_difference_high=0.15)], "pass",
         "0.100 [0.050, 0.150]"),
        ("beats_null", 0.05, [RUN, evaluation(r_difference=0.1, r_difference_low=-0.01)], "fail", "above 0"),
        ("beats_null", 0.05, [RUN, evaluation(**BELOW_NULL)],
         "fail", "99th percentile"),
        ("reconstruction_skill", 0.0, [RUN, evaluation(SKILL)], "pass", "text +0.01"),
        ("reconstruction_skill", 0.0, [RUN, evaluation({**SKILL, "text": 0.0})], "fail", "needs > 0"),
        ("reconstruction_skill", 0.0, [RUN, evaluation({"video": 0.2})], "fail", "before it could be judged"),
        ("beats_mean", 0.0, [RUN, epoch(1, 1, 1, fmri=-0.1, **SKILL)], "at_risk", "fmri -0.1,"),
        ("validation_improves", 0.0, [RUN, epoch(1, 1, 1.0), epoch(2, 1, 0.9)], "on_track", "-10.0%"),
        ("validation_improves", 0.0, [RUN, epoch(1, 1, 1.0), epoch(2, 1, 1.1)], "at_risk", "at epoch 1"),
        ("no_nan", 0.0, [RUN, step(1)], "on_track", "finite"),
        ("no_nan", 0.0, [RUN, step(1), step(2, total=None, audio=None)], "fail", "audio is not finite at step 2"),
    ],
)  # fmt: skip
def test_every_kind_under_way(kind: Any, threshold: float, metrics: list[AnyMetric], status: str, words: str) -> None:
    found = judge(Criterion(kind=kind, threshold=threshold), metrics)
    assert (found.status, words in found.sentence) == (status, True), found


def test_the_whole_is_as_good_as_its_worst() -> None:
    criteria = {"a": DROP, "b": Criterion(kind="lr_reaches_peak", threshold=0.9)}
    config = Config(name="x", num_epochs=EPOCHS, criteria=criteria)
    metrics: list[AnyMetric] = [RUN, step(20), *falling(0.001, 10)[1:]]
    verdict = verdict_of(config, metrics)
    assert [c.status for c in verdict.criteria] == ["at_risk", "pass"]
    assert verdict.word == "AT RISK"


def test_every_kind_of_criterion_has_a_judge() -> None:
    kinds = Criterion.__annotations__["kind"]
    config = Config(name="x")
    for kind in [k.strip("'\" ") for k in str(kinds).removeprefix("Literal[").rstrip("]").split(",") if k.strip()]:
        found = judge(Criterion(kind=kind, threshold=0.5), [RUN], ended=True)  # type: ignore[arg-type]
        assert found.status in ("pass", "fail"), kind
    assert verdict_of(config, []).status == "on_track"
    assert verdict_of(config, [], ended=True).status == "pass"
