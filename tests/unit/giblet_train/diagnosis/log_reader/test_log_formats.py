"""The same training in every log format: the same epochs and the same first cause."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import read_log
from tests.collection.log_formats import FORMATS, course
from tests.collection.log_formats_page import PAGE, SECTIONS, page

TOLERANCE = {"thousands": 1e-4, "lightning_bars": 1e-3}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_the_same_losses(name: str, tmp_path: Path) -> None:
    epochs = course("healthy")
    log = read_log(FORMATS[name](epochs, tmp_path))
    assert not log.unread and len(log.metrics) == len(epochs)
    scale, shift = 1000.0 if name == "thousands" else 1.0, 2.0 if name == "nnunet_v2" else 0.0
    for metric, epoch in zip(log.metrics, epochs, strict=True):
        assert metric.validation is not None
        assert metric.train.total is not None and metric.validation.total is not None
        assert metric.train.total / scale + shift == pytest.approx(epoch.train, abs=2e-3)
        assert metric.validation.total / scale + shift == pytest.approx(epoch.validation, abs=2e-3)
        assert metric.lr in (0.0, pytest.approx(epoch.lr, rel=0.2))


@pytest.mark.parametrize("kind", ["healthy", "nan", "overfit"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_leads_to_the_same_first_cause(name: str, kind: str, tmp_path: Path) -> None:
    log = read_log(FORMATS[name](course(kind), tmp_path))
    causes = [cause.cause for cause in diagnose(None, log.metrics, log=log.log).causes]
    assert causes[:1] == ([] if kind == "healthy" else [kind])


def test_a_nan_keeps_its_epoch(tmp_path: Path) -> None:
    log = read_log(FORMATS["pipes"](course("nan"), tmp_path))
    assert [m.epoch for m in log.metrics if m.train.total is None] == list(range(17, 25))
    assert math.isnan(log.log.rows[-1].train or 0.0)


def test_the_page_of_log_formats_shows_what_the_program_prints() -> None:
    """Write it again with `python -m tests.collection.log_formats_page`."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_page_has_an_example_of_every_format() -> None:
    assert {name for _, names in SECTIONS.values() for name in names} == set(FORMATS)
