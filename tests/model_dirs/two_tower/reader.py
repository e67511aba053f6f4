"""Rows of text."""

import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    """A user, an item that was clicked and one that was not."""

    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list

    def __iter__(self):
        for file in self.file_list:
            with open(file) as lines:
                for line in lines:
                    fields = line.split()
                    values = np.array(fields, np.float32)
                    yield [values[0:5], values[5:10], values[10:15]]
