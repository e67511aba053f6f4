"""Eager path of a regression."""

import paddle
import paddle.nn.functional as F

from net import MaeAndMax, Mse, Net


class DygraphModel:
    """One metric is a number, one a list."""

    def create_model(self, config):
        return Net()

    def create_optimizer(self, dy_model, config):
        rate = config["hyper_parameters.learning_rate"]
        return paddle.optimizer.Momentum(rate, parameters=dy_model.parameters())

    def create_metrics(self):
        return [Mse(), MaeAndMax()], ["mse", "mae_and_max"]

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        columns = [column.astype("float32") for column in batch_data]
        prediction = dy_model(columns[:4])
        for metric in metrics_list:
            metric.update(prediction.numpy(), columns[4].numpy())
        return F.mse_loss(prediction, columns[4]), metrics_list, None

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        self.train_forward(dy_model, metrics_list, batch_data, config)
        return metrics_list, None
