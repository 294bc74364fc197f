"""Names of a study's films for pages and model cards."""

from __future__ import annotations

from giblet_train.analysis.load_run import stimulus_files
from giblet_train.schema.config import DataConfig, StimulusConfig


def test_the_films_of_a_table_of_runs_are_named_not_the_default_of_data_video() -> None:
    assert stimulus_files(DataConfig(video="film.mp4")) == ["film.mp4"]
    stimuli = {"a": StimulusConfig(video="movie.mp4"), "b": StimulusConfig(audio="story.wav"), "c": StimulusConfig()}
    assert stimulus_files(DataConfig(runs="runs.tsv", stimuli=stimuli)) == ["movie.mp4", "story.wav"]
    many = {str(i): StimulusConfig(video=f"part{i}.mkv") for i in range(8)}
    assert stimulus_files(DataConfig(runs="runs.tsv", stimuli=many)) == ["8 files"]
