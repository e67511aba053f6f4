"""Rows stacked to batches, as ``paddle.io.DataLoader`` does it.

Private: ``paddle.io.dataloader.collate``, which Paddle 2.6 to 3.3 have alike.
"""

from paddle.io.dataloader.collate import default_collate_fn as stack_rows

__all__ = ["stack_rows"]
