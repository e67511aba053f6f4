"""What the loop asks of a graph path: train a window, score a window, read and set state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.config import Config
from rec_runner.contract.guard import call
from rec_runner.contract.hooks import has
from rec_runner.contract.model_dir import ModelDir
from rec_runner.data.loader_source import padded
from rec_runner.data.rows import Window
from rec_runner.metrics.base import Metrics
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.system.errors import RunError, UserError
from rec_runner.system.log import warn
from rec_runner.system.seeds import seed_all

ENCODE_BYTES = 1 << 20


class Outcome(NamedTuple):
    """What training or scoring a window gave; the engine's metrics have counted its rows.

    Attributes:
        losses: a loss per batch, or empty.
        rows: rows of each batch.
        values: further named numbers to print, of the last batch.
    """

    losses: np.ndarray
    rows: np.ndarray
    values: Mapping[str, Any]


class Engine(ABC):
    """Trains and scores one model on one graph.

    Args:
        model_dir: the model directory.
        config: the run's config.
        model: its ``DygraphModel`` or ``StaticModel``.
        training: whether to train, or only to score.

    Attributes:
        graph: ``dygraph`` or ``static``.
        reads_blocks: the model has the hooks of whole blocks; windows hold named arrays.
        metrics: counts each window that is trained on or scored.
        whole_checkpoints: refuse checkpoints that hold more than this network.
        steps_schedule: the engine itself moves the schedule on after every step.
        gradient_norms: Euclidean norms of the gradients of a window's last batch, by weight, and
            as ``all`` of them together; empty unless ``runner.use_visual`` asks for them.
    """

    graph: str
    reads_blocks = False
    metrics: Metrics
    whole_checkpoints = True
    steps_schedule = False

    def __init__(
        self, model_dir: ModelDir, config: Config, model: Any, training: bool = True
    ) -> None:
        self.model_dir = model_dir
        self.config = config
        self.model = model
        self.training = training
        self.seed = config.runner("seed")
        self.watches_gradients = training and config.runner("use_visual")
        self.gradient_norms: dict[str, float] = {}
        self._left_out = False
        # Readers and models may draw from either, for negative samples for instance.
        seed_all(self.seed)

    @abstractmethod
    def start_training(self, steps_per_epoch: int | None) -> None:
        """Make the optimizer; called once, before the first :meth:`train`."""

    @abstractmethod
    def train(self, window: Window, step: int) -> Outcome:
        """Train on each batch of a window in turn; ``step`` counts from the start of the run."""

    @abstractmethod
    def score(self, window: Window) -> Outcome | None:
        """Score a window without training; None where it was left out, see :meth:`leave_out`."""

    def leave_out(
        self, window: Window, error: UserError, attempt: Callable[[Window], object]
    ) -> None:
        """Leave out a last incomplete batch that a network made for whole ones cannot take.

        Args:
            window: what could not be scored.
            error: why.
            attempt: runs a batch, but counts nothing of it.

        Raises:
            UserError: ``error``, if the batch was whole, or filled up to a whole one by its own
                last row it cannot be scored either.
        """
        incomplete = window.first_batch > 0 and window.rows < window.batch_size
        if not (incomplete and _succeeds(attempt, padded(window))):
            raise error
        if not self._left_out:
            warn(
                f"the last {window.rows} rows are left out: this network takes whole batches of "
                f"{window.batch_size} rows only; another runner.infer_batch_size may divide all "
                f"rows ({error})"
            )
        self._left_out = True

    def encode(self, features: np.ndarray) -> np.ndarray:
        """What no training step changes, done once for many batches.

        Windows hold what this gives: float32 ``[n, F]`` to float32 ``[n, E]``.
        """
        return features

    @abstractmethod
    def state_dict(self) -> dict[str, np.ndarray]:
        """Weights by name."""

    @abstractmethod
    def set_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Set some or all weights by name; names and shapes have been checked."""

    @abstractmethod
    def optimizer_state(self) -> dict[str, Any]:
        """State of the optimizer: ``<weight>/<slot>`` to array."""

    @abstractmethod
    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        """Set what :meth:`optimizer_state` gave."""

    def resume_optimizer(self, state: Mapping[str, Any], step: int) -> None:
        """Set the optimizer state of a checkpoint whose run may have had another schedule.

        Args:
            state: what :meth:`optimizer_state` gave; a schedule that the config has no more is
                dropped.
            step: steps trained so far; a schedule that the config has now starts there.
        """
        slots = {key: value for key, value in state.items() if key != "schedule"}
        schedule = self.schedule()
        if schedule is not None:
            if "schedule" not in state and self.steps_schedule:
                schedule.step(step)
            slots["schedule"] = state.get("schedule") or schedule.state_dict()
        self.set_optimizer_state(slots)

    def schedule(self) -> Any:
        """The learning-rate schedule whose state checkpoints hold, or None."""
        return None

    def snapshot(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Weights and optimizer state, copies that training on does not change."""
        return self.state_dict(), self.optimizer_state()

    def restore(self, snapshot: tuple[Mapping[str, np.ndarray], Mapping[str, Any]]) -> None:
        """Go back to what :meth:`snapshot` gave."""
        weights, optimizer = snapshot
        self.set_state_dict(weights)
        self.set_optimizer_state(optimizer)

    def learning_rate(self) -> float | None:
        """The optimizer's learning rate now, where it is known."""
        return None

    def finish_epoch(self, folder: Path) -> None:  # noqa: B027 - may stay empty
        """Add what else the config asks for to an epoch's checkpoint folder."""

    def lacks(self, folder: Path) -> bool:
        """Whether a checkpoint folder has not all of what :meth:`finish_epoch` adds."""
        return False

    def data_loader(self) -> Any:
        """The model's own loader of batches, see ``StaticEngine``."""
        raise NotImplementedError

    def load(self, state: Mapping[str, np.ndarray], name: str) -> None:
        """Set all weights from a checkpoint.

        Raises:
            UserError: the checkpoint is of another network, names what differs; or a weight is
                not a number.
        """
        try:
            if has(self.model, "convert_state_dict"):
                state = call(self.model, "convert_state_dict", state)
        except UserError as error:
            raise UserError(f"checkpoint {name}: {error}") from error
        state = dict(state)
        own = self.state_dict()
        for key, value in own.items():
            if key not in state:
                raise UserError(f"checkpoint {name} has no {key}, which this config's network has")
            state[key] = _alike(state[key], value, f"checkpoint {name}: {key}")
        for key in state:
            if key not in own and self.whole_checkpoints:
                raise UserError(f"checkpoint {name} has {key}, which this config's network has not")
        self.set_state_dict({key: state[key] for key in own})


def _succeeds(attempt: Callable[[Window], object], window: Window) -> bool:
    try:
        attempt(window)
    except UserError:
        return False
    return True


def _alike(saved: np.ndarray, own: np.ndarray, place: str) -> np.ndarray:
    """A saved weight in the type of the network's own; both floating, or the very same.

    Raises:
        UserError: it does not fit, or holds a NaN.
    """
    if saved.shape != own.shape:
        raise UserError(
            f"{place} has shape {list(saved.shape)}, this config's network has {list(own.shape)}"
        )
    both_float = np.issubdtype(saved.dtype, np.floating) and np.issubdtype(own.dtype, np.floating)
    if saved.dtype != own.dtype and not both_float:
        raise UserError(f"{place} holds {saved.dtype}, this config's network has {own.dtype}")
    if both_float and np.isnan(saved).any():
        raise UserError(f"{place} holds numbers that are not numbers (NaN)")
    return saved.astype(own.dtype, copy=False)


def norms(gradients: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Euclidean norm of each array, and as ``all`` of them together."""
    each = {name: float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
    return {"all": math.hypot(*each.values()), **each}


def count_scores(metrics: TaskMetrics, window: Window, log_odds: np.ndarray) -> Outcome:
    """Let metrics count the log-odds ``[n, T]`` of a window that was scored.

    Raises:
        RunError: one is not a number: no metric of them would mean anything.
    """
    if np.isnan(log_odds).any():
        row = int(np.argmax(np.isnan(log_odds).any(axis=1)))
        raise RunError(
            f"the network gives NaN for row {window.first_batch * window.batch_size + row} "
            f"(from 0) of the rows scored{window.place}; are its values very large?"
        )
    metrics.update(window.arrays["labels"], log_odds)
    return Outcome(np.empty(0), window.batch_rows, {})


def encode_in_pieces(
    features: np.ndarray, encode: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Apply ``encode`` to rows few enough to stay in the processor's cache: 3 times faster."""
    rows = max(1, ENCODE_BYTES // features[:1].nbytes)
    first = encode(features[:rows])
    if len(features) <= rows:
        return first
    out = np.empty((len(features), *first.shape[1:]), first.dtype)
    out[:rows] = first
    for start in range(rows, len(features), rows):
        out[start : start + rows] = encode(features[start : start + rows])
    return out


def step_labels(labels: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Labels ``[n, T]`` as the models want them: float32 ``[T, N, 1]`` for each batch.

    Returns:
        those of the whole batches, stacked, and those of a last incomplete one, stacked alike.
    """
    whole = len(labels) // batch_size * batch_size
    tasks = labels.shape[1]
    stacks = [labels[:whole].reshape(-1, batch_size, tasks)]
    if whole < len(labels):
        stacks.append(labels[whole:].reshape(1, -1, tasks))
    return [
        np.ascontiguousarray(stack.transpose(0, 2, 1), dtype=np.float32)[..., np.newaxis]
        for stack in stacks
    ]


def joined_log_odds(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Log-odds ``[T, N, 1]`` of consecutive batches as one array ``[n, T]``."""
    return np.ascontiguousarray(np.concatenate(pieces, axis=1)[..., 0].T)
