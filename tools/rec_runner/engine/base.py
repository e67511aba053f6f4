"""What the loop asks of a graph path: train a window, score a window, read and set state."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np

from rec_runner.config import Config
from rec_runner.contract.model_dir import ModelDir, foreign
from rec_runner.data.loader_source import padded
from rec_runner.data.rows import Window
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn

BLOCK_HOOKS = ("task_names", "encode", "loss_and_log_odds")


class Outcome(NamedTuple):
    """What training or scoring a window gave.

    Attributes:
        losses: a loss per batch, or empty.
        labels: ``[n, T]``, or None where the model keeps its own metrics.
        log_odds: float32 ``[n, T]``, or None likewise.
        values: further named numbers to print, of the last batch.
    """

    losses: np.ndarray
    labels: np.ndarray | None
    log_odds: np.ndarray | None
    values: Mapping[str, Any]

    @classmethod
    def joined(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """Outcomes of consecutive windows as one; of none, an empty one."""
        if not outcomes:
            return cls(np.empty(0, np.float32), None, None, {})
        losses, labels, odds, values = zip(*outcomes)
        whole = labels[0] is not None
        return cls(
            np.concatenate(losses),
            np.concatenate(labels) if whole else None,
            np.concatenate(odds) if whole else None,
            values[-1],
        )


class Engine(ABC):
    """One graph path of one model.

    Args:
        model_dir: the model directory.
        config: the run's config.
        model: its ``DygraphModel`` or ``StaticModel``.
        training: whether to train, or only to score.

    Attributes:
        by_blocks: whether the model's hooks of whole blocks are used.
        task_names: names of the binary tasks whose log-odds the model gives; None where it keeps
            its own metrics.
        whole_checkpoints: refuse checkpoints that hold more than this network.
        steps_schedule: the engine itself moves the schedule on after every step.
        gradient_norms: Euclidean norms of the gradients of a window's last batch, by weight, and
            as ``all`` of them together; empty unless ``runner.use_visual`` asks for them.
    """

    path: str
    by_blocks = False
    task_names: tuple[str, ...] | None = None
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
        if self.by_blocks:
            with foreign(model, "task_names"):
                self.task_names = tuple(model.task_names(config))
        # Readers and models may draw from either, for negative samples for instance.
        random.seed(self.seed)
        np.random.seed(self.seed % (1 << 32))

    def seed_readers(self, epoch: int, scoring: bool = False) -> None:
        """Seed what readers may draw from, so that a pass gives the same rows whenever it is made.

        Args:
            epoch: the epoch that the pass trains, or whose weights it scores.
            scoring: its rows are only scored.
        """
        entropy = [self.seed % (1 << 32), epoch, int(scoring)]
        first, second = np.random.SeedSequence(entropy).generate_state(2)
        random.seed(int(first))
        np.random.seed(second)

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

    def adapt(self, features: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """State entries that the model learns from the training features, perhaps none."""
        hook = getattr(self.model, "adapt", None)
        if hook is None:
            return {}
        with foreign(self.model, "adapt"):
            return hook(features, self.config)

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

    def reset_metrics(self) -> None:  # noqa: B027 - may stay empty
        """Forget what the model's own metrics have seen."""

    def own_metrics(self) -> dict[str, Any]:
        """Values of the model's own metrics, for models without :attr:`task_names`."""
        return {}

    def running_metrics(self) -> dict[str, Any]:
        """The same for a log line in mid-epoch, perhaps less precise but quick."""
        return self.own_metrics()

    def metrics_state(self) -> dict[str, Any]:
        """What the model's own metrics have counted so far, for a mid-epoch checkpoint."""
        return {}

    def set_metrics_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - may stay empty
        """Set what :meth:`metrics_state` gave."""

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

    def last_values(self) -> dict[str, np.ndarray]:
        """What the last batch gave, by name, for models without :attr:`task_names`."""
        return {}

    def load(self, state: Mapping[str, np.ndarray], name: str) -> None:
        """Set all weights from a checkpoint.

        Raises:
            UserError: the checkpoint is of another network, names what differs; or a weight is
                not a number.
        """
        convert = getattr(self.model, "convert_state_dict", None)
        try:
            state = convert(state) if convert else dict(state)
        except ValueError as error:
            raise UserError(f"checkpoint {name}: {error}") from error
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


def step_seed(seed: int, step: int) -> int:
    """Seed of a training step's random operators.

    Seeding every step makes dropout a function of the position in the run alone: both graph paths
    draw the same masks, and a resumed run draws what the interrupted one would have drawn.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + (step + 1) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) & 0x7FFFFFFF


def has_block_hooks(model: Any) -> bool:
    """Whether a model wrapper has the optional hooks of whole blocks."""
    return all(hasattr(model, hook) for hook in BLOCK_HOOKS)
