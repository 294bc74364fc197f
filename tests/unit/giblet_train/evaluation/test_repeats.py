"""The reliability of repeated seconds is the one that was put in, and only they count."""

import numpy as np
import pytest

from giblet_train.data.readers.row_plan import Span
from giblet_train.evaluation.repeats import repeat_reliability, repeated_rows

SPANS = (Span("clip", 0, 200, 0.0), Span("other", 200, 100, 0.0), Span("clip", 300, 150, 75.0))
"""The second showing begins 50 TRs of 1.5 s later in the clip."""


def test_the_rows_of_two_showings_belong_to_the_same_seconds() -> None:
    ((first, second),) = repeated_rows(SPANS, 1.5)
    assert (first[0], first[-1], second[0], second[-1]) == (50, 199, 300, 449)
    assert repeated_rows([SPANS[0], Span("clip", 300, 150, 75.6)], 1.5) == []


@pytest.mark.parametrize("reliability", [0.0, 0.25, 0.64])
def test_the_ceiling_is_the_root_of_the_shared_variance(reliability: float) -> None:
    random = np.random.default_rng(0)
    bold = {s: random.standard_normal((450, 400)) for s in ("sub-01", "sub-02")}
    ((first, second),) = repeated_rows(SPANS, 1.5)
    signal = random.standard_normal((len(first), 400))
    for rows in (first, second):
        bold["sub-01"][rows] = np.sqrt(reliability) * signal + np.sqrt(1 - reliability) * bold["sub-01"][rows]
    present = {"sub-01": np.ones(450, bool), "sub-02": np.arange(450) < 310}
    result = repeat_reliability(bold, present, [(first, second)], np.ones(400, bool))
    assert set(result) == {"sub-01"} and result["sub-01"].n_trs == 150
    assert result["sub-01"].r == pytest.approx(reliability, abs=0.01)
    assert result["sub-01"].ceiling == pytest.approx(np.sqrt(reliability), abs=0.08)
