"""Subjects against one another, judged on where each agrees best with the mean of the others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Literal

import msgspec

from giblet_train.diagnosis.alignment.film import BETTER, UNRELATED_SDS
from giblet_train.schema.records import AgreementFact

AGREES_SDS = 8.0
"""At which agreement is believed: of a brain that shares nothing the best of all shifts comes to 2 to 4, while one with
thrice the others' noise still stands at 8.7 or more (the demo's studies, 5 subjects)."""
LEAST_APART_TRS = 2
"""Responses differ between people by a TR."""


class OutlierSubject(msgspec.Struct, frozen=True, kw_only=True):
    """A subject out of step with the others. kind: shifted against them, or alone, which training survives."""

    kind: Literal["shifted", "alone"]
    subject: str
    sentence: str
    action: str


def find_outlier_subjects(subjects: Mapping[str, AgreementFact], tr_s: float) -> list[OutlierSubject]:
    """Who is out of step; nobody where nothing can be told."""
    answering = [fact.shift_trs for fact in subjects.values() if (fact.sds or 0.0) > AGREES_SDS]
    centre = median(answering) if answering else 0
    found = (_apart(name, subjects, centre, tr_s) for name in subjects)
    return [one for one in found if one is not None]


def agreement_line(subjects: Mapping[str, AgreementFact]) -> str:
    """How well they agree, in words."""
    heights = [fact.in_step_sds or 0.0 for fact in subjects.values()]
    return (
        f"subjects: each agrees with the others by {min(heights):.1f} to {max(heights):.1f} standard deviations "
        "above chance"
    )


def _apart(name: str, subjects: Mapping[str, AgreementFact], centre: float, tr_s: float) -> OutlierSubject | None:
    fact = subjects[name]
    best, in_step = fact.sds or 0.0, fact.in_step_sds or 0.0
    others = [other.in_step_sds or 0.0 for key, other in subjects.items() if key != name]
    if best > AGREES_SDS and in_step < BETTER * best and abs(fact.shift_trs - centre) >= LEAST_APART_TRS:
        return OutlierSubject(
            kind="shifted",
            subject=name,
            sentence=(
                f"{name} runs {fact.shift_trs:+d} TRs ({fact.shift_trs * tr_s:+g} s) against the other subjects: they "
                f"agree by {best:.1f} standard deviations above chance so, and by {in_step:.1f} as they are."
            ),
            action=f"Give {name} the volumes that its scan lacks or has too many, mind the order of its runs, or leave "
            "it out by data.subjects.",
        )
    if len(others) > 1 and best < UNRELATED_SDS and median(others) > AGREES_SDS:
        return OutlierSubject(
            kind="alone",
            subject=name,
            sentence=(
                f"{name} agrees with the others at no shift ({best:.1f} standard deviations above chance; they stand "
                f"at {min(others):.1f} to {max(others):.1f}): its scan is of another film, or holds no signal."
            ),
            action=f"Look at the file of {name}, and leave it out by data.subjects if it is another's.",
        )
    return None
