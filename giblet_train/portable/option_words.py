"""Errors of the readers of studies in the words of commands that use a model: options instead of keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from giblet_train.schema.errors import ConfigError, DataError

WORDS = (
    (r"Check data\.data_dir, data\.bold and data\.subjects\.", "Check --bold."),
    (r"Set data\.video[^.]*\.", "Give another film."),
    (r"Set data\.annotations\.", "Correct --annotations."),
    (r"Set data\.scan_lengths_trs to", "State with --scan-lengths"),
    (r"such as \[(\d+), (\d+)\]", r"such as \1,\2"),
    (r"data\.scan_lengths_trs", "--scan-lengths"),
    (r"data\.annotations", "--annotations"),
    (r"data\.stimulus_offset_s", "--start"),
    (r"Set data\.trust_tr: (?:header|sidecar) or .*", "Give the right one as --tr."),
    (r"If the \w+ is right, set data\.t.*", "Give the right one as --tr."),
    (r"data\.tr(?::| =)? (?=[\d.]+)", "--tr "),
    (r"data\.tr\b", "--tr"),
    (r"Choose one, counted from 0, or several: data\.features.*", "Give rows and features alone."),
    (r"State rows_per_s, or split\.usable_trs; rows", "Give rows for the whole film; they"),
    (r"data\.features\.(\w+)", r"--features \1"),
    (r"data\.subjects", "--subject"),
    (r"data\.bold", "--bold"),
)
"""Pattern -> replacement, in this order."""


@contextmanager
def options_for_keys() -> Iterator[None]:
    """Raise errors of the block with options of the command line instead of keys of the configuration."""
    try:
        yield
    except (DataError, ConfigError) as error:
        raise type(error)(in_options(error.message), in_options(error.remedy)) from None


def in_options(text: str) -> str:
    """Return a sentence with options instead of keys."""
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return text
