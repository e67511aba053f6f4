"""Draws the network as SVG: ``python doc/figures/make_network.py``.

Writes ``network_zh.svg`` and ``network_en.svg`` beside itself. Boxes and words are all here;
the sizes are those of ``config.yaml``, the tasks' colours those of ``tools/plot.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 1040, 360
INK, SOFT, SHARED = "#333333", "#666666", "#eeeeee"
TASKS = (("income", "#0072B2", "#d9eaf5"), ("marital", "#D55E00", "#fae3d5"))
FONTS = "'Noto Sans CJK SC','PingFang SC','Microsoft YaHei','WenQuanYi Zen Hei',sans-serif"

WORDS = {
    "en": {
        "title": "Share-bottom: one shared bottom, one small tower per task",
        "features": ("One row", "499 columns", "11 numeric", "488 of 0 and 1"),
        "encoding": ("Input encoding", "numeric: standardised", "0 and 1: as they are"),
        "encoding_note": "statistics of the training rows",
        "bottom": "Shared bottom",
        "bottom_note": "trained by all tasks",
        "tower": "{task} tower",
        "out": "{task} output",
        "income": "P(income > $50,000)",
        "marital": "P(never married)",
        "loss": "loss = sum over tasks of the cross-entropy of the logits",
    },
    "zh": {
        "title": "Share-Bottom：底层共享，每个任务一座小塔",
        "features": ("一行特征", "499 列", "11 个数值列", "488 个 0/1 列"),
        "encoding": ("输入编码", "数值列：标准化", "0/1 列：原样"),
        "encoding_note": "统计量取自训练数据，随权重保存",
        "bottom": "共享底层",
        "bottom_note": "所有任务共同训练",
        "tower": "{task} 塔",
        "out": "{task} 输出",
        "income": "P(年收入 > 5 万美元)",
        "marital": "P(从未结婚)",
        "loss": "损失 = 各任务 logits 的交叉熵之和",
    },
}


def _text(x: float, y: float, words: str, size: int, colour: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{x}" y="{y}" font-size="{size}" fill="{colour}"'
    return f'<text {place} text-anchor="middle"{weight}>{escape(words)}</text>'


def _box(
    x: int, y: int, width: int, height: int, lines: tuple[str, ...], fill: str, edge: str
) -> str:
    """A rounded box, its first line bold, all lines centred."""
    head, *rest = lines
    middle, first = x + width / 2, y + height / 2 - 11 * len(rest) + 5
    size = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="8"'
    colours = f'fill="{fill}" stroke="{edge}" stroke-width="1.5"'
    shapes = [f"<rect {size} {colours}/>", _text(middle, first, head, 16, edge, True)]
    shapes += [_text(middle, first + 22 * i, line, 14, INK) for i, line in enumerate(rest, 1)]
    return "\n".join(shapes)


def _arrow(x1: int, y1: int, x2: int, y2: int, colour: str = INK) -> str:
    head = colour.lstrip("#")
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="1.8" '
        f'marker-end="url(#arrow-{head})"/>'
    )


def network(words: Mapping[str, object]) -> str:
    """The figure, as SVG text, in the language of the words."""
    markers = "".join(
        f'<marker id="arrow-{colour.lstrip("#")}" viewBox="0 0 8 8" refX="7" refY="4" '
        f'markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{colour}"/></marker>'
        for colour in (INK, *(colour for _, colour, _ in TASKS))
    )
    middle = 190
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="{FONTS}">',
        f"<title>{escape(words['title'])}</title>",
        f"<defs>{markers}</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 34, words["title"], 20, INK, True),
        _box(20, middle - 55, 130, 110, words["features"], "white", INK),
        _arrow(150, middle, 186, middle),
        _box(190, middle - 45, 190, 90, words["encoding"], SHARED, INK),
        _arrow(380, middle, 416, middle),
        _box(420, middle - 45, 160, 90, (words["bottom"], "Linear 499 → 117", "ReLU"), SHARED, INK),
        _text(500, middle + 66, words["bottom_note"], 12, SOFT),
        _text(285, middle + 66, words["encoding_note"], 12, SOFT),
    ]
    for (task, colour, fill), y in zip(TASKS, (middle - 70, middle + 70)):
        tower = (words["tower"].format(task=task), "Linear 117 → 8, ReLU")
        out = (words["out"].format(task=task), "Linear 8 → 2")
        shapes += [
            _arrow(580, middle, 626, y, colour),
            _box(630, y - 35, 180, 70, tower, fill, colour),
            _arrow(810, y, 846, y, colour),
            _box(850, y - 35, 165, 70, out, fill, colour),
            _text(932, y - 46, words[task], 14, colour, True),
            _text(932, y + 53, "logits → softmax", 12, SOFT),
        ]
    shapes += [_text(WIDTH / 2, HEIGHT - 14, words["loss"], 14, SOFT), "</svg>", ""]
    return "\n".join(shapes)


def main() -> None:
    """Write the figure in both languages."""
    for language, words in WORDS.items():
        file = HERE / f"network_{language}.svg"
        file.write_bytes(network(words).encode())


if __name__ == "__main__":
    main()
