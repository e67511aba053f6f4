"""Pictures of regressions: what is predicted against what is true, and how far it is off."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rec_plots import style
from rec_plots.layout import Colours, Words, finish, legend_below, panel_title, picture_title
from rec_plots.runs import Run, Scores
from rec_runner.metrics.regression import errors

BINS = 60
SHADES = 300  # how many times lighter the palest is than the darkest
SHOWN = 0.998  # share of the rows in the picture: a few far out would leave no room for all others


def predictions(runs: Sequence[Run], colours: Colours, words: Words) -> Figure:
    """A row per run, a panel per task: how many rows lie where, the more the darker."""
    columns, rows = len(colours), len(runs)
    figure = Figure(figsize=(max(4.6 * columns, 6.4), 4.8 * rows + 0.5))
    settings = {"xlabel": words["true"], "ylabel": words["prediction"]}
    panels = itertools.product(runs, colours.items())
    for place, (run, (task, colour)) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place, **settings)
        axes.set_title(panel_title(task, run, words, several=rows > 1), color=colour)
        if task not in run.scores or not len(run.scores[task].labels):
            axes.plot([], [], " ", label=words["no_labels" if task in run.scores else "no_scores"])
        else:
            _draw_predictions(axes, run.scores[task], colour, words)
        legend_below(axes)
    return finish(figure, picture_title(runs, words, "predictions"))


def _draw_predictions(axes: Axes, found: Scores, colour: str, words: Words) -> None:
    true, predicted, weights, _ = found
    low, high = _limits(np.concatenate([true, predicted]))
    edges = np.linspace(low, high, BINS + 1)
    counts, _, _ = np.histogram2d(predicted, true, BINS, [[low, high]] * 2, weights=weights)
    within = counts.sum() / (len(true) if weights is None else weights.sum())
    shades = LinearSegmentedColormap.from_list("task", [style.tint(colour, 0.8), colour])
    shown = np.ma.masked_less_equal(counts, 0)
    if shown.count():
        most = shown.max()
        # A row that weighs next to nothing leaves no shades for all others.
        norm = LogNorm(min(max(shown.min(), most / SHADES), most / 2), most, clip=True)
        axes.pcolormesh(edges, edges, shown, cmap=shades, norm=norm, rasterized=True)
    axes.plot([low, high], [low, high], color=style.NEUTRAL, lw=1, ls=":", label=words["perfect"])
    axes.plot([], [], " ", label=_merit(found, words))
    if within < 1 - 1e-9:
        axes.plot([], [], " ", label=words["outside"].format(share=1 - within))
    axes.set(xlim=(low, high), ylim=(low, high))
    _tick(axes.xaxis, axes.yaxis)


def residuals(runs: Sequence[Run], colours: Colours, words: Words) -> Figure:
    """A panel per task, a line per run: the share of the rows that are off by so much."""
    columns = min(len(colours), 4)
    rows = math.ceil(len(colours) / columns)
    figure = Figure(figsize=(max(4.6 * columns, 6.4), (4.0 + 0.2 * len(runs)) * rows + 0.5))
    settings = {"xlabel": words["residual"], "ylabel": words["share_of_rows"]}
    for place, (task, colour) in enumerate(colours.items(), start=1):
        axes = figure.add_subplot(rows, columns, place, **settings)
        alone = runs[0] if len(runs) == 1 else None
        axes.set_title(panel_title(task, alone, words), color=colour)
        axes.axvline(0, color=style.FAINT, lw=1, ls=":", label=words["perfect"])
        _draw_residuals(axes, task, runs, colour, words)
        _tick(axes.xaxis)
        legend_below(axes)
    return finish(figure, picture_title(runs, words, "residuals"))


def _draw_residuals(axes: Axes, task: str, runs: Sequence[Run], colour: str, words: Words) -> None:
    scored = [run.scores[task] for run in runs if task in run.scores]
    off = np.concatenate([found.predictions - found.labels for found in scored])
    if len(off):
        edges = np.linspace(*_limits(off), BINS + 1)
    for index, run in enumerate(runs):
        if task not in run.scores:
            continue
        found = run.scores[task]
        label = f"{run.name}/{run.epoch}  " if len(runs) > 1 else ""
        if not len(found.labels):
            axes.plot([], [], " ", label=label + words["no_labels"])
            continue
        weights = np.ones(len(found.labels)) if found.weights is None else found.weights
        shares = weights / weights.sum()
        heights, _ = np.histogram(found.predictions - found.labels, edges, weights=shares)
        look = {"color": style.shade(colour, index, len(runs)), "ls": style.RUN_LINES[index % 4]}
        axes.stairs(heights, edges, label=label + _merit(found, words), **look)


def _tick(*axes: Axis) -> None:
    """Few ticks, and short ones: targets may be large numbers."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(5))
        formatter = axis.get_major_formatter()
        formatter.set_powerlimits((-3, 5))


def _merit(found: Scores, words: Words) -> str:
    """R2, undefined where all targets are the same, and MAE."""
    values = errors(found.labels, found.predictions, found.weights)
    r2, mae = values["r2"], values["mae"]
    return f"{words['r2']} {'-' if r2 is None else f'{r2:.4f}'}  MAE {mae:.4g}"


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Between which most of the values are, with a margin."""
    low, high = np.quantile(values, [(1 - SHOWN) / 2, (1 + SHOWN) / 2])
    margin = 0.02 * (high - low) or max(abs(high), 1.0) * 0.5
    return float(low - margin), float(high + margin)
