"""CSV and JSON lines, plain or compressed."""

from __future__ import annotations

import csv
import io
import json
import zlib

import pyarrow as pa
import pyarrow.compute as pc

from rec_runner.rows_out.table import Encoder, Predicted, joined_bytes, text_scalar, texts_of

_TO_QUOTE = '[",\r\n]'
_TO_ESCAPE = r'[\x00-\x1f"\\]'


class CsvEncoder(Encoder):
    """Comma-separated text in UTF-8 with a header, quoted as RFC 4180 has it.

    A number is the shortest text that reads back as the same float32. A row without a prediction
    has empty cells; where it has but one, quotes stand for it, since readers pass over an empty
    line.
    """

    def start(self) -> bytes:
        """The header."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerow([*self.kept, *self.tasks])
        return out.getvalue().encode()

    def rows(self, predicted: Predicted) -> bytes:
        """A line for each row."""
        cells = [_csv_cells(column) for column in predicted.columns()]
        if len(cells) == 1:
            cells[0] = pc.if_else(pc.equal(cells[0], text_scalar("")), text_scalar('""'), cells[0])
        pieces: list[object] = [cells[0]]
        for column in cells[1:]:
            pieces += [",", column]
        return joined_bytes([*pieces, "\n"])


class JsonEncoder(Encoder):
    """JSON lines: an object for each row; null where there is no prediction, or no kept cell."""

    def rows(self, predicted: Predicted) -> bytes:
        """A line for each row."""
        pieces: list[object] = []
        for name, column in zip((*self.kept, *self.tasks), predicted.columns()):
            pieces += [f"{', ' if pieces else '{'}{json.dumps(name)}: ", _json_cells(column)]
        return joined_bytes([*pieces, "}\n"])


class Gzipped(Encoder):
    """What another encoder makes, as gzip; the same bytes for the same rows at any time."""

    def __init__(self, inner: Encoder) -> None:
        super().__init__(inner.kept, inner.tasks)
        self._inner = inner
        self._gzip = zlib.compressobj(wbits=31)

    def start(self) -> bytes:
        """See :class:`Encoder`."""
        return self._gzip.compress(self._inner.start())

    def rows(self, predicted: Predicted) -> bytes:
        """See :class:`Encoder`."""
        return self._gzip.compress(self._inner.rows(predicted))

    def end(self) -> bytes:
        """See :class:`Encoder`."""
        return self._gzip.compress(self._inner.end()) + self._gzip.flush()


def _csv_cells(column: pa.Array) -> pa.Array:
    texts = pc.coalesce(pc.cast(column, pa.string()), text_scalar(""))
    if pa.types.is_string(column.type):
        odd = pc.match_substring_regex(texts, _TO_QUOTE)
        if pc.any(odd).as_py():
            inside = pc.replace_substring(texts, '"', '""')
            texts = pc.if_else(odd, _in_quotes(inside), texts)
    return texts


def _json_cells(column: pa.Array) -> pa.Array:
    texts = pc.cast(column, pa.string())
    if pa.types.is_string(column.type):
        if pc.any(pc.match_substring_regex(texts, _TO_ESCAPE)).as_py():
            quoted = [
                None if t is None else json.dumps(t, ensure_ascii=False) for t in texts.to_pylist()
            ]
            texts = texts_of(quoted)
        else:
            texts = _in_quotes(texts)
    return pc.coalesce(texts, text_scalar("null"))


def _in_quotes(texts: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(text_scalar('"'), texts, text_scalar('"'), text_scalar(""))
