"""Logistic regression on embedded slots and dense features, with a small deep part."""

import paddle
from paddle import nn


class Net(nn.Layer):
    """One embedding table for all slots."""

    def __init__(self, slots, vocabulary):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 4)
        self.deep = nn.Sequential(nn.Linear(slots * 4 + 3, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, ids, dense):
        embedded = [paddle.reshape(self.embedding(slot), [-1, 4]) for slot in ids]
        return nn.functional.sigmoid(self.deep(paddle.concat(embedded + [dense], axis=1)))
