"""Text of numbers to rows to predict on: every row in its place, the bad ones among the good.

The ways to read it are those of training (:mod:`csv_blocks`); only lines around a bad one are read
another way, which leaves none out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from csv_blocks import AnyBlock, Block, Parsed, parse_ahead, parse_text
from csv_layout import Layout, RowError, as_text, content, hidden, no_header
from csv_line import parse_row
from csv_text import LINE_END, Stream, Text, count_lines, cut_texts
from prediction_rows.number_layout import FeatureLayout
from prediction_rows.rows import Fault, Rows

# Of a text: a row that is bad takes far more memory than the bytes that it is.
MOST_ROWS, MOST_VALUES = 1 << 15, 8 << 20
FEW_ROWS = 4  # are read one by one as fast


class _Block(Block):
    """Rows of which bad ones are zeros, and what is wrong with each of these by its place."""

    faults: Mapping[int, Fault] = {}


@dataclass
class _Piece(Parsed):
    """What a text gave.

    Attributes:
        rows: all of it, with the kept cells.
        again: parts of it to be parsed one after the other, where it would be too much.
    """

    rows: Rows | None = None
    again: Sequence[Text] = ()


class _ManyRowsError(Exception):
    """A text with a bad row has more rows than may be in memory."""


@dataclass(frozen=True)
class NumberText:
    """Text to rows.

    Attributes:
        layout: the columns of a file as those of training.
        file: what messages call it; empty: they name a line alone.
        keep: columns whose cells are wanted too, by name or by number from 0.
    """

    layout: FeatureLayout
    file: str = ""
    keep: Sequence[str] = ()

    def read(self, stream: Stream, threads: int = 2) -> Iterator[Rows]:
        """Rows of a stream of text, parsed ahead in threads.

        Raises:
            RowError: its header does not have the features, or there is no column to keep.
            OSError: it cannot be read.
        """
        texts = self._texts(stream)
        with closing(parse_ahead(texts, self.layout, self._parse, threads)) as pieces:
            for piece in pieces:
                parts = (self._parse(part, part.layout or self.layout) for part in piece.again)
                for part in (piece, *parts):
                    if part.rows is not None and len(part.rows.features):
                        yield part.rows

    def read_at_once(self, stream: Stream) -> list[Rows]:
        """As :meth:`read`, without threads."""
        rows = []
        for text in self._texts(stream):
            layout = text.layout or self.layout
            if count_lines(text.data) < FEW_ROWS:
                parsed = self._in_place(text, layout, 0)
            else:
                parsed = parse_text(text, layout, 0, split=True, by_line=self._in_place)
            rows.append(_joined(parsed.blocks, layout.feature_size, {}))
        return rows

    def _texts(self, stream: Stream) -> Iterator[Text]:
        """Texts, each with the layout that the file turns out to have."""
        settled: FeatureLayout | None = None
        for text in cut_texts(self.file or "the text", stream, self.layout):
            here = text.layout
            assert isinstance(here, FeatureLayout)
            if settled is None and (here.by_header or not text.problem):
                settled = here if here.by_header else self.layout.of_rows(text)
                if settled is not None:
                    self._places(settled)  # refuses a file without them
            yield text._replace(layout=settled or self.layout)

    def _parse(
        self,
        text: Text,
        layout: Layout,
        digits: frozenset[int] = frozenset(),
        split: bool = False,
    ) -> _Piece:
        assert isinstance(layout, FeatureLayout)
        most = max(min(MOST_ROWS, MOST_VALUES // layout.feature_size), 1)

        def by_line(part: Text, layout: Layout, cap: int) -> Parsed:
            if count_lines(text.data) > most:
                raise _ManyRowsError
            return self._in_place(part, layout, cap)

        try:
            parsed = parse_text(text, layout, 0, digits, split, by_line)
        except _ManyRowsError:
            return _Piece([], [], again=_parts(text, most))
        kept = self._kept(text, layout) if self.keep else {}
        rows = _joined(parsed.blocks, layout.feature_size, kept)
        for place, fault in rows.faults.items():
            if not fault.column:  # its cells are not where they should be
                for cells in kept.values():
                    cells[place] = None
        return _Piece(parsed.blocks, parsed.bad, parsed.not_digits, parsed.split, rows)

    def _in_place(self, text: Text, layout: Layout, _: int) -> Parsed:
        """Read a text line by line, and leave none out that is not blank."""
        assert isinstance(layout, FeatureLayout)
        rows: list[np.ndarray] = []
        faults: dict[int, Fault] = {}
        nothing = np.zeros(layout.column_num, np.float32)
        lines = LINE_END.split(text.data) if not text.problem else [b""]
        for number, line in enumerate(lines, start=text.line):
            if text.problem:
                faults[0] = Fault(self._place(number), "", text.problem)
                rows.append(nothing)
            elif line.strip():
                try:
                    rows.append(parse_row(line, layout))
                except RowError as error:
                    hint = no_header(line, layout.column_num) if number == 1 else ""
                    name = layout.column_called(error.column)
                    faults[len(rows)] = Fault(self._place(number), name, f"{error}{hint}")
                    rows.append(nothing)
        if not rows:
            return Parsed([], [])
        features = np.array(rows).take(layout.feature_columns, 1)
        block = _Block(features, np.empty((len(rows), 0), np.float32), self.file)
        block.faults = faults
        return Parsed([block], [])

    def _place(self, line: int) -> str:
        return f"{self.file}:{line}" if self.file else f"line {line}"

    def _places(self, layout: FeatureLayout) -> dict[str, int]:
        """Where each column to keep is.

        Raises:
            RowError: there is none of this name or number.
        """
        places = {}
        for name in self.keep:
            if name in layout.names:
                places[name] = layout.names.index(name)
            elif name.isdecimal() and len(name) < 9 and int(name) < layout.column_num:
                places[name] = int(name)
            else:
                raise RowError(f"{self.file}: there is no column {name!r}{_there(layout)}")
        return places

    def _kept(self, text: Text, layout: FeatureLayout) -> dict[str, list[str | None]]:
        """Cells to keep, of every line that is not blank."""
        places = self._places(layout)
        last = max(places.values())
        kept: dict[str, list[str | None]] = {name: [] for name in places}
        lines = LINE_END.split(text.data) if b"\r" in text.data else text.data.split(b"\n")
        for line in lines if not text.problem else [b"-"]:
            if not line.strip():
                continue
            if b'"' in line:
                cells = [content(c) for c in hidden(line, layout.column_num).split(b",")]
            else:
                cells = [] if text.problem else line.split(b",", last + 1)
            for name, place in places.items():
                cell = b"".join(cells[place : place + 1]).strip(b" \t")
                kept[name].append(as_text(cell))
        return kept


def _there(layout: FeatureLayout) -> str:
    """Which columns there are, as the end of a sentence."""
    if not layout.names:
        return f": there are no names, but numbers from 0 to {layout.column_num - 1}"
    more = ", ..." if len(layout.names) > 8 else ""
    return f", only {', '.join(map(repr, layout.names[:8]))}{more}"


def _parts(text: Text, most: int) -> list[Text]:
    """Parts of a text that have at most ``most`` lines each."""
    ends = [match.end() for match in LINE_END.finditer(text.data)]
    starts = [0, *ends[most - 1 : -1 : most]]
    return [
        text._replace(line=text.line + number * most, data=text.data[start:end])
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(text.data)]))
    ]


def _joined(
    blocks: Sequence[AnyBlock], feature_size: int, kept: Mapping[str, Sequence[str | None]]
) -> Rows:
    """Blocks as one."""
    faults: dict[int, Fault] = {}
    start = 0
    for block in blocks:
        if isinstance(block, _Block):
            faults.update({start + place: fault for place, fault in block.faults.items()})
        start += len(block.features)
    if len(blocks) == 1:
        return Rows(blocks[0].features, faults, kept)
    features = [np.empty((0, feature_size), np.float32), *(block.features for block in blocks)]
    return Rows(np.concatenate(features), faults, kept)
