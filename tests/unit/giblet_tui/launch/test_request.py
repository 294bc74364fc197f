"""Options that exclude one another, and the value of --gpus."""

from __future__ import annotations

import pytest

from giblet_train.schema.errors import ConfigError
from giblet_tui.launch.request import LaunchOptions, check_options, parse_gpus


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (LaunchOptions(nodes=("a", "b"), when_free=True), "--when-free works on one node only"),
        (LaunchOptions(nodes=("a", "b"), replace=True), "--replace works on one node only"),
        (LaunchOptions(nodes=("a", "b"), ensemble=True), "An ensemble is several new runs on one node"),
        (LaunchOptions(nodes=("a",), ensemble=True, replace=True), "An ensemble"),
        (LaunchOptions(nodes=("a",), ensemble=True, resume=True), "An ensemble"),
        (LaunchOptions(nodes=("a",), ensemble=True, follow=True), "An ensemble"),
    ],
)
def test_options_that_exclude_one_another_are_refused(options: LaunchOptions, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refusal:
        check_options(options)
    assert refusal.value.remedy


@pytest.mark.parametrize(
    "options",
    [
        LaunchOptions(nodes=("a", "b"), resume=True, follow=True),
        LaunchOptions(nodes=("a",), when_free=True, replace=True, resume=True, follow=True),
        LaunchOptions(nodes=("a",), ensemble=True, when_free=True),
    ],
)
def test_other_options_go_together(options: LaunchOptions) -> None:
    check_options(options)


@pytest.mark.parametrize(
    ("text", "gpus"), [(None, None), ("6", 6), ("0,1,2", (0, 1, 2)), ("3,", (3,)), (" 0 , 1 ", (0, 1))]
)
def test_gpus_are_a_number_or_indices(text: str | None, gpus: int | tuple[int, ...] | None) -> None:
    assert parse_gpus(text) == gpus


@pytest.mark.parametrize("text", ["0", "-1", "", "six", "0,x", "1.5"])
def test_other_values_of_gpus_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="neither a number of GPUs nor a list"):
        parse_gpus(text)
