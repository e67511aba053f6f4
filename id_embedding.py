"""Learned vectors of ids, looked up before the bottom.

Their updates are dense: with sparse ones Paddle's Adam trains other weights, its AdamW and its Adam
of several weights at once end the process.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from dropout import kept
from raw_tables.schema import Column


class IdVectors(nn.Layer):
    """The vectors of one column of ids.

    They start at 0, which is what an id that training never saw stays: it adds nothing.

    Args:
        rows: number of codes.
        size: numbers in a vector.
    """

    def __init__(self, rows: int, size: int) -> None:
        super().__init__()
        zeros = nn.initializer.Constant(0.0)
        self.weight = self.create_parameter([rows, size], default_initializer=zeros)


class IdEmbedding(nn.LayerList):
    """Turns the codes of ids, the last columns of encoded rows, into vectors.

    Args:
        ids: the columns, as a schema has them; one code more than buckets stands for missing.
        dropout: share of ids that are not looked at in training; a vector of 0 stands for each.

    Attributes:
        out_size: numbers in all vectors of a row.
    """

    def __init__(self, ids: Sequence[Column], dropout: float) -> None:
        super().__init__([IdVectors(column.buckets + 1, column.embedding) for column in ids])
        self.dropout = dropout
        self.out_size = sum(column.embedding for column in ids)

    def forward(self, encoded: Tensor) -> Tensor:
        """float32 ``[N, E + ids]`` to float32 ``[N, E + out_size]``."""
        vectors = embedded(encoded, [layer.weight for layer in self])
        if self.dropout and self.training:
            looked_at = kept(encoded[:, -len(self) :], self.dropout)
            vectors = [v * looked_at[:, i : i + 1] for i, v in enumerate(vectors)]
        if encoded.shape[1] > len(self):
            vectors.insert(0, encoded[:, : -len(self)])
        return paddle.concat(vectors, axis=1)


def embedded(rows: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The vectors of ids ``[N, size]``, whose codes are the last columns of rows.

    Args:
        rows: float32 ``[N, F]`` or ``[N, E + ids]``.
        weights: all vectors of each column of ids.
    """
    first = rows.shape[1] - len(weights)
    codes = rows[:, first:].astype("int64")
    return [F.embedding(codes[:, place], weight) for place, weight in enumerate(weights)]
