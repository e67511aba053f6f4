"""Draw the rooms of this repository and the imports between them: doc/figures/architecture.svg.

    python doc/draw_architecture.py

Read from the sources by ``ast``; nothing is imported. A room is a folder of ``tools/rec_runner`` or
a module beside those folders, and stands above all that it imports. An arrow that others imply
(A to C, where A leads to B and B to C) is left out; one against :data:`ORDER` is red.
"""

from __future__ import annotations

import ast
import textwrap
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "doc" / "figures" / "architecture.svg"
MODEL = "model directory"
# A room imports only rooms before it; tests/test_house.py holds the sources to this.
ORDER = [MODEL, *"system keys config contract paddle_api data metrics engine checkpoint".split()]
ORDER += "report loop build score exported rows_out service train infer export cli".split()
ORDER += "predict serve describe rec_plots tools".split()
ABOUT = {"tools": "The command lines, a few lines each."}
ABOUT[MODEL] = "This repository's root, or any other directory that keeps the contract."
BOX, BEND, GAP, FLOOR, LINE, PAD = 232, 30, 22, 48, 14, 11  # in pixels
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}"><style>
text {{ font-family: Helvetica, Arial, sans-serif; font-size: 11.5px; fill: #44505c }}
.name {{ font-size: 15px; font-weight: bold; fill: #1d2a35 }} .files {{ fill: #7b8894 }}
rect {{ fill: #eef4fa; stroke: #93b2cc }} .outside {{ fill: #fdf5e4; stroke: #d8ba7c }}
path {{ fill: none; stroke: #5f7a90; stroke-width: 1.5; marker-end: url(#tip) }}
.by-name {{ stroke: #c08a2e; stroke-dasharray: 6 4 }} .upwards {{ stroke: #c0392b }}
#tip path {{ fill: #5f7a90; stroke: none; marker-end: none }}
</style><marker id="tip" orient="auto" markerWidth="8" markerHeight="8" refX="7" refY="3.5">
<path d="M0 0 L7 3.5 L0 7 z"/></marker>"""


def read_rooms() -> tuple[dict[str, list[str]], dict[str, str], dict[str, set[str]]]:
    """Of each room: its files, a sentence about it, and the rooms that it imports."""
    paths = sorted([*ROOT.glob("[a-z]*.py"), *ROOT.glob("tools/**/*.py")])
    names = {p: p.relative_to(ROOT).with_suffix("").parts for p in paths}
    dotted = {n: ".".join(n[n[0] == "tools" :]).removesuffix(".__init__") for n in names.values()}
    by_name = {dotted[n]: _room(n) for n in dotted}
    files, about, imports = {}, dict(ABOUT), {room: set() for room in by_name.values()}
    for path, parts in names.items():
        tree, room = ast.parse(path.read_text("utf-8")), _room(parts)
        if parts[-2:] in ((room, "__init__"), ("rec_runner", room)):
            about[room] = (ast.get_docstring(tree) or "").split("\n\n")[0].replace("`", "")
        if parts[-1] != "__init__":
            files.setdefault(room, []).append("/".join(parts[3:] or parts[-1:]))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                of = getattr(node, "module", "")
                found = [of, *(f"{of}.{alias.name}".lstrip(".") for alias in node.names)]
                imports[room].update(by_name[name] for name in found if name in by_name)
            elif isinstance(node, ast.Attribute) and node.attr == "import_module":
                imports[room].add(MODEL)
    return files, about, {room: imports[room] & set(files) - {room} for room in files}


def _room(parts: tuple[str, ...]) -> str:
    if parts[0] != "tools":
        return MODEL
    return parts[2] if parts[1] == "rec_runner" else parts[1] if len(parts) > 2 else "tools"


def place(imports: dict[str, set[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of rooms from the ground up, and each arrow as the row items it passes through."""
    floor, below, rows, arrows = {}, {}, [[] for _ in imports], []
    for room in sorted(imports, key=ORDER.index):
        down = {lower for lower in imports[room] if lower in floor}
        implied = set().union(*(below[lower] for lower in down))
        below[room] = down | implied
        floor[room] = max((floor[lower] + 1 for lower in down), default=0)
        rows[floor[room]].append(room)
        for lower in sorted(down - implied):
            passed = range(floor[room] - 1, floor[lower], -1)
            for level in passed:
                rows[level].append(f"{room}>{lower}>{level}")
            arrows.append([room, *(f"{room}>{lower}>{level}" for level in passed), lower])
        arrows += [[room, upper] for upper in sorted(imports[room] - down)]
    steps = [step for arrow in arrows for step in zip(arrow, arrow[1:])]
    for row in [*rows, *rows[::-1]] * 8:  # each row in the order of what it is tied to
        middle = {name: i - len(r) / 2 for r in rows for i, name in enumerate(r)}
        tied = {n: [middle[b if a == n else a] for a, b in steps if n in (a, b)] for n in row}
        row.sort(key=lambda n: (sum(tied[n]) / max(len(tied[n]), 1), n))
    return [row for row in rows if row], arrows


def draw() -> str:
    """The picture, as SVG."""
    files, about, imports = read_rooms()
    rows, arrows = place(imports)
    size = {name: (BOX if name in files else BEND) + GAP for row in rows for name in row}
    width = max(sum(size[name] for name in row) for row in rows) + GAP
    top, shapes, ends = GAP, [], {}
    for row in rows[::-1]:
        words = {n: _words(n, files[n], about[n]) for n in row if n in files}
        height = max(len(lines) for lines in words.values()) * LINE + 2 * PAD
        left = (width - sum(size[name] for name in row) + GAP) / 2
        for name in row:
            ends[name] = (left + (size[name] - GAP) / 2, top, top + height)
            if name in files:
                box = f'x="{left:g}" y="{top}" width="{BOX}" height="{height}" rx="6"'
                shapes.append(f'<rect class="{"outside" * (name in ABOUT)}" {box}/>')
            for i, (kind, line) in enumerate(words.get(name, [])):
                at = f'x="{left + PAD:g}" y="{top + PAD + 11 + i * LINE}"'
                shapes.append(f'<text class="{kind}" {at}>{escape(line)}</text>')
            left += size[name]
        top += height + FLOOR
    for arrow in arrows:
        (x, start, y), (x_last, _, y_last) = ends[arrow[0]], ends[arrow[-1]]
        kind, line = "by-name" if arrow[-1] == MODEL else "import", f"M{x:g} {y}"
        if y_last < start:
            kind, line, arrow = "upwards", f"M{x:g} {start} L{x_last:g} {y_last}", arrow[:1]
        for name in arrow[1:]:
            x_next, start, end = ends[name]
            bend = f"{x:g} {y + FLOOR * 0.6:g} {x_next:g} {start - FLOOR * 0.6:g}"
            line += f" C{bend} {x_next:g} {start}" + f" V{end}" * (name != arrow[-1])
            x, y = x_next, end
        shapes.append(f'<path class="{kind}" d="{line}"/>')
    return "\n".join([HEAD.format(width, top - FLOOR + GAP), *shapes, "</svg>\n"])


def _words(name: str, files: list[str], about: str) -> list[tuple[str, str]]:
    end = "" if name == MODEL else ".py" if files == [name] else "/"
    texts = [("about", about), ("files", ", ".join(files) if end != ".py" else "")]
    wrapped = [(style, line) for style, text in texts for line in textwrap.wrap(text, 34)]
    return [("name", name + end), *wrapped]


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
