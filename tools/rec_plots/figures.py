"""The pictures: metrics by epoch, and what a run's predictions are worth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rec_plots import curves, style
from rec_plots.layout import add_panel, entry, finish, legend_below
from rec_plots.runs import Run, Scores
from rec_plots.text import TEXT
from rec_runner.metrics.auc import auc
from rec_runner.report.report import scores

SCORE_BINS = 25

Words = Mapping[str, str]
Look = Mapping[str, Any]
Colours = Mapping[str, str]  # of each task


def draw(runs: Sequence[Run], language: str) -> dict[str, Figure]:
    """Draw all that the runs have figures for, within :func:`rec_plots.style.context`.

    Args:
        runs: at least one.
        language: ``zh`` or ``en``.

    Returns:
        name of the picture (``training``, ``roc``, ``precision_recall``, ``calibration``,
        ``scores``) to the figure.
    """
    words = TEXT[language]
    tasks = dict.fromkeys(task for run in runs for task in run.tasks)
    colours = {task: style.task_colour(index) for index, task in enumerate(tasks)}
    figures = {}
    if any(run.records for run in runs):
        figures["training"] = _training(runs, colours, words)
    scored = [run for run in runs if run.scores]
    if scored:
        there = {t: c for t, c in colours.items() if any(t in run.scores for run in scored)}
        for name in CURVES:
            figures[name] = _curves(name, scored, there, words)
        figures["scores"] = _score_histograms(scored, there, words)
    return figures


def _training(runs: Sequence[Run], colours: Colours, words: Words) -> Figure:
    """A column of panels per task, and one for what concerns all of them."""
    keys, grey, n = _panel_keys(runs, colours), style.NEUTRAL, len(runs)
    columns = min(math.ceil(len(keys) / 2), 4)
    rows = 2 * math.ceil(len(keys) / (2 * columns)) if len(keys) > 1 else 1
    figure = Figure(figsize=(max(4.1 * columns, 6.4), 3.1 * rows + 1.0))
    epochs = [record["epoch"] for run in runs for record in run.records]
    margin = 0.05 * (max(epochs) - min(epochs)) or 0.5
    dots = max(epochs) == min(epochs)
    for index, key in enumerate(keys):
        column, below = divmod(index, 2)
        band, column = divmod(column, columns)
        kind, _, task = key.partition("_")
        known = kind in ("auc", "logloss") and task in colours
        colour = colours[task] if known else grey
        title = f"{task} · {words[kind]}" if known else words.get(key, key)
        place = (rows, columns, (2 * band + below) * columns + column + 1)
        axes = add_panel(figure, place, title, colour, xlabel=words["epoch"])
        _training_lines(axes, key, runs, colour, dots)
        axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
    present = {record["phase"] for run in runs for record in run.records}
    by_phase = [
        entry(words[p], "o" if dots or p == "infer" else "", **style.phase_look(p, grey, dots))
        for p in style.PHASES
        if p in present
    ]
    by_run = [
        entry(run.name, style.run_marker(i), color=style.shade(grey, i, n), linestyle="none")
        for i, run in enumerate(runs)
    ]
    return finish(figure, words["training"], [by_phase, by_run if n > 1 else []])


def _panel_keys(runs: Sequence[Run], colours: Colours) -> list[str]:
    """Names of record values, each task's AUC and log loss first."""
    there = {
        name: None
        for run in runs
        for record in run.records
        for name, value in scores(record).items()
        if isinstance(value, (int, float))
    }
    keys = [f"{kind}_{task}" for task in colours for kind in ("auc", "logloss")]
    keys = [key for key in keys if key in there]
    keys += [key for key in there if key not in keys]
    return [*keys, "rows_per_second"]


def _training_lines(axes: Axes, key: str, runs: Sequence[Run], colour: str, dots: bool) -> None:
    """A line per run and phase: a record value by epoch."""
    speed = key == "rows_per_second"
    # Where there is one epoch, a second tick could only be a fraction.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for index, run in enumerate(runs):
        for phase in ("train",) if speed else style.PHASES:
            points = {r["epoch"]: r.get(key) for r in run.records if r["phase"] == phase}
            points = {epoch: value for epoch, value in points.items() if value is not None}
            if not points:
                continue
            shade = style.shade(colour, index, len(runs))
            look = {"markersize": 4.5, **style.phase_look(phase, shade, dots)}
            if speed:
                look["linestyle"] = "-"
            every, marker = max(len(points) // 15, 1), style.run_marker(index)
            axes.plot(*zip(*points.items()), marker=marker, markevery=every, **look)
    if speed:
        # Limits of its own: the margin would be a share of the differences, which may be none.
        axes.set_ylim(0, 1.08 * max(axes.dataLim.y1, 0) or 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _curves(name: str, runs: Sequence[Run], colours: Colours, words: Words) -> Figure:
    """A panel per task, a curve per run in it."""
    columns = min(len(colours), 4)
    rows = math.ceil(len(colours) / columns)
    figure = Figure(figsize=(max(4.6 * columns, 6.4), (4.6 + 0.2 * len(runs)) * rows + 0.5))
    x_label, y_label, draw_curve = CURVES[name]
    labels = {"xlabel": words[x_label], "ylabel": words[y_label]}
    limits = {"xlim": (-0.02, 1.02), "ylim": (-0.02, 1.02)}
    for place, (task, colour) in enumerate(colours.items(), start=1):
        axes = add_panel(figure, (rows, columns, place), task, colour, **labels, **limits)
        for i, run in enumerate(runs):
            if task not in run.scores:
                continue
            label = f"{run.name}/{run.epoch}  " if len(runs) > 1 else ""
            positive = run.scores[task][0]
            if positive.all() or not positive.any():
                axes.plot([], [], " ", label=label + words["one_class"])
                continue
            if not axes.lines:
                _baseline(axes, name, positive, words)
            look = {"color": style.shade(colour, i, len(runs)), "ls": style.RUN_LINES[i % 4]}
            merit = draw_curve(axes, run.scores[task], words, look)
            axes.lines[-1].set_label(label + merit)
        legend_below(axes)
    return finish(figure, _title(runs, words, name))


def _baseline(axes: Axes, name: str, labels: np.ndarray, words: Words) -> None:
    """What a model that knows nothing would draw, or one that is perfectly calibrated."""
    if name == "precision_recall":
        rate = labels.mean()
        axes.axhline(rate, color=style.FAINT, lw=1, ls=":", label=f"{words['rate']} {rate:.3f}")
    else:
        label = words["perfect" if name == "calibration" else "chance"]
        axes.plot([0, 1], [0, 1], color=style.FAINT, lw=1, ls=":", label=label)


# Each draws one run's curve as the last line of the panel and returns its figure of merit.


def _draw_roc(axes: Axes, found: Scores, words: Words, look: Look) -> str:
    axes.plot(*curves.roc_curve(*found), **look)
    return f"{words['auc']} {auc(*found):.4f}"


def _draw_precision_recall(axes: Axes, found: Scores, words: Words, look: Look) -> str:
    recall, precision = curves.precision_recall_curve(*found)
    axes.step(np.append(0.0, recall), np.append(precision[0], precision), **look)
    return f"{words['ap']} {curves.average_precision(recall, precision):.4f}"


def _draw_calibration(axes: Axes, found: Scores, words: Words, look: Look) -> str:
    bins = curves.calibration(*found)
    axes.vlines(bins.predicted, bins.low, bins.high, color=look["color"], lw=1, alpha=0.6)
    axes.plot(bins.predicted, bins.observed, marker="o", markersize=4.5, **look)
    return f"{words['ece']} {bins.error:.4f}"


# Picture: words for the axes, and what draws a run's curve.
CURVES: dict[str, tuple[str, str, Callable[[Axes, Scores, Words, Look], str]]] = {
    "roc": ("fpr", "tpr", _draw_roc),
    "precision_recall": ("recall", "precision", _draw_precision_recall),
    "calibration": ("predicted", "observed", _draw_calibration),
}


def _score_histograms(runs: Sequence[Run], colours: Colours, words: Words) -> Figure:
    """A row per run, a panel per task: how each class's rows spread over the probabilities."""
    columns, rows = len(colours), len(runs)
    figure = Figure(figsize=(max(4.6 * columns, 6.4), (3.5 if rows > 1 else 3.3) * rows + 0.5))
    edges = np.linspace(0.0, 1.0, SCORE_BINS + 1)
    labels = {"xlabel": words["probability"], "ylabel": words["share"]}
    panels = itertools.product(runs, colours.items())
    for place, (run, (task, colour)) in enumerate(panels, start=1):
        title = f"{task}\n{run.name}/{run.epoch}" if rows > 1 else task
        axes = add_panel(figure, (rows, columns, place), title, colour, xlim=(0, 1), **labels)
        if task not in run.scores:
            axes.plot([], [], " ", label=words["no_scores"])
        else:
            positive, probabilities = run.scores[task]
            looks = {"color": "#bbbbbb"}, {"color": colour, "alpha": 0.65}
            for value, look, name in zip((False, True), looks, ("negative", "positive")):
                chosen = probabilities[positive == value]
                weights = np.full(len(chosen), 1 / max(len(chosen), 1))
                label = f"{words[name]}: {words['rows'].format(rows=len(chosen))}"
                axes.hist(chosen, edges, weights=weights, label=label, **look)
        legend_below(axes, columns=2)
    return finish(figure, _title(runs, words, "scores"))


def _title(runs: Sequence[Run], words: Words, name: str) -> str:
    if len(runs) > 1:
        return words[name]
    rows = len(next(iter(runs[0].scores.values()))[0])
    return f"{words[name]} · {runs[0].name}/{runs[0].epoch} · {words['rows'].format(rows=rows)}"
