"""Eager path of a match model."""

import paddle

from net import Net, ranking_loss


class DygraphModel:
    """It has no metrics."""

    def create_model(self, config):
        return Net(config["hyper_parameters.size"])

    def create_optimizer(self, dy_model, config):
        rate = config["hyper_parameters.learning_rate"]
        return paddle.optimizer.SGD(rate, parameters=dy_model.parameters())

    def create_metrics(self):
        return [], []

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        user, liked, other = batch_data
        loss = ranking_loss(dy_model(user, liked), dy_model(user, other))
        return loss, metrics_list, {"ranking": loss}

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        similarity = dy_model(*batch_data)
        return metrics_list, {"mean_similarity": similarity.mean()}
