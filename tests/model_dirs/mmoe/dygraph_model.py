"""Eager path of a multi-task model."""

import paddle
import paddle.nn.functional as F

from net import Net

TASKS = ("click", "buy")


class DygraphModel:
    """An AUC per task."""

    def create_model(self, config):
        return Net(config["hyper_parameters.feature_size"], config["hyper_parameters.experts"])

    def create_optimizer(self, dy_model, config):
        rate = config["hyper_parameters.learning_rate"]
        return paddle.optimizer.Adam(rate, parameters=dy_model.parameters())

    def create_metrics(self):
        metrics = [paddle.metric.Auc("ROC", name=name) for name in TASKS]
        return metrics, [f"auc_{name}" for name in TASKS]

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        features, labels = batch_data[0], batch_data[1:]
        predictions = dy_model(features)
        loss = 0
        for metric, prediction, label in zip(metrics_list, predictions, labels):
            loss = loss + F.cross_entropy(prediction, label, use_softmax=False).mean()
            metric.update(preds=prediction.numpy(), labels=label.numpy())
        return loss, metrics_list, None

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        self.train_forward(dy_model, metrics_list, batch_data, config)
        values = {}
        for name, prediction, label in zip(TASKS, dy_model(batch_data[0]), batch_data[1:]):
            values.update({f"prediction_{name}": prediction, f"label_{name}": label})
        return metrics_list, values
