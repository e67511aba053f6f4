"""A shared bottom; towers in one weight for both tasks, heads in one for each."""

import paddle
import paddle.nn.functional as F
from paddle import nn

OF_TASK = ["tower", "tower_bias", "head_{}.weight", "head_{}.bias"]


class Net(nn.Layer):
    """Log-odds of two tasks."""

    def __init__(self):
        super().__init__()
        self.center = self.create_parameter([4], default_initializer=nn.initializer.Constant(0.0))
        self.center.stop_gradient = True
        self.bottom = nn.Linear(4, 6)
        self.tower = self.create_parameter([2, 6, 5])
        self.tower_bias = self.create_parameter([2, 1, 5], is_bias=True)
        self.head_0 = nn.Linear(5, 1)
        self.head_1 = nn.Linear(5, 1)

    def outputs(self, encoded):
        """``[N, 4]`` to ``[2, N, 1]``."""
        hidden = F.relu(self.bottom(encoded)) @ self.tower + self.tower_bias
        first, second = paddle.unbind(F.relu(hidden))
        return paddle.stack([self.head_0(first), self.head_1(second)])


class Hooks:
    """What both wrappers share."""

    def task_names(self, config):
        return ("click", "buy")

    def weighs_rows(self, config):
        return config.get("hyper_parameters.weighs", False)

    def weights_of_task(self, task):
        heads = {f"head_{task}.weight": slice(None), f"head_{task}.bias": 0}
        return {"tower": task, "tower_bias": slice(task, task + 1), **heads}

    def adapt_blocks(self, blocks, config):
        if not config.get("hyper_parameters.adapts"):
            return {}
        rows, total = 0, 0.0
        for block in blocks:
            counts = block.get("weights", block["labels"][:, 0] * 0 + 1)
            total = total + (block["features"] * counts[:, None]).sum(0, dtype="float64")
            rows += counts.sum(dtype="float64")
        return {"center": (total / rows).astype("float32")}


def masked_loss(odds, labels, weights=None):
    known = 1 - paddle.isnan(labels).astype("float32")
    labels = paddle.where(paddle.isnan(labels), paddle.zeros_like(labels), labels)
    losses = F.binary_cross_entropy_with_logits(odds, labels, reduction="none")
    counts = known if weights is None else known * weights
    least = paddle.full_like(losses[:, 0, 0], 1e-12)
    return ((losses * counts).sum([1, 2]) / paddle.maximum(counts.sum([1, 2]), least)).sum()


def make_optimizer(config, parameters=None):
    common = {"learning_rate": config["hyper_parameters.rate"], "parameters": parameters}
    kind = config["hyper_parameters.optimizer"]
    if kind == "adamw":
        made = paddle.optimizer.AdamW(weight_decay=0.1, **common)
        made.use_multi_tensor = True
        return made
    if kind == "adam":
        return paddle.optimizer.Adam(use_multi_tensor=True, weight_decay=0.1, **common)
    return paddle.optimizer.Momentum(**common)
