"""What parts the cells of a text file, and whether its first line names the columns."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence

from raw_tables.tally import BLANKS, MARKS, NUMBER

# The first that parts every line into equally many cells is taken. Commas are in texts and numbers
# too, so they come last.
DELIMITERS = ("\t", ";", "|", ",")
LINES = 200


def split_lines(text: str, delimiter: str) -> list[list[str]]:
    """Cells of the first lines of a text, stripped; empty lines are passed over."""
    lines = csv.reader(text.splitlines()[:LINES], delimiter=delimiter, skipinitialspace=True)
    return [[cell.strip(BLANKS) for cell in line] for line in lines if line]


def guess_delimiter(text: str) -> str:
    """What parts the cells of a text's lines; a comma where they are of one cell each.

    Args:
        text: the first lines of a file, the last of them whole.
    """

    def quality(delimiter: str) -> tuple[float, int]:
        sizes = Counter(map(len, split_lines(text, delimiter)))
        (size, lines), *_ = sizes.most_common(1) or [(0, 0)]
        even = lines / sum(sizes.values()) if size > 1 else 0.0
        return even, -DELIMITERS.index(delimiter)

    best = max(DELIMITERS, key=quality)
    return best if quality(best)[0] > 0 else ","


def guess_header(lines: Sequence[Sequence[str]], named: Collection[str]) -> bool:
    """Whether the first of some lines names the columns.

    It does where it has a name that a person gave. Otherwise none of its cells is a number, says
    that something is missing, or is a value of its column in a later line.

    Args:
        lines: cells of each line.
        named: the names of columns that a person gave, not those that are numbers.
    """
    first, *rest = lines
    if any(name in first for name in named):
        return True
    if any(cell in MARKS or re.match(NUMBER, cell) for cell in first if cell):
        return False
    return not any(
        cell and cell in line[i : i + 1] for i, cell in enumerate(first) for line in rest
    )
