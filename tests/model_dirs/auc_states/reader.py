"""Rows of text."""

import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    """Four features and a label."""

    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list

    def __iter__(self):
        for file in self.file_list:
            with open(file) as lines:
                for line in lines:
                    fields = line.split()
                    yield [np.array(fields[:4], np.float32), np.array(fields[4:], np.int64)[0]]
