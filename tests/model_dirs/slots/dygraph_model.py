"""Eager path of an embedding model."""

import paddle
import paddle.nn.functional as F

from net import Net


class DygraphModel:
    """One AUC; the loss has shape [1]."""

    def create_model(self, config):
        slots = config.get("hyper_parameters.slots")
        return Net(slots, config.get("hyper_parameters.vocabulary"))

    def create_feeds(self, batch_data, config):
        ids = [paddle.to_tensor(slot.numpy().astype("int64")) for slot in batch_data[1:-1]]
        return batch_data[0], ids, batch_data[-1]

    def create_optimizer(self, dy_model, config):
        rate = config.get("hyper_parameters.learning_rate")
        return paddle.optimizer.Adam(rate, parameters=dy_model.parameters())

    def create_metrics(self):
        return [paddle.metric.Auc("ROC")], ["auc"]

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        label, ids, dense = self.create_feeds(batch_data, config)
        prediction = dy_model(ids, dense)
        both = paddle.concat([1 - prediction, prediction], axis=1)
        metrics_list[0].update(preds=both.numpy(), labels=label.numpy())
        return metrics_list, {"prediction": prediction, "label": label}

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        metrics_list, values = self.infer_forward(dy_model, metrics_list, batch_data, config)
        cost = F.binary_cross_entropy(values["prediction"], values["label"].astype("float32"))
        return cost.reshape([1]), metrics_list, {"cost": cost}
