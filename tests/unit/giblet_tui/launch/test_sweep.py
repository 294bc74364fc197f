"""A grid becomes runs, all checked before any starts."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from giblet_train.schema.config import Config
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.errors import ConfigError
from giblet_tui.launch.request import LaunchOptions, LaunchRequest, check_options
from giblet_tui.launch.sweep import Cell, fill_placeholders, parse_grid, sweep_requests


def build(cell: Cell) -> LaunchRequest:
    """Return the request of a cell, as the command line builds it from a configuration with criteria."""
    values: dict[str, object] = {"name": "demo", "criteria": {"drop": {"kind": "loss_drop", "threshold": 0.1}}}
    if "learning_rate" in cell:
        values["learning_rate"] = float(cell["learning_rate"])
    if "data.normalize_fmri" in cell:
        values["data"] = {"normalize_fmri": cell["data.normalize_fmri"] == "true"}
    return LaunchRequest(config=from_mapping(values).config, launched_by="ada@laptop", note="why")


def test_the_labs_grid_is_four_runs_in_order() -> None:
    cells = parse_grid(["learning_rate=1e-4,3e-4", "data.normalize_fmri=true,false"])
    requests = sweep_requests(cells, build, stop_hopeless=True)
    rates = [(request.config.learning_rate, request.config.data.normalize_fmri) for request in requests]
    assert rates == [(1e-4, True), (1e-4, False), (3e-4, True), (3e-4, False)]
    sweeps = [request.sweep for request in requests]
    assert all(sweep is not None and sweep.n_runs == 4 and sweep.stop_hopeless for sweep in sweeps)
    assert [sweep.number for sweep in sweeps if sweep] == [1, 2, 3, 4]
    assert len({sweep.name for sweep in sweeps if sweep}) == 1 and sweeps[0] and sweeps[0].name.startswith("demo-grid-")
    assert sweeps[1] and sweeps[1].label == "learning_rate=1e-4 normalize_fmri=false"
    assert requests[1].note == "why (learning_rate=1e-4 data.normalize_fmri=false)"
    assert all(request.when_free for request in requests)


def test_commas_in_brackets_and_quotes_belong_to_a_value() -> None:
    assert parse_grid(["data.subjects=[1,2],[3]", "note='a,b',c"]) == [
        {"data.subjects": "[1,2]", "note": "'a,b'"},
        {"data.subjects": "[1,2]", "note": "c"},
        {"data.subjects": "[3]", "note": "'a,b'"},
        {"data.subjects": "[3]", "note": "c"},
    ]


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        (["learning_rate"], "is written KEY=VALUE,VALUE"),
        (["=1,2"], "is written KEY=VALUE,VALUE"),
        (["learning_rate="], "is written KEY=VALUE,VALUE"),
        (["seed=1,2", "seed=3"], "is given twice"),
        (["seed=1,1"], "names a value twice"),
        (["seed=" + ",".join(map(str, range(65)))], "65 runs, more than 64"),
    ],
)
def test_what_is_no_grid_is_refused(grid: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refusal:
        parse_grid(grid)
    assert refusal.value.exit_code == 2 and refusal.value.remedy


def test_every_run_that_cannot_be_launched_is_listed_under_its_reason() -> None:
    def read(cell: Cell) -> LaunchRequest:
        if cell["seed"] == "x":
            raise ConfigError("seed: expected `int`.", "Write a number.")
        return LaunchRequest(config=Config(name="demo", seed=int(cell["seed"])), launched_by="a")

    with pytest.raises(ConfigError) as refusal:
        sweep_requests(parse_grid(["seed=1,x", "a=1,2"]), read, stop_hopeless=False)
    assert refusal.value.message == "2 of 4 runs of the grid cannot be launched:"
    lines = [line.strip() for line in refusal.value.remedy.split("\n")]
    assert lines == ["seed=x a=1", "seed=x a=2", "seed: expected `int`. Write a number."]


def test_runs_that_are_the_same_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"are the same: learning_rate=1e-4 and learning_rate=0\.0001"):
        sweep_requests(parse_grid(["learning_rate=1e-4,0.0001"]), build, stop_hopeless=False)


def test_without_criteria_nothing_is_hopeless() -> None:
    def plain(cell: Cell) -> LaunchRequest:
        return replace(build(cell), config=Config(name="demo", seed=int(cell["seed"])))

    with pytest.raises(ConfigError, match="and this one has none"):
        sweep_requests(parse_grid(["seed=1,2"]), plain, stop_hopeless=True)


def test_a_command_needs_a_place_for_each_value() -> None:
    words = ["python", "train.py", "--lr={lr}", "{lr}{seed}"]
    assert fill_placeholders(words, {"lr": "1e-4", "seed": "3"}) == ["python", "train.py", "--lr=1e-4", "1e-43"]
    with pytest.raises(ConfigError, match=r"No word of the command contains \{depth\}"):
        fill_placeholders(words, {"depth": "2"})


@pytest.mark.parametrize("option", ["replace", "resume", "follow", "ensemble"])
def test_a_sweep_is_of_new_runs_on_one_node(option: str) -> None:
    check_options(LaunchOptions(nodes=("a",), sweep=True))
    for options in ({option: True, "nodes": ("a",)}, {"nodes": ("a", "b")}):
        with pytest.raises(ConfigError, match="A sweep is several new runs on one node"):
            check_options(LaunchOptions(sweep=True, **options))  # type: ignore[arg-type]
