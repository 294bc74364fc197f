"""The benchmark of learning on a small study: nonlinear bands find an interaction that linear ridge cannot fit."""

import pytest

from benchmarks import learning


@pytest.fixture(scope="module")
def measured():
    return learning.measure(learning.Cell(200, "interaction", 0), epochs=2)


def r_of(measured, model):
    return sum(measured["r"][model])


def test_the_network_finds_an_interaction_that_linear_models_miss(measured):
    assert r_of(measured, "linear start") < 0.1 and r_of(measured, "pooled ridge") < 0.1
    assert r_of(measured, "network") > 0.2
    assert r_of(measured, "network") > 0.9 * r_of(measured, "product ridge")


def test_no_model_exceeds_the_ceiling(measured):
    assert max(r_of(measured, model) for model in learning.MODELS) < measured["ceiling"] < 0.65


def test_the_page_has_a_row_per_truth(measured):
    page = learning.page({"200 interaction 0": measured}, epochs=2)
    row = next(line for line in page.splitlines() if line.startswith("| 200 | interaction | 1 |"))
    assert row.count("|") == len(learning.MODELS) + len(learning.COMPARED) + 6
