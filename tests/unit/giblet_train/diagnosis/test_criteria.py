"""Each success criterion, waiting, under way, reached and missed, with its arithmetic in words."""

import re
from typing import Any

import msgspec
import pytest

from giblet_train.diagnosis.criteria import FailOn, hopeless_criterion, reaches_level, verdict_changes, verdict_of
from giblet_train.diagnosis.criterion_verdict import CriterionVerdict
from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.schema.config import Config, Criterion
from giblet_train.schema.health import Health
from giblet_train.schema.records import (
    AnyMetric,
    EpochMetric,
    EvaluationMetric,
    EventMetric,
    RunMetric,
    SplitLoss,
    StepMetric,
)

EPOCHS, STEPS = 20, 10
FAIL_ON: tuple[FailOn, ...] = ("fail", "at_risk", "on_track")


def run_record(**facts: Any) -> RunMetric:
    total = EPOCHS * STEPS
    first = {"seq": 0, "step": 0, "epoch": 1, "at": 0.0, "start_total": 2.0}
    return RunMetric(steps_per_epoch=STEPS, total_steps=total, warmup_steps=10, **{**first, **facts})


def epoch(
    number: int, train: float | None, validation: float | None = None, *, best: bool = False, **skill: float
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


def evaluation(skill: dict[str, float | None] | None = None, **encoding: float) -> EvaluationMetric:
    facts: dict[str, Any] = {"encoding": dict(encoding), "decoding": {}, "skill": dict(skill or {})}
    return EvaluationMetric(seq=999, step=200, epoch=20, at=0, folds=(0,), **facts)


def judge(criterion: Criterion, metrics: list[AnyMetric], health: Health | None = None) -> CriterionVerdict:
    config = Config(name="x", num_epochs=EPOCHS, criteria={"it": criterion})
    verdict = verdict_of(config, metrics, health)
    assert [c.name for c in verdict.criteria] == ["completed", "it"]
    return verdict.criteria[1]


def completion(metrics: list[AnyMetric], health: Health | None = None, **config: Any) -> CriterionVerdict:
    return verdict_of(Config(name="x", **{"num_epochs": EPOCHS, **config}), metrics, health).criteria[0]


FINISHED = Health(state="finished", sentence="finished all its steps")
STOPPED = Health(state="stopped", sentence="stopped on request")
CRASHED = Health(state="failed", sentence="ended with code 1", reason="exit")
DROP = Criterion(kind="loss_drop", threshold=0.5)
RUN = run_record()


def falling(per_epoch: float, n: int) -> list[AnyMetric]:
    return [RUN, *(epoch(i, 2.0 * (1 - per_epoch * i)) for i in range(1, n + 1))]


def early_stop(after_epoch: int) -> EventMetric:
    return EventMetric(
        seq=999,
        step=after_epoch * STEPS,
        epoch=after_epoch,
        at=0,
        name="early_stop",
        level="warning",
        sentence="Early.",
    )


def test_a_decrease_fast_enough_is_on_track_and_states_its_rate() -> None:
    verdict = judge(DROP, falling(0.04, 5))
    assert (verdict.status, verdict.seen) == ("on_track", pytest.approx(0.2))
    assert "needs -2% per epoch, now -4% per epoch" in verdict.sentence
    assert "at its fastest rate so far it needs 8 more epochs of the 15 left" in verdict.sentence
    assert verdict.deadline_epoch == 12
    assert (verdict.pace_needed, verdict.pace_seen) == (pytest.approx(0.02), pytest.approx(0.04))


def test_a_decrease_too_slow_is_at_risk_and_fails_at_the_end() -> None:
    verdict = judge(DROP, falling(0.001, 10))
    assert verdict.status == "at_risk"
    assert "it would need 490 more epochs of the 10 left" in verdict.sentence and verdict.deadline_epoch == 0
    assert judge(DROP, falling(0.001, 20), FINISHED).status == "fail"


@pytest.mark.parametrize(
    ("per_epoch", "n_epochs", "hopeless"),
    [(0.001, 7, False), (0.001, 8, True), (0.04, 12, False), (0.0, 8, True), (0.0, 7, False), (-0.01, 8, True)],
)
def test_a_run_is_hopeless_when_even_its_best_rate_is_too_slow_after_a_third(
    per_epoch: float, n_epochs: int, hopeless: bool
) -> None:
    """With 1 epoch of warm-up and 20 in all, nothing is decided before epoch 8."""
    config = Config(name="t", num_epochs=EPOCHS, warmup_epochs=1, criteria={"drop": DROP})
    verdict = verdict_of(config, falling(per_epoch, n_epochs))
    assert (hopeless_criterion(config, verdict) is not None) == hopeless


def test_what_is_decided_is_hopeless_at_once() -> None:
    config = Config(name="t", num_epochs=EPOCHS, criteria={"finite": Criterion(kind="no_nan", threshold=0.0)})
    verdict = verdict_of(config, [RUN, step(0, total=None), epoch(1, None)])
    criterion = hopeless_criterion(config, verdict)
    assert criterion is not None and criterion.name == "finite"


def test_what_is_too_bad_is_ones_own_choice() -> None:
    worse = [[reaches_level(status, limit) for status in ("fail", "at_risk", "on_track", "pass")] for limit in FAIL_ON]
    assert worse == [[True, False, False, False], [True, True, False, False], [True, True, True, False]]


def test_a_criterion_over_all_epochs_does_not_pass_before_the_last() -> None:
    reached = judge(DROP, falling(0.1, 5))
    assert reached.status == "on_track" and "reached, and judged at epoch 20" in reached.sentence
    for health in (STOPPED, CRASHED):
        ended = judge(DROP, falling(0.1, 5), health)
        assert ended.status == "fail" and "this must hold at epoch 20, and the run ended at epoch 5" in ended.sentence
    assert judge(DROP, [*falling(0.1, 5), early_stop(5)], FINISHED).status == "pass"


def test_the_labs_own_flat_run_is_at_risk_from_its_second_epoch() -> None:
    flat: list[AnyMetric] = [run_record(start_total=275959.0), epoch(1, 275958.9), epoch(2, 275950.0)]
    verdict = judge(DROP, flat)
    assert verdict.status == "at_risk"
    assert "275,959.0 (best constant) → 275,950.0" in verdict.sentence


def test_a_drop_of_what_can_be_explained_waits_for_the_evaluation() -> None:
    criterion = Criterion(kind="loss_drop", threshold=0.5, scale="explainable", split="held-out")
    assert judge(criterion, falling(0.001, 10)).seen is None
    assert judge(criterion, [RUN, evaluation(explainable_skill=0.6)]).status == "pass"
    assert judge(criterion, [RUN, evaluation(explainable_skill=0.4)]).status == "fail"


@pytest.mark.parametrize(("epochs", "threshold"), [(20, 0.10), (20, 0.20), (50, 0.50)], ids=("1a", "1b", "2"))
@pytest.mark.parametrize(
    ("excess", "status"), [(-1e-4, "fail"), (0.0, "pass"), (1e-4, "pass")], ids=("below", "at", "above")
)
def test_the_decrease_of_each_phase_at_its_boundary(epochs: int, threshold: float, excess: float, status: str) -> None:
    drop = threshold + excess
    metrics = [RUN, *(epoch(i, 2.0 * (1 - drop * i / epochs)) for i in range(1, epochs + 1))]
    config = Config(name="x", num_epochs=epochs, criteria={"it": Criterion(kind="loss_drop", threshold=threshold)})
    verdict = verdict_of(config, metrics, FINISHED)
    assert verdict.status == status
    if excess:  # the sentence shows enough digits to see why
        decrease, needed = re.findall(
            r"(-[0-9.]+)% of the best constant, .*needs (-[0-9.]+)%", verdict.criteria[1].sentence
        )[0]
        assert (float(decrease) > float(needed)) == (excess < 0)


@pytest.mark.parametrize(("ratio", "status"), [(1.999, "pass"), (2.0, "fail"), (2.001, "fail")])
@pytest.mark.parametrize("place", ["best", "last third"])
def test_the_gap_of_phases_2_and_3_at_its_boundary(ratio: float, status: str, place: str) -> None:
    def held_out(number: int) -> float:
        here = number == 6 if place == "best" else number > 6
        return ratio if here else 1.2

    metrics = [RUN, *(epoch(i, 1.0, held_out(i), best=i == 6) for i in range(1, 21))]
    verdict = judge(Criterion(kind="val_gap", threshold=2.0), metrics, FINISHED)
    assert verdict.status == status, verdict.sentence
    assert ("2.001×" in verdict.sentence) == (ratio == 2.001)


@pytest.mark.parametrize(("share", "status"), [(0.899, "pass"), (0.9, "pass"), (0.901, "fail")])
def test_the_dominance_of_phases_2_and_3_at_its_boundary(share: float, status: str) -> None:
    metrics: list[AnyMetric] = [RUN, *(step(i, share=share, gradient=0.97) for i in range(10, 200))]
    verdict = judge(Criterion(kind="no_dominance", threshold=0.9), metrics, FINISHED)
    assert verdict.status == status and "97% of the gradient" in verdict.sentence


@pytest.mark.parametrize(("best", "status"), [(0.9999, "pass"), (1.0, "fail"), (1.1, "fail")])
def test_the_validation_of_phase_3_at_its_boundary(best: float, status: str) -> None:
    metrics = [RUN, *(epoch(i, 1.0, 1.0 if i == 1 else best) for i in range(1, 21))]
    verdict = judge(Criterion(kind="validation_improves", threshold=0.0), metrics, FINISHED)
    assert verdict.status == status and "-0.0%" not in verdict.sentence
    assert "needs any decrease" in verdict.sentence


def test_missing_validation_fails_at_the_end_and_waits_before() -> None:
    for kind in ("val_gap", "validation_improves"):
        criterion = Criterion(kind=kind, threshold=0.5)  # type: ignore[arg-type]
        assert judge(criterion, falling(0.03, 5)).status == "on_track"
        assert judge(criterion, falling(0.03, 20), FINISHED).status == "fail"


def test_a_ridge_start_that_learns_nothing_does_not_pass() -> None:
    ridge_steps = [step(i, total=1.7) for i in range(12)]
    criterion = Criterion(kind="loss_drop", threshold=0.1)
    for last in (1.7, 1.695, 1.75):
        run = [RUN, *ridge_steps, *(epoch(i, 1.7 if i < 20 else last) for i in range(1, 21))]
        verdict = judge(criterion, run, FINISHED)
        assert verdict.status == "fail" and "nothing was learnt beyond the initialisation" in verdict.sentence
    metrics = [RUN, *ridge_steps, *(epoch(i, 1.7 - 0.01 * i) for i in range(1, 21))]
    verdict = judge(criterion, metrics, FINISHED)
    assert verdict.status == "pass"
    assert "2 (best constant) → 1.5: -25% of the best constant, -11.2% from its own first epoch" in verdict.sentence


def test_a_run_that_learns_everything_in_its_first_epoch_passes() -> None:
    steps = [step(i, total=2.0 - 0.07 * i) for i in range(10)]
    run = [RUN, *steps, *(epoch(i, 1.3) for i in range(1, 21))]
    assert judge(Criterion(kind="loss_drop", threshold=0.1), run, FINISHED).status == "pass"


def test_completion_needs_all_epochs_a_normal_end_and_finite_losses() -> None:
    whole = falling(0.03, 20)
    assert completion(whole, FINISHED).status == "pass"
    assert completion(falling(0.03, 19), FINISHED).status == "fail"
    assert "3 of 20 epochs; stopped: stopped on request" in completion(falling(0.03, 3), STOPPED).sentence
    assert "4 of 20 epochs; failed: ended with code 1" in completion(falling(0.03, 4), CRASHED).sentence
    assert completion(whole, CRASHED).status == "fail"
    assert completion(falling(0.03, 5)).status == "on_track"
    early = completion([*falling(0.03, 12), early_stop(12)], FINISHED)
    assert early.status == "pass" and "12 of 20 epochs, then early stopping" in early.sentence
    resumed_after_early_stop = [*falling(0.03, 12), early_stop(8)]
    assert completion(resumed_after_early_stop, FINISHED).status == "fail"


def test_a_loss_that_is_not_finite_after_the_best_epoch_is_not_completed() -> None:
    late: list[AnyMetric] = [*falling(0.03, 15), *(epoch(i, None) for i in range(16, 21))]
    verdict = completion(late, FINISHED)
    assert verdict.status == "fail" and "not finite from epoch 16 on, after the best epoch" in verdict.sentence
    assert judge(Criterion(kind="loss_drop", threshold=0.1), late, FINISHED).status == "fail"
    assert completion([RUN, *falling(0.03, 20)[1:], step(155, total=None)]).status == "on_track"  # epoch 20 was better
    recovered: list[AnyMetric] = [RUN, step(35, total=None), *falling(0.03, 20)[1:]]
    assert completion(recovered, FINISHED).status == "pass"
    assert completion([*falling(0.03, 5), step(55, total=None)]).status == "at_risk"


def test_the_word_is_not_yet_before_the_first_epoch_and_no_news_without_contact() -> None:
    config = Config(name="x", num_epochs=EPOCHS, criteria={"it": DROP})
    training = Health(state="running", sentence="training")
    words = [
        verdict_of(config, metrics, training).word_for(Health(state=state, sentence=""))
        for metrics in ([RUN], falling(0.04, 5), falling(0.001, 5))
        for state in ("running", "stalled", "unknown")
    ]
    assert words == ["NOT YET", "NO NEWS", "NO NEWS", "ON TRACK", "NO NEWS", "NO NEWS", "AT RISK", "AT RISK", "AT RISK"]


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
        ("no_dominance", 0.9, [RUN, step(30, share=0.99, gradient=0.99)], "at_risk", "audio is 99%"),
        ("no_dominance", 0.9, [RUN, step(30, share=0.99, gradient=0.3)], "on_track", "loss and 30% of the gradient"),
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
        ("beats_null", 0.05, [RUN, evaluation(**BELOW_NULL, null_stretches=0.0)], "fail", "from circular shifts"),
        ("reconstruction_skill", 0.0, [RUN, evaluation(SKILL)], "on_track", "text +0.01"),
        ("reconstruction_skill", 0.0, [RUN, evaluation({**SKILL, "text": 0.0})], "at_risk", "needs > 0"),
        ("reconstruction_skill", 0.0, [RUN, evaluation({"video": 0.2})], "on_track", "skill of audio, text is"),
        ("beats_mean", 0.0, [RUN, epoch(1, 1, 1, fmri=-0.1, **SKILL)], "at_risk", "fmri -0.1,"),
        ("validation_improves", 0.0, [RUN, epoch(1, 1, 1.0), epoch(2, 1, 0.9)], "on_track", "-10%"),
        ("validation_improves", 0.0, [RUN, epoch(1, 1, 1.0), epoch(2, 1, 1.1)], "at_risk", "no decrease"),
        ("no_nan", 0.0, [RUN, step(1)], "on_track", "finite"),
        ("no_nan", 0.0, [RUN, step(1), step(2, total=None, audio=None)], "fail", "audio is not finite at step 2"),
    ],
)  # fmt: skip
def test_every_kind_under_way(kind: Any, threshold: float, metrics: list[AnyMetric], status: str, words: str) -> None:
    verdict = judge(Criterion(kind=kind, threshold=threshold), metrics)
    assert (verdict.status, words in verdict.sentence) == (status, True), verdict


@pytest.mark.parametrize("kind", ["reconstruction_skill", "beats_mean"])
def test_a_study_without_text_is_judged_by_what_it_has(kind: Any) -> None:
    trained = step(200, video=1.0, audio=1.0)
    metrics = [RUN, trained, evaluation({"fmri": 0.1, "video": 0.2, "audio": 0.1})]
    verdict = judge(Criterion(kind=kind, threshold=0.0), metrics, FINISHED)
    assert verdict.status == "pass" and "text" not in verdict.sentence
    unknown = judge(
        Criterion(kind=kind, threshold=0.0), [RUN, trained, evaluation({"fmri": 0.1, "video": 0.2})], FINISHED
    )
    assert (unknown.status, "no held-out skill of audio" in unknown.sentence) == ("fail", True)


def test_a_run_that_reconstructs_nothing_fails_its_criterion_with_the_reason() -> None:
    metrics = [RUN, step(200), evaluation({"fmri": 0.1})]
    verdict = judge(Criterion(kind="reconstruction_skill", threshold=0.0), metrics, FINISHED)
    assert verdict.status == "fail" and "no feature space is reconstructed" in verdict.sentence


def test_the_whole_is_as_good_as_its_worst() -> None:
    criteria = {"a": DROP, "b": Criterion(kind="lr_reaches_peak", threshold=0.9)}
    config = Config(name="x", num_epochs=EPOCHS, criteria=criteria)
    metrics: list[AnyMetric] = [RUN, step(20), *falling(0.001, 10)[1:]]
    verdict = verdict_of(config, metrics)
    assert [c.status for c in verdict.criteria] == ["on_track", "at_risk", "pass"]
    assert verdict.word == "AT RISK"


def test_every_kind_of_criterion_has_a_judge() -> None:
    kinds = Criterion.__annotations__["kind"]
    config = Config(name="x")
    for kind in [k.strip("'\" ") for k in str(kinds).removeprefix("Literal[").rstrip("]").split(",") if k.strip()]:
        verdict = judge(Criterion(kind=kind, threshold=0.5), [RUN], FINISHED)  # type: ignore[arg-type]
        assert verdict.status in ("pass", "fail"), kind
    assert verdict_of(config, []).status == "on_track"
    assert verdict_of(config, falling(0.03, 20), FINISHED).status == "pass"


@pytest.mark.parametrize("health", [None, FINISHED, STOPPED, CRASHED], ids=lambda h: h.state if h else "live")
@pytest.mark.parametrize("kind", ["val_gap", "loss_drop", "lr_reaches_peak", "validation_improves", "no_dominance"])
def test_why_reports_whatever_puts_a_criterion_at_risk(kind: Any, health: Health | None) -> None:
    wide_gap: list[AnyMetric] = [
        run_record(first_loss={"fmri": 1.0}),
        *(step(i, lr=1e-4, share=0.95, gradient=0.95, total=1.9) for i in range(10, 200)),
        *(epoch(i, 1.9, 1.9 * 2.7) for i in range(1, 21)),
    ]
    config = Config(name="x", num_epochs=EPOCHS, criteria={"it": Criterion(kind=kind, threshold=0.5)})
    verdict = verdict_of(config, wide_gap, health)
    assert verdict.status in ("at_risk", "fail")
    causes = {cause.cause: cause for cause in diagnose(config, wide_gap, health=health).causes}
    missed = causes["criterion_missed"]
    assert all(c.sentence in missed.sentence for c in verdict.criteria if c.status in ("at_risk", "fail"))
    assert missed.confidence <= 0.5 or (verdict.status == "fail" and len(causes) == 1)


def test_why_is_silent_about_criteria_that_are_met() -> None:
    config = Config(name="x", num_epochs=EPOCHS, criteria={"it": Criterion(kind="loss_drop", threshold=0.1)})
    steps = [step(i, lr=1e-3 * min(1.0, 0.1 + 0.09 * i), total=2.0 - 0.004 * i) for i in range(200)]
    config = msgspec.structs.replace(config, scheduler_type="none")
    assert diagnose(config, [RUN, *steps, *falling(0.02, 20)[1:]], health=FINISHED).healthy


def test_a_change_at_the_end_belongs_to_the_last_completed_epoch() -> None:
    config = Config(name="x", num_epochs=EPOCHS, criteria={"drop": Criterion(kind="loss_drop", threshold=0.1)})
    ended = EventMetric(seq=99, step=170, epoch=18, at=5.0, name="finished", level="info", sentence="Finished.")
    changes = verdict_changes(config, [*falling(0.02, 17), ended], FINISHED)
    assert len(changes) > 1 and max(change.epoch for change in changes) == 17 and changes[-1].at == 5.0
    assert [change.epoch for change in verdict_changes(config, [RUN])] == [0]
