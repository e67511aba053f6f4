"""Multi-gate mixture of experts."""

import paddle
import paddle.nn.functional as F
from paddle import nn


class Net(nn.Layer):
    """Experts for all tasks, a gate and a tower for each."""

    def __init__(self, feature_size, experts):
        super().__init__()
        self.experts = nn.LayerList([nn.Linear(feature_size, 4) for _ in range(experts)])
        self.gates = nn.LayerList([nn.Linear(feature_size, experts) for _ in range(2)])
        self.towers = nn.LayerList([nn.Linear(4, 2) for _ in range(2)])

    def forward(self, features):
        hidden = paddle.stack([F.relu(expert(features)) for expert in self.experts], axis=1)
        outputs = []
        for gate, tower in zip(self.gates, self.towers):
            weights = paddle.unsqueeze(F.softmax(gate(features)), 1)
            outputs.append(F.softmax(tower(paddle.squeeze(paddle.matmul(weights, hidden), 1))))
        return outputs
