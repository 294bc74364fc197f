"""Film and brain out of step: the film is rebuilt, and yet no voxel follows it better than by chance."""

from __future__ import annotations

from giblet_train.contract.config import MODALITIES
from giblet_train.contract.rules.case import Case, Cause


def misaligned_time(case: Case) -> Cause | None:
    """Held out, reconstructions beat their means while voxels that answer the film are predicted no better than others.

    It takes the final evaluation to say so, and says it with reserve: a brain without signal looks the same.
    """
    found = case.evaluation
    if found is None:
        return None
    low, difference = found.encoding.get("r_difference_low"), found.encoding.get("r_difference")
    skill = [found.skill.get(m) for m in MODALITIES if m in case.components]
    rebuilt = bool(skill) and all(s is not None and s > 0 for s in skill)
    if not isinstance(low, (int, float)) or low > 0 or not rebuilt:
        return None
    return Cause(
        cause="misaligned_time",
        confidence=0.5,
        sentence=(
            "The film is rebuilt, but voxels that answer it are predicted no better than others (r differs by "
            f"{difference:.3f}, interval from {low:.3f}): film and brain may be out of step."
        ),
        evidence={
            "r_difference": difference,
            "r_difference_low": low,
            "stimulus_offset_s": case.data.stimulus_offset_s if case.data else None,
        },
        action="Run `python -m giblet_train data lag RUN_DIR`, and set data.stimulus_offset_s to what it measures.",
    )
