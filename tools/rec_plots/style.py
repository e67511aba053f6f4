"""How pictures look: colours, lines, markers, fonts.

Matplotlib is used without pyplot here and in the other modules, so that no state of its is changed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.colors import to_rgb
from matplotlib.ft2font import FT2Font

from rec_plots.text import TEXT, is_wide

# Okabe and Ito's palette, which colour-blind people tell apart, without its yellow and black;
# then darker ones, about as far from these and from one another to such eyes.
_OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
COLOURS = (*_OKABE_ITO, "#4B0055", "#661100", "#332288", "#7B4F2C", "#7F3C8D")
NEUTRAL = "#555555"
FAINT = "#999999"
PHASES = {"train": "--", "valid": "-", "infer": ":"}
RUN_LINES = ("-", "--", "-.", ":")
RUN_MARKERS = "osD^vP"
# Those to prefer; any other font with the characters will do.
CHINESE_FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "SimHei")
_CHINESE = {c for label in TEXT["zh"].values() for c in label if is_wide(c)}


def task_colour(index: int) -> str:
    """Colour of the task with this index, the same in every picture."""
    return COLOURS[index % len(COLOURS)]


def shade(colour: str, index: int, count: int) -> tuple[float, ...]:
    """The colour for one of several runs: the first darkest, the last lightest."""
    position = index / (count - 1) if count > 1 else 0.5
    towards, amount = (0.0, 0.45 - 0.9 * position) if position < 0.5 else (1.0, position - 0.5)
    return tuple(channel + (towards - channel) * amount for channel in to_rgb(colour))


def tint(colour: str, amount: float) -> tuple[float, ...]:
    """A lighter colour, by some amount of white from 0 to 1."""
    return tuple(channel + (1.0 - channel) * amount for channel in to_rgb(colour))


def phase_look(phase: str, colour: Any, dots: bool) -> dict[str, Any]:
    """Line and filling of a phase's markers: test's are hollow, training's half so among dots.

    Args:
        phase: a key of ``PHASES``.
        colour: of line and markers.
        dots: the picture has one epoch, and so no lines to tell training from validation by.
    """
    look = {"color": colour, "markerfacecolor": "white" if phase == "infer" else colour}
    if not dots:
        return {**look, "linestyle": PHASES[phase]}
    half = {"fillstyle": "left", "markerfacecoloralt": "white"} if phase == "train" else {}
    return {**look, "linestyle": "none", "markersize": 7, **half}


def chinese_font() -> str | None:
    """Name of an installed font with all characters of our Chinese labels, None without one."""
    manager = font_manager.fontManager
    cached = {entry.fname for entry in manager.ttflist}
    for file in sorted(font_manager.findSystemFonts()):  # the first of equally fit ones is taken
        # Installed since matplotlib wrote its cache.
        if file not in cached and _draws_chinese(file):
            manager.addfont(file)
    fonts = sorted(
        manager.ttflist, key=lambda entry: (*CHINESE_FONTS, entry.name).index(entry.name)
    )
    return next((entry.name for entry in fonts if _draws_chinese(entry.fname)), None)


def _draws_chinese(file: str) -> bool:
    """Whether a font has a glyph of its own for each character of our Chinese labels.

    A last-resort font, such as the one that matplotlib brings, has all characters, but draws
    those of a whole block as the same box.
    """
    try:
        font = FT2Font(file)
    except (OSError, RuntimeError, ValueError):
        return False
    glyphs = {font.get_char_index(ord(character)) for character in _CHINESE}
    return font.scalable and 0 not in glyphs and len(glyphs) == len(_CHINESE)


def context(font: str | None = None, fallback: str | None = None) -> AbstractContextManager[None]:
    """Matplotlib settings of our pictures, for the time of a ``with`` block.

    Args:
        font: name of a font to use, see :func:`chinese_font`; None for matplotlib's own.
        fallback: name of a font for the characters that matplotlib's own does not have.
    """
    return matplotlib.rc_context(
        {
            "font.family": [name for name in (font, "DejaVu Sans", fallback) if name],
            "text.parse_math": False,  # names may hold a $
            "font.size": 10.5,
            "axes.titlesize": 11.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.unicode_minus": font is None,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#dddddd",
            "legend.fontsize": 9.5,
            "legend.frameon": False,
            "lines.markersize": 5,
            "figure.facecolor": "white",
            "figure.dpi": 120,
            "savefig.dpi": "figure",
            "svg.hashsalt": "share-bottom",  # the same picture gives the same file
        }
    )
