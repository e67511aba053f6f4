"""Rows of text."""

import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    """Features and two labels."""

    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list

    def __iter__(self):
        for file in self.file_list:
            with open(file) as lines:
                for line in lines:
                    fields = line.split()
                    values = np.array(fields, np.float32)
                    click, buy = values[:2].astype(np.int64).reshape(2, 1)
                    yield [values[2:], click, buy]
