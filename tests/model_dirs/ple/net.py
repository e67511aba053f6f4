"""Progressive layered extraction, one layer deep."""

import paddle
import paddle.nn.functional as F
from paddle import nn


class Net(nn.Layer):
    """Experts of each task beside the shared ones; a gate and a tower for each task."""

    def __init__(self, feature_size, experts):
        super().__init__()
        self.shared = nn.LayerList([nn.Linear(feature_size, 4) for _ in range(experts)])
        self.own = nn.LayerList(
            [nn.LayerList([nn.Linear(feature_size, 4) for _ in range(2)]) for _ in range(2)]
        )
        self.gates = nn.LayerList([nn.Linear(feature_size, experts + 2) for _ in range(2)])
        self.towers = nn.LayerList([nn.Linear(4, 2) for _ in range(2)])

    def forward(self, features):
        outputs = []
        for own, gate, tower in zip(self.own, self.gates, self.towers):
            experts = [F.relu(expert(features)) for expert in [*own, *self.shared]]
            weights = paddle.unsqueeze(F.softmax(gate(features)), 1)
            mixed = paddle.matmul(weights, paddle.stack(experts, axis=1))
            outputs.append(F.softmax(tower(paddle.squeeze(mixed, 1))))
        return outputs
