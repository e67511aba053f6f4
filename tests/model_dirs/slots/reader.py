"""Rows of text."""

import numpy as np
from paddle.io import IterableDataset


class RecDataset(IterableDataset):
    """A label, an int64 id for each slot, and dense features."""

    def __init__(self, file_list, config):
        super().__init__()
        self.file_list = file_list

    def __iter__(self):
        for file in self.file_list:
            with open(file) as lines:
                for line in lines:
                    fields = line.split()
                    yield (
                        [np.array([int(fields[0])], np.int64)]
                        + [np.array([int(field)], np.int64) for field in fields[1:5]]
                        + [np.array(fields[5:], np.float32)]
                    )
