"""Find subjects that are shifted against the others or agree with nobody. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Literal

import msgspec

from giblet_train.diagnosis.alignment.film import BETTER, UNRELATED_SDS
from giblet_train.schema.records import AgreementFact

AGREES_SDS = 8.0
"""Height from which agreement is significant. A brain that shares nothing reaches 2 to 4 at its best shift; one with
three times the others' noise still reaches 8.7 (demo studies, 5 subjects)."""
LEAST_APART_TRS = 2
"""Smallest shift that counts: responses differ between people by one TR."""


class OutlierSubject(msgspec.Struct, frozen=True, kw_only=True):
    """A subject out of sync with the others."""

    kind: Literal["shifted", "alone"]
    """Shifted against the others, or alone, which training survives."""
    subject: str
    """Name of the subject."""
    sentence: str
    """What was measured."""
    action: str
    """What to do."""


def find_outlier_subjects(subjects: Mapping[str, AgreementFact], tr_s: float) -> list[OutlierSubject]:
    """Return the subjects out of sync; empty if nothing is significant."""
    answering = [fact.shift_trs for fact in subjects.values() if (fact.sds or 0.0) > AGREES_SDS]
    centre = median(answering) if answering else 0
    outliers = (_outlier(name, subjects, centre, tr_s) for name in subjects)
    return [outlier for outlier in outliers if outlier is not None]


def agreement_line(subjects: Mapping[str, AgreementFact]) -> str:
    """Describe how well the subjects agree."""
    heights = [fact.in_step_sds or 0.0 for fact in subjects.values()]
    return (
        f"subjects: each agrees with the others by {min(heights):.1f} to {max(heights):.1f} standard deviations "
        "above chance"
    )


def _outlier(name: str, subjects: Mapping[str, AgreementFact], centre: float, tr_s: float) -> OutlierSubject | None:
    fact = subjects[name]
    best, in_step = fact.sds or 0.0, fact.in_step_sds or 0.0
    others = [other.in_step_sds or 0.0 for key, other in subjects.items() if key != name]
    if best > AGREES_SDS and in_step < BETTER * best and abs(fact.shift_trs - centre) >= LEAST_APART_TRS:
        return OutlierSubject(
            kind="shifted",
            subject=name,
            sentence=(
                f"{name} runs {fact.shift_trs:+d} TRs ({fact.shift_trs * tr_s:+g} s) against the other subjects: they "
                f"agree by {best:.1f} standard deviations above chance at that shift, and by {in_step:.1f} without it."
            ),
            action=f"Give {name} the volumes that its scan lacks or has too many, mind the order of its runs, or leave "
            "it out by data.subjects.",
        )
    if len(others) > 1 and best < UNRELATED_SDS and median(others) > AGREES_SDS:
        return OutlierSubject(
            kind="alone",
            subject=name,
            sentence=(
                f"{name} agrees with the others at no shift ({best:.1f} standard deviations above chance; they reach "
                f"{min(others):.1f} to {max(others):.1f}): its scan is of another film, or holds no signal."
            ),
            action=f"Look at the file of {name}, and leave it out by data.subjects if it is another's.",
        )
    return None
