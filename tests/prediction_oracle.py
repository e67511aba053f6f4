"""What text of numbers to predict on should give, by the oracle of the reader of training.

Used by ``test_prediction_numbers.py`` and ``fuzz/fuzz_prediction_rows.py``.
"""

from __future__ import annotations

from typing import Any

from row_oracle import cells as cells_of
from row_oracle import expected, header, lines

from csv_layout import Layout
from prediction_rows.number_columns import NumberColumns


def wanted(data: bytes, columns: NumberColumns) -> tuple[list[Any], list[int]] | None:
    """What the oracle of training makes of a text, the layout chosen as for rows to predict on."""
    full = Layout(
        *(len(columns.features), (), {}, columns.features),
        ignored_columns=tuple(c for c in range(columns.column_num) if c not in columns.features),
        names=columns.names,
    )
    alone = Layout(full.feature_size, (), names=columns.feature_names if columns.names else ())
    found = lines(data[3:] if data[:3] == b"\xef\xbb\xbf" else data)
    names = header(found[0], Layout(1, (), names=("any",)))
    chosen = full
    if names and not columns.names:
        if len(names) not in (full.column_num, alone.column_num):
            return None
        chosen = full if len(names) == full.column_num else alone
    elif not names:
        for line in found:
            count = len(cells_of(line)) if line.strip() else 0
            if count in (full.column_num, alone.column_num):
                chosen = full if count == full.column_num else alone
                break
    want = expected(data, None, chosen)
    return None if want.damaged else (want.rows, want.bad)
