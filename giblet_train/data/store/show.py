"""`data show`: the table of runs of a configuration, also of one in the short form, and the rows that it leads to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from giblet_train.data.readers.runs_table import Presentation, RunEntry, format_runs_table
from giblet_train.data.readers.study_files import FILM, Sources, find_sources
from giblet_train.data.readers.volumes import Volumes
from giblet_train.data.store.layout import Layout, layout_of_files, layout_of_table
from giblet_train.data.store.prepare import DataRequest
from giblet_train.data.store.store import study_folder
from giblet_train.schema.progress import ProgressCallback


def show_table(request: DataRequest, progress: ProgressCallback, *, as_json: bool = False) -> str:
    """Return the table of runs as tab-separated text; lines with `#` describe stimuli, rows and notes.

    The text is itself a table for `data.runs`. as_json: the same as one JSON object. Raises DataError, ConfigError.
    """
    folder, config = study_folder(request.config, request.data_dir, request.workdir, progress)
    sources = find_sources(config, folder)
    layout = layout_of_table(sources, config) if sources.runs else layout_of_files(sources, config)
    runs = sources.runs or expand_short_form(sources, layout)
    if as_json:
        facts = {"schema": 1, "folder": folder, "stimuli": _stimulus_facts(layout), "rows": list(_row_facts(layout))}
        return msgspec.json.encode({**facts, "notes": layout.notes, "runs": runs}, enc_hook=str).decode()
    lines = [*_stimulus_lines(layout), *_row_lines(layout), *(f"# note: {note}" for note in layout.notes)]
    return "\n".join([*lines, format_runs_table(runs, folder)]).rstrip("\n")


def expand_short_form(sources: Sources, layout: Layout) -> tuple[RunEntry, ...]:
    """Return the runs that a configuration without a table describes: one film over all scans of each subject."""
    entries: list[RunEntry] = []
    for subject, paths in sources.bold.items():
        volumes = layout.volumes[subject]
        second_s = layout.film_start_s - layout.first_tr * layout.tr_s
        for n, (path, run) in enumerate(zip(paths, (volumes, *volumes.later_runs), strict=True), 1):
            lengths = [run.file_trs] if len(paths) > 1 else layout.block_lengths_trs
            presentations = _presentations(run, lengths, second_s, layout)
            entries.append(RunEntry(subject, path, run=str(n) if len(paths) > 1 else "", presentations=presentations))
            second_s += run.file_trs * layout.tr_s
    return tuple(entries)


def _presentations(
    run: Volumes, lengths_trs: Sequence[int], second_s: float, layout: Layout
) -> tuple[Presentation, ...]:
    """Return the stretches of the film in one file, which begins at second second_s of it."""
    presentations, onset_s = [], 0.0
    first_s = max(0.0, second_s)
    if second_s < 0:
        onset_s = -second_s
    for length in lengths_trs:
        duration_s = length * layout.tr_s
        presentations.append(Presentation(FILM, onset_s, first_s, duration_s if len(lengths_trs) > 1 else None))
        onset_s, first_s = onset_s + duration_s, first_s + duration_s
    return tuple(presentations)


def _stimulus_facts(layout: Layout) -> dict[str, dict[str, Any]]:
    """Return film, sound and number of annotations of each stimulus."""
    return {
        name: {"video": source.film, "audio": source.sound, "annotations": len(source.segments)}
        for name, source in layout.stimuli.items()
    }


def _stimulus_lines(layout: Layout) -> Iterator[str]:
    for name, facts in _stimulus_facts(layout).items():
        files = ", ".join(f"{key} {facts[key]}" for key in ("video", "audio") if facts[key] is not None)
        yield f"# stimulus {name}: {files or 'no film'}; {facts['annotations']} annotations"


def _row_lines(layout: Layout) -> Iterator[str]:
    for facts in _row_facts(layout):
        subjects = f"{len(facts['subjects'])} of {len(layout.volumes)} subjects"
        yield f"# rows {facts['first']} to {facts['last']}: {facts['name']}, {subjects}"


def _row_facts(layout: Layout) -> Iterator[dict[str, Any]]:
    """Yield first and last row of each block of the store, its name, and the subjects that have it."""
    start = 0
    for name, length in zip(layout.block_names, layout.block_lengths_trs, strict=True):
        having = [
            s
            for s in layout.volumes
            if not layout.presence or any(a < start + length and b > start for a, b in layout.presence[s])
        ]
        yield {"first": start, "last": start + length - 1, "name": name, "subjects": having}
        start += length
