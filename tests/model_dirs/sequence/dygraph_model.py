"""Eager path of a sequence model."""

import paddle
import paddle.nn.functional as F

from net import Net


class DygraphModel:
    """The reader yields an int and a float beside the array."""

    def create_model(self, config):
        return Net(config["hyper_parameters.items"])

    def create_optimizer(self, dy_model, config):
        rate = config["hyper_parameters.learning_rate"]
        clip = paddle.nn.ClipGradByGlobalNorm(5.0)
        parameters = dy_model.parameters()
        return paddle.optimizer.Adagrad(rate, parameters=parameters, grad_clip=clip)

    def create_metrics(self):
        return [paddle.metric.Auc("ROC"), paddle.metric.Accuracy()], ["auc", "accuracy"]

    def forward(self, dy_model, metrics_list, batch_data):
        history, _, target, click = batch_data
        label = paddle.reshape(click.astype("int64"), [-1, 1])
        logits = dy_model(history, target)
        metrics_list[0].update(preds=F.softmax(logits).numpy(), labels=label.numpy())
        metrics_list[1].update(metrics_list[1].compute(logits, label))
        return F.cross_entropy(logits, label), F.softmax(logits), label

    def train_forward(self, dy_model, metrics_list, batch_data, config):
        loss, _, _ = self.forward(dy_model, metrics_list, batch_data)
        return loss, metrics_list, None

    def infer_forward(self, dy_model, metrics_list, batch_data, config):
        _, prediction, label = self.forward(dy_model, metrics_list, batch_data)
        return metrics_list, {"prediction": prediction, "label": label}
