"""Rows of text."""

import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    """A user and an item: less than in training."""

    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list

    def __iter__(self):
        for file in self.file_list:
            with open(file) as lines:
                for line in lines:
                    fields = line.split()
                    values = np.array(fields, np.float32)
                    yield [values[0:5], values[5:10]]
