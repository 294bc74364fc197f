"""A run on one of two films, trained once for all tests of published models."""

import pytest


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    from tests.pair_study import make_pair_study

    return make_pair_study(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def trained_run(pair):
    """Return the run as `evaluate` loads it."""
    from giblet_train.analysis.load_run import load_run
    from giblet_train.training.load_split import load_split

    return load_run(pair.run_dir, "best", load_split, lambda *_: None)


@pytest.fixture(scope="session")
def model(trained_run):
    """Return its published model with the heads of all subjects."""
    from giblet_train.portable.publish import evaluated, publish

    return publish(trained_run, trained_run.data.subjects, "CC-BY-4.0", evaluated(trained_run))


@pytest.fixture(scope="session")
def model_path(model, tmp_path_factory):
    from giblet_train.portable.model_file import write_model

    path = tmp_path_factory.mktemp("published") / "model.giblet"
    write_model(model, path)
    return path
