"""Numbers of pages: what rounds to 0 has no sign, and a small share is not 0%."""

import math

from giblet_train.pages.scores import decimal, percent, score_cells


def test_numbers_have_a_minus_sign_and_no_negative_zero():
    assert [decimal(x) for x in (-0.004, -0.006, math.nan, None)] == ["0.00", "−0.01", "–", "–"]
    assert [decimal(x, sign=True) for x in (0.004, 0.006)] == ["0.00", "+0.01"]


def test_a_share_below_ten_percent_has_one_digit():
    shares = (0.0, 0.004, 0.0994, 0.0996, 0.5, 1.0, -0.03, -0.0001, math.nan, None)
    assert [percent(x) for x in shares] == ["0.0%", "0.4%", "9.9%", "10%", "50%", "100%", "−3.0%", "0.0%", "–", "–"]
    assert score_cells({"top_1": 0.004, "top_1_chance": 0.012})[-2:] == ("0.4%", "1.2%")
