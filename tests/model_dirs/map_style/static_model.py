"""Static path of a logistic regression; this file holds the network too."""

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
        return {"cost": self.cost, "auc": auc, "prediction": prediction, "label": label}

    def create_optimizer(self, strategy=None):
        paddle.optimizer.AdamW(self.config["hyper_parameters.learning_rate"]).minimize(self.cost)

    def infer_net(self, inputs):
        return self.net(inputs)
