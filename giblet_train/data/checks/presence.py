"""Check that the files of a study exist, all of them in one pass and without reading any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from giblet_train.data.readers.study_files import collect_missing, find_sources, study_dir
from giblet_train.schema.config import Config
from giblet_train.schema.errors import GibletError


def file_report(config: Config, workdir: Path) -> dict[str, Any]:
    """Return {n_files, problems: [{sentence, remedy}]} for the study of a configuration.

    A simulated study has nothing to look for: it is made when it is first used.
    """
    if config.data.simulate is not None:
        return {"n_files": 0, "problems": []}
    n_files = 0
    with collect_missing() as errors:
        try:
            n_files = len(find_sources(config, study_dir(config, workdir)).named())
        except GibletError as error:
            errors.append(error)
    problems = [{"sentence": error.message.rstrip("."), "remedy": error.remedy} for error in errors]
    return {"n_files": n_files, "problems": problems}
