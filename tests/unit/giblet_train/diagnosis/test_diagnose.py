"""Rules that name what is wrong: the collection's tuning half, the lab's own run, and what must never be accused."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
from msgspec.structs import replace

from benchmarks.why import accused_early, delay_of, first_cause, is_right, whole
from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import parse
from giblet_train.diagnosis.rules.case import Finding, RunHistory, case_of
from giblet_train.diagnosis.rules.registry import RULES, Group
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.health import Health
from giblet_train.schema.records import (
    AgreementFact,
    AlignmentFacts,
    AnyMetric,
    DataMetric,
    EpochMetric,
    EvaluationMetric,
    EventMetric,
    LagFact,
    RunMetric,
    StepMetric,
)
from tests.collection import Case, collection
from tests.collection.faults import brain_unexplained, flat, overfit, play, steps_of
from tests.collection.healthy import draw, healthy_run

DIED = Health(state="failed", sentence="ended with code 1", reason="exit")


@pytest.fixture(scope="module")
def tuning() -> list[Case]:
    return list(collection("tuning", 2))


def test_the_first_cause_is_the_true_one_nearly_always(tuning: list[Case]) -> None:
    wrong = [(case.name, first_cause(whole(case))) for case in tuning if not is_right(case, whole(case))]
    assert len(wrong) <= 0.05 * len(tuning), wrong
    assert not [name for name, _ in wrong if "healthy" in name]


def test_no_look_at_a_healthy_run_accuses_it(tuning: list[Case]) -> None:
    looks = {case.name: accused_early(case) for case in [case for case in tuning if not case.cause][-6:]}
    assert not {name: causes for name, causes in looks.items() if causes}


@pytest.mark.parametrize(
    "family", ["stepped_per_epoch", "component_dominates", "diverging", "nan", "leak", "log-lab_flat"]
)
def test_a_fault_is_named_soon_after_it_began(tuning: list[Case], family: str) -> None:
    delays = [delay_of(case) for case in tuning if case.name.startswith(family)]
    limit = 5 if family.startswith("log") else 200
    assert delays and all(delay is not None and delay <= limit for delay in delays), delays


def test_every_finding_has_a_sentence_an_action_and_evidence(tuning: list[Case]) -> None:
    for case in tuning:
        for cause in whole(case).causes:
            assert cause.cause in RULES and 0 < cause.confidence <= 1
            assert cause.sentence.endswith(".") and cause.action.endswith(".") and cause.evidence


def test_rules_explain_only_known_causes_and_groups() -> None:
    names = set(RULES) | set(get_args(Group))
    assert all(rule.explains <= names and rule.group in names for rule in RULES.values())


def test_a_rule_that_raises_is_reported_and_hides_no_other_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(case: RunHistory) -> Finding | None:
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setitem(RULES, "nan", replace(RULES["nan"], evaluate=broken))
    diagnosis = diagnose(None, [], log_tail=["KeyError: 'sub-04'"])
    assert diagnosis.unevaluated == ("Rule nan could not be evaluated: ZeroDivisionError: float division by zero.",)
    assert [cause.cause for cause in diagnosis.causes] == ["crashed"]
    assert not diagnose(None, []).healthy


def test_nothing_known_is_nothing_wrong() -> None:
    assert diagnose(None, []).healthy
    assert diagnose(draw(0).config, []).healthy


def test_what_follows_from_a_cause_comes_after_it() -> None:
    curves = draw(4, losses__scale="none")
    curves.scale["audio"] = 133_000.0
    diagnosis = diagnose(curves.config, play(curves, epochs=8).metrics)
    assert diagnosis.causes[0].cause == "scale_mismatch"
    assert diagnosis.causes[0].evidence["component"] == "audio"
    names = {cause.cause: cause.confidence for cause in diagnosis.causes}
    assert names["component_dominates"] < 0.5 < names["scale_mismatch"]


def test_the_culprit_is_the_one_that_the_data_show() -> None:
    for component in ("fmri", "video", "audio", "text"):
        curves = draw(4, losses__scale="none")
        curves.scale[component] = 5000.0
        diagnosis = diagnose(curves.config, play(curves, epochs=2).metrics)
        assert diagnosis.causes[0].evidence["component"] == component


def test_an_early_stop_that_was_planned_is_no_fault() -> None:
    failing = overfit(6)
    patient = replace(failing.curves.config, early_stopping_patience=5)
    assert first_cause(diagnose(patient, failing.metrics))[0] == "overfit"
    last = failing.metrics[-1]
    stop = EventMetric(seq=last.seq + 1, step=last.step, epoch=last.epoch, at=last.at, name="early_stop", level="info",
                       sentence="No better validation for 5 of them.")  # fmt: skip
    assert diagnose(patient, [*failing.metrics, stop]).healthy


def test_clipping_often_is_healthy_clipping_hard_and_always_is_not() -> None:
    curves = draw(8)
    curves.gradient_norm = 1.5
    assert diagnose(curves.config, play(curves, epochs=8).metrics).healthy
    curves = draw(8)
    curves.gradient_norm = 40.0
    assert first_cause(diagnose(curves.config, play(curves, epochs=8).metrics))[0] == "clipping_always"


def test_a_warm_up_longer_than_the_run_never_reaches_its_peak() -> None:
    config = from_mapping({"name": "x", "warmup_steps": 500}).config
    run = RunMetric(seq=0, step=0, epoch=1, at=0, steps_per_epoch=20, total_steps=400, warmup_steps=500, start_total=2)
    steps = [m for m in healthy_run(draw(2), 1) if isinstance(m, StepMetric)]
    planned = [replace(s, lr=1e-3 * (0.1 + 0.9 * s.step / 500)) for s in steps]
    diagnosis = diagnose(config, [run, *planned])
    assert first_cause(diagnosis) == ("lr_off_plan", "never_reaches_peak")


def test_losses_that_repeat_to_the_last_digit_are_lost_in_rounding() -> None:
    curves = draw(12)
    metrics = play(curves, epochs=3).metrics
    still = next(m.validation for m in reversed(metrics) if hasattr(m, "validation"))
    same = [replace(m, validation=still) if hasattr(m, "validation") else m for m in metrics]
    assert "rounding" in {cause.cause for cause in diagnose(curves.config, same).causes}


def lagging(lag_trs: int, answers: bool = True) -> DataMetric:
    """Return the data record of a brain that follows its film by so many TRs of 1.5 s."""
    whole = LagFact(lag_trs=lag_trs, sds=9.0 if answers else 3.0, answers=answers)
    return DataMetric(
        seq=0, step=0, epoch=1, at=0.0, store_key="0", subjects=("1",), n_voxels=10, tr_s=1.5, n_trs=400, train_trs=200,
        validation_trs=40, test_trs=70, stimulus_offset_s=0.0, components={},
        alignment=AlignmentFacts(whole=whole, thirds=(whole,) * 3, reach_trs=60),
    )  # fmt: skip


def test_a_brain_that_no_voxel_follows_may_be_out_of_step() -> None:
    curves = draw(14)
    metrics = healthy_run(curves)
    skill = {"fmri": 0.0, "video": 0.3, "audio": 0.2, "text": 0.2}
    encoding = {"r_difference": 0.002, "r_difference_low": -0.01}
    end = EvaluationMetric(seq=9**6, step=1, epoch=1, at=0, folds=(0,), encoding=encoding, decoding={}, skill=skill)
    assert first_cause(diagnose(curves.config, [*metrics, end]))[0] == "misaligned_time"
    evaluation = replace(end, encoding={"r_difference": 0.1, "r_difference_low": 0.05})
    assert diagnose(curves.config, [*metrics, evaluation]).healthy
    assert first_cause(diagnose(curves.config, [*metrics, lagging(3), end]))[0] != "misaligned_time"


def with_facts(**facts: object) -> DataMetric:
    """Return the data record of a brain that gives no answer to its film, and what else was measured."""
    silent = lagging(14, answers=False)
    assert silent.alignment is not None
    return replace(silent, alignment=replace(silent.alignment, **facts))


def test_a_wrong_film_and_a_subject_apart_are_named_before_the_first_step() -> None:
    config = draw(14).config
    film_facts = {"shared": 0.9, "responsive_part": 0.3, "least_part": 0.3, "foreseen_sds": 0.4}
    cause = diagnose(config, [with_facts(**film_facts)]).causes[0]
    assert (cause.cause, cause.confidence) == ("wrong_film", 0.75) and "30% would have been detected" in cause.sentence
    cause = diagnose(config, [with_facts(reading="backwards", reading_sds=11.0)]).causes[0]
    assert (cause.cause, cause.confidence) == ("wrong_film", 0.95) and "read backwards" in cause.sentence
    in_step = AgreementFact(shift_trs=0, sds=12.0, in_step_sds=12.0)
    late = AgreementFact(shift_trs=4, sds=11.0, in_step_sds=2.0)
    subjects = {"sub-01": in_step, "sub-02": late, "sub-03": in_step}
    cause = diagnose(config, [with_facts(subjects=subjects)]).causes[0]
    assert cause.cause == "subject_apart" and "sub-02 runs +4 TRs (+6 s)" in cause.sentence
    alone = {**subjects, "sub-02": AgreementFact(shift_trs=90, sds=2.0, in_step_sds=0.5)}
    cause = diagnose(config, [with_facts(subjects=alone)]).causes[0]
    assert cause.confidence == 0.75 and "sub-02 agrees with the others at no shift" in cause.sentence
    for unknown in (
        {},
        {**film_facts, "least_part": 0.9},
        {**film_facts, "foreseen_sds": 6.0},
        {"subjects": dict.fromkeys(subjects, in_step)},
    ):
        assert diagnose(config, [with_facts(**unknown)]).healthy


def test_a_film_out_of_step_is_named_before_the_first_step() -> None:
    config = draw(14).config
    cause = diagnose(config, [lagging(14)]).causes[0]
    assert (cause.cause, cause.evidence["lag_trs"]) == ("misaligned_time", 14)
    for fine in (lagging(3), lagging(0), lagging(14, answers=False)):
        assert diagnose(config, [fine]).healthy


def test_a_run_out_of_step_is_named_and_not_the_study() -> None:
    config, data = draw(14).config, lagging(3)
    assert data.alignment is not None
    runs = {f"scan {n}": LagFact(lag_trs=lag, sds=12.0, answers=True) for n, lag in ((1, 3), (2, 13))}
    cause = diagnose(config, [replace(data, alignment=replace(data.alignment, runs=runs))]).causes[0]
    assert (cause.cause, cause.evidence["lags_trs"]) == ("run_shifted", {"scan 1": 3, "scan 2": 13})


@pytest.mark.parametrize(
    ("tail", "cause"),
    [
        (["Traceback (most recent call last):", "OSError: [Errno 28] No space left on device"], "disk_full"),
        (["RuntimeError: DataLoader worker (pid 12) is killed by signal: Killed."], "oom_host"),
        (["[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"], "oom_gpu"),
        (
            ["ValueError: Expected more than 1 value per channel when training, got input size [1, 64]"],
            "tiny_batch_norm",
        ),
        (["train.sh: line 3: 4711 Killed"], "oom_host"),
        (["Traceback (most recent call last):", "KeyError: 'sub-04'", "ChildFailedError: train.py FAILED"], "crashed"),
    ],
)
def test_the_log_of_a_run_that_died_reports_why(tail: list[str], cause: str) -> None:
    curves = draw(16)
    metrics = [replace(m, device="cuda") if isinstance(m, RunMetric) else m for m in healthy_run(curves, 2)]
    diagnosis = diagnose(curves.config, metrics, health=DIED, log_tail=tail)
    assert diagnosis.causes[0].cause == cause
    running = Health(state="running", sentence="training, heartbeat 1s ago")
    assert diagnose(curves.config, metrics, health=running, log_tail=tail).healthy


def test_a_crash_is_reported_by_its_first_error_not_by_torchruns_echo() -> None:
    tail = ["Traceback (most recent call last):", "KeyError: 'sub-04'", "x.ChildFailedError: train.py FAILED"]
    diagnosis = diagnose(None, [], health=DIED, log_tail=tail)
    assert diagnosis.causes[0].evidence["error"] == "KeyError: 'sub-04'"


def test_without_gradient_shares_a_share_of_the_loss_is_believed_late_and_less() -> None:
    curves = draw(4, fmri_weight=60.0, num_epochs=30)
    silent = play(curves, step_fields=lambda step, tape: {"gradient_share": None}).metrics
    diagnosis = diagnose(curves.config, silent)
    assert diagnosis.causes[0].cause == "component_dominates" and diagnosis.causes[0].confidence < 0.9
    assert diagnose(curves.config, silent[:100]).healthy


def test_a_run_that_was_stopped_on_request_is_only_not_completed() -> None:
    curves = draw(18)
    stopped = Health(state="stopped", sentence="stopped on request")
    [finding] = diagnose(curves.config, healthy_run(curves, 3), health=stopped).causes
    assert (finding.cause, finding.confidence) == ("criterion_missed", 0.45)
    assert "3 of 12 epochs; stopped: stopped on request" in finding.sentence


def test_thresholds_are_the_configurations_own() -> None:
    failing = flat(0)
    assert first_cause(diagnose(failing.curves.config, failing.metrics))[0] == "flat"
    patient = replace(failing.curves.config, watch=replace(failing.curves.config.watch, flat_steps=10**6))
    assert "flat" not in {cause.cause for cause in diagnose(patient, failing.metrics).causes}


def test_a_run_resumed_with_its_state_is_healthy() -> None:
    curves = draw(20, warmup_epochs=2)
    metrics = healthy_run(curves, 6)
    run = next(m for m in metrics if isinstance(m, RunMetric))
    middle = next(
        i for i, m in enumerate(metrics) if isinstance(m, StepMetric) and m.step == 3 * curves.steps_per_epoch
    )
    resumed = replace(run, resumed_from_step=steps_of(metrics)[3 * curves.steps_per_epoch].step, first_loss={})
    assert diagnose(curves.config, [*metrics[:middle], resumed, *metrics[middle:]]).healthy


def test_a_course_is_drawn_before_the_first_long_epoch_has_ended() -> None:
    """Five blocks of steps make a course, though no epoch of 400 steps has ended: said or not, nothing breaks."""
    curves = draw(4, num_epochs=3, warmup_epochs=0, criteria={"drop": {"kind": "loss_drop", "threshold": 0.99}})
    curves.steps_per_epoch = 400
    steps = [m for m in healthy_run(curves, 1) if not isinstance(m, EpochMetric)]
    diagnosis = diagnose(curves.config, steps)
    assert {c.cause for c in diagnosis.causes} <= {"criterion_unreachable"}
    assert case_of(curves.config, steps).block_losses[0][0] == 30 / 400


def test_a_run_that_begins_from_ridge_is_flat_where_it_stays_there() -> None:
    curves = draw(6, num_epochs=20, warmup_epochs=1)
    warm = [
        replace(m, total=0.9 * m.total) if isinstance(m, StepMetric) and m.total else m for m in healthy_run(curves, 20)
    ]
    stays = [replace(m, total=1.8) if isinstance(m, StepMetric) else m for m in warm if not isinstance(m, EpochMetric)]
    assert "flat" not in {c.cause for c in diagnose(curves.config, warm).causes}
    assert "flat" in {c.cause for c in diagnose(curves.config, stays).causes}


def _with_r(metrics: list[AnyMetric], r: Callable[[int], float]) -> list[AnyMetric]:
    return [replace(m, fmri_r=r(m.epoch)) if isinstance(m, EpochMetric) else m for m in metrics]


def test_a_loss_that_falls_by_the_film_alone_is_named() -> None:
    failing = brain_unexplained(4)
    causes = diagnose(failing.curves.config, failing.metrics).causes
    assert causes[0].cause == "brain_unexplained" and "No brain is predicted" in causes[0].sentence
    predicted = _with_r(failing.metrics, lambda epoch: 0.03)
    assert "brain_unexplained" not in {c.cause for c in diagnose(failing.curves.config, predicted).causes}
    rising = _with_r(failing.metrics, lambda epoch: min(0.019, 0.003 * epoch))
    assert "brain_unexplained" not in {c.cause for c in diagnose(failing.curves.config, rising).causes}


def test_a_log_reports_a_brain_unexplained_by_its_correlation() -> None:
    line = "Epoch {e}/50 | Train Loss: {loss:.4f} | fMRI Corr: {r:.4f} | LR: 1.00e-04"
    losses = [3.9 - 0.05 * e for e in range(1, 9)]
    flat_log = parse(line.format(e=e, loss=v, r=0.0013) for e, v in enumerate(losses, 1))
    assert diagnose(None, flat_log.metrics).causes[0].cause == "brain_unexplained"
    learning_log = parse(line.format(e=e, loss=v, r=0.06) for e, v in enumerate(losses, 1))
    assert diagnose(None, learning_log.metrics).healthy
