"""`data show`: the table of runs of a configuration, also of one in the short form, and the rows that it leads to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from giblet_train.data.readers.runs_table import Presentation, RunEntry, format_runs_table
from giblet_train.data.readers.study_files import FILM, Progress, Sources, find_sources
from giblet_train.data.readers.volumes import Volumes
from giblet_train.data.store.layout import Layout, layout_of_files, layout_of_table
from giblet_train.data.store.prepare import DataRequest
from giblet_train.data.store.store import study_folder


def show_table(request: DataRequest, progress: Progress) -> str:
    """Return the table of runs as tab-separated text; lines with `#` describe stimuli, rows and notes.

    The text is itself a table for `data.runs`. Raises DataError, ConfigError.
    """
    folder, config = study_folder(request.config, request.data_dir, request.workdir, progress)
    sources = find_sources(config, folder)
    layout = layout_of_table(sources, config) if sources.runs else layout_of_files(sources, config)
    runs = sources.runs or expand_short_form(sources, layout)
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


def _stimulus_lines(layout: Layout) -> Iterator[str]:
    for name, source in layout.stimuli.items():
        files = {"video": source.film, "audio": source.sound}
        named = ", ".join(f"{key} {path}" for key, path in files.items() if path is not None)
        yield f"# stimulus {name}: {named or 'no film'}; {len(source.segments)} annotations"


def _row_lines(layout: Layout) -> Iterator[str]:
    start = 0
    for name, length in zip(layout.block_names, layout.block_lengths_trs, strict=True):
        having = [
            s
            for s in layout.volumes
            if not layout.presence or any(a < start + length and b > start for a, b in layout.presence[s])
        ]
        yield f"# rows {start} to {start + length - 1}: {name}, {len(having)} of {len(layout.volumes)} subjects"
        start += length
