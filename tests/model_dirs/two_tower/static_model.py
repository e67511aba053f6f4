"""Static path of a match model."""

import paddle

from net import Net, ranking_loss


class StaticModel:
    """Inference feeds less than training."""

    def __init__(self, config):
        self.config = config
        self.size = config["hyper_parameters.size"]

    def create_feeds(self, is_infer=False):
        names = ["user", "liked"] if is_infer else ["user", "liked", "other"]
        return [paddle.static.data(name, [None, self.size], "float32") for name in names]

    def net(self, inputs, is_infer=False):
        layer = Net(self.size)
        similarity = layer(inputs[0], inputs[1])
        if is_infer:
            return {"similarity": similarity, "mean_similarity": similarity.mean()}
        self.cost = ranking_loss(similarity, layer(inputs[0], inputs[2]))
        return {"cost": self.cost}

    def create_optimizer(self, strategy=None):
        paddle.optimizer.SGD(self.config["hyper_parameters.learning_rate"]).minimize(self.cost)

    def infer_net(self, inputs):
        return self.net(inputs, is_infer=True)
