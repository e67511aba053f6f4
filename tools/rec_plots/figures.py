"""The pictures: metrics by epoch, and what a run's predictions are worth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from rec_plots import curves, style
from rec_plots.runs import Run, Scores
from rec_plots.text import TEXT, drawable
from rec_runner.metrics.auc import auc
from rec_runner.report.report import scores
from rec_runner.system.log import warn

SCORE_BINS = 25
MOST_TASKS = 40  # a picture of more takes minutes and gigabytes
MOST_PANELS = 2 * MOST_TASKS + 20

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
    tasks = _first(dict.fromkeys(task for run in runs for task in run.tasks), MOST_TASKS, "tasks")
    colours = {task: style.task_colour(index) for index, task in enumerate(tasks)}
    figures = {}
    if any(run.records for run in runs):
        figures["training"] = _training(runs, colours, words)
    scored = [run for run in runs if run.scores]
    if scored:
        there = {t: c for t, c in colours.items() if any(t in run.scores for run in scored)}
        figures.update({name: _curves(name, scored, there, words) for name in CURVES})
        figures["scores"] = _score_histograms(scored, there, words)
    return figures


def _training(runs: Sequence[Run], colours: Colours, words: Words) -> Figure:
    """A column of panels per task, and one for what concerns all of them."""
    panels, grey, n = _panels(runs, colours, words), style.NEUTRAL, len(runs)
    columns = min(math.ceil(len(panels) / 2), 4)
    rows = 2 * math.ceil(len(panels) / (2 * columns)) if len(panels) > 1 else 1
    figure = Figure(figsize=(max(4.1 * columns, 6.4), 3.1 * rows + 1.0))
    epochs = [record["epoch"] for run in runs for record in run.records]
    margin = 0.05 * (max(epochs) - min(epochs)) or 0.5
    dots = max(epochs) == min(epochs)
    common = {"xlabel": words["epoch"], "xlim": (min(epochs) - margin, max(epochs) + margin)}
    places = itertools.product(range(0, rows, 2), range(columns), range(2))
    for (key, (title, colour)), (band, column, below) in zip(panels.items(), places):
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
    return _finish(figure, words["training"], [by_phase, by_run if n > 1 else []])


def _panels(runs: Sequence[Run], colours: Colours, words: Words) -> dict[str, tuple[str, str]]:
    """Title and colour of each record value's panel, AUC and log loss of the tasks first."""
    pairs = (pair for run in runs for record in run.records for pair in scores(record).items())
    there = [*(key for key, value in pairs if isinstance(value, (int, float))), "rows_per_second"]
    panels = {
        f"{kind}_{task}": (f"{drawable(task)} · {words[kind]}", colour)
        for task, colour in colours.items()
        for kind in ("auc", "logloss")
    }
    known = [key for key in panels if key in there]
    own = {key: (words.get(key, drawable(key)), style.NEUTRAL) for key in there}
    keys = dict.fromkeys([*known, *there])
    left = {f"{kind}_{task}" for run in runs for task in run.tasks for kind in ("auc", "logloss")}
    shown = [key for key in keys if key in panels or key not in left]
    return {k: panels.get(k) or own[k] for k in _first(shown, MOST_PANELS, "values of an epoch")}


def _first(names: Iterable[str], most: int, what: str) -> list[str]:
    """As many names as are drawn; where there are more, a warning."""
    found = list(names)
    if len(found) > most:
        warn(f"there are {len(found):,} {what}; the first {most} are drawn")
    return found[:most]


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
        axes.set_title(drawable(task), color=colour)
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
        _legend_below(axes)
    return _finish(figure, _title(runs, words, name))


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
    settings = {"xlabel": words["probability"], "ylabel": words["share"], "xlim": (0, 1)}
    panels = itertools.product(runs, colours.items())
    for place, (run, (task, colour)) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place, **settings)
        title = drawable(task) + (f"\n{run.name}/{run.epoch}" if rows > 1 else "")
        axes.set_title(title, color=colour)
        if task not in run.scores:
            axes.plot([], [], " ", label=words["no_scores"])
        else:
            positive, probabilities = run.scores[task]
            classes = ("negative", ~positive, "#bbbbbb", 1), ("positive", positive, colour, 0.65)
            for name, rows_of_class, shade, alpha in classes:
                chosen = probabilities[rows_of_class]
                weights = np.full(len(chosen), 1 / max(len(chosen), 1))
                label = f"{words[name]}: {words['rows'].format(rows=len(chosen))}"
                axes.hist(chosen, edges, weights=weights, label=label, color=shade, alpha=alpha)
        _legend_below(axes, columns=2)
    return _finish(figure, _title(runs, words, "scores"))


def _title(runs: Sequence[Run], words: Words, name: str) -> str:
    if len(runs) > 1:
        return words[name]
    rows = len(next(iter(runs[0].scores.values()))[0])
    return f"{words[name]} · {runs[0].name}/{runs[0].epoch} · {words['rows'].format(rows=rows)}"


def _legend_below(axes: Axes, columns: int = 1) -> None:
    """A panel's legend where it can hide nothing."""
    below = axes.transAxes + ScaledTranslation(0, -42 / 72, axes.figure.dpi_scale_trans)
    place = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": below}
    axes.legend(ncol=columns, columnspacing=1.2, borderaxespad=0, **place)


def _finish(figure: Figure, title: str, legends: Sequence[Sequence[Line2D]] = ()) -> Figure:
    """Title above, common legends below, panels in what is left; wider if the words need it.

    Args:
        figure: with all its panels.
        title: of the whole picture.
        legends: entries of each common legend, the uppermost first; those without any are left out.

    Returns:
        the figure.
    """
    width, height = figure.get_size_inches()
    # Not a suptitle: tight_layout would leave room for that a second time.
    heading = figure.text(0, 1 - 0.1 / height, title, va="top", fontsize=13)
    columns = figure.axes[0].get_subplotspec().get_gridspec().ncols
    panel = max(axes.get_tightbbox().width for axes in figure.axes) / figure.dpi
    words = heading.get_window_extent().width / figure.dpi
    width = max(width, words + 0.2, columns * (panel + 0.15))
    figure.set_figwidth(width)
    heading.set_x(0.1 / width)
    bottom = 0.1
    for handles in reversed(legends):
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, bottom / height)}
        for columns in range(min(len(handles), int(width // 2)), 0, -1):
            legend = figure.legend(handles=handles, ncol=columns, **place)
            if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
                break
            legend.remove()
        bottom += 0.25 * math.ceil(len(handles) / columns)
    figure.tight_layout(rect=(0, bottom / height, 1, 1 - 0.4 / height))
    return figure
