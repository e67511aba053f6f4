"""The contract's methods are there for the tools to find; rows come in blocks."""

import paddle

from net import Hooks, Net, make_optimizer, masked_loss


class StaticModel(Hooks):
    """Takes weights where the config says so."""

    def __init__(self, config):
        self.config = config

    def create_feeds(self, is_infer=False):
        return [paddle.static.data("features", [None, 4], "float32")]

    def net(self, inputs, is_infer=False):
        raise NotImplementedError

    create_optimizer = infer_net = net

    def build_layer(self, training):
        self.layer = Net()

    def make_optimizer(self):
        return make_optimizer(self.config)

    def encode(self, features):
        return features - self.layer.center

    def loss_and_log_odds(self, encoded, labels, weights=None):
        assert (weights is not None) == self.weighs_rows(self.config)
        odds = self.layer.outputs(encoded)
        return masked_loss(odds, labels, weights), odds
