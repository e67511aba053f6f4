"""Two towers whose outputs are compared by their cosine."""

import paddle.nn.functional as F
from paddle import nn


class Net(nn.Layer):
    """A tower for users, a tower for items."""

    def __init__(self, size):
        super().__init__()
        self.user = nn.Linear(size, 4)
        self.item = nn.Linear(size, 4)

    def forward(self, user, item):
        return F.cosine_similarity(F.relu(self.user(user)), F.relu(self.item(item)), axis=1)


def ranking_loss(liked, other):
    return F.softplus(other - liked).mean()
