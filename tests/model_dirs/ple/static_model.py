"""Static path of a multi-task model."""

import paddle
import paddle.nn.functional as F

from net import Net


class StaticModel:
    """Each task's AUC is an operator of the program."""

    def __init__(self, config):
        self.config = config

    def create_feeds(self, is_infer=False):
        size = self.config["hyper_parameters.feature_size"]
        return [
            paddle.static.data("features", [None, size], "float32"),
            paddle.static.data("click", [None, 1], "int64"),
            paddle.static.data("buy", [None, 1], "int64"),
        ]

    def net(self, inputs, is_infer=False):
        features, labels = inputs[0], inputs[1:]
        size = self.config["hyper_parameters.feature_size"]
        layer = Net(size, self.config["hyper_parameters.experts"])
        fetches, self.cost = {}, 0
        for name, prediction, label in zip(("click", "buy"), layer(features), labels):
            cost = F.cross_entropy(prediction, label, use_softmax=False)
            self.cost = self.cost + paddle.mean(cost)
            fetches[f"auc_{name}"] = paddle.static.auc(prediction, label)[0]
            if is_infer:
                fetches.update({f"prediction_{name}": prediction, f"label_{name}": label})
        return fetches if is_infer else {"cost": self.cost, **fetches}

    def create_optimizer(self, strategy=None):
        paddle.optimizer.Adam(self.config["hyper_parameters.learning_rate"]).minimize(self.cost)

    def infer_net(self, inputs):
        return self.net(inputs, is_infer=True)
