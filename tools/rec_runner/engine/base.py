"""What the loop asks of an engine: train a window, score a window, read and set state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.config import Config
from rec_runner.contract.hooks import SCORING_ROWS, call_hook, has
from rec_runner.contract.model_dir import ModelDir
from rec_runner.data.loader_source import padded
from rec_runner.data.rows import Window
from rec_runner.engine.arrays import encode_by_columns
from rec_runner.metrics.base import Metrics
from rec_runner.metrics.tasks import TaskMetrics
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn
from rec_runner.system.schema import FLOAT, NUMBER, OBJECT, SHOWN, check, refusing
from rec_runner.system.seeds import seed_all

REFUSED = "the checkpoint's rec.pdopt is not of this optimizer"
_OF_NUMPY = (np.generic, np.ndarray)


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
        scores_rows: the model also has the hooks that score raw rows; windows to score hold these.
        task_types: what each task is, by the hook of this name; empty where all are binary.
        weighs_rows: the model takes weights of rows, by the hook of this name.
        metrics: counts each window that is trained on or scored.
        whole_checkpoints: refuse checkpoints that hold more than this network.
        steps_schedule: the engine itself moves the schedule on after every step.
        gradient_norms: Euclidean norms of the gradients of a window's last batch, by weight, and
            as ``all`` of them together; empty unless ``runner.use_visual`` asks for them.
    """

    graph: str
    reads_blocks = False
    weighs_rows = False
    task_types: tuple[str, ...] = ()
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
        self.scores_rows = self.reads_blocks and has(model, *SCORING_ROWS)
        if self.reads_blocks:
            self.task_types = tuple(call_hook(model, "task_types", config, default=()))
            self.metrics = TaskMetrics(call_hook(model, "task_names", config), self.task_types)
            self.weighs_rows = call_hook(model, "weighs_rows", config, default=False)
        # Readers and models may draw from either, for negative samples for instance.
        seed_all(self.seed)
        self._set_up()

    @abstractmethod
    def _set_up(self) -> None:
        """Build the network, and the metrics where they are the model's own."""

    @abstractmethod
    def start_training(self, steps_per_epoch: int | None) -> None:
        """Make the optimizer; called once, before the first :meth:`train`."""

    @abstractmethod
    def train(self, window: Window, step: int) -> Outcome:
        """Train on each batch of a window in turn; ``step`` counts from the start of the run."""

    @abstractmethod
    def score(self, window: Window) -> Outcome | None:
        """Score a window without training; None where an incomplete last batch was left out."""

    def _leave_out(
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

    def encode(self, features: np.ndarray, own: bool = False) -> np.ndarray:
        """What no training step changes, done once for many batches.

        Windows hold what this gives: float32 ``[n, F]`` to float32 ``[n, E]``.

        Args:
            features: raw rows.
            own: nobody else needs them, so that they may be encoded where they are.
        """
        if not has(self.model, "encode_columns"):
            return self._encode(features)
        encode = partial(call_hook, self.model, "encode_columns")
        state = self.state_dict()
        return encode_by_columns(features, lambda rows: encode(rows, state), own)

    def _encode(self, features: np.ndarray) -> np.ndarray:
        """Encode by the hook ``encode``."""
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

    def resume_optimizer(self, state: Mapping[str, Any], step: int, skipped: int = 0) -> None:
        """Set the optimizer state of a checkpoint whose run may have had another schedule.

        Args:
            state: what :meth:`optimizer_state` gave; a schedule that the config has no more is
                dropped.
            step: steps of the run so far; a schedule that the config has now starts there.
            skipped: how many of them changed nothing, so that no slots may be there yet.

        Raises:
            UserError: it is not of this optimizer.
        """
        with refusing(REFUSED):
            slots = {key: value for key, value in state.items() if key != "schedule"}
            self._check_slots(slots, trained=step > skipped)
            schedule = self.schedule()
            if schedule is not None:
                if "schedule" not in state and self.steps_schedule:
                    schedule.step(step)
                own = schedule.state_dict()
                slots["schedule"] = _like(state.get("schedule", own), own, "schedule")
                if isinstance(own.get("last_epoch"), int) and slots["schedule"]["last_epoch"] < 0:
                    # A rule is asked for the rates of steps from 0 on, and may fail before that.
                    raise ValueError("schedule.last_epoch should not be negative")
            self.set_optimizer_state(slots)

    @abstractmethod
    def _check_slots(self, slots: Mapping[str, Any], trained: bool) -> None:
        """Check the slots of a checkpoint before they are set.

        Args:
            slots: ``<weight>/<slot>`` to array.
            trained: there has been a step that made some.

        Raises:
            ValueError: they are not those of this optimizer.
        """

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
        """Add what the config asks for to an epoch's checkpoint folder, unless it is there."""

    def data_loader(self) -> Any:
        """The model's own loader of batches, see ``StaticEngine``."""
        raise NotImplementedError


def _like(saved: Any, own: Any, place: str) -> Any:
    """A saved state of a schedule, if it is of the same kind as the schedule's own.

    Raises:
        ValueError: it is not.
    """
    if isinstance(own, Mapping):
        check(saved, OBJECT, place)
        if not own.keys() <= saved.keys():
            raise ValueError(f"{place} holds {list(saved)}, this config's {list(own)}")
        return {name: _like(saved[name], own.get(name), f"{place}.{name}") for name in saved}
    # A rule of the directory's own may well have made numbers of NumPy's.
    own, value = (x.tolist() if isinstance(x, _OF_NUMPY) else x for x in (own, saved))
    is_plain_number = isinstance(own, (int, float)) and not isinstance(own, bool)
    finite = is_plain_number and abs(own) < math.inf
    check(value, NUMBER if finite else FLOAT if is_plain_number else SHOWN, place)
    return saved


def _succeeds(attempt: Callable[[Window], object], window: Window) -> bool:
    try:
        attempt(window)
    except UserError:
        return False
    return True


def step_seed(seed: int, step: int) -> int:
    """Seed of a training step's random operators.

    Seeding every step makes dropout a function of the position in the run alone: both graphs draw
    the same masks, and a resumed run draws what the interrupted one would have drawn.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) & 0x7FFFFFFF
