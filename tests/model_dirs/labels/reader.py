"""Rows of numbers: four features, two labels, a weight, a group; a label that is not known: nan."""

import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    """Gives weights and groups where the config says so."""

    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list
        self.given = config.get("hyper_parameters.given", [])

    def __iter__(self):
        raise NotImplementedError("rows come in blocks")

    def blocks(self):
        for file in self.file_list:
            table = np.loadtxt(file, dtype="float32", ndmin=2)
            block = {"features": table[:, :4], "labels": table[:, 4:6], "file": file}
            columns = {"weights": table[:, 6], "groups": table[:, 7].astype("int64")}
            yield {**block, **{name: columns[name] for name in self.given}}
