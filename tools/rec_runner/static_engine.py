"""The static-graph path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import static

from rec_runner.config import Config
from rec_runner.engine import Engine, Outcome
from rec_runner.metrics import auc
from rec_runner.model_dir import ModelDir
from rec_runner.paddle_state import place_of, select_device, step_seed
from rec_runner.window import Window


class Program:
    """A program with its start-up, what to feed and what to fetch.

    Weights are named anew from zero in each, so that programs which build the same network
    share its weights in one scope.
    """

    def __init__(self) -> None:
        self.main = static.Program()
        self.startup = static.Program()
        self.feeds: list[str] = []
        self.fetches: list[Any] = []
        self.names: list[str] = []
        self.aucs: dict[str, tuple[Any, Any]] = {}

    @contextmanager
    def building(self) -> Iterator[None]:
        """Operators made inside go into this program."""
        with ExitStack() as stack:
            stack.enter_context(static.program_guard(self.main, self.startup))
            stack.enter_context(paddle.utils.unique_name.guard())
            yield


class StaticEngine(Engine):
    """Drives any ``static_model.py`` by the contract alone, a batch at a time."""

    path = "static"

    def __init__(self, model_dir: ModelDir, config: Config, model: Any) -> None:
        super().__init__(model_dir, config, model)
        paddle.enable_static()
        self.scope = static.Scope()
        self.place = place_of(select_device(config))
        self.executor = static.Executor(self.place)
        self.train_program: Program | None = None
        self._weights: dict[str, str] = {}
        self._prepare()

    def _prepare(self) -> None:
        self.score_program = Program()
        with self.score_program.building():
            feeds = self.model.create_feeds(is_infer=True)
            fetches = self.model.infer_net(feeds)
        self._finish_contract(self.score_program, feeds, fetches)
        self._weights = {name: name for name in _persistables(self.score_program.main)}
        self._run_startup(self.score_program)

    def _finish_contract(
        self, program: Program, feeds: Sequence[Any], fetches: Mapping[str, Any]
    ) -> None:
        """Note what to feed and fetch; AUCs are counted here, from their operators' inputs."""
        program.feeds = [variable.name for variable in feeds]
        program.names = list(fetches)
        program.aucs = _find_aucs(program.main, fetches)
        program.fetches = [*fetches.values(), *(v for pair in program.aucs.values() for v in pair)]
        self._reset(program)

    def _reset(self, program: Program) -> None:
        self._seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {n: [] for n in program.aucs}
        self._last: dict[str, Any] = {}

    def start_training(self, steps_per_epoch: int | None) -> None:
        self.config["steps_per_epoch"] = steps_per_epoch
        weights = self.state_dict()
        paddle.seed(self.seed)
        self._build_training()
        self._run_startup(self.train_program)
        self.set_state_dict({k: v for k, v in weights.items() if k in self._weights})

    def _build_training(self) -> None:
        self.train_program = Program()
        with self.train_program.building():
            feeds = self.model.create_feeds()
            fetches = self.model.net(feeds)
            self.model.create_optimizer()
        self._finish_contract(self.train_program, feeds, fetches)
        self._weights = {name: name for name in _persistables(self.train_program.main)}

    def train(self, window: Window, step: int) -> Outcome:
        paddle.seed(step_seed(self.seed, step))
        return self._run_contract(self.train_program, window)

    def score(self, window: Window) -> Outcome:
        return self._run_contract(self.score_program, window)

    def _run_contract(self, program: Program, window: Window) -> Outcome:
        feed = dict(zip(program.feeds, window.arrays))
        fetched = self._run(program, feed)
        self._last = dict(zip(program.names, fetched))
        rest = iter(fetched[len(program.names) :])
        for name in program.aucs:
            self._seen[name].append((np.asarray(next(rest)), np.asarray(next(rest))))
        cost = next((v for n, v in self._last.items() if n in ("cost", "loss")), None)
        losses = np.empty(0) if cost is None else np.asarray(cost).reshape(-1)[:1]
        return Outcome(losses, None, None, {})

    def _run_startup(self, program: Program) -> None:
        with static.scope_guard(self.scope):
            self.executor.run(program.startup)

    def _run(self, program: Program, feed: Mapping[str, Any]) -> list[np.ndarray]:
        with static.scope_guard(self.scope):
            return self.executor.run(program.main, feed=feed, fetch_list=program.fetches)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: self._get(variable) for name, variable in self._weights.items()}

    def set_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        for name, value in state.items():
            self._set(self._weights[name], value)

    def _get(self, variable: str) -> np.ndarray:
        return np.array(self.scope.find_var(variable).get_tensor())

    def _set(self, variable: str, value: np.ndarray) -> None:
        self.scope.find_var(variable).get_tensor().set(np.ascontiguousarray(value), self.place)

    def optimizer_state(self) -> dict[str, Any]:
        return {}

    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        pass

    def reset_metrics(self) -> None:
        self._seen = {name: [] for name in self._seen}
        self._last = {}

    def own_metrics(self) -> dict[str, Any]:
        values = dict(self._last)
        for name, batches in self._seen.items():
            if batches:
                scores = np.concatenate([s[:, -1] for s, _ in batches])
                values[name] = auc(np.concatenate([y.reshape(-1) for _, y in batches]), scores)
        return values


def _persistables(program: Any) -> list[str]:
    """Names of a program's persistable variables: weights, buffers, optimizer slots."""
    internal = ("feed", "fetch")
    return [
        variable.name
        for variable in program.list_vars()
        if variable.persistable and variable.name not in internal
    ]


def _find_aucs(program: Any, fetches: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Prediction and label of each AUC among the fetched values, found by its operator.

    Paddle 3's representation calls the operator ``pd_op.auc`` and links values to it; the old
    one calls it ``auc`` and links by variable names.
    """
    found = {}
    block = program.global_block()
    for name, value in fetches.items():
        if paddle.framework.in_pir_mode():
            op = value.get_defining_op()
            if op is not None and op.name() == "pd_op.auc":
                found[name] = (op.operand_source(0), op.operand_source(1))
            continue
        for op in block.ops:
            if op.type == "auc" and value.name in op.output("AUC"):
                found[name] = (block.var(op.input("Predict")[0]), block.var(op.input("Label")[0]))
    return found
