"""Pictures of runs: metrics by epoch, and what a run's predictions are worth.

Needs matplotlib, which nothing else here does; only ``tools/plot.py`` and the notebook import
this module. Figures are made without pyplot, so that no state of matplotlib's is changed.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow
import pyarrow.csv
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from rec_runner.checkpoint.store import Checkpoints
from rec_runner.metrics.tasks import auc
from rec_runner.report.report import scores
from rec_runner.system.errors import UserError

# Okabe and Ito's palette, which colour-blind people tell apart, without its yellow and black;
# then darker ones, about as far from these and from one another to such eyes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9") + (
    "#4B0055",
    "#661100",
    "#332288",
    "#7B4F2C",
    "#7F3C8D",
)
NEUTRAL = "#555555"
FAINT = "#999999"
CHINESE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "PingFang SC",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "SimHei",
    "Hiragino Sans GB",
)
TEXT = {
    "en": {
        "training": "Metrics by epoch",
        "auc": "AUC",
        "logloss": "log loss",
        "loss": "loss (all tasks)",
        "rows_per_second": "training speed, rows/s",
        "epoch": "epoch",
        "train": "training",
        "valid": "validation",
        "infer": "test",
        "roc": "ROC",
        "fpr": "false positive rate",
        "tpr": "true positive rate",
        "precision_recall": "Precision and recall",
        "recall": "recall",
        "precision": "precision",
        "calibration": "Calibration",
        "predicted": "mean predicted probability",
        "observed": "share of positive rows",
        "scores": "Scores by label",
        "probability": "predicted probability",
        "share": "share of the label's rows",
        "positive": "label 1",
        "negative": "label 0",
        "chance": "chance",
        "perfect": "perfect",
        "rate": "share of positives",
        "ap": "AP",
        "ece": "ECE",
        "one_class": "labels of one class only",
        "no_scores": "no predictions",
        "rows": "{rows:,} rows",
    },
    "zh": {
        "training": "各轮指标",
        "auc": "AUC",
        "logloss": "对数损失",
        "loss": "总损失",
        "rows_per_second": "训练速度（行/秒）",
        "epoch": "轮次 epoch",
        "train": "训练",
        "valid": "验证",
        "infer": "测试",
        "roc": "ROC 曲线",
        "fpr": "假正率",
        "tpr": "真正率",
        "precision_recall": "精确率与召回率",
        "recall": "召回率",
        "precision": "精确率",
        "calibration": "校准曲线",
        "predicted": "预测概率（均值）",
        "observed": "正例所占比例",
        "scores": "得分分布",
        "probability": "预测概率",
        "share": "占该类行数的比例",
        "positive": "标签 1",
        "negative": "标签 0",
        "chance": "随机",
        "perfect": "理想",
        "rate": "正例率",
        "ap": "平均精确率",
        "ece": "校准误差 ECE",
        "one_class": "标签只有一类",
        "no_scores": "没有预测",
        "rows": "{rows:,} 行",
    },
}
PHASES = {"train": "--", "valid": "-", "infer": ":"}
RUN_LINES = ("-", "--", "-.", ":")
RUN_MARKERS = "osD^vP"
CALIBRATION_BINS = 10
SCORE_BINS = 25

Scores = tuple[np.ndarray, np.ndarray]
Look = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """What a run left in its folder.

    Attributes:
        name: how legends call it.
        records: objects of ``metrics.jsonl`` and ``infer_metrics.jsonl``.
        epoch: epoch of the predictions, None where there are none.
        scores: task to ``(labels bool [n], probabilities float64 [n])``.
    """

    name: str
    records: Sequence[Mapping[str, Any]]
    epoch: int | None = None
    scores: Mapping[str, Scores] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the model's order."""
        names = [k[len("auc_") :] for r in self.records for k in r if k.startswith("auc_")]
        return list(dict.fromkeys([*names, *self.scores]))


def read_runs(folders: Sequence[str], epoch: int | None = None) -> list[Run]:
    """Read what the tools wrote under checkpoint folders.

    Args:
        folders: ``runner.model_save_path`` of each run.
        epoch: whose predictions to read; by default the best epoch's, or without validation the
            last's, of those that have any.

    Raises:
        UserError: a folder that holds no run, a damaged file, or no predictions of ``epoch``.
    """
    names = _short_names([Path(folder) for folder in folders])
    return [_read_run(Path(folder), name, epoch) for folder, name in zip(folders, names)]


def _read_run(folder: Path, name: str, epoch: int | None) -> Run:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one that a trainer wrote")
    records: list[Mapping[str, Any]] = []
    for file in (folder / "metrics.jsonl", folder / "infer_metrics.jsonl"):
        if file.is_file():
            records += _read_records(file)
    found = {
        int(file.parent.name): file
        for file in folder.glob("*/predictions.csv")
        if file.parent.name.isdecimal()
    }
    if epoch is None and found:
        best = Checkpoints(str(folder)).best_epoch()
        epoch = best if best in found else max(found)
    if epoch is not None and epoch not in found:
        known = ", ".join(map(str, sorted(found))) or "none"
        raise UserError(f"{folder}: no predictions of epoch {epoch}; epochs with some: {known}")
    if not records and not found:
        raise UserError(f"{folder}: neither metrics.jsonl nor predictions.csv of a run in it")
    return Run(name, records, epoch, {} if epoch is None else read_predictions(found[epoch]))


def _read_records(file: Path) -> list[Mapping[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{file}, line {number}: not JSON: {error.msg}") from error
        known = isinstance(record, dict) and "phase" in record
        if not known or not isinstance(record.get("epoch"), int):
            raise UserError(f"{file}, line {number}: expected an object with phase and epoch")
        records.append(record)
    return records


def read_predictions(file: Path) -> dict[str, Scores]:
    """Read ``label_<task>,probability_<task>,…`` as ``infer`` writes it.

    Returns:
        task to ``(labels bool [n], probabilities float64 [n])``.

    Raises:
        UserError: not such a file, or a value that is no label or no probability.
    """
    try:
        table = pyarrow.csv.read_csv(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    tasks = [name[len("label_") :] for name in table.column_names if name.startswith("label_")]
    if not tasks:
        raise UserError(f"{file}: expected columns label_<task> and probability_<task>")
    return {
        task: (
            _column(file, table, f"label_{task}", lambda v: (v == 0) | (v == 1), "0 or 1") > 0.5,
            _column(file, table, f"probability_{task}", lambda v: (v >= 0) & (v <= 1), "0 to 1"),
        )
        for task in tasks
    }


def _column(
    file: Path, table: pyarrow.Table, name: str, accepts: Callable[..., Any], need: str
) -> np.ndarray:
    if name not in table.column_names:
        raise UserError(f"{file}: column {name} is missing")
    values = table[name].to_numpy()
    try:
        numbers = values.astype(np.float64)
        wrong = np.flatnonzero(~accepts(numbers))
    except ValueError as error:
        raise UserError(f"{file}: column {name} should be numbers: {error}") from error
    if len(wrong):
        row = wrong[0]
        raise UserError(f"{file}, line {row + 2}: {name} is {values[row]!s}, expected {need}")
    return numbers


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The end of each path, as many parts as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({p[-depth:] for p in parts}) < len(set(parts)):
        depth += 1
    return [_cut("/".join(p[-depth:])) for p in parts]


def _cut(name: str, longest: int = 32) -> str:
    """A long name without its middle; a Chinese character is as wide as two letters."""
    if _width(name) <= longest:
        return name
    half = (longest - 1) // 2
    start, end = half, half
    while _width(name[:start]) > half:
        start -= 1
    while _width(name[-end:]) > half:
        end -= 1
    return f"{name[:start]}…{name[-end:]}"


def _width(text: str) -> int:
    """Width in letters."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def roc_curve(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates, from the highest threshold to the lowest.

    Args:
        labels: bool ``[n]``, of both classes.
        probabilities: ``[n]``.

    Returns:
        two arrays ``[k + 1]`` for k distinct probabilities; both start at 0 and end at 1.
    """
    true, false = _counts(labels, probabilities)
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])


def precision_recall_curve(
    labels: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision, from the highest threshold to the lowest.

    Args:
        labels: bool ``[n]``, of both classes.
        probabilities: ``[n]``.

    Returns:
        two arrays ``[k]`` for k distinct probabilities; recall ends at 1.
    """
    true, false = _counts(labels, probabilities)
    return true / true[-1], true / (true + false)


def average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean precision over recall, each step weighted by the recall it adds."""
    return float(np.diff(recall, prepend=0.0) @ precision)


def _counts(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives at every distinct threshold, the highest first."""
    order = np.argsort(-probabilities, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(probabilities[order]) != 0, True))
    true = np.cumsum(labels[order])[ends]
    return true.astype(np.float64), (ends + 1 - true).astype(np.float64)


@dataclass(frozen=True)
class Calibration:
    """Rows by predicted probability, in equally wide bins; empty bins are left out.

    Attributes:
        predicted: mean probability of each bin.
        observed: share of positive rows of each bin.
        low: lower end of Wilson's 95 % interval of ``observed``.
        high: upper end.
        error: expected calibration error, mean of ``|observed - predicted|`` over rows.
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: float


def calibration(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS
) -> Calibration:
    """Compare predicted probabilities with what happened.

    Args:
        labels: bool ``[n]``, n at least 1.
        probabilities: ``[n]``, in 0 … 1.
        bins: number of bins over 0 … 1.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.searchsorted(edges[1:-1], probabilities)
    count = np.bincount(place, minlength=bins)
    used = count > 0
    count = count[used]
    predicted = np.bincount(place, probabilities, bins)[used] / count
    observed = np.bincount(place, labels, bins)[used] / count
    z = 1.96
    centre = (observed + z * z / (2 * count)) / (1 + z * z / count)
    spread = observed * (1 - observed) / count + z * z / (4 * count * count)
    half = z * np.sqrt(spread) / (1 + z * z / count)
    error = float(np.abs(observed - predicted) @ count / count.sum())
    return Calibration(predicted, observed, centre - half, centre + half, error)


def task_colour(index: int) -> str:
    """Colour of the task with this index, the same in every picture."""
    return COLOURS[index % len(COLOURS)]


def chinese_font() -> str | None:
    """Name of an installed font with Chinese characters, None where there is none."""
    manager = font_manager.fontManager
    cached = {entry.fname for entry in manager.ttflist}
    for file in font_manager.findSystemFonts():
        if file not in cached:  # installed since matplotlib wrote its cache
            try:
                manager.addfont(file)
            except (OSError, RuntimeError, ValueError):
                continue
    names = {entry.name for entry in manager.ttflist}
    return next((name for name in CHINESE_FONTS if name in names), None) or _font_by_glyph()


def _font_by_glyph() -> str | None:
    for entry in font_manager.fontManager.ttflist:
        try:
            glyphs = font_manager.get_font(entry.fname).get_charmap()
        except (OSError, RuntimeError, ValueError):
            continue
        if all(ord(character) in glyphs for character in "训练损失"):
            return entry.name
    return None


@contextmanager
def style(font: str | None = None, fallback: str | None = None) -> Iterator[None]:
    """Matplotlib settings of our pictures, for the time of a ``with`` block.

    Args:
        font: name of a font to use, see :func:`chinese_font`; None for matplotlib's own.
        fallback: name of a font for the characters that matplotlib's own does not have.
    """
    settings = {
        "font.family": [name for name in (font, "DejaVu Sans", fallback) if name],
        "font.size": 10.5,
        "axes.titlesize": 11.5,
        "axes.unicode_minus": font is None,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": "#dddddd",
        "legend.fontsize": 9.5,
        "figure.facecolor": "white",
        "figure.dpi": 120,
        "savefig.dpi": "figure",
        "svg.hashsalt": "share-bottom",  # the same picture gives the same file
    }
    with matplotlib.rc_context(settings):
        yield


def draw(runs: Sequence[Run], language: str) -> dict[str, Figure]:
    """Draw all that the runs have figures for, within :func:`style`.

    Args:
        runs: at least one.
        language: ``zh`` or ``en``.

    Returns:
        name of the picture (``training``, ``roc``, ``precision_recall``, ``calibration``,
        ``scores``) to the figure.
    """
    text = TEXT[language]
    tasks = list(dict.fromkeys(task for run in runs for task in run.tasks))
    figures = {}
    if any(run.records for run in runs):
        figures["training"] = _training(runs, tasks, text)
    scored = [run for run in runs if run.scores]
    if scored:
        for name in CURVES:
            figures[name] = _curves(name, scored, tasks, text)
        figures["scores"] = _score_histograms(scored, tasks, text)
    return figures


def _training(runs: Sequence[Run], tasks: Sequence[str], text: Mapping[str, str]) -> Figure:
    """A column of panels per task, and one for what concerns all of them."""
    keys = _panel_keys(runs, tasks)
    columns = min(math.ceil(len(keys) / 2), 4)
    rows = 2 * math.ceil(len(keys) / (2 * columns)) if len(keys) > 1 else 1
    figure = Figure(figsize=(max(4.1 * columns, 6.4), 3.1 * rows + 1.0))
    epochs = [record["epoch"] for run in runs for record in run.records]
    margin = 0.05 * (max(epochs) - min(epochs)) or 0.5
    for index, key in enumerate(keys):
        column, below = divmod(index, 2)
        band, column = divmod(column, columns)
        axes = figure.add_subplot(rows, columns, (2 * band + below) * columns + column + 1)
        _training_panel(axes, key, runs, tasks, text)
        axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
    phases = [p for p in PHASES if any(r["phase"] == p for run in runs for r in run.records)]
    by_phase = [_handle(text[phase], NEUTRAL, PHASES[phase], phase=phase) for phase in phases]
    by_run = [
        _handle(run.name, _shade(NEUTRAL, index, len(runs)), marker=RUN_MARKERS[index % 6])
        for index, run in enumerate(runs)
    ]
    _finish(figure, text["training"], [by_phase, by_run if len(runs) > 1 else []])
    return figure


def _panel_keys(runs: Sequence[Run], tasks: Sequence[str]) -> list[str]:
    """Names of record values, each task's AUC and log loss first."""
    there = {
        name: None
        for run in runs
        for record in run.records
        for name, value in scores(record).items()
        if isinstance(value, (int, float))
    }
    keys = [f"{kind}_{task}" for task in tasks for kind in ("auc", "logloss")]
    keys = [key for key in keys if key in there]
    keys += [key for key in there if key not in keys]
    return [*keys, "rows_per_second"]


def _training_panel(
    axes: Axes, key: str, runs: Sequence[Run], tasks: Sequence[str], text: Mapping[str, str]
) -> None:
    kind, _, task = key.partition("_")
    known = kind in ("auc", "logloss") and task in tasks
    colour = task_colour(tasks.index(task)) if known else NEUTRAL
    title = f"{task} · {text[kind]}" if known else text.get(key, key)
    axes.set_title(title, color=colour, loc="left", fontweight="bold")
    axes.set_xlabel(text["epoch"])
    # Where there is one epoch, a second tick could only be a fraction.
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for index, run in enumerate(runs):
        for phase in PHASES if key != "rows_per_second" else ("train",):
            points = {r["epoch"]: r.get(key) for r in run.records if r["phase"] == phase}
            points = {epoch: value for epoch, value in points.items() if value is not None}
            if not points:
                continue
            shade = _shade(colour, index, len(runs))
            axes.plot(
                list(points),
                list(points.values()),
                color=shade,
                linestyle=PHASES[phase] if key != "rows_per_second" else "-",
                marker=RUN_MARKERS[index % 6],
                markersize=4.5,
                markevery=max(len(points) // 15, 1),
                markerfacecolor="white" if phase == "infer" else shade,
            )
    if key == "rows_per_second":
        # Limits of its own: the margin would be a share of the differences, which may be none.
        axes.set_ylim(0, 1.08 * max(axes.dataLim.y1, 0) or 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _curves(
    name: str, runs: Sequence[Run], tasks: Sequence[str], text: Mapping[str, str]
) -> Figure:
    """A panel per task, a curve per run in it."""
    tasks_here = [task for task in tasks if any(task in run.scores for run in runs)]
    columns = min(len(tasks_here), 4)
    rows = math.ceil(len(tasks_here) / columns)
    figure = Figure(figsize=(max(4.6 * columns, 6.4), (4.6 + 0.2 * len(runs)) * rows + 0.5))
    x_label, y_label, draw_curve = CURVES[name]
    for place, task in enumerate(tasks_here, start=1):
        axes = figure.add_subplot(rows, columns, place)
        colour = task_colour(tasks.index(task))
        axes.set_title(task, color=colour, loc="left", fontweight="bold")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=text[x_label], ylabel=text[y_label])
        for index, run in enumerate(runs):
            if task not in run.scores:
                continue
            labels, probabilities = run.scores[task]
            label = f"{run.name}/{run.epoch}  " if len(runs) > 1 else ""
            if labels.all() or not labels.any():
                axes.plot([], [], " ", label=label + text["one_class"])
                continue
            if not axes.lines:
                _baseline(axes, name, labels, text)
            look = {"color": _shade(colour, index, len(runs)), "ls": RUN_LINES[index % 4]}
            score = draw_curve(axes, labels, probabilities, text, look)
            axes.lines[-1].set_label(label + score)
        _legend_below(axes)
    _finish(figure, _title(runs, text, name), [])
    return figure


def _baseline(axes: Axes, name: str, labels: np.ndarray, text: Mapping[str, str]) -> None:
    """What a model that knows nothing would draw, or one that is perfectly calibrated."""
    if name == "precision_recall":
        rate = labels.mean()
        axes.axhline(rate, color=FAINT, lw=1, ls=":", label=f"{text['rate']} {rate:.3f}")
    else:
        label = text["perfect" if name == "calibration" else "chance"]
        axes.plot([0, 1], [0, 1], color=FAINT, lw=1, ls=":", label=label)


# Each draws one run's curve as the last line of the panel and returns its figure of merit.


def _draw_roc(
    axes: Axes, labels: np.ndarray, probabilities: np.ndarray, text: Mapping[str, str], look: Look
) -> str:
    axes.plot(*roc_curve(labels, probabilities), **look)
    return f"{text['auc']} {auc(labels, probabilities):.4f}"


def _draw_precision_recall(
    axes: Axes, labels: np.ndarray, probabilities: np.ndarray, text: Mapping[str, str], look: Look
) -> str:
    recall, precision = precision_recall_curve(labels, probabilities)
    axes.step(np.append(0.0, recall), np.append(precision[0], precision), **look)
    return f"{text['ap']} {average_precision(recall, precision):.4f}"


def _draw_calibration(
    axes: Axes, labels: np.ndarray, probabilities: np.ndarray, text: Mapping[str, str], look: Look
) -> str:
    found = calibration(labels, probabilities)
    axes.vlines(found.predicted, found.low, found.high, color=look["color"], lw=1, alpha=0.6)
    axes.plot(found.predicted, found.observed, marker="o", markersize=4.5, **look)
    return f"{text['ece']} {found.error:.4f}"


# Picture: words for the axes, and what draws a run's curve.
CURVES = {
    "roc": ("fpr", "tpr", _draw_roc),
    "precision_recall": ("recall", "precision", _draw_precision_recall),
    "calibration": ("predicted", "observed", _draw_calibration),
}


def _score_histograms(runs: Sequence[Run], tasks: Sequence[str], text: Mapping[str, str]) -> Figure:
    """A row per run, a panel per task: how each class's rows spread over the probabilities."""
    tasks_here = [task for task in tasks if any(task in run.scores for run in runs)]
    columns, rows = len(tasks_here), len(runs)
    figure = Figure(figsize=(max(4.6 * columns, 6.4), (3.5 if rows > 1 else 3.3) * rows + 0.5))
    edges = np.linspace(0.0, 1.0, SCORE_BINS + 1)
    for row, run in enumerate(runs):
        for column, task in enumerate(tasks_here):
            axes = figure.add_subplot(rows, columns, row * columns + column + 1)
            colour = task_colour(tasks.index(task))
            where = f"\n{run.name}/{run.epoch}" if len(runs) > 1 else ""
            axes.set_title(task + where, color=colour, loc="left", fontweight="bold")
            axes.set(xlabel=text["probability"], ylabel=text["share"], xlim=(0, 1))
            if task not in run.scores:
                axes.plot([], [], " ", label=text["no_scores"])
            else:
                labels, probabilities = run.scores[task]
                looks = {"color": "#bbbbbb"}, {"color": colour, "alpha": 0.65}
                for value, look, name in zip((False, True), looks, ("negative", "positive")):
                    chosen = probabilities[labels == value]
                    weights = np.full(len(chosen), 1 / max(len(chosen), 1))
                    label = f"{text[name]}: {text['rows'].format(rows=len(chosen))}"
                    axes.hist(chosen, edges, weights=weights, label=label, **look)
            _legend_below(axes, columns=2)
    _finish(figure, _title(runs, text, "scores"), [])
    return figure


def _title(runs: Sequence[Run], text: Mapping[str, str], name: str) -> str:
    if len(runs) > 1:
        return text[name]
    rows = len(next(iter(runs[0].scores.values()))[0])
    return f"{text[name]} · {runs[0].name}/{runs[0].epoch} · {text['rows'].format(rows=rows)}"


def _shade(colour: str, index: int, count: int) -> tuple[float, ...]:
    """The colour for one of several runs: the first darkest, the last lightest."""
    if count == 1:
        return to_rgb(colour)
    position = index / (count - 1)
    towards, amount = (0.0, 0.45 - 0.9 * position) if position < 0.5 else (1.0, position - 0.5)
    return tuple(channel + (towards - channel) * amount for channel in to_rgb(colour))


def _handle(
    label: str, colour: Any, line: str = "none", marker: str = "", phase: str = ""
) -> Line2D:
    """A legend's entry for something that all panels have."""
    hollow = {"marker": "o", "markerfacecolor": "white"} if phase == "infer" else {}
    look = {"color": colour, "linestyle": line, "marker": marker, "markersize": 5}
    return Line2D([], [], label=label, **{**look, **hollow})


def _legend_below(axes: Axes, columns: int = 1) -> None:
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


def _finish(figure: Figure, title: str, legends: Sequence[Sequence[Line2D]]) -> None:
    """Title above, common legends below, panels in what is left; wider if the words need it."""
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
