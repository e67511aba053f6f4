"""A static path that Paddle 3 runs in its old representation of programs only."""

import paddle
import paddle.nn.functional as F


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
        logits = paddle.static.nn.fc(inputs[0], 2)
        prediction = F.softmax(logits)
        self.cost = F.cross_entropy(logits, label)
        auc = paddle.static.auc(prediction, label)[0]
        # The new one takes this number for an integer, and notices when it is run.
        percent = paddle.scale(auc, 100.0)
        fetches = {"cost": self.cost, "auc": auc, "percent": percent}
        return {**fetches, "prediction": prediction, "label": label}

    def create_optimizer(self, strategy=None):
        paddle.optimizer.AdamW(self.config["hyper_parameters.learning_rate"]).minimize(self.cost)

    def infer_net(self, inputs):
        return self.net(inputs)
