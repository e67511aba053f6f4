"""The contract's methods are there for the tools to find; rows come in blocks."""

from net import Hooks, Net, make_optimizer, masked_loss


class DygraphModel(Hooks):
    """Takes weights where the config says so."""

    def create_model(self, config):
        return Net()

    def create_optimizer(self, dy_model, config):
        return make_optimizer(config, dy_model.parameters())

    def create_metrics(self):
        raise NotImplementedError

    train_forward = infer_forward = create_metrics

    def encode(self, dy_model, features):
        return features - dy_model.center

    def loss_and_log_odds(self, dy_model, encoded, labels, config, weights=None):
        assert (weights is not None) == self.weighs_rows(config)
        odds = dy_model.outputs(encoded)
        return masked_loss(odds, labels, weights), odds
