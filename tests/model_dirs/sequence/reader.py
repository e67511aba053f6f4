"""Rows of text."""

import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    """A history padded with 0, its length, a target item and a click."""

    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list

    def __iter__(self):
        for file in self.file_list:
            with open(file) as lines:
                for line in lines:
                    fields = line.split()
                    history = [int(item) for item in fields[2:]][:6]
                    padded = np.array(history + [0] * (6 - len(history)), np.int64)
                    yield [padded, len(history), int(fields[1]), float(fields[0])]
