"""tools/plot.py: the curves' numbers against scikit-learn, the pictures, bad input."""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
import numpy as np
import plot
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from helpers import CONFIG, ROOT, files_below, override, run_ok, run_tool
from matplotlib import font_manager
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from rec_plots import curves, style, write
from rec_plots.figures import draw
from rec_plots.runs import Run, Scores, read_predictions, read_runs
from rec_plots.text import TEXT, short_names

PICTURES = ["calibration", "precision_recall", "roc", "scores", "training"]
REGRESSION_PICTURES = ["predictions", "residuals"]


def make_scores(
    rng: np.random.Generator, rows: int = 400, digits: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities that know something of them; few digits make ties."""
    probabilities = rng.beta(0.5, 1.5, rows)
    labels = rng.random(rows) < probabilities
    return labels, probabilities.round(digits)


def make_run(rng: np.random.Generator, name: str, tasks: list[str], epochs: int = 4) -> Run:
    """A run with all three phases and predictions."""
    records = []
    for epoch, phase in itertools.product(range(epochs), style.PHASES):
        record = {"phase": phase, "epoch": epoch, "loss": 1 / (epoch + 1)}
        record["rows_per_second"] = 9e4 + epoch
        for task in tasks:
            record[f"auc_{task}"] = 0.9 + rng.random() / 10
        for task in tasks:
            record[f"logloss_{task}"] = rng.random()
        records.append(record)
    scores = {task: Scores(*make_scores(rng)) for task in tasks}
    return Run(name, records, epochs - 1, scores, rows=400)


def add_life(rng: np.random.Generator, run: Run) -> Run:
    """The same run with weights, groups, a blank label, and a regression."""
    name = "time_spent_in_the_shop"
    records = []
    for record in run.records:
        more = {f"gauc_{task}": rng.random() for task in run.scores}
        errors = {f"{kind}_{name}": rng.random() for kind in ("mse", "mae", "r2")}
        counts = {f"rows_{name}": 30, f"left_out_groups_{name}": 3}
        records.append({**record, **more, **errors, **counts})
    labels = 1e4 * rng.lognormal(size=300)
    predictions = labels * rng.lognormal(size=300) / 1e3
    scores = {
        task: Scores(found.labels[:390], found.predictions[:390], rng.exponential(size=390))
        for task, found in run.scores.items()
    }
    paid = Scores(labels, predictions, rng.exponential(size=300), regression=True)
    return run._replace(records=records, scores={**scores, name: paid})


@pytest.mark.parametrize("digits", [1, 2, 17])
def test_curves_equal_scikit_learns(rng: np.random.Generator, digits: int) -> None:
    labels, probabilities = make_scores(rng, digits=digits)

    false_rate, true_rate, _ = metrics.roc_curve(labels, probabilities, drop_intermediate=False)
    np.testing.assert_allclose(curves.roc_curve(labels, probabilities), [false_rate, true_rate])

    precision, recall, _ = metrics.precision_recall_curve(labels, probabilities)
    ours = curves.precision_recall_curve(labels, probabilities)
    np.testing.assert_allclose(ours, [recall[-2::-1], precision[-2::-1]])
    expected = metrics.average_precision_score(labels, probabilities)
    assert curves.average_precision(*ours) == pytest.approx(expected, abs=1e-12)

    observed, predicted = calibration_curve(labels, probabilities, n_bins=10)
    found = curves.calibration(labels, probabilities)
    np.testing.assert_allclose(found.observed, observed)
    np.testing.assert_allclose(found.predicted, predicted)


def test_curves_of_weighed_rows_equal_scikit_learns(rng: np.random.Generator) -> None:
    labels, probabilities = make_scores(rng)
    weights = rng.exponential(size=len(labels))
    given = {"sample_weight": weights, "drop_intermediate": False}

    false_rate, true_rate, _ = metrics.roc_curve(labels, probabilities, **given)
    ours = curves.roc_curve(labels, probabilities, weights)
    np.testing.assert_allclose(ours, [false_rate, true_rate], atol=1e-12)

    precision, recall, _ = metrics.precision_recall_curve(labels, probabilities, **given)
    ours = curves.precision_recall_curve(labels, probabilities, weights)
    np.testing.assert_allclose(ours, [recall[-2::-1], precision[-2::-1]])
    expected = metrics.average_precision_score(labels, probabilities, sample_weight=weights)
    assert curves.average_precision(*ours) == pytest.approx(expected, abs=1e-12)

    times = rng.integers(1, 4, len(labels))
    found = curves.calibration(labels, probabilities, times.astype(float))
    again = curves.calibration(np.repeat(labels, times), np.repeat(probabilities, times))
    for name in ("predicted", "observed", "error"):
        np.testing.assert_allclose(getattr(found, name), getattr(again, name))
    assert (found.high - found.low >= again.high - again.low).all()  # it is of fewer rows
    same = curves.calibration(labels, probabilities, np.full(len(labels), 7.0))
    for ours, plain in zip(same, curves.calibration(labels, probabilities)):
        np.testing.assert_allclose(ours, plain)


def test_calibration_interval_is_wilsons_and_error_is_weighted() -> None:
    labels = np.repeat([True, False, True, False], [3, 5, 1, 1])
    probabilities = np.repeat([0.25, 0.75], [8, 2])
    found = curves.calibration(labels, probabilities)
    for place, (positives, rows) in enumerate([(3, 8), (1, 2)]):
        interval = binomtest(positives, rows).proportion_ci(method="wilson")
        assert found.low[place] == pytest.approx(interval.low, abs=1e-4)
        assert found.high[place] == pytest.approx(interval.high, abs=1e-4)
    assert found.error == pytest.approx((8 * abs(3 / 8 - 0.25) + 2 * abs(1 / 2 - 0.75)) / 10)


def parts(figure: Figure) -> list:
    """Extents of the panels (titles and labels included), title and common legends, in pixels."""
    figure.draw_without_rendering()
    return [artist.get_tightbbox() for artist in (*figure.axes, *figure.texts, *figure.legends)]


def apart(one: Bbox, other: Bbox) -> bool:
    """Whether two extents have less than a pixel in common."""
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    along = min(one.y1, other.y1) - max(one.y0, other.y0)
    return across < 1 or along < 1


def inside(extent: Bbox, whole: Bbox) -> bool:
    """Whether no more than a pixel of an extent is outside of another."""
    low = extent.x0 >= whole.x0 - 1 and extent.y0 >= whole.y0 - 1
    return low and extent.x1 <= whole.x1 + 1 and extent.y1 <= whole.y1 + 1


def style_of(language: str) -> AbstractContextManager[None]:
    """The style that the tool draws labels of a language in."""
    font = style.chinese_font()
    if language == "en":
        return style.context(fallback=font)
    if font is None:
        pytest.skip("no font has Chinese characters, so the tool draws no Chinese labels")
    return style.context(font)


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize(
    ("tasks", "runs", "epochs", "life"),
    [
        *((1, 1, 4, False), (2, 1, 1, False), (2, 3, 1, False), (1, 3, 4, False)),
        *((2, 2, 12, False), (7, 2, 2, False), (0, 1, 3, True), (1, 2, 1, True)),
    ],
)
def test_nothing_overlaps_or_is_cut(
    rng: np.random.Generator, tasks: int, runs: int, epochs: int, life: bool, language: str
) -> None:
    names = [f"task_number_{task}" for task in range(tasks)]
    folders = [Path(f"output_model_share_bottom_of_run_no_{run}") for run in range(runs)]
    run_names = short_names(folders)
    assert all(len(name) >= 31 for name in run_names)  # the longest that there can be
    all_runs = [make_run(rng, name, names, epochs) for name in run_names]
    if life:
        all_runs = [add_life(rng, run) for run in all_runs]
    expected = [*(PICTURES if tasks else ["training"]), *(REGRESSION_PICTURES if life else [])]
    with style_of(language):
        figures = draw(all_runs, language)
        assert sorted(figures) == sorted(expected)
        for name, figure in figures.items():
            extents = parts(figure)
            assert all(inside(extent, figure.bbox) for extent in extents), name
            assert all(apart(*pair) for pair in itertools.combinations(extents, 2)), name
            for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
                ticks = [label.get_window_extent() for label in axis.get_ticklabels()]
                assert all(apart(*pair) for pair in itertools.combinations(ticks, 2)), name


@pytest.mark.parametrize("epochs", [1, 2, 12])
def test_epochs_are_whole_numbers_and_markers_are_whole(
    rng: np.random.Generator, epochs: int
) -> None:
    with style.context():
        figure = draw([make_run(rng, "run", ["income"], epochs)], "en")["training"]
        figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks and all(tick == round(tick) for tick in ticks)
        for line in axes.lines:
            radius = line.get_markersize() / 2 * figure.dpi / 72
            for x, y in axes.transData.transform(line.get_xydata()):
                assert axes.bbox.x0 + radius < x < axes.bbox.x1 - radius
                assert axes.bbox.y0 + radius < y < axes.bbox.y1 - radius


def test_a_task_has_one_colour_everywhere(rng: np.random.Generator) -> None:
    with style.context():
        figures = draw([make_run(rng, "run", ["income", "marital"])], "en")
    for index, task in enumerate(("income", "marital")):
        colours = set()
        for figure in figures.values():
            for axes in figure.axes:
                if axes.get_title(loc="left").startswith(task):
                    titles = axes.findobj(lambda artist: isinstance(artist, Text))
                    titles = [title for title in titles if title.get_text().startswith(task)]
                    lines = [line for line in axes.lines if line.get_color() != style.FAINT]
                    colours |= {to_rgb(artist.get_color()) for artist in (*titles, *lines)}
        assert colours == {to_rgb(style.task_colour(index))}
    assert len({style.task_colour(task) for task in range(10)}) == 10
    assert len(set(style.COLOURS)) == len(style.COLOURS)


def test_training_picture_draws_what_the_records_say(rng: np.random.Generator) -> None:
    run = make_run(rng, "run", ["income"])
    with style.context():
        panel = draw([run], "en")["training"].axes[0]
    assert panel.get_title(loc="left") == "income · AUC"
    for line, phase in zip(panel.lines, style.PHASES):
        expected = [r["auc_income"] for r in run.records if r["phase"] == phase]
        assert list(line.get_ydata()) == expected
        assert line.get_linestyle() == style.PHASES[phase]


@pytest.mark.parametrize("runs", [1, 2])
def test_one_epochs_phases_differ_by_their_markers(rng: np.random.Generator, runs: int) -> None:
    with style.context():
        all_runs = [make_run(rng, f"run {index}", ["income"], epochs=1) for index in range(runs)]
        figure = draw(all_runs, "en")["training"]
    legend = figure.legends[-1].legend_handles  # of the phases; runs have one of their own
    lines = figure.axes[0].lines
    for same_run in (legend, *(lines[start : start + 3] for start in range(0, len(lines), 3))):
        assert [line.get_fillstyle() for line in same_run] == ["left", "full", "full"]
        colours = [line.get_color() for line in same_run]
        assert [line.get_markerfacecolor() for line in same_run] == [*colours[:2], "white"]
        assert all(line.get_marker() not in ("", "None") for line in same_run)
    assert len(lines) == runs * len(style.PHASES)


def test_runs_without_tasks_or_with_one_class_are_drawn(rng: np.random.Generator) -> None:
    foreign = {"phase": "train", "epoch": 0, "acc": 0.5, "loss": 2.0, "rows_per_second": 10.0}
    undefined = {"phase": "infer", "epoch": 0, "auc_click": None, "rows_per_second": 10.0}
    labels, probabilities = np.zeros(50, bool), rng.random(50)
    runs = [
        Run("foreign", [foreign]),
        Run("dull", [undefined], 0, {"click": Scores(labels, probabilities)}, rows=50),
    ]
    with style.context():
        figures = draw(runs, "en")
    assert [axes.get_title(loc="left") for axes in figures["training"].axes][:2] == [
        "acc",
        "loss (all tasks)",
    ]
    legend = figures["roc"].axes[0].get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["labels of one class only"]


def test_only_known_rows_are_drawn_with_their_weights(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file as ``infer`` writes it to what the legends say, by scikit-learn."""
    labels, probabilities = make_scores(rng)
    weights, known = rng.integers(0, 3, len(labels)), rng.random(len(labels)) < 0.6
    target = rng.normal(size=len(labels)) * 50 + 200
    predicted = target + rng.normal(size=len(labels)) * 20
    lines = ['"label_buy","probability_buy","label_paid","prediction_paid","weight","group"']
    for row, is_known in enumerate(known):
        label = int(labels[row]) if is_known else ""
        cells = (label, probabilities[row], target[row], predicted[row], weights[row], -5)
        lines.append(",".join(map(str, cells)))
    folder = tmp_path / "run" / "0"
    folder.mkdir(parents=True)
    (folder / "predictions.csv").write_text("\n".join(lines) + "\n")

    scores, rows = read_predictions(folder / "predictions.csv")
    assert list(scores) == ["buy", "paid"] and rows == len(labels)
    counts = known & (weights > 0)
    np.testing.assert_array_equal(scores["buy"].labels, labels[counts])
    np.testing.assert_array_equal(scores["paid"].predictions, predicted[weights > 0])
    (run,) = read_runs([str(tmp_path / "run")])
    with style_of("en"):
        figures = draw([run], "en")
    assert sorted([*figures, "training"]) == sorted([*PICTURES, *REGRESSION_PICTURES])
    legends = {
        name: [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        for name, figure in figures.items()
    }
    given = {"sample_weight": weights[counts]}
    auc = metrics.roc_auc_score(labels[counts], probabilities[counts], **given)
    assert legends["roc"][1] == f"AUC {auc:.4f}"
    ap = metrics.average_precision_score(labels[counts], probabilities[counts], **given)
    rate = np.average(labels[counts], weights=weights[counts])
    assert legends["precision_recall"] == [f"share of positives {rate:.3f}", f"AP {ap:.4f}"]
    r2 = metrics.r2_score(target, predicted, sample_weight=weights)
    mae = metrics.mean_absolute_error(target, predicted, sample_weight=weights)
    for name in REGRESSION_PICTURES:
        assert f"R² {r2:.4f}  MAE {mae:.4g}" in legends[name]
    for name, figure in figures.items():
        assert f"{len(labels)} rows" in figure.texts[0].get_text()
        task, counted = ("paid", weights > 0) if name in REGRESSION_PICTURES else ("buy", counts)
        title = figure.axes[0].get_title(loc="left")
        assert title == f"{task} · {np.count_nonzero(counted)} rows"
    (shares,) = figures["residuals"].axes[0].patches
    assert shares.get_data().values.sum() == pytest.approx(1, abs=0.02)
    drawn = figures["predictions"].axes[0].collections[0].get_array()
    assert drawn.sum() == pytest.approx(weights.sum(), rel=0.02)


def test_training_picture_gives_each_task_a_column(rng: np.random.Generator) -> None:
    run = add_life(rng, make_run(rng, "run", ["click", "buy"]))
    with style.context():
        axes = draw([run._replace(scores={})], "en")["training"].axes
    columns: dict[int, list[str]] = {}
    for panel in axes:
        place = panel.get_subplotspec()
        columns.setdefault(place.colspan.start, []).append(panel.get_title(loc="left"))
    paid = "time_spent_in_the_shop"
    assert list(columns.values()) == [
        ["click · AUC", "click · log loss", "click · GAUC"],
        ["buy · AUC", "buy · log loss", "buy · GAUC"],
        [f"{paid} · R²", f"{paid} · MAE", f"{paid} · MSE"],
        ["loss (all tasks)", "training speed, rows/s"],
    ]
    lines = [line.get_ydata() for line in axes[6].lines]
    assert list(lines[1]) == [r[f"r2_{paid}"] for r in run.records if r["phase"] == "valid"]


def test_a_task_without_a_known_label_is_drawn_empty() -> None:
    nothing = np.empty(0)
    scores = {
        "a": Scores(nothing > 0, nothing),
        "b": Scores(nothing, nothing, regression=True),
        "c": Scores(np.ones(3), np.ones(3), regression=True),
    }
    with style.context():
        figures = draw([Run("run", [], 0, scores, rows=3), Run("other", [])], "en")
        for figure in figures.values():
            parts(figure)
    for name in ("roc", "predictions", "residuals"):
        legend = figures[name].axes[0].get_legend().get_texts()
        assert "no known labels" in [text.get_text() for text in legend]
    legend = figures["residuals"].axes[1].get_legend().get_texts()
    assert legend[-1].get_text() == "R² -  MAE 0"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the quick start's config with validation and predictions."""
    folder = tmp_path_factory.mktemp("a run") / "output 输出"
    save = override(model_save_path=folder, valid_share=0.2, epochs=3)
    run_ok("trainer", "-m", CONFIG, *save, cwd=folder.parent)
    load = override(
        infer_load_path=folder, infer_start_epoch=1, infer_end_epoch=3, save_predictions="true"
    )
    run_ok("infer", "-m", CONFIG, *load, cwd=folder.parent)
    return folder


@pytest.fixture(scope="module")
def pictures(run_folder: Path) -> list[str]:
    """What the tool printed on drawing the run to the default folder."""
    return run_ok("plot", run_folder, cwd=run_folder.parent).splitlines()


def test_tool_writes_every_picture_in_both_formats(run_folder: Path, pictures: list[str]) -> None:
    expected = [f"{name}.{kind}" for name in PICTURES for kind in plot.FORMATS]
    assert files_below(run_folder / "plots") == expected
    assert sorted(Path(line).name for line in pictures) == expected
    for name in PICTURES:
        height, width, _ = imread(run_folder / "plots" / f"{name}.png").shape
        assert width > 700 and height > 300
        drawing = ElementTree.parse(run_folder / "plots" / f"{name}.svg").getroot()
        assert drawing.tag.endswith("svg") and len(list(drawing.iter())) > 100


def test_same_run_gives_the_same_files(
    run_folder: Path, pictures: list[str], tmp_path: Path
) -> None:
    assert plot.main([str(run_folder), "--out", str(tmp_path), "--format", "svg"]) == 0
    assert len(files_below(tmp_path)) == len(PICTURES)
    for file in files_below(tmp_path):
        assert (tmp_path / file).read_bytes() == (run_folder / "plots" / file).read_bytes()


def test_auc_of_the_roc_picture_is_the_one_printed(run_folder: Path) -> None:
    (run,) = read_runs([str(run_folder)], epoch=2)
    lines = (run_folder / "infer_metrics.jsonl").read_text(encoding="utf-8").splitlines()
    printed = json.loads(lines[-1])
    with style_of("en"):
        roc = draw([run], "en")["roc"]
    for axes, task in zip(roc.axes, ("income", "marital")):
        assert axes.get_legend().get_texts()[1].get_text() == f"AUC {printed[f'auc_{task}']:.4f}"


def test_best_epochs_predictions_are_taken_if_there_are_any(run_folder: Path) -> None:
    best = json.loads((run_folder / "best.json").read_text(encoding="utf-8"))["epoch"]
    (run,) = read_runs([str(run_folder)])
    assert run.epoch == (best if best in (1, 2) else 2)


def test_several_runs_keep_apart_in_the_legends(rng: np.random.Generator, tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "model", tmp_path / "b" / "model"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"phase": "train", "epoch": 0, "loss": 1.5}\n')
    runs = read_runs([str(folder) for folder in folders])
    assert [run.name for run in runs] == ["a/model", "b/model"]


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("output_model_share_bottom", "output_model_share_bottom"),
        ("an_output_folder_with_a_name_too_long_for_a_legend", "an_output_folde…ng_for_a_legend"),
        ("测" * 16, "测" * 16),
        ("测" * 17, "测" * 7 + "…" + "测" * 7),
    ],
)
def test_long_names_lose_their_middle(folder: str, name: str) -> None:
    assert short_names([Path(folder)]) == [name]


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize("language", ["zh", "en"])
def test_chinese_names_are_drawn_whatever_the_labels_language(
    tmp_path: Path, language: str
) -> None:
    if style.chinese_font() is None:
        pytest.skip("no font has Chinese characters")
    run = tmp_path / "输出"
    run.mkdir()
    record = {"phase": "train", "epoch": 0, "auc_点击": 0.5}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    assert plot.main([str(run), str(tmp_path / "输出"), "--lang", language]) == 0


def test_without_a_chinese_font_the_labels_are_english(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawn = []
    monkeypatch.setattr(style, "chinese_font", lambda: None)
    monkeypatch.setattr(write, "draw", lambda runs, lang: drawn.append(lang) or {})
    assert plot.main([str(run_folder), "--lang", "zh", "--out", str(tmp_path)]) == 0
    assert drawn == ["en"]
    assert "English" in capsys.readouterr().err


def make_font(file: Path, family: str, glyph_of: Callable[[str], str]) -> Path:
    """A font with a box for each Latin and Chinese character that ``glyph_of`` names a glyph of."""
    codes = (*range(0x20, 0x7F), *range(0x3000, 0xA000), *range(0xFF00, 0xFFF0))
    charmap = {code: glyph_of(chr(code)) for code in codes}
    charmap = {code: glyph for code, glyph in charmap.items() if glyph}
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (500, 700), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    names = [".notdef", *dict.fromkeys(charmap.values())]
    builder = FontBuilder(unitsPerEm=1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(charmap)
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(file)
    return file


def script_box(character: str) -> str:
    """A box for each range of characters, as a last-resort font has them."""
    return f"box{ord(character) // 0x5000}"


def own_glyph(character: str) -> str:
    """A glyph for each character of the labels and of some more."""
    return f"uni{ord(character):04X}" if character in "".join(TEXT["zh"].values()) else ""


def own_glyph_but_one(character: str) -> str:
    """The same without a character of one label."""
    return own_glyph(character) if character != "损" else ""


@pytest.mark.parametrize(
    ("fonts", "expected"),
    [
        ({"Last Resort High-Efficiency": script_box}, None),
        ({"Last Resort High-Efficiency": script_box, "Some Song": own_glyph}, "Some Song"),
        ({"Some Kanji": own_glyph_but_one}, None),
        ({"Some Song": own_glyph, "SimHei": own_glyph}, "SimHei"),
        ({"SimHei": own_glyph_but_one, "Some Song": own_glyph}, "Some Song"),
    ],
)
@pytest.mark.parametrize("in_cache", [True, False])
def test_chinese_font_has_a_glyph_for_every_label(
    fonts: dict[str, Callable[[str], str]],
    expected: str | None,
    in_cache: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [make_font(tmp_path / f"{name}.ttf", name, fonts[name]) for name in fonts]
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    manager = copy.copy(font_manager.fontManager)
    manager.ttflist = []
    for file in files if in_cache else ():
        manager.addfont(file)
    monkeypatch.setattr(font_manager, "fontManager", manager)
    found = [str(file) for file in (broken, *files)]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: found)
    assert style.chinese_font() == expected


def test_matplotlibs_own_fonts_are_not_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(matplotlib.get_data_path(), "fonts", "ttf")
    manager = copy.copy(font_manager.fontManager)
    manager.ttflist = [entry for entry in manager.ttflist if Path(entry.fname).parent == own]
    assert manager.ttflist
    monkeypatch.setattr(font_manager, "fontManager", manager)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    assert style.chinese_font() is None


def test_without_matplotlib_one_sentence(run_folder: Path, tmp_path: Path) -> None:
    stub = tmp_path / "stub" / "matplotlib"
    stub.mkdir(parents=True)
    text = "raise ModuleNotFoundError('No module named matplotlib', name='matplotlib')\n"
    (stub / "__init__.py").write_text(text)
    out = tmp_path / "out"
    result = run_tool("plot", run_folder, "--out", out, cwd=tmp_path, PYTHONPATH=str(stub.parent))
    assert result.status == 2
    assert len(result.sentences) == 1 and "matplotlib" in result.sentences[0]
    assert not out.exists()


GOOD = '{"phase": "train", "epoch": 0, "loss": 1.0}\n'
HEADER = "label_a,probability_a\n"
BAD = {
    "no_such_folder": ({}, [], ("run", "no such folder")),
    "nothing_in_it": ({"other.txt": ""}, [], ("run", "neither metrics.jsonl")),
    "not_json": ({"metrics.jsonl": GOOD + "{nonsense\n"}, [], ("metrics.jsonl, line 2", "JSON")),
    "not_a_record": ({"metrics.jsonl": "[1]\n"}, [], ("metrics.jsonl, line 1", "phase")),
    "not_text": ({"metrics.jsonl": b"\xff\xfe\x00"}, [], ("metrics.jsonl", "cannot be read")),
    "epoch_is_text": (
        {"metrics.jsonl": '{"phase": "train", "epoch": "0"}\n'},
        [],
        ("metrics.jsonl, line 1", "epoch"),
    ),
    "no_such_epoch": (
        {"0/predictions.csv": HEADER + "1,0.5\n"},
        ["--epoch", "7"],
        ("epoch 7", "epochs with some: 0"),
    ),
    "no_label_columns": ({"0/predictions.csv": "a,b\n1,2\n"}, [], ("predictions.csv", "label_")),
    "no_probability": ({"0/predictions.csv": "label_a\n1\n"}, [], ("probability_a", "missing")),
    "label_2": ({"0/predictions.csv": HEADER + "1,0.5\n2,0.5\n"}, [], ("line 3", "label_a is 2")),
    "not_a_number": ({"0/predictions.csv": HEADER + "1,x\n"}, [], ("probability_a", "numbers")),
    "probability_above_1": (
        {"0/predictions.csv": HEADER + "1,1.5\n"},
        [],
        ("line 2", "probability_a is 1.5"),
    ),
    "ragged": ({"0/predictions.csv": HEADER + "1,0.5\n1\n"}, [], ("predictions.csv",)),
    "empty": ({"0/predictions.csv": ""}, [], ("predictions.csv",)),
    "deep_json": (
        {"metrics.jsonl": GOOD + '{"phase": "train", "epoch": 1, "x": ' + "[" * 99_999},
        [],
        ("metrics.jsonl, line 2", "deep"),
    ),
    "long_epoch": (
        {"metrics.jsonl": '{"phase": "train", "epoch": ' + "1" * 9_999 + "}"},
        [],
        ("metrics.jsonl, line 1", "JSON"),
    ),
    "large_epoch": (
        {"metrics.jsonl": '{"phase": "train", "epoch": ' + "1" * 99 + "}"},
        [],
        ("metrics.jsonl, line 1", "epoch"),
    ),
    "epoch_is_true": (
        {"metrics.jsonl": '{"phase": "train", "epoch": true}'},
        [],
        ("metrics.jsonl, line 1", "epoch"),
    ),
    "phase_is_a_list": (
        {"metrics.jsonl": '{"phase": ["train"], "epoch": 1}'},
        [],
        ("metrics.jsonl, line 1", "phase"),
    ),
    **{
        f"loss_is_{number[:9]}": (
            {"metrics.jsonl": GOOD + GOOD.replace("1.0", number)},
            [],
            ("metrics.jsonl, line 2", "loss", "number"),
        )
        for number in ("1e999", "NaN", "-Infinity", "2e307", "3" * 400)
    },
    "name_not_utf8": (
        {"0/predictions.csv": b"label_a,probability_a,\xff\n1,0.5,0\n"},
        [],
        ("predictions.csv", "cannot be read"),
    ),
    "column_twice": (
        {"0/predictions.csv": "label_a,probability_a,label_a\n1,0.5,0\n"},
        [],
        ("predictions.csv", "label_a", "twice"),
    ),
    "times_for_numbers": (
        {"0/predictions.csv": HEADER + "12:00:00,0.5\n"},
        [],
        ("predictions.csv", "label_a"),
    ),
    "no_numbers": ({"0/predictions.csv": HEADER + "1,\n"}, [], ("line 2", "probability_a is None")),
    "nothing_for_numbers": ({"0/predictions.csv": HEADER + ",\n"}, [], ("probability_a is None",)),
    "text_nan": ({"0/predictions.csv": HEADER + "nan,0.5\n"}, [], ("line 2", "label_a is nan")),
    "infinite_target": (
        {"0/predictions.csv": "label_a,prediction_a\n1.5,0.5\ninf,1\n"},
        [],
        ("line 3", "label_a is inf", "a number"),
    ),
    "no_prediction": (
        {"0/predictions.csv": "label_a,prediction_a\n1.5,\n2,1\n"},
        [],
        ("line 2", "prediction_a is nan"),
    ),
    "negative_weight": (
        {"0/predictions.csv": "label_a,probability_a,weight\n1,0.5,1\n,0.5,-1\n"},
        [],
        ("line 3", "weight is -1"),
    ),
    "no_weight": (
        {"0/predictions.csv": "label_a,probability_a,weight\n1,0.5,\n,0.5,1\n"},
        [],
        ("line 2", "weight is nan"),
    ),
    "digits": ({"0/predictions.csv": HEADER + "1" * 5000 + ",0.5\n"}, [], ("line 2", "label_a")),
    "long_line": (
        {"0/predictions.csv": HEADER + "1" * 5_000_000 + ",1\n"},
        [],
        ("predictions.csv",),
    ),
    "unknown_format": ({"metrics.jsonl": GOOD}, ["--format", "gif"], ("gif", "png")),
    "unknown_language": ({"metrics.jsonl": GOOD}, ["--lang", "fr"], ("fr", "zh")),
    "out_is_a_file": ({"metrics.jsonl": GOOD}, ["--out", "run/metrics.jsonl"], ("--out", "folder")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files, options, said = BAD[name]
    monkeypatch.chdir(tmp_path)
    for file, content in files.items():
        path = tmp_path / "run" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = files_below(tmp_path)
    try:
        status = plot.main(["run", *options])
    except SystemExit as stop:
        status = stop.code
    errors = capsys.readouterr().err.splitlines()
    assert status == 2
    assert len(errors) == 1 and errors[0].startswith("error: "), errors
    for words in said:
        assert words in errors[0]
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "infer_metrics.jsonl", "0/predictions.csv"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_only_plain_files_are_read(
    name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, elsewhere = tmp_path / "run" / name, tmp_path / "elsewhere"
    file.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(elsewhere)
        if kind == "link":
            elsewhere.write_text(HEADER + "1,1\n" if name.endswith("csv") else GOOD)
    assert plot.main([str(tmp_path / "run")]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert str(file) in sentence and "cannot be read" in sentence


@pytest.mark.parametrize("kind", ["tasks", "values"])
def test_no_more_are_drawn_than_a_picture_has_room_for(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{'auc_' if kind == 'tasks' else ''}{index}" for index in range(200)]
    run = Run("a", [{"phase": "train", "epoch": 0, **dict.fromkeys(names, 0.5)}])
    with style.context():
        figure = draw([run], "en")["training"]
    shown = 40 + 1 if kind == "tasks" else 100  # and the speed
    assert len(figure.axes) == shown
    assert "there are 20" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
def test_names_are_drawn_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [r"$\frac{$", "_a", r"a\b%c^{", "tab\tline\nbell\a", "<a> & --"]
    folders = [tmp_path / "_$x_{$_", tmp_path / "_b"]
    for folder in folders:
        record = {"phase": "train", "epoch": 0, **{f"auc_{task}": 0.5 for task in tasks}}
        (folder / "0").mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
        names = [f"{kind}_{task}" for task in tasks for kind in ("label", "probability")]
        rows = [",".join(f'"{name}"' for name in names), *(",".join(["1,0.5"] * 5),) * 2]
        rows.append(",".join(["0,0.25"] * 5))
        (folder / "0" / "predictions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert plot.main([*map(str, folders), "--lang", "en", "--format", "svg"]) == 0
    assert capsys.readouterr().err == ""
    runs = read_runs([str(folder) for folder in folders])
    with style.context():
        figures = draw(runs, "en")
    (legend,) = (g for g in figures["training"].legends if len(g.get_texts()) == 2)
    assert [text.get_text().strip() for text in legend.get_texts()] == ["_$x_{$_", "_b"]
    titles = [axes.get_title("left") for axes in figures["roc"].axes]
    assert titles == [tasks[0], " _a", tasks[2], "tab line bell ", tasks[4]]
    for file in files_below(folders[0] / "plots"):
        ElementTree.parse(folders[0] / "plots" / file)


def test_network_figures_are_what_the_script_draws() -> None:
    script = ROOT / "doc" / "figures" / "make_network.py"
    spec = importlib.util.spec_from_file_location("make_network", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    colours = [colour for _, colour, _ in module.TASKS]
    assert colours == [style.task_colour(index) for index in range(len(colours))]
    for language, words in module.WORDS.items():
        text = (script.parent / f"network_{language}.svg").read_text(encoding="utf-8")
        assert text == module.network(words)
        ElementTree.fromstring(text)
