"""Minute one finds what cannot work, and tells all that it looked at."""

from __future__ import annotations

import msgspec

from giblet_train.diagnosis.sanity_checks import (
    Machine,
    OverfitResult,
    SanityInputs,
    failures,
    first_shares,
    report_lines,
)
from giblet_train.schema.config import Config, LossConfig
from giblet_train.schema.records import AgreementFact, AlignmentFacts, DataMetric, LagFact, ModalityFacts
from giblet_train.schema.schedule import lr_schedule

FACT = ModalityFacts(
    n_targets=10, raw_mean=5.0, raw_sd=2.0, raw_min=0.0, raw_max=9.0, mean=0.0, sd=1.0, train_variance=1.0
)
CODES = msgspec.structs.replace(FACT, looks_categorical=True, raw_max=1023.0)
MACHINE = Machine(own_gib=1.5, ram_free_gib=20.0, ram_total_gib=24.0, checkpoint_bytes=10**9, disk_free_gib=50.0)
GOOD = {"fmri": 1.003, "video": 1.0, "audio": 0.99, "text": 1.0}


def begun(first: dict[str, float] | None = None, config: Config | None = None, **changes: object) -> SanityInputs:
    config = config or Config(name="a")
    data = DataMetric(
        seq=0, step=0, epoch=1, at=0.0, store_key="0", subjects=("1",), n_voxels=10, tr_s=1.5, n_trs=400, train_trs=200,
        validation_trs=40, test_trs=70, stimulus_offset_s=0.0, components={**dict.fromkeys(GOOD, FACT)},
    )  # fmt: skip
    inputs = SanityInputs(
        config=config, plan=lr_schedule(config, 20), data=data, first=first or GOOD, machine=MACHINE,
        one_batch=OverfitResult(first=2.0, last=1.5, steps=10, seconds=0.1),
    )  # fmt: skip
    return msgspec.structs.replace(inputs, **changes)


def with_audio(fact: ModalityFacts, **first: float) -> SanityInputs:
    inputs = begun(GOOD | first)
    return msgspec.structs.replace(
        inputs, data=msgspec.structs.replace(inputs.data, components={**inputs.data.components, "audio": fact})
    )


def test_a_good_beginning_has_no_findings_and_reports_all() -> None:
    assert failures(begun()) == []
    lines = report_lines(begun())
    assert lines[2] == "audio: 10 targets, raw 5 ± 2 [0, 9] → 0 ± 1; first loss 0.99, expected 1"
    assert lines[4].startswith("first total: fmri 50%")
    assert lines[5:] == [
        "rate: 1.00e-04 → 1.00e-03 at step 20, then a cosine to 0.00e+00 at step 399",
        "memory: 1.50 GiB per process after a step, × 1, 20.0 of 24.0 GiB are free",
        "disk: 5.59 GiB for the whole run (1,000 MB per checkpoint), 50.0 GiB are free",
        "one batch, 10 times: 2 → 1.5; 0.1 s per step, 40s for all steps",
    ]


def test_the_labs_audio_is_named_in_numbers() -> None:
    sentences = failures(with_audio(CODES, audio=169_162.0))
    assert sentences == [
        "The targets of audio look like categorical codes (0 to 1,023); a squared error between codes means nothing.",
        "Every component should start at 1.0, the best constant; audio starts at 169,162: audio is 100.00% of the "
        "first total, and its targets look like categorical codes.",
    ]


def test_each_fault_has_its_sentence() -> None:
    replace = msgspec.structs.replace
    assert "audio holds numbers that are not finite" in failures(with_audio(replace(FACT, sd=None)))[0]
    assert "standard deviation 3" in failures(with_audio(replace(FACT, sd=3.0)))[0]
    assert "8 of 10 targets never change" in failures(with_audio(replace(FACT, constant_targets=8)))[0]
    assert "starts at ?: it is not finite" in failures(begun(GOOD | {"fmri": float("nan")}))[0]
    shared = replace(begun().data, shared_trs=7)
    assert "7 TRs are both trained on and held out" in failures(begun(data=shared))[0]
    stuck = OverfitResult(first=2.0, last=1.9999, steps=10, seconds=0.1)
    assert "Not even one batch is learnt" in failures(begun(one_batch=stuck))[0]
    lost = OverfitResult(first=2.0, last=float("nan"), steps=10, seconds=0.1)
    assert "to nan" in failures(begun(one_batch=lost))[0]
    full = replace(MACHINE, disk_free_gib=1.0)
    assert failures(begun(machine=full)) == ["The whole run needs 5.59 GiB of disk; 1.00 GiB are free."]


def test_a_film_out_of_step_stops_and_one_shifted_beforehand_is_reported() -> None:
    def lagged(lag_trs: int, answers: bool = True) -> SanityInputs:
        whole = LagFact(lag_trs=lag_trs, sds=9.0 if answers else 3.0, answers=answers)
        alignment = AlignmentFacts(whole=whole, thirds=(whole,) * 3, reach_trs=60)
        return begun(data=msgspec.structs.replace(begun().data, alignment=alignment))

    assert len(sentences := failures(lagged(14))) == 1
    assert "follows the film by 14 TRs (21 s) where 2 to 5 are expected" in sentences[0]
    assert "Set data.stimulus_offset_s to -16.5 (or to auto)" in sentences[0]
    for fine in (lagged(3), lagged(0), lagged(14, answers=False)):
        assert failures(fine) == []
    assert "convolved, beforehand" in report_lines(lagged(0))[4]
    assert "no answer" in report_lines(lagged(14, answers=False))[4]


def test_only_an_answer_stops_a_run_what_gives_none_is_reported() -> None:
    no_answer = LagFact(lag_trs=14, sds=1.0, answers=False)
    unrelated = AlignmentFacts(
        whole=no_answer, thirds=(), reach_trs=60, shared=0.9, responsive_part=0.3, least_part=0.3,
        foreseen_sds=0.4,
    )  # fmt: skip

    def with_film(**facts: object) -> SanityInputs:
        return begun(data=msgspec.structs.replace(begun().data, alignment=msgspec.structs.replace(unrelated, **facts)))

    assert failures(with_film()) == []
    assert "explains none of it" in report_lines(with_film())[4]
    assert "film read backwards" in failures(with_film(reading="backwards", reading_sds=11.0))[0]
    in_step = AgreementFact(shift_trs=0, sds=12.0, in_step_sds=12.0)
    late = AgreementFact(shift_trs=4, sds=11.0, in_step_sds=2.0)
    alone = AgreementFact(shift_trs=90, sds=2.0, in_step_sds=0.5)
    others = {"sub-01": in_step, "sub-02": in_step}
    assert "sub-03 runs +4 TRs" in failures(with_film(subjects={**others, "sub-03": late}))[0]
    assert failures(with_film(subjects={**others, "sub-03": alone})) == []
    assert (
        "sub-03 agrees with the others at no shift" in report_lines(with_film(subjects={**others, "sub-03": alone}))[5]
    )


def test_what_is_scaled_otherwise_need_not_start_at_one() -> None:
    config = Config(name="a", losses=LossConfig(scale="none"))
    assert failures(begun({"fmri": 900.0, "video": 1.0}, config)) == []
    assert failures(begun({"fmri": float("inf")}, config)) == ["fmri starts at inf."]


def test_a_peak_out_of_reach_is_found() -> None:
    inputs = begun(config=Config(name="a", warmup_steps=400))
    assert failures(inputs) == [
        "The warm-up takes 400 steps and the run has 400: the base rate is never reached; shorten warmup_steps."
    ]
    assert failures(begun(config=Config(name="a", warmup_steps=399))) == []


def test_shares_of_the_first_total_are_those_of_the_modalities_that_exist():
    """A study with sound alone: the whole weight of the reconstructions is the sound's."""
    config = Config(name="sound")
    assert first_shares(config, {"fmri": 1.0, "audio": 1.0}) == {"fmri": 0.5, "audio": 0.5}
