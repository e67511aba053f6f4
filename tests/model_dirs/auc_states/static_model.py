"""A static path that wants the states of its AUC, as Paddle 2 gives them.

The old representation of Paddle 3 takes no ``matmul``, the new one gives no states.
"""

import paddle
import paddle.nn.functional as F
from paddle.static import auc


class StaticModel:
    """Logits of both classes from four features."""

    def __init__(self, config):
        self.config = config

    def create_feeds(self, is_infer=False):
        return [
            paddle.static.data("features", [None, 4], "float32"),
            paddle.static.data("label", [None], "int64"),
        ]

    def net(self, inputs, is_infer=False):
        label = paddle.reshape(inputs[1], [-1, 1])
        logits = paddle.matmul(inputs[0], paddle.static.create_parameter([4, 2], "float32"))
        prediction = F.softmax(logits)
        self.cost = F.cross_entropy(logits, label)
        whole, latest, [_, _, positive, negative] = auc(prediction, label)
        fetches = {"cost": self.cost, "auc": whole, "latest": latest}
        # Rows of each class so far, made from the states; and the states themselves.
        fetches["rows_counted"] = paddle.add(paddle.sum(positive), paddle.sum(negative))
        fetches["counts"] = positive
        return {**fetches, "prediction": prediction, "label": label}

    def create_optimizer(self, strategy=None):
        paddle.optimizer.AdamW(self.config["hyper_parameters.learning_rate"]).minimize(self.cost)

    def infer_net(self, inputs):
        return self.net(inputs)
