"""Static path of a sequence model."""

import paddle
import paddle.nn.functional as F

from net import Net


class StaticModel:
    """``create_feeds`` knows no ``is_infer``, and the reader's float becomes an integer."""

    def __init__(self, config):
        self.config = config

    def create_feeds(self):
        length = self.config["hyper_parameters.length"]
        return [
            paddle.static.data("history", [None, length], "int64"),
            paddle.static.data("length", [None], "int64"),
            paddle.static.data("target", [None], "int64"),
            paddle.static.data("click", [None], "int64"),
        ]

    def net(self, inputs, is_infer=False):
        history, _, target, click = inputs
        label = paddle.reshape(click, [-1, 1])
        logits = Net(self.config["hyper_parameters.items"])(history, target)
        prediction = F.softmax(logits)
        self.loss = F.cross_entropy(logits, label)
        auc, _, _ = paddle.static.auc(prediction, label)
        return {"loss": self.loss, "auc": auc, "prediction": prediction, "label": label}

    def create_optimizer(self, strategy=None):
        clip = paddle.nn.ClipGradByGlobalNorm(5.0)
        rate = self.config["hyper_parameters.learning_rate"]
        paddle.optimizer.Adagrad(rate, grad_clip=clip).minimize(self.loss)

    def infer_net(self, inputs):
        return self.net(inputs)
