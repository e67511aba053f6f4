"""The hooks: methods that a model directory may have beyond PaddleRec's contract.

``doc/model_directory.md`` explains each with an example. This module alone knows which there are
and whether a directory has one; ``guard.py`` knows how its code is called.
"""

from __future__ import annotations

from typing import Any

from rec_runner.contract.guard import call

HOOKS = {
    # of RecDataset
    "blocks": "yields rows as large named arrays",
    "skipped_rows": "how many rows the last pass left out, and what was wrong with the first ones",
    "cache_key": "what decides the rows that come out of the same files",
    # of DygraphModel and StaticModel
    "task_names": "names of the binary tasks, in the order of labels and log-odds",
    "encode": "what no training step changes, done once for many batches",
    "loss_and_log_odds": "scalar loss and log-odds [T, N, 1] of a batch",
    "adapt": "entries of the state dict that are learnt from the training features",
    "convert_state_dict": "a state dict with the keys of this network",
    "resolved_settings": "what the hyper-parameters of a config mean, defaults too",
    # of StaticModel
    "build_layer": "puts the network's parameters into the current program",
    "make_optimizer": "the optimizer, not yet applied to a loss",
    "create_data_loader": "its own loader, for runner.reader_type: CustomizeDataLoader",
}
READING_BLOCKS = ("task_names", "encode", "loss_and_log_odds")


def has(owner: Any, *hooks: str) -> bool:
    """Whether a model or reader, or its class, has all of some hooks."""
    assert HOOKS.keys() >= set(hooks)
    return all(callable(getattr(owner, hook, None)) for hook in hooks)


def call_hook(owner: Any, hook: str, *arguments: Any, default: Any = None) -> Any:
    """Call a hook where it is there.

    Args:
        owner: the model or reader.
        hook: one of :data:`HOOKS`.
        arguments: its arguments.
        default: given back where the directory does not have it.

    Raises:
        UserError: it failed; names file, class, method and line.
    """
    return call(owner, hook, *arguments) if has(owner, hook) else default


def reads_blocks(model: Any, reader: Any) -> bool:
    """Whether a model and a reader class have the hooks with which rows go through in blocks."""
    return has(model, *READING_BLOCKS) and has(reader, "blocks")
