"""What the pictures share: titles, legends that hide nothing, room for all words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from rec_plots.runs import Run
from rec_plots.text import drawable
from rec_runner.system.log import warn

Words = Mapping[str, str]
Colours = Mapping[str, str]  # of each task


def first(names: Iterable[str], most: int, what: str) -> list[str]:
    """As many names as are drawn; where there are more, a warning."""
    found = list(names)
    if len(found) > most:
        warn(f"there are {len(found):,} {what}; the first {most} are drawn")
    return found[:most]


def picture_title(runs: Sequence[Run], words: Words, name: str) -> str:
    """Title of a picture of predictions: of one run, with its name, epoch and rows."""
    if len(runs) > 1:
        return words[name]
    rows = words["rows"].format(rows=runs[0].rows)
    return f"{words[name]} · {runs[0].name}/{runs[0].epoch} · {rows}"


def panel_title(task: str, run: Run | None, words: Words, several: bool = False) -> str:
    """Title of a panel: the task, and its rows where some of the run's do not count.

    Args:
        task: its name.
        run: whose panel it is, None for that of several.
        words: in the picture's language.
        several: there are panels of other runs, so that this one is named.
    """
    title = drawable(task)
    if run is None:
        return title
    counted = len(run.scores[task].labels) if task in run.scores else run.rows
    if counted < run.rows:
        title += f" · {words['rows'].format(rows=counted)}"
    return f"{title}\n{run.name}/{run.epoch}" if several else title


def legend_below(axes: Axes, columns: int = 1) -> None:
    """A panel's legend where it can hide nothing."""
    below = axes.transAxes + ScaledTranslation(0, -42 / 72, axes.figure.dpi_scale_trans)
    place = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": below}
    axes.legend(ncol=columns, columnspacing=1.2, borderaxespad=0, **place)


def finish(figure: Figure, title: str, legends: Sequence[Sequence[Line2D]] = ()) -> Figure:
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
