"""A static path that makes its batches itself; there is no reader."""

import os

import numpy as np
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

    def create_data_loader(self):
        file = self.config["hyper_parameters.file"]
        size = self.config["runner.train_batch_size"]
        table = np.loadtxt(os.path.join(self.config["config_abs_dir"], file), np.float32)

        def batches():
            for start in range(0, len(table), size):
                rows = table[start : start + size]
                yield [{"label": rows[:, 4].astype(np.int64), "features": rows[:, :4]}]

        return batches
