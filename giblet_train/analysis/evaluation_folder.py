"""Write everything that the evaluation of a run yields into a folder: figures, maps, tables, lesions and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.evaluate_run import evaluate_checkpoint, evaluation_lines
from giblet_train.analysis.film_clip import film_clip
from giblet_train.analysis.held_out_maps import HeldOutMaps, held_out_maps
from giblet_train.analysis.lesions import LesionContext, lesion_lines, lesion_study
from giblet_train.analysis.load_run import LoadedRun
from giblet_train.analysis.results import write_results
from giblet_train.analysis.run_report import ReportParts, report_page
from giblet_train.components.loss_terms import SOURCES
from giblet_train.components.voxel_posterior import VoxelPosterior
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.diagnosis.criteria import Verdict, verdict_of
from giblet_train.model.network import BrainModel
from giblet_train.monitoring.run_end import recorded_end
from giblet_train.pages.page import write_page
from giblet_train.schema.health import Health
from giblet_train.schema.history import read_history
from giblet_train.schema.progress import ProgressCallback

PAGE = "report.html"
MOST_LESIONS = 100
"""Regions with more, such as the parcels of a fine atlas, are lesioned by `giblet lesion` alone: each takes N_DRAWS."""
N_DRAWS = 20
"""Random sets of a lesion on the page: the fewest with which p can be below .05."""


def evaluate_into(
    run: LoadedRun,
    folder: Path | None,
    report_progress: ProgressCallback,
    maps: HeldOutMaps | None = None,
    health: Health | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Evaluate a run; return the figures and their lines.

    Args:
        run: the run.
        folder: an empty folder for all files, None to write none.
        report_progress: receives a sentence and the completed fraction.
        maps: its held-out maps, if they are computed already.
        health: how the run ended; by default what its directory records.
    """
    maps = maps or held_out_maps(run)
    figures = evaluate_checkpoint(run, maps, report_progress)
    lines = evaluation_lines(figures)
    if folder is not None:
        write_results("evaluation", figures, lines, folder, as_json=False)
        write_maps(run.data, maps, run.setup.posterior, folder)
        write_series(run.data, maps, folder / "series.tsv")
        write_regions(run, maps, folder / "regions.tsv")
        verdict = verdict_of(
            run.config, read_history(run.run_dir), health or recorded_end(run.run_dir, run.config.watch)
        )
        write_report(run, figures, maps, verdict, folder, report_progress)
    return figures, lines


def write_maps(data: PreparedSplit, maps: HeldOutMaps, posterior: VoxelPosterior | None, folder: Path) -> None:
    """Write a map for each figure of the group, and r and p of each subject.

    posterior: what the ridge start concludes about each voxel; None without one.
    """
    values_by_name: dict[str, NDArray[Any]] = {
        "r": maps.group_r_V,
        "ceiling": np.nan_to_num(maps.ceiling_V),
        "r_over_ceiling": np.nan_to_num(maps.relative_V),
        "p": maps.p["group"],
        "q": maps.q(),
    }
    for subject, r_V in maps.r.items():
        values_by_name |= {f"{subject}_r": r_V, f"{subject}_p": maps.p[subject], f"{subject}_q": maps.q(subject)}
    values_by_name |= {f"lost_without_{modality}": lost_V for modality, lost_V in maps.lost_without.items()}
    if posterior is not None:
        values_by_name |= {
            "explained": posterior.explained_V,
            "explained_low": posterior.low_V,
            "explained_high": posterior.high_V,
            "memory_s": np.where(posterior.driven_V, posterior.memory_s_V, 0.0),
            "space": posterior.preferred_V + 1.0,
        }
        values_by_name |= {f"share_{s}": posterior.share_VM[:, n] for n, s in enumerate(posterior.spaces)}
        names = "".join(f"{n}\t{name}\n" for n, name in enumerate(posterior.preferred_names, 1))
        (folder / "space.tsv").write_text("index\tname\n" + names, encoding="utf-8")
    for name, values_V in values_by_name.items():
        data.study.geometry.write_map(folder / name, data.in_grid_order(values_V), data.mask)


def write_series(data: PreparedSplit, maps: HeldOutMaps, path: Path) -> None:
    """Write measured and predicted responses of each region, a row for each test TR with its second of the stimulus."""
    rows = data.split.test
    columns = [
        "tr",
        "stimulus",
        "film_s",
        *(f"{name}_{kind}" for name in maps.measured for kind in ("measured", "predicted")),
    ]
    lines = ["\t".join(column.replace(" ", "_") for column in columns)]
    for t, tr in enumerate(rows):
        values = [series[name][t] for name in maps.measured for series in (maps.measured, maps.predicted)]
        stimulus, film_s = data.study.shown_at(int(tr))
        second = "n/a" if math.isnan(film_s) else f"{film_s:.3f}"
        lines.append("\t".join([str(int(tr)), stimulus or "n/a", second, *(f"{value:.5f}" for value in values)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_regions(run: LoadedRun, maps: HeldOutMaps, path: Path) -> None:
    """Write a row for each region of the atlas and each subject; nothing without an atlas."""
    regions = [p for p in run.regions() if p.voxels_V.any()]
    if not regions:
        return
    posterior = run.setup.posterior
    spaces = () if posterior is None else posterior.spaces
    columns = ["region", "subject", "n_voxels", "r", "ceiling", "r_over_ceiling", "share_significant", "explained"]
    columns += [*(f"share_{space}" for space in spaces), "memory_s"]
    rows = []
    for subject, r_V in {"group": maps.group_r_V, **maps.r}.items():
        significant_V = maps.significant(subject)
        for region in regions:
            inside_V = region.voxels_V
            values = (r_V[inside_V], maps.ceiling_V[inside_V], r_V[inside_V] / maps.ceiling_V[inside_V])
            cells = [_mean(value) for value in (*values, significant_V[inside_V])]
            if posterior is None or subject != "group":
                cells += ["n/a"] * (len(spaces) + 2)
            else:
                driven_V = inside_V & posterior.driven_V
                cells.append(_mean(posterior.explained_V[inside_V]))
                cells += [_mean(posterior.share_VM[driven_V, n]) for n in range(len(spaces))]
                cells.append(_mean(posterior.memory_s_V[driven_V]))
            rows.append((region.name, subject, str(int(inside_V.sum())), *cells))
    path.write_text("\n".join("\t".join(row) for row in (columns, *rows)) + "\n", encoding="utf-8")


def _mean(values: NDArray[Any]) -> str:
    """Format a mean over finite values as BIDS asks for: n/a if there are none."""
    finite = values[np.isfinite(values)]
    return f"{finite.mean():.4f}" if len(finite) else "n/a"


def write_report(
    run: LoadedRun,
    figures: Mapping[str, Any],
    maps: HeldOutMaps,
    verdict: Verdict,
    folder: Path,
    report_progress: ProgressCallback,
) -> None:
    """Write lesion.json, lesion.txt and the page."""
    lesions, clip = None, None
    if isinstance(run.model, BrainModel):
        regions = tuple(p for p in run.regions() if p.voxels_V.any())
        if 0 < len(regions) <= MOST_LESIONS:
            lesions = lesion_study(run, regions, "measured", "missing", N_DRAWS, report_progress)
            write_results("lesion", lesions, lesion_lines(lesions), folder, as_json=False)
        report_progress("making the clip of the film", 0.8)
        none_V = np.zeros(run.data.n_voxels, bool)
        clip = film_clip(run, {s: LesionContext.of(run, s, "missing").film(none_V) for s in SOURCES}, report_progress)
    parts = ReportParts(run, figures, maps, read_history(run.run_dir), verdict, lesions, clip)
    report_progress("writing the page", 0.9)
    write_page(report_page(parts), folder / PAGE, "--out")
