"""What both engines of the eager graph share: network, optimizer and their state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import paddle

from rec_runner.contract.guard import call, check_returned
from rec_runner.engine.base import REFUSED, Engine
from rec_runner.paddle_api.device import select_device
from rec_runner.paddle_api.slots import (
    has_slots,
    make_slots,
    rename_slots,
    schedule_of,
    slot_names,
    slots_to_come,
    step_optimizer,
)
from rec_runner.system.schema import refusing


class DygraphBase(Engine):
    """Holds the network that ``DygraphModel.create_model`` makes, and its optimizer."""

    graph = "dygraph"

    def _set_up(self) -> None:
        paddle.disable_static()
        select_device(self.config)
        paddle.seed(self.seed)
        self.net = call(self.model, "create_model", self.config)
        is_layer = isinstance(self.net, paddle.nn.Layer)
        check_returned(self.model, "create_model", self.net, is_layer, "a paddle.nn.Layer")
        self.optimizer: Any = None
        self._resumed: set[str] = set()  # slots of a checkpoint that are to come

    def start_training(self, steps_per_epoch: int | None) -> None:
        self.config["steps_per_epoch"] = steps_per_epoch
        self._make_optimizer()

    def _make_optimizer(self) -> None:
        self.optimizer = call(self.model, "create_optimizer", self.net, self.config)
        fits = hasattr(self.optimizer, "step")
        check_returned(self.model, "create_optimizer", self.optimizer, fits, "an optimizer")

    def _gradients(self) -> dict[str, np.ndarray]:
        """Gradients by weight, sparse ones left out."""
        found = {name: weight.grad for name, weight in self.net.named_parameters()}
        dense = {name: g for name, g in found.items() if g is not None and g.is_dense()}
        return {name: gradient.numpy() for name, gradient in dense.items()}

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.net.state_dict().items()}

    def set_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        own = self.net.state_dict()
        for name, value in state.items():
            own[name].set_value(value)

    def optimizer_state(self) -> dict[str, Any]:
        names = {value.name: name for name, value in self.net.state_dict().items()}
        # Until its first step an optimizer holds the slots that were set; 2.6 does not give them.
        state = {**slots_to_come(self.optimizer), **self.optimizer.state_dict()}
        schedule = state.pop("LR_Scheduler", None)
        arrays = {key: np.asarray(value) for key, value in state.items()}
        slots = rename_slots(arrays, names, "_", "/")
        return {**slots, "schedule": schedule} if schedule else slots

    def _check_slots(self, slots: Mapping[str, Any], trained: bool) -> None:
        """Their shapes Paddle compares when it makes slots of them, see :meth:`_step_optimizer`."""
        if trained and not slots and has_slots(self.optimizer):
            raise ValueError("it is empty")
        names = {name: value.name for name, value in self.net.state_dict().items()}
        self._resumed = set(rename_slots(slots, names, "/", "_"))

    def _step_optimizer(self, step: Callable[[Any], None] = step_optimizer) -> None:
        """A step of Paddle's own: the first after a resume makes slots of the checkpoint's."""
        with refusing(REFUSED) if self._resumed else nullcontext():
            step(self.optimizer)
            if self._resumed:
                self._check_whole()
        self._resumed = set()

    def _make_slots(self) -> None:
        """Have the optimizer make, before its first step, the slots that this step would make."""
        weights = [w for w in self.net.parameters() if w.grad is not None and not w.stop_gradient]
        with refusing(REFUSED) if self._resumed else nullcontext():
            make_slots(self.optimizer, weights)

    def _check_whole(self) -> None:
        """Compare the slots there are with the checkpoint's.

        A weight without any had no gradient before it: a part of the network that few rows reach.

        Raises:
            ValueError: the checkpoint had some slots of a weight, and not others.
        """
        names = {value.name: name for name, value in self.net.state_dict().items()}
        known = rename_slots(dict.fromkeys(self._resumed), names, "_", "/")
        weights = {key.partition("/")[0] for key in known}
        for key in rename_slots(dict.fromkeys(slot_names(self.optimizer)), names, "_", "/"):
            if key not in known and key.partition("/")[0] in weights:
                raise ValueError(f"{key} is missing")

    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        names = {name: value.name for name, value in self.net.state_dict().items()}
        slots = {key: value for key, value in state.items() if key != "schedule"}
        theirs: dict[str, Any] = {
            key: paddle.to_tensor(value)
            for key, value in rename_slots(slots, names, "/", "_").items()
        }
        if "schedule" in state:
            theirs["LR_Scheduler"] = state["schedule"]
        if not theirs.keys() >= set(slot_names(self.optimizer)):
            self._make_optimizer()  # the state is from before those slots were made
        self.optimizer.set_state_dict(theirs)
        held = slots_to_come(self.optimizer)
        for name in set(slot_names(self.optimizer)) & held.keys():
            del held[name]  # set already; Paddle would take the rest for all that is yet to come

    def schedule(self) -> Any:
        return schedule_of(self.optimizer)

    def learning_rate(self) -> float | None:
        return float(self.optimizer.get_lr()) if self.optimizer is not None else None
