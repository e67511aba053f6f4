"""A directory without an eager path."""

import paddle
import paddle.nn.functional as F


class StaticModel:
    """The size of a batch is fixed when the network is built."""

    def __init__(self, config):
        self.config = config

    def create_feeds(self, is_infer=False):
        rows = self.config["runner.infer_batch_size" if is_infer else "runner.train_batch_size"]
        return [
            paddle.static.data("features", [rows, 4], "float32"),
            paddle.static.data("label", [rows], "int64"),
        ]

    def net(self, inputs, is_infer=False):
        label = paddle.reshape(inputs[1], [inputs[1].shape[0], 1])
        logits = paddle.static.nn.fc(inputs[0], 2)
        prediction = F.softmax(logits)
        self.cost = F.cross_entropy(logits, label)
        auc = paddle.static.auc(prediction, label)[0]
        return {"cost": self.cost, "auc": auc, "prediction": prediction, "label": label}

    def create_optimizer(self, strategy=None):
        paddle.optimizer.AdamW(self.config["hyper_parameters.learning_rate"]).minimize(self.cost)

    def infer_net(self, inputs):
        return self.net(inputs)
