"""The rehearsal of the lab's configurations: the names of its files, and its page."""

from benchmarks import rehearsal
from giblet_train.schema.config_loader import load


def test_the_study_lies_under_the_names_that_the_configurations_expect(tmp_path):
    study = tmp_path / "study"
    (study / "bold").mkdir(parents=True)
    for name in ("film.mp4", "annotations.xlsx", *(f"bold/sub-{n:02d}.nii.gz" for n in range(1, 6))):
        (study / name).write_text(name)
    rehearsal.link_study(study, tmp_path / "data")
    for name, changes in rehearsal.CHANGES.items():
        data = load(rehearsal.CONFIGS / f"{name}.yaml", changes).config.data
        assert (tmp_path / "data" / data.video).read_text() == "film.mp4"
        assert (tmp_path / "data" / data.annotations).read_text() == "annotations.xlsx"
        assert (tmp_path / "data" / data.bold.format(subject=1)).read_text() == "bold/sub-01.nii.gz"


def test_the_page_states_start_and_network_and_each_criterion():
    verdict = {"verdict": "fail", "criteria": [{"name": "val_gap", "status": "fail", "sentence": "validation is 2.7x"}]}
    film = {"video": {"skill": 0.4, "top_1": 0.46, "top_1_chance": 0.03}}
    decoding = {
        "measured": film,
        "linear": {"video": {"skill": 0.35, "top_1": 0.43, "top_1_chance": 0.03}},
        "ridge": {"video": {"skill": 0.3, "top_1": 0.4, "top_1_chance": 0.03}},
    }
    records = [
        {"kind": "run", "total_steps": 200},
        {"kind": "evaluation", "encoding": {"r_responsive": 0.4486, "r_start": 0.4491}, "decoding": decoding},
    ]
    page = rehearsal.page([rehearsal.Rehearsed("test_full_fixes", {"threads": 1}, verdict, records)], "refused")
    assert "| `test_full_fixes` | `threads=1` | 200 | 0.449 | 0.449 | – | – | – | fail |" in page
    assert "| `test_full_fixes` | 0.40 | 0.35 | 0.30 | 0.46 | 0.43 | 0.40 | 0.03 |" in page
    assert "- fail: `val_gap`: validation is 2.7x" in page
