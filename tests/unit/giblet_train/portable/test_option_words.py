"""Errors and notes of the readers of studies name options of the command line, not keys of a configuration."""

from __future__ import annotations

import pytest

from giblet_train.portable.option_words import in_options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the header has no TR; data.tr = 2 s is used.", "the header has no TR; --tr 2 s is used."),
        ("Set data.tr: 1.5.", "Set --tr 1.5."),
        ("Set data.tr.", "Set --tr."),
        ("Set data.trust_tr: header or data.trust_tr: sidecar, whichever is right.", "Give the right one as --tr."),
        ("If the header is right, set data.trust_tr: header.", "Give the right one as --tr."),
        ("Set data.scan_lengths_trs to them, such as [30, 28].", "State with --scan-lengths them, such as 30,28."),
    ],
)
def test_options_take_the_place_of_keys(text: str, expected: str) -> None:
    assert in_options(text) == expected
