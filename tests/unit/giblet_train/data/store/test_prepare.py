"""The data commands as people call them: `prepare`, `data lag`, `data check`."""

import json
import os
from pathlib import Path

import pytest

from giblet_train.data.store.prepare import prepare, read_data_request
from giblet_train.data.store.store import open_store
from giblet_train.schema.config import dump
from giblet_train.schema.errors import ConfigError
from tests.fork_server import engine_cli_server
from tests.made_study import TINY_DATA, made_config


def quiet(_sentence, _share):
    pass


@pytest.fixture
def config_file(tiny_study, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(dump(made_config(data={**TINY_DATA, "data_dir": str(tiny_study)}, split={"gap_trs": 4})))
    return path


def call(*arguments):
    return engine_cli_server().run([*map(str, arguments)], os.environ, Path.cwd(), 150)


def test_a_configuration_is_prepared_under_the_workdir(config_file, tmp_path):
    text = prepare(read_data_request(config_file, tmp_path / "work"), quiet)
    path = tmp_path / "work" / "stores" / text.splitlines()[0].rsplit("/", 1)[1]
    assert text.splitlines()[0] == str(path)
    study = open_store(path)
    assert "subjects   3: sub-01, sub-02, sub-03" in text
    assert f"{study.n_trs} of 1.5 s in scans of 30 + 30" in text


def test_a_run_directory_has_its_own_workdir(config_file, tmp_path):
    run = tmp_path / "work" / "runs" / "made-20260101-000000-abcd"
    run.mkdir(parents=True)
    config_file.rename(run / "config.yaml")
    assert read_data_request(run, None).workdir == tmp_path / "work"
    assert read_data_request(run, tmp_path / "other").workdir == tmp_path / "other"
    with pytest.raises(ConfigError, match=r"has no config\.yaml"):
        read_data_request(tmp_path, None)


def test_the_commands_print_data_and_exit_by_what_they_found(config_file, tmp_path):
    preparation = call("prepare", config_file, "--workdir", tmp_path / "work")
    assert preparation.returncode == 0, preparation.stderr
    assert open_store(Path(preparation.stdout.splitlines()[0])).n_trs == 60
    lag = call("data", "lag", config_file, "--workdir", tmp_path / "work")
    title, columns, *rows = lag.stdout.splitlines()
    assert title.startswith("delay of the brain behind the film, in TRs")
    assert columns.split() == ["whole", "third", "1", "third", "2", "third", "3"]
    assert [row.split()[0] for row in rows[:4]] == ["average", "sub-01", "sub-02", "sub-03"]
    as_json = json.loads(call("data", "lag", config_file, "--workdir", tmp_path / "work", "--json").stdout)
    assert list(as_json["lags"])[:4] == [row.split()[0] for row in rows[:4]]
    assert as_json["failed"] == (lag.returncode != 0)
    missing = call("prepare", tmp_path / "nothing.yaml")
    assert missing.returncode == 2
    assert "nothing.yaml cannot be read" in missing.stderr
    assert "Traceback" not in missing.stderr
