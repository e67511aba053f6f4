"""A linear regression and its metrics."""

import numpy as np
import paddle
from paddle import nn


class Net(nn.Layer):
    """A number from four."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, columns):
        return self.linear(paddle.stack(columns, axis=1))[:, 0]


class Mse(paddle.metric.Metric):
    """Mean squared error."""

    def __init__(self):
        super().__init__()
        self.reset()

    def reset(self):
        self.total, self.rows = 0.0, 0

    def update(self, preds, labels):
        self.total += float(np.square(preds - labels).sum())
        self.rows += len(labels)

    def accumulate(self):
        return self.total / self.rows

    def name(self):
        return "mse"


class MaeAndMax(Mse):
    """Mean and maximum of the absolute error: a list."""

    def reset(self):
        super().reset()
        self.worst = 0.0

    def update(self, preds, labels):
        errors = np.abs(preds - labels)
        self.total += float(errors.sum())
        self.worst = max(self.worst, float(errors.max()))
        self.rows += len(labels)

    def accumulate(self):
        return [self.total / self.rows, self.worst]
