"""Runs of a BIDS tree are those that pybids finds by the same filters. Needs the extra `bids`."""

import json

import pytest

from giblet_train.data.readers.bids import bids_runs
from giblet_train.data.readers.sidecar import read_sidecar
from giblet_train.schema.config import BidsConfig

pybids = pytest.importorskip("bids", reason="pip install -e '.[bids]'")

SPACE = "MNI152NLin2009cAsym"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Write two tasks, text labels, sessions, resolutions, CIFTI, surfaces and inherited sidecars."""
    root = tmp_path_factory.mktemp("pybids")
    made_by = {"DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}
    description = {"Name": "made", "BIDSVersion": "1.8.0", **made_by}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / "task-film_bold.json").write_text(json.dumps({"RepetitionTime": 1.5}))
    (root / "task-rest_bold.json").write_text(json.dumps({"RepetitionTime": 2.0}))
    for subject, session in (("01", "1"), ("01", "2"), ("NDARAB123", "1"), ("NDARAB123", "2")):
        func = root / f"sub-{subject}" / f"ses-{session}" / "func"
        func.mkdir(parents=True)
        for task, run in (("film", 1), ("film", 2), ("film", 10), ("rest", 1)):
            stem = f"sub-{subject}_ses-{session}_task-{task}_run-{run}"
            for rest in (
                f"space-{SPACE}_desc-preproc_bold.nii.gz",
                f"space-{SPACE}_res-2_desc-preproc_bold.nii.gz",
                f"space-{SPACE}_desc-brain_mask.nii.gz",
                "space-fsLR_den-91k_bold.dtseries.nii",
                "space-fsLR_den-91k_bold.json",
                "hemi-L_space-fsaverage5_bold.func.gii",
                "hemi-R_space-fsaverage5_bold.func.gii",
                "desc-confounds_timeseries.tsv",
            ):
                (func / f"{stem}_{rest}").write_text("{}" if rest.endswith(".json") else "")
    return root


@pytest.fixture(scope="module")
def layout(tree):
    return pybids.BIDSLayout(tree, validate=False, is_derivative=True)


@pytest.mark.parametrize(
    ("space", "filters", "entities"),
    [
        (SPACE, {"res": 2}, {"res": "2", "extension": ".nii.gz", "desc": "preproc"}),
        ("fsLR", {"den": "91k"}, {"den": "91k", "extension": ".dtseries.nii"}),
        ("fsaverage5", {}, {"hemi": "L", "extension": ".func.gii"}),
    ],
)
@pytest.mark.parametrize("task", ["film", ("film", "rest")])
def test_the_same_files_are_found(tree, layout, space, filters, entities, task):
    ours = bids_runs(tree, BidsConfig(task=task, space=space, filters=filters))
    theirs = layout.get(task=task, space=space, suffix="bold", return_type="filename", **entities)
    assert sorted(str(run.bold) for runs in ours.values() for run in runs) == sorted(theirs)
    assert set(ours) == set(layout.get_subjects())
    first = [(run.session, run.task, run.run) for run in ours["01"]]
    assert first == sorted(first, key=lambda run: (int(run[0]), run[1], int(run[2])))


def test_sidecars_are_inherited_alike(tree, layout):
    for path in layout.get(suffix="bold", extension=".dtseries.nii", return_type="filename")[:4]:
        theirs = layout.get_metadata(path)
        assert read_sidecar(tree / path) == theirs and theirs["RepetitionTime"] in (1.5, 2.0)
