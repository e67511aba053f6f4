"""The pictures: metrics by epoch, and what a run's predictions are worth."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rec_plots import curves, regression, style
from rec_plots.layout import (
    Colours,
    Words,
    finish,
    first,
    legend_below,
    panel_title,
    picture_title,
)
from rec_plots.runs import BINARY, REGRESSION, Run, Scores
from rec_plots.text import TEXT, drawable
from rec_runner.metrics.auc import auc
from rec_runner.report.report import scores

SCORE_BINS = 25
KINDS = (*BINARY, *REGRESSION)
MOST_TASKS = 40  # a picture of more takes minutes and gigabytes
MOST_PANELS = 2 * MOST_TASKS + 20

Look = Mapping[str, Any]
_Panel = Optional[tuple[str, str, str]]


def draw(runs: Sequence[Run], language: str) -> dict[str, Figure]:
    """Draw all that the runs have figures for, within :func:`rec_plots.style.context`.

    Args:
        runs: at least one.
        language: ``zh`` or ``en``.

    Returns:
        name of the picture (``training``, ``roc``, ``precision_recall``, ``calibration``,
        ``scores``; of regressions ``predictions``, ``residuals``) to the figure.
    """
    words = TEXT[language]
    tasks = first(dict.fromkeys(task for run in runs for task in run.tasks), MOST_TASKS, "tasks")
    colours = {task: style.task_colour(index) for index, task in enumerate(tasks)}
    figures = {}
    if any(run.records for run in runs):
        figures["training"] = _training(runs, colours, words)
    for regressions in (False, True):
        scored = [run.only(regressions) for run in runs if run.only(regressions).scores]
        there = {t: c for t, c in colours.items() if any(t in run.scores for run in scored)}
        if there and regressions:
            figures["predictions"] = regression.predictions(scored, there, words)
            figures["residuals"] = regression.residuals(scored, there, words)
        elif there:
            figures.update({name: _curves(name, scored, there, words) for name in CURVES})
            figures["scores"] = _score_histograms(scored, there, words)
    return figures


def _training(runs: Sequence[Run], colours: Colours, words: Words) -> Figure:
    """A column of panels per task, and those for what concerns all of them."""
    (panels, height), grey, n = _panels(runs, colours, words), style.NEUTRAL, len(runs)
    columns = min(math.ceil(len(panels) / height), 4)
    rows = height * math.ceil(len(panels) / (height * columns)) if len(panels) > 1 else 1
    figure = Figure(figsize=(max(4.1 * columns, 6.4), 3.1 * rows + 1.0))
    epochs = [record["epoch"] for run in runs for record in run.records]
    margin = 0.05 * (max(epochs) - min(epochs)) or 0.5
    dots = max(epochs) == min(epochs)
    common = {"xlabel": words["epoch"], "xlim": (min(epochs) - margin, max(epochs) + margin)}
    places = itertools.product(range(0, rows, height), range(columns), range(height))
    for panel, (band, column, below) in zip(panels, places):
        if panel is None:
            continue
        key, title, colour = panel
        place = (band + below) * columns + column + 1
        axes = figure.add_subplot(rows, columns, place, **common)
        axes.set_title(title, color=colour)
        _training_lines(axes, key, runs, colour, dots)
    present = {record["phase"] for run in runs for record in run.records}
    by_phase = []
    for phase in (phase for phase in style.PHASES if phase in present):
        look = style.phase_look(phase, grey, dots)
        marker = "o" if dots or phase == "infer" else ""
        by_phase.append(Line2D([], [], label=words[phase], marker=marker, **look))
    looks = [
        {"color": style.shade(grey, i, n), "marker": style.RUN_MARKERS[i % 6]} for i in range(n)
    ]
    by_run = [Line2D([], [], label=run.name, ls="", **look) for run, look in zip(runs, looks)]
    return finish(figure, words["training"], [by_phase, by_run if n > 1 else []])


def _panels(runs: Sequence[Run], colours: Colours, words: Words) -> tuple[list[_Panel], int]:
    """Each record value's panel, the tasks' own first, and how many make a column of one task.

    Returns:
        key, title and colour of each panel, None for a gap; the height of a column.
    """
    pairs = (pair for run in runs for record in run.records for pair in scores(record).items())
    there = [*(key for key, value in pairs if isinstance(value, (int, float))), "rows_per_second"]
    of_tasks = {f"{kind}_{t}": (t, kind) for t in colours for kind in KINDS}
    left = {f"{kind}_{task}" for run in runs for task in run.tasks for kind in KINDS}
    known = [key for key in of_tasks if key in there]
    shown = [k for k in dict.fromkeys([*known, *there]) if k in of_tasks or k not in left]
    shown = first(shown, MOST_PANELS, "values of an epoch")
    sizes = Counter(of_tasks[key][0] for key in shown if key in of_tasks)
    height = max([2, *sizes.values()])
    panels: list[_Panel] = []
    for place, key in enumerate(shown):
        if key not in of_tasks:
            panels.append((key, words.get(key, drawable(key)), style.NEUTRAL))
            continue
        task, kind = of_tasks[key]
        panels.append((key, f"{drawable(task)} · {words[kind]}", colours[task]))
        ends = place + 1 == len(shown) or of_tasks.get(shown[place + 1], ("",))[0] != task
        if ends and height > 2:  # the next task begins a column of its own
            panels.extend([None] * (-len(panels) % height))
    return panels, height


def _training_lines(axes: Axes, key: str, runs: Sequence[Run], colour: str, dots: bool) -> None:
    """A line per run and phase: a record value by epoch."""
    speed = key == "rows_per_second"
    # Where there is one epoch, a second tick could only be a fraction.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for index, run in enumerate(runs):
        for phase in ("train",) if speed else style.PHASES:
            records = [r for r in run.records if r["phase"] == phase and r.get(key) is not None]
            points = {record["epoch"]: record[key] for record in records}
            shade = style.shade(colour, index, len(runs))
            look = {"markersize": 4.5, **style.phase_look(phase, shade, dots)}
            if speed:
                look["linestyle"] = "-"
            every, marker = max(len(points) // 15, 1), style.RUN_MARKERS[index % 6]
            axes.plot(*zip(*points.items()), marker=marker, markevery=every, **look)
    if speed:
        # Limits of its own: the margin would be a share of the differences, which may be none.
        axes.set_ylim(0, 1.08 * max(axes.dataLim.y1, 0) or 1)
        axes.yaxis.set_major_formatter("{x:,.0f}")


def _curves(name: str, runs: Sequence[Run], colours: Colours, words: Words) -> Figure:
    """A panel per task, a curve per run in it."""
    columns = min(len(colours), 4)
    rows = math.ceil(len(colours) / columns)
    figure = Figure(figsize=(max(4.6 * columns, 6.4), (4.6 + 0.2 * len(runs)) * rows + 0.5))
    x_label, y_label, draw_curve = CURVES[name]
    labels = {"xlabel": words[x_label], "ylabel": words[y_label]}
    labels_and_limits = {**labels, "xlim": (-0.02, 1.02), "ylim": (-0.02, 1.02)}
    for place, (task, colour) in enumerate(colours.items(), start=1):
        axes = figure.add_subplot(rows, columns, place, **labels_and_limits)
        axes.set_title(panel_title(task, runs[0] if len(runs) == 1 else None, words), color=colour)
        for i, run in enumerate(runs):
            if task not in run.scores:
                continue
            label = f"{run.name}/{run.epoch}  " if len(runs) > 1 else ""
            positive = run.scores[task].labels
            if positive.all() or not positive.any():
                why = words["one_class" if len(positive) else "no_labels"]
                axes.plot([], [], " ", label=label + why)
                continue
            if not axes.lines:
                _baseline(axes, name, run.scores[task], words)
            look = {"color": style.shade(colour, i, len(runs)), "ls": style.RUN_LINES[i % 4]}
            merit = draw_curve(axes, run.scores[task], words, look)
            axes.lines[-1].set_label(label + merit)
        legend_below(axes)
    return finish(figure, picture_title(runs, words, name))


def _baseline(axes: Axes, name: str, found: Scores, words: Words) -> None:
    """What a model that knows nothing would draw, or one that is perfectly calibrated."""
    if name == "precision_recall":
        rate = np.average(found.labels, weights=found.weights)
        axes.axhline(rate, color=style.FAINT, lw=1, ls=":", label=f"{words['rate']} {rate:.3f}")
    else:
        label = words["perfect" if name == "calibration" else "chance"]
        axes.plot([0, 1], [0, 1], color=style.FAINT, lw=1, ls=":", label=label)


# Each draws one run's curve as the last line of the panel and returns its figure of merit.


def _draw_roc(axes: Axes, found: Scores, words: Words, look: Look) -> str:
    axes.plot(*curves.roc_curve(*found[:3]), **look)
    return f"{words['auc']} {auc(*found[:3]):.4f}"


def _draw_precision_recall(axes: Axes, found: Scores, words: Words, look: Look) -> str:
    recall, precision = curves.precision_recall_curve(*found[:3])
    axes.step(np.append(0.0, recall), np.append(precision[0], precision), **look)
    return f"{words['ap']} {curves.average_precision(recall, precision):.4f}"


def _draw_calibration(axes: Axes, found: Scores, words: Words, look: Look) -> str:
    bins = curves.calibration(*found[:3])
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
    settings = {"xlabel": words["probability"], "ylabel": words["share"], "xlim": (0, 1)}
    panels = itertools.product(runs, colours.items())
    for place, (run, (task, colour)) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place, **settings)
        axes.set_title(panel_title(task, run, words, several=rows > 1), color=colour)
        if task not in run.scores:
            axes.plot([], [], " ", label=words["no_scores"])
        else:
            positive, probabilities, weight, _ = run.scores[task]
            classes = ("negative", ~positive, "#bbbbbb", 1), ("positive", positive, colour, 0.65)
            for name, rows_of_class, shade, alpha in classes:
                chosen = probabilities[rows_of_class]
                of_class = np.ones(len(chosen)) if weight is None else weight[rows_of_class]
                weights = of_class / max(of_class.sum(), 1e-300)
                label = f"{words[name]}: {words['rows'].format(rows=len(chosen))}"
                axes.hist(chosen, edges, weights=weights, label=label, color=shade, alpha=alpha)
        legend_below(axes, columns=2)
    return finish(figure, picture_title(runs, words, "scores"))
