"""Static path of a regression."""

import paddle
import paddle.nn.functional as F

from net import Net


class StaticModel:
    """The reader's float64 columns are fed as float32."""

    def __init__(self, config):
        self.config = config

    def create_feeds(self, is_infer=False):
        return [paddle.static.data(name, [None], "float32") for name in "abcdy"]

    def net(self, inputs, is_infer=False):
        prediction = Net()(inputs[:4])
        self.cost = F.mse_loss(prediction, inputs[4])
        mae = F.l1_loss(prediction, inputs[4])
        return {"cost": self.cost, "mae": mae, "prediction": prediction}

    def create_optimizer(self, strategy=None):
        rate = self.config["hyper_parameters.learning_rate"]
        paddle.optimizer.Momentum(rate).minimize(self.cost)

    def infer_net(self, inputs):
        return self.net(inputs, is_infer=True)
