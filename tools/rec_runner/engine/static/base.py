"""What both engines of the static graph share: executor, scope, weights and slots."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import static

from rec_runner.engine.base import Engine
from rec_runner.engine.static.export import chosen, export, is_exported
from rec_runner.engine.static.program import Program, build_by_contract
from rec_runner.paddle_api.device import place_of, select_device
from rec_runner.paddle_api.representation import use_representation
from rec_runner.paddle_api.slots import rename_slots
from rec_runner.system.errors import UserError
from rec_runner.system.schema import fitting


class StaticBase(Engine):
    """Holds the scope in which the programs of a ``StaticModel`` share their weights.

    Attributes:
        train_program: what a training step runs, once there is one.
        score_program: what scoring a batch runs, likewise.
        auc_states: build programs with the states of their AUCs, see ``paddle_api.auc``.
    """

    graph = "static"
    auc_states = False

    def _set_up(self) -> None:
        paddle.enable_static()
        use_representation(old=False)
        self._make_executor()
        self.train_program: Any = None  # a Program, once there is one
        self.score_program: Any = None
        self._weights: dict[str, str] = {}  # a checkpoint's name of a weight to its variable's

    def _make_executor(self) -> None:
        self.scope = static.Scope()
        self.place = place_of(select_device(self.config))
        self.executor = static.Executor(self.place)
        self._to_export: Program | None = None

    def _run_startup(self, program: Program) -> None:
        with static.scope_guard(self.scope):
            self.executor.run(program.startup)

    def start_training(self, steps_per_epoch: int | None) -> None:
        self.config["steps_per_epoch"] = steps_per_epoch
        if self.config.runner("use_inference"):
            chosen(self.exported_program(), self.config)  # a wrong name should not wait
        weights = self.state_dict()
        paddle.seed(self.seed)
        self._run_startup(self._training_program())
        self.set_state_dict({k: v for k, v in weights.items() if k in self._weights})

    def _contract_program(self, training: bool) -> Program:
        gradients = self.watches_gradients and training
        return build_by_contract(self.model, training, self.auc_states, gradients)

    def _inference_program(self) -> Program:
        return self._contract_program(training=False)

    def exported_program(self) -> Program:
        """The program to export, made once: Paddle numbers its layers on from one to the next."""
        if self._to_export is None:
            self._to_export = self._inference_program()
        return self._to_export

    @abstractmethod
    def _training_program(self) -> Program:
        """The program that trains, made if need be."""

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: self._get(variable) for name, variable in self._weights.items()}

    def set_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        for name, value in state.items():
            self._set(self._weights[name], value)

    def _get(self, variable: str) -> np.ndarray:
        return np.array(self.scope.find_var(variable).get_tensor())

    def _set(self, variable: str, value: np.ndarray) -> None:
        self.scope.find_var(variable).get_tensor().set(np.ascontiguousarray(value), self.place)

    @abstractmethod
    def _slots(self) -> Sequence[str]:
        """Names of the variables that hold the optimizer's slots."""

    def optimizer_state(self) -> dict[str, Any]:
        names = {variable: name for name, variable in self._weights.items()}
        slots = rename_slots({name: self._get(name) for name in self._slots()}, names, "_", "/")
        schedule = self.schedule()
        return {**slots, "schedule": schedule.state_dict()} if schedule else slots

    def _check_slots(self, slots: Mapping[str, Any], trained: bool) -> None:
        named, known = rename_slots(slots, self._weights, "/", "_"), self._slots()
        for name in known if trained else ():
            if name not in named:
                raise ValueError(f"{name} is missing")
        for name in named.keys() & set(known):
            fitting(named[name], self._get(name), name)

    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        slots = {key: value for key, value in state.items() if key != "schedule"}
        named, known = rename_slots(slots, self._weights, "/", "_"), self._slots()
        for name in named:
            if name not in known:
                raise UserError(
                    f"the checkpoint's optimizer has {name}, which this config's has not; "
                    "start afresh with -o runner.resume=false"
                )
        for name, value in named.items():
            self._set(name, value)
        schedule = self.schedule()
        if schedule is not None:
            schedule.set_state_dict(state["schedule"])

    def learning_rate(self) -> float | None:
        names = self.train_program.persistables() if self.train_program else []
        rates = [name for name in names if is_rate(name)]
        return float(self._get(rates[0]).reshape(-1)[0]) if rates else None

    def finish_epoch(self, folder: Path) -> None:
        if self.config.runner("use_inference") and not is_exported(folder):
            program = self.exported_program()
            with static.scope_guard(self.scope):
                export(program, self.executor, self.config, folder)


def is_rate(variable: str) -> bool:
    """Whether a variable holds an optimizer's learning rate."""
    return variable.startswith("learning_rate")
