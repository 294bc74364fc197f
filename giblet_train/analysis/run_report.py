"""The report of a finished run as one HTML page: what was asked and found, maps, curves, lesions, a clip, methods."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

import giblet_train
from giblet_train.analysis.evaluate_run import origin
from giblet_train.analysis.film_clip import STRIP_PIXELS, FilmClip
from giblet_train.analysis.held_out_maps import FDR, HeldOutMaps
from giblet_train.analysis.load_run import LoadedRun
from giblet_train.analysis.report_charts import balance, curves, responses, subjects
from giblet_train.analysis.report_maps import MapSection
from giblet_train.diagnosis.criteria import WORDS, Verdict
from giblet_train.evaluation.metrics import SEGMENT_TRS
from giblet_train.pages.charts import bars, value_table
from giblet_train.pages.film import film_time
from giblet_train.pages.page import figure, html_page, paragraph, table
from giblet_train.pages.png import data_uri, png_uri
from giblet_train.pages.scores import decimal, percent, score_table
from giblet_train.schema.config import Config, ordered_spaces
from giblet_train.schema.records import AnyMetric


@dataclass(frozen=True)
class ReportParts:
    """What a report is made of."""

    run: LoadedRun
    figures: Mapping[str, Any]
    """Content of evaluation.json."""
    maps: HeldOutMaps
    metrics: Sequence[AnyMetric]
    """All records of the run."""
    verdict: Verdict
    lesions: Mapping[str, Any] | None
    """Content of lesion.json; None if the study has no atlas or the network does not read brains."""
    clip: FilmClip | None
    """None if the video features cannot be shown as pictures."""


def report_page(parts: ReportParts) -> str:
    """Return the report as HTML."""
    sections = [
        ("Maps of the brain", MapSection(parts.run.data, parts.maps, parts.run.setup.posterior).html()),
        ("Measured and predicted responses", responses(parts.run.data, parts.maps, bool(parts.run.regions()))),
        ("Regions", _regions(parts)),
        ("Subjects", subjects(parts.run.data, parts.maps)),
        ("The film, reconstructed", _film(parts)),
        ("Which regions carry which modality", _lesions(parts)),
        ("Learning curves", curves(parts.metrics)),
        ("Balance of the losses", balance(parts.metrics)),
        ("Success criteria", _criteria(parts.verdict)),
        ("Methods", _methods(parts)),
        ("How to read this page", GUIDE),
    ]
    return html_page(f"Report: {parts.figures['run_id']}", sections, _opening(parts))


def _opening(parts: ReportParts) -> str:
    verdict = parts.verdict
    n_passed = sum(c.status == "pass" for c in verdict.criteria)
    criteria = f"{n_passed} of {_with_count(len(verdict.criteria), 'success criterion', 'success criteria')} passed"
    badge = f'<p><span class="badge {verdict.status}">{escape(verdict.word)}</span> {criteria}</p>'
    facts = (
        f"Evaluated on {time.strftime('%Y-%m-%d')} with giblet {giblet_train.__version__}: checkpoint "
        f"{parts.figures['checkpoint']}, step {parts.figures['step']}"
    )
    lead = "".join(paragraph(sentence, "lead") for sentence in summary_sentences(parts))
    return badge + lead + paragraph(facts, "source")


def summary_sentences(parts: ReportParts) -> tuple[str, str, str]:
    """Return three sentences: what was asked, how well brains are predicted, and how well the film is reconstructed."""
    data, encoding = parts.run.data, parts.figures["encoding"]
    noun = data.study.geometry.noun
    tr_s, n_test = data.study.tr_s, len(data.split.test)
    spaces = _join_words(list(data.inputs))
    question = (
        f"Can the fMRI responses of {_with_count(len(data.subjects), 'subject')} be predicted from the "
        f"{spaces} of a film, "
        f"and the film be reconstructed from the responses, on {n_test} TRs ({n_test * tr_s / 60:.1f} min) that were "
        "used neither for training nor for selection?"
    )
    r, ceiling = encoding["r_responsive"], encoding.get("r_ceiling")
    low, high = encoding.get("r_responsive_low"), encoding.get("r_responsive_high")
    between = f" (95% interval {decimal(low)} to {decimal(high)})" if _is_number(low) and _is_number(high) else ""
    share = f", {percent(r / ceiling)} of the noise ceiling of {decimal(ceiling)}" if _is_number(ceiling) else ""
    ridge = f" (ridge regression: {decimal(encoding['r_ridge'])})" if _is_number(encoding.get("r_ridge")) else ""
    n_significant = int(parts.maps.significant().sum())
    prediction = (
        f"In responsive {noun.many}, predicted and measured responses correlate with r = {decimal(r)}{between}{share}"
        f"{ridge}; "
        f"{n_significant} of {data.n_voxels} {noun.many} are predicted above chance (false-discovery rate {FDR:g})."
    )
    skills = parts.figures["decoding"].get("predicted", {})
    better = [m for m in ordered_spaces(skills) if (skills[m]["skill"] or 0.0) > 0]
    values = "; ".join(f"{m} {decimal(skills[m]['skill'], sign=True)}" for m in ordered_spaces(skills))
    if not skills:
        reconstruction = "The network does not reconstruct the film."
    elif better:
        verb = "is" if len(better) == 1 else "are"
        reconstruction = (
            f"From predicted brains, {_join_words(better)} {verb} reconstructed better than by the mean "
            f"(skill: {values})."
        )
    else:
        reconstruction = f"No modality is reconstructed better than by the mean (skill: {values})."
    return question, prediction, reconstruction


def _regions(parts: ReportParts) -> str:
    maps, regions, many = parts.maps, parts.run.regions(), parts.run.data.study.geometry.noun.many
    rows = [(p.name, p.voxels_V) for p in regions if p.voxels_V.any()]
    if not rows:
        return ""
    significant_V = maps.significant()
    sorted_rows = sorted(rows, key=lambda row: -float(maps.group_r_V[row[1]].mean()))
    means = [(name, float(maps.group_r_V[v].mean()), _mean(maps.ceiling_V[v])) for name, v in sorted_rows[:40]]
    chart = bars(
        "Held-out r of each region and its noise ceiling", means, f"held-out r, mean of {many}", "noise ceiling"
    )
    cells = [
        (
            name,
            str(int(v.sum())),
            decimal(float(maps.group_r_V[v].mean())),
            decimal(_mean(maps.ceiling_V[v])),
            percent(float(significant_V[v].mean())),
        )
        for name, v in sorted_rows
    ]
    figures = table(("region", many, "r", "ceiling", "significant"), cells)
    source = "regions.tsv next to this page; giblet evaluate RUN"
    caption = f"Regions of the atlas, best first. Significant: share of the {many} of a region."
    return f'<div class="columns">{figure(chart, caption, source)}<div>{figures}</div></div>'


def _film(parts: ReportParts) -> str:
    scores_by_row = {
        f"{m} {origin(source)}": scores
        for source, modalities in parts.figures["decoding"].items()
        for m, scores in modalities.items()
    }
    scores = score_table(scores_by_row, SEGMENT_TRS) if scores_by_row else ""
    if parts.clip is None:
        note = "There is no clip, because the video features cannot be turned back into pictures."
        return scores and scores + paragraph(note, "soft")
    clip = parts.clip
    height, strip = clip.poster.shape[0], STRIP_PIXELS
    n_rows = math.ceil(len(clip.panels) / 2)
    labels = "".join(
        f'<span style="left:{50 * (n % 2)}%;top:{100 * (strip + n // 2 * (height - strip) / n_rows) / height:.1f}%">'
        f"{escape(_panel_label(parts, name))}</span>"
        for n, name in enumerate(clip.panels)
    )
    begin, end = map(film_time, clip.film_s)
    description = f"Film and reconstructions from {begin} to {end} of {clip.stimulus}"
    video = (
        f'<div class="clip screen-only"><video controls playsinline preload="metadata" aria-label="{description}" '
        f'poster="{png_uri(clip.poster)}" src="{data_uri(clip.mp4, "video/mp4")}"></video>{labels}</div>'
        f'<div class="clip print-only"><img alt="{description}: one frame" src="{png_uri(clip.poster)}">{labels}</div>'
    )
    if clip.film_sound_mp4:
        video += (
            '<div class="screen-only"><p class="soft">The clip has the sound reconstructed from predicted brains. For '
            "comparison, the sound of the film's own audio features:</p>"
            '<audio controls preload="metadata" aria-label="Sound of the film" '
            f'src="{data_uri(clip.film_sound_mp4, "audio/mp4")}"></audio></div>'
        )
    caption = (
        f"{description}, at the start of the test block; the film time is at the upper left. “its components” is the "
        f"best that this model's video features can show. {parts.run.credit()}"
    )
    return scores + figure(video, escape(caption), "giblet rebuild RUN has all of the test block")


def _panel_label(parts: ReportParts, name: str) -> str:
    source = next((s for s in parts.figures["decoding"] if s in name), None)
    if source is None:
        return name
    skill = parts.figures["decoding"][source].get("video", {}).get("skill")
    return f"{name}, skill {decimal(skill, sign=True)}"


def _lesions(parts: ReportParts) -> str:
    study = parts.lesions
    if study is None or not study["lesions"]:
        return ""
    modalities, many = ordered_spaces(study["before"]), parts.run.data.study.geometry.noun.many
    rows = {}
    for lesion in study["lesions"]:
        changes = [lesion["changes"][m]["skill"] for m in modalities]
        rows[lesion["region"]] = [
            (c["lost"], f"{decimal(c['lost'], sign=True)}{' *' if c['p'] <= 0.05 else ''}") for c in changes
        ]
    largest = max([0.02, *(abs(value) for cells in rows.values() for value, _ in cells if math.isfinite(value))])
    caption = (
        f"Skill that the reconstruction from {study['source']} brains loses without the {many} of a region. "
        f"* more than with {study['n_draws']} random sets of as many {many} (p ≤ .05)."
    )
    return figure(value_table("region", rows, modalities, largest), escape(caption), "giblet lesion RUN")


def _criteria(verdict: Verdict) -> str:
    rows = "".join(
        f'<tr><td><span class="badge {c.status}">{WORDS[c.status]}</span></td><td><b>{escape(c.name)}</b><br>'
        f"{escape(c.sentence)}</td></tr>"
        for c in verdict.criteria
    )
    return f'<div class="scroll" tabindex="0"><table>{rows}</table></div>' + paragraph(
        "Source: config.yaml (criteria) and metrics.jsonl; giblet verdict RUN", "source"
    )


def _methods(parts: ReportParts) -> str:
    return f'<div class="card">{paragraph(methods_sentence(parts))}</div>'


def _refit(parts: ReportParts) -> str:
    """Return a sentence about the ridge initialisation that was fitted again; empty if it was not."""
    trs = parts.run.setup.refit_trs
    if not trs:
        return ""
    return (
        "Then the ridge regression was fitted again, with what was selected, on all "
        f"{trs} training and validation TRs; validation figures are of the network before that. "
    )


def methods_sentence(parts: ReportParts) -> str:
    """Return a paragraph for a methods section, with the numbers of this run."""
    config, data, encoding = parts.run.config, parts.run.data, parts.figures["encoding"]
    split, noun = data.split, data.study.geometry.noun
    kind = f"a ridge regression with priors of each {noun.one} over feature spaces and a transformer that adds to it"
    if config.model.start != "ridge":
        kind = "a transformer"
    if config.model.kind == "dense":
        kind = "a dense network"
    sizes = f"{len(split.train)} training, {len(split.validation)} validation and {len(split.test)} test TRs"
    responsive = int(encoding["n_responsive"])
    return (
        f"Responses of {_with_count(len(data.subjects), 'subject')} ({data.n_voxels} {noun.many}, TR "
        f"{data.study.tr_s:g} s) were "
        f"predicted from {_join_words(list(data.inputs))} features by {kind}. "
        "The scans were split "
        f"into {sizes}, with gaps of {split.gap_trs} TRs between them (fold {split.fold}). Scales, "
        "masks and all weights "
        f"were fitted to training TRs alone; the weights were selected on the validation block. {_refit(parts)}"
        f"{_drift(config)} "
        f"Prediction was measured by the Pearson correlation of predicted and measured responses of the test block, "
        f"averaged over subjects and over the {responsive} {noun.many} with reliable inter-subject correlation in "
        "training. "
        "One-sided p values are of the correlation after prewhitening (Woolrich et al. 2001), which is compared with "
        f"{parts.maps.null}, pooled over {noun.many}; they were corrected by the "
        f"false-discovery rate (Benjamini and Hochberg 1995). The noise ceiling is the root of the inter-subject "
        f"correlation. 95% intervals use the "
        "long-run variance of what each TR contributes, from its slowest cosines (Lazarus et al. 2018)."
    )


def _drift(config: Config) -> str:
    kind = config.data.detrend
    if kind == "none":
        return "No drift was removed."
    if kind == "mean":
        return "The mean of each block was removed."
    return f"From each block, its mean and cosines with periods above {kind:g} s were regressed out."


def _mean(values: NDArray[Any]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def _is_number(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _join_words(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _with_count(n: int, noun: str, nouns: str = "") -> str:
    return f"{n} {noun if n == 1 else nouns or noun + 's'}"


GUIDE = """
<p>A good result has all of these:</p><ul>
<li>The map of r looks like the map of the ceiling, in the regions that the stimulus should drive, on both sides.</li>
<li>r is well above ridge regression, or at least not below it, and reaches a large part of the ceiling.</li>
<li>Validation loss falls with training loss and stays flat at the end.</li>
<li>Each reconstructed modality has a skill above 0, and segments are identified far above chance.</li>
<li>A lesion of a sensory region costs its own modality more than the others.</li></ul>
<p>Signs of a bad result, and what to check:</p><ul>
<li>r above the ceiling by more than its interval, or voxels predicted outside the brain or in white matter: held-out
data reached training, or responses follow motion. Check the split and the confounds.</li>
<li>A rim of high r along the edge of the brain: motion that follows the film.</li>
<li>r near 0 everywhere, but a clear ceiling: film and brain are not aligned. Run <code>giblet data lag</code>.</li>
<li>No ceiling and no r: the subjects do not share the stimulus, or the scans are not in one space.</li>
<li>Training loss falls, validation loss rises from the start: too little data for the size of the model.</li>
<li>One loss has nearly all of the total or of the gradient: the other parts are not learnt. See its weight.</li></ul>
<p>Skill is 1 − error / error of predicting the training mean: 1 is perfect, 0 is no better than the mean.</p>
"""
