"""Static path of an embedding model."""

import paddle
import paddle.nn.functional as F

from net import Net


class StaticModel:
    """Its feeds are a label, the slots and the dense features."""

    def __init__(self, config):
        self.config = config
        self.slots = config.get("hyper_parameters.slots")

    def create_feeds(self, is_infer=False):
        label = paddle.static.data("label", [None, 1], "int64")
        ids = [paddle.static.data(f"C{i}", [None, 1], "int64") for i in range(self.slots)]
        return [label, *ids, paddle.static.data("dense", [None, 3], "float32")]

    def net(self, inputs, is_infer=False):
        label, ids, dense = inputs[0], inputs[1:-1], inputs[-1]
        prediction = Net(self.slots, self.config.get("hyper_parameters.vocabulary"))(ids, dense)
        both = paddle.concat([1 - prediction, prediction], axis=1)
        auc, batch_auc, _ = paddle.static.auc(both, label, num_thresholds=2**12, slide_steps=20)
        cost = F.binary_cross_entropy(prediction, paddle.cast(label, "float32"))
        self.cost = paddle.reshape(cost, [1])
        if is_infer:
            return {"auc": auc, "prediction": prediction, "label": label}
        return {"cost": self.cost, "auc": auc, "batch_auc": batch_auc}

    def create_optimizer(self, strategy=None):
        rate = self.config.get("hyper_parameters.learning_rate")
        paddle.optimizer.Adam(rate).minimize(self.cost)

    def infer_net(self, inputs):
        return self.net(inputs, is_infer=True)
