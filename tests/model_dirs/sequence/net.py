"""Attention of a target item over a padded history."""

import paddle
import paddle.nn.functional as F
from paddle import nn


class Net(nn.Layer):
    """Item 0 is padding; dropout only in training."""

    def __init__(self, items):
        super().__init__()
        self.item = nn.Embedding(items, 4, padding_idx=0)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(8, 2)

    def forward(self, history, target):
        seen = self.item(history)
        wanted = self.item(paddle.reshape(target, [-1, 1]))
        scores = paddle.matmul(seen, wanted, transpose_y=True)
        padding = paddle.cast(paddle.unsqueeze(history, 2) == 0, "float32") * -1e9
        attended = paddle.matmul(F.softmax(scores + padding, axis=1), seen, transpose_x=True)
        both = paddle.concat([paddle.squeeze(attended, 1), paddle.squeeze(wanted, 1)], axis=1)
        return self.out(self.drop(both))
