"""How panels, titles and legends share the room of a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

Place = tuple[int, int, int]


def add_panel(figure: Figure, place: Place, title: str, colour: str, **settings: Any) -> Axes:
    """Add a panel with a coloured title.

    Args:
        figure: where to.
        place: rows and columns of panels, and this one's number, from 1.
        title: what it shows.
        colour: the title's, that of the task.
        settings: further properties of the axes, such as ``xlabel``.
    """
    axes = figure.add_subplot(*place)
    axes.set_title(title, color=colour, loc="left", fontweight="bold")
    axes.set(**settings)
    return axes


def entry(label: str, marker: str, **look: Any) -> Line2D:
    """A legend's entry for something that all panels have."""
    return Line2D([], [], label=label, marker=marker, **{"markersize": 5, **look})


def legend_below(axes: Axes, columns: int = 1) -> None:
    """A panel's legend where it can hide nothing."""
    below = ScaledTranslation(0, -42 / 72, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axes.transAxes + below,
        borderaxespad=0,
        ncol=columns,
        columnspacing=1.2,
        frameon=False,
    )


def finish(figure: Figure, title: str, legends: Sequence[Sequence[Line2D]] = ()) -> Figure:
    """Title above, common legends below, panels in what is left; wider if the words need it.

    Args:
        figure: with all its panels.
        title: of the whole picture.
        legends: entries of each common legend, the uppermost first; empty ones are left out.

    Returns:
        the figure.
    """
    width, height = figure.get_size_inches()
    # Not a suptitle: tight_layout would leave room for that a second time.
    heading = figure.text(0, 1 - 0.1 / height, title, ha="left", va="top", fontsize=13)
    columns = figure.axes[0].get_subplotspec().get_gridspec().ncols
    panel = max(axes.get_tightbbox().width for axes in figure.axes) / figure.dpi
    words = heading.get_window_extent().width / figure.dpi
    width = max(width, words + 0.2, columns * (panel + 0.15))
    figure.set_size_inches(width, height)
    heading.set_x(0.1 / width)
    bottom = 0.1
    for handles in reversed([handles for handles in legends if handles]):
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, bottom / height)}
        for columns in range(min(len(handles), int(width // 2)), 0, -1):
            legend = figure.legend(handles=handles, ncol=columns, frameon=False, **place)
            if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
                break
            legend.remove()
        bottom += 0.25 * math.ceil(len(handles) / columns)
    figure.tight_layout(rect=(0, bottom / height, 1, 1 - 0.4 / height))
    return figure
