"""Eager path of a logistic regression; this file holds the network too."""

import paddle
import paddle.nn.functional as F


class DygraphModel:
    """Logits of both classes from four features."""

    def create_model(self, config):
        return paddle.nn.Linear(4, 2)

    def create_optimizer(self, dy_model, config):
        rate = config["hyper_parameters.learning_rate"]
        return paddle.optimizer.AdamW(rate, parameters=dy_model.parameters())

    def create_metrics(self):
        return [paddle.metric.Auc("ROC")], ["auc"]

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        features, label = batch_data
        logits = dy_model(features)
        label = label.reshape([-1, 1])
        metrics_list[0].update(preds=F.softmax(logits).numpy(), labels=label.numpy())
        return F.cross_entropy(logits, label), metrics_list, None

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        self.train_forward(dy_model, metrics_list, batch_data, config)
        prediction = F.softmax(dy_model(batch_data[0]))
        return metrics_list, {"prediction": prediction, "label": batch_data[1]}
