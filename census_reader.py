"""Reader of comma-separated rows: label columns and features, as the config names them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from paddle.io import IterableDataset, get_worker_info

from column_names import first_named, head_of, known_head, training_head
from csv_blocks import Block, read_blocks
from csv_layout import HINTS, Layout, RowError
from csv_line import BadRows
from csv_text import Head
from hyper_parameters import ConfigError, HyperParameters


class RecDataset(IterableDataset):
    """Rows of Census, or of a person's own files of the same kind.

    Iterating gives one row at a time, as PaddleRec's tools want it:
    ``[features float32 [feature_size], label int64 [1] of each task]``. Where a label may be blank,
    which is NaN, or any number, labels are float32; where rows have weights, a float32 ``[1]``
    follows. :meth:`blocks` gives the same rows as large arrays, many times faster.

    Where files have a header, their columns are matched by name to those of the training files,
    and come in the order of the first of these. Files without one have them in that order.

    Args:
        file_list: paths of text files (plain or gzip); read in sorted order.
        config: flat config; ``hyper_parameters.feature_size``, ``.task_names``,
            ``.label_columns`` and the like say what the columns are, and ``columns``, where it is
            there, what they were called in training.

    Raises:
        ConfigError: the settings name no such columns, or a schema.
    """

    def __init__(self, file_list: Sequence[str], config: Mapping[str, Any]) -> None:
        super().__init__()
        if config.get("hyper_parameters.schema"):
            raise ConfigError(
                "hyper_parameters.schema goes with the reader table_reader (train_reader_path, "
                "infer_reader_path); census_reader reads rows of numbers"
            )
        settings = HyperParameters.from_config(config)
        self.file_list = sorted(file_list)
        self.layout = Layout(
            settings.feature_size,
            settings.label_columns,
            HINTS,
            settings.feature_columns,
            settings.weight_column,
            settings.ignored_columns,
            blank_labels=settings.blank_labels,
            regression=settings.regression if any(settings.regression) else (),
        )
        skip = config.get("runner.bad_rows") == "skip"
        self.bad_rows_cap = config.get("runner.bad_rows_cap", 100) if skip else 0
        self._bad_rows = BadRows()
        self._config = config

    def blocks(self) -> Iterator[Block] | Iterator[dict[str, Any]]:
        """Hook: stream the files once.

        Yields:
            ``(features float32 [n, feature_size], labels float32 [n, task_num], file)``; where
            rows have weights, these and ``weights`` float32 ``[n]`` by name.

        Raises:
            RowError: a row that cannot be used, with file, line, column and value; a header that
                lacks a column or names one twice.
        """
        blocks = self._read()
        if self.layout.weight_column is None:
            return blocks
        return (block._asdict() for block in blocks)

    def columns(self) -> dict[str, Any]:
        """Hook: what the columns of the rows are; only the first line of each file is read.

        Returns:
            ``column_num``, and where there is a header ``names`` of all of them, in the order of
            the first file that has one, of the ``features``, in the order of the rows, of the
            ``labels`` and of the ``weight``; what training knew, where the config has it.

        Raises:
            RowError: files have columns that do not go together, or not with those of training.
            OSError: a file cannot be read.
        """
        layout = self._named_layout()
        known = self._config.get("columns")
        column_num = 0
        for number, file in enumerate(self.file_list):
            names, here = head_of(file)
            column_num = column_num or here
            if number == 0 and names and known is not None and not known.get("names"):
                warnings.warn(
                    f"{file} has a header, which the training files had not: its columns are taken "
                    "to be in their order",
                    stacklevel=1,
                )
            if layout.names and names:
                self._match(file, names, layout, exactly=known is None)
            elif layout.names and here:
                warnings.warn(
                    f"{file} has no header: its columns are taken to be in the order of the other "
                    f"files, {layout.names[0]!r} first",
                    stacklevel=1,
                )
        if known is not None:
            return dict(known)
        named: dict[str, Any] = {"column_num": len(layout.names) or column_num}
        if layout.names:
            named.update(names=list(layout.names), features=_features(layout))
            named["labels"] = [layout.names[column] for column in layout.label_columns]
        if layout.names and layout.weight_column is not None:
            named["weight"] = layout.names[layout.weight_column]
        return named

    def skipped_rows(self) -> tuple[int, list[str]]:
        """Hook: how many rows the last pass left out, and what was wrong with the first ten."""
        return self._bad_rows.count, list(self._bad_rows.first)

    def cache_key(self) -> list[Any]:
        """Hook: what decides the rows that come out of the same files."""
        layout = self._named_layout()
        more = [layout.features, layout.weight_column, layout.ignored_columns, layout.names]
        key: list[Any] = [layout.feature_size, list(layout.label_columns)]
        more += [layout.blank_labels, layout.regression]
        if any(part not in ((), None, False) for part in more):
            key.append(more)
        return key

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        worker = get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        first = 0
        any_number = self.layout.blank_labels or any(self.layout.regression)
        for block in self._read():
            features, labels = block[:2]
            columns = [*(labels if any_number else labels.astype(np.int64)).T]
            if self.layout.weight_column is not None:
                columns.append(block.weights)
            # Each DataLoader worker takes every num_workers-th row of the whole stream.
            for row in range((start - first) % step, len(labels), step):
                yield [features[row], *(column[row : row + 1] for column in columns)]
            first += len(labels)

    def _read(self) -> Iterator[Any]:
        self._bad_rows = BadRows(self.bad_rows_cap)
        return read_blocks(self.file_list, self._named_layout(), self._bad_rows)

    def _named_layout(self) -> Layout:
        """The layout with the names of the columns, where a header tells them.

        Raises:
            RowError: the features are not those that the network was trained on.
        """
        head = known_head(self._config) or training_head(self._config)
        if head is None or not head.names:
            head = first_named(self.file_list) or Head((), 0)
        if len(head.names) != self.layout.column_num:  # the rows tell
            return self.layout
        layout = replace(self.layout, names=head.names)
        now, then = _features(layout), (self._config.get("columns") or {}).get("features", [])
        if then and now != then:
            odd = [f"without {n!r}" for n in now if n not in then]
            odd += [f"with {n!r}" for n in then if n not in now]
            how = odd[0] if odd else "in another order"
            raise RowError(f"the network was trained on other features than the config's: {how}")
        return layout

    def _match(self, file: str, names: tuple[str, ...], layout: Layout, exactly: bool) -> None:
        try:
            layout.of(names)
        except RowError as error:
            raise RowError(f"{file}:1: {error}") from error
        more = [name for name in names if name not in layout.names]
        if more and exactly:
            raise RowError(
                f"{file}:1: its header has column {more[0]!r}, which other training files lack"
            )


def _features(layout: Layout) -> list[str]:
    return [layout.names[column] for column in layout.feature_columns]
