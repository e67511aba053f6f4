"""The static-graph path."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import static
from paddle.base import framework
from paddle.base.data_feeder import convert_dtype

from rec_runner.config import Config
from rec_runner.contract.guard import check_returned, describe, foreign
from rec_runner.contract.hooks import has
from rec_runner.contract.model_dir import ModelDir
from rec_runner.data.rows import Window
from rec_runner.engine.base import Engine, Outcome, norms
from rec_runner.engine.static.export import chosen, export, is_exported
from rec_runner.metrics.own import FetchedMetrics, loss_name
from rec_runner.paddle_api.state import (
    has_two_representations,
    place_of,
    rename_slots,
    select_device,
    step_seed,
    use_representation,
)
from rec_runner.paddle_api.static_auc import auc_inputs, auc_state, is_auc_state
from rec_runner.paddle_api.static_gradients import is_dense, optimized_gradients
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn


class Program:
    """A program with its start-up, what to feed and what to fetch.

    Weights are named anew from zero in each, so that programs which build the same network
    share its weights in one scope.

    Attributes:
        feeds: variables to feed, in reader order.
        named: what the model gives to fetch, by name.
        fetches: variables to fetch.
        names: names of the first of them; inputs of the AUCs follow.
        aucs: inputs of each AUC that the model names, see ``static_auc``.
        auc_state: names of the variables in which ``auc`` operators count.
        weights: names of the variables that a checkpoint holds.
        slots: names of the optimizer's variables.
        gradients: names of the weights whose gradients are the last fetches.
    """

    def __init__(self) -> None:
        self.main = static.Program()
        self.startup = static.Program()
        self.feeds: list[Any] = []
        self.named: Mapping[str, Any] = {}
        self.fetches: list[Any] = []
        self.names: list[str] = []
        self.aucs: dict[str, tuple[Any, ...]] = {}
        self.auc_state: list[str] = []
        self.weights: list[str] = []
        self.slots: list[str] = []
        self.gradients: list[str] = []

    @contextmanager
    def building(self) -> Iterator[None]:
        """Operators made inside go into this program."""
        with ExitStack() as stack:
            if has_two_representations() and paddle.framework.in_pir_mode():
                # ``static.nn`` layers take their names from the old kind of program even then.
                stack.enter_context(framework.program_guard(framework.Program()))
            stack.enter_context(static.program_guard(self.main, self.startup))
            stack.enter_context(paddle.utils.unique_name.guard())
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Tensor do not have 'place' interface")
            yield

    def persistables(self) -> list[str]:
        """Names of the variables that outlive a run: weights, buffers, optimizer slots."""
        internal = ("feed", "fetch")
        return [
            variable.name
            for variable in self.main.list_vars()
            if variable.persistable and variable.name not in internal
        ]

    def set_fetches(self, named: Mapping[str, Any]) -> None:
        """Fetch these values; AUCs are counted outside, from their operators' inputs."""
        self.named = named
        self.auc_state = auc_state(self.main)
        self.aucs = auc_inputs(self.main, named)
        plain = {
            name: value
            for name, value in named.items()
            if name not in self.aucs and not is_auc_state(value, self.auc_state)
        }
        self.names = list(plain)
        self.fetches = [*plain.values(), *(v for inputs in self.aucs.values() for v in inputs)]

    def fetch_gradients(self, gradients: Mapping[str, Any], names: Mapping[str, str]) -> None:
        """Fetch dense gradients too.

        Args:
            gradients: gradients by variable name of their weights.
            names: a checkpoint's names of weights to those of variables.
        """
        found = {name: gradients.get(variable) for name, variable in names.items()}
        found = {name: gradient for name, gradient in found.items() if is_dense(gradient)}
        self.gradients = list(found)
        self.fetches = [*self.fetches, *found.values()]

    def make_test(self) -> None:
        """Let dropout, batch norm and their like act as in inference."""
        for operator in self.main.global_block().ops:
            if hasattr(operator, "set_bool_attr"):
                if "is_test" in operator.attrs():
                    operator.set_bool_attr("is_test", True)
            elif operator.has_attr("is_test"):
                operator._set_attr("is_test", True)


class StaticEngine(Engine):
    """Drives any ``static_model.py`` by the contract alone, a batch at a time.

    A network that Paddle 3's representation of programs refuses, when it is built or at its first
    batch, is built again in the old one.
    """

    graph = "static"
    _may_fall_back = False

    def __init__(
        self, model_dir: ModelDir, config: Config, model: Any, training: bool = True
    ) -> None:
        super().__init__(model_dir, config, model, training)
        paddle.enable_static()
        use_representation(old=False)
        self._make_executor()
        self.train_program: Program | None = None
        self.score_program: Program | None = None
        self._weights: dict[str, str] = {}
        self._prepare()

    def _make_executor(self) -> None:
        self.scope = static.Scope()
        self.place = place_of(select_device(self.config))
        self.executor = static.Executor(self.place)

    def _prepare(self) -> None:
        # PaddleRec's own checkpoints of training hold more than inference needs.
        self.whole_checkpoints = False
        self._may_fall_back = has_two_representations()
        self.metrics = FetchedMetrics(self._counters, self._set_counters)
        try:
            self._build()
        except UserError as error:
            self._fall_back(error)

    def _build(self) -> None:
        program = self._contract_program(self.training)
        if self.training:
            self.train_program = program
        else:
            self.score_program = program
        self._weights = {name: name for name in program.weights}
        paddle.seed(self.seed)
        self._run_startup(program)

    def _contract_program(self, training: bool) -> Program:
        """What the model builds by the contract's methods."""
        program = Program()
        with program.building():
            with foreign(self.model, "create_feeds"):
                program.feeds = list(_create_feeds(self.model, training))
            member = "net" if training else "infer_net"
            with foreign(self.model, member):
                fetches = getattr(self.model, member)(program.feeds)
            fits = isinstance(fetches, Mapping)
            check_returned(self.model, member, fetches, fits, "a dict of variables to fetch")
            program.set_fetches(fetches)
            program.weights = [n for n in program.persistables() if n not in program.auc_state]
            if training:
                with foreign(self.model, "create_optimizer"):
                    self.model.create_optimizer()
                known = {*program.weights, *program.auc_state}
                program.slots = [n for n in program.persistables() if n not in known]
                if self.watches_gradients:
                    names = {name: name for name in program.weights}
                    program.fetch_gradients(optimized_gradients(program.main), names)
            else:
                program.make_test()
        return program

    def _fall_back(self, error: UserError) -> None:
        """Build all anew in the old representation.

        Raises:
            UserError: ``error``, if that fails as well.
        """
        if not self._may_fall_back or error.__cause__ is None:
            raise error
        self._may_fall_back = False
        state = self.snapshot() if self._weights else None
        scoring = self.training and self.score_program is not None
        use_representation(old=True)
        self._make_executor()
        try:
            self.model = type(self.model)(self.config)
            self._build()
            if state is not None:
                self.restore(state)
            if scoring:
                self._build_score_program()
        except Exception as second:
            reason = describe(second.__cause__ or second, self.model_dir.path)
            if reason in str(error):
                raise error from second
            raise UserError(
                f"{error}; nor does Paddle's old program representation take it: {reason}"
            ) from error
        warn(
            f"{self.model_dir.path / 'static_model.py'} runs in Paddle's old program "
            f"representation, because it does not in the new one ({error})"
        )

    def _build_score_program(self) -> None:
        self.score_program = self._contract_program(training=False)
        weights = self.state_dict()
        self._run_startup(self.score_program)
        self.set_state_dict(weights)

    def start_training(self, steps_per_epoch: int | None) -> None:
        self.config["steps_per_epoch"] = steps_per_epoch
        if self.config.runner("use_inference"):
            self._check_export()  # a wrong name should not wait until an epoch is trained
        weights = self.state_dict()
        paddle.seed(self.seed)
        self._build_training()
        self._run_startup(self.train_program)
        self.set_state_dict({k: v for k, v in weights.items() if k in self._weights})

    def _check_export(self) -> None:
        try:
            program = self._contract_program(training=False)
        except UserError as error:
            self._fall_back(error)
            program = self._contract_program(training=False)
        chosen(program, self.config)

    def _build_training(self) -> None:
        """Make the program that trains; by the contract alone it has been made already."""

    def train(self, window: Window, step: int) -> Outcome:
        def run() -> list[np.ndarray]:
            paddle.seed(step_seed(self.seed, step))
            return self._run_batch(self.train_program, window)

        return self._outcome(self.train_program, window, run)

    def score(self, window: Window) -> Outcome | None:
        def run() -> list[np.ndarray]:
            return self._run_batch(self.score_program, window)

        try:
            if self.score_program is None:
                try:
                    self._build_score_program()
                except UserError as error:
                    self._fall_back(error)
                    self._build_score_program()
            return self._outcome(self.score_program, window, run)
        except UserError as error:
            return self.leave_out(window, error, self._try)

    def _try(self, window: Window) -> None:
        """Score a batch, and let the ``auc`` operators forget it again."""
        program = self.score_program
        counts = self._counters()
        self._run_batch(program, window)
        self._set_counters(counts)

    def _counters(self) -> dict[str, np.ndarray]:
        """Counts of the ``auc`` operators; the programs share their variables."""
        programs = [p for p in (self.train_program, self.score_program) if p is not None]
        return {name: self._get(name) for program in programs for name in program.auc_state}

    def _set_counters(self, counters: Mapping[str, np.ndarray]) -> None:
        for name, count in counters.items():
            self._set(name, count)

    def _outcome(self, program: Program, window: Window, run: Any) -> Outcome:
        """Run a batch, if need be in the other representation, and note its values."""
        training = program is self.train_program
        try:
            fetched = run()
        except UserError as error:
            self._fall_back(error)
            fetched = run()
            program = self.train_program if training else self.score_program
        self._may_fall_back = False
        values = dict(zip(program.names, fetched))
        rest = iter(fetched[len(program.names) :])
        aucs = {name: [next(rest) for _ in inputs] for name, inputs in program.aucs.items()}
        self.metrics.update(values, aucs)
        if program.gradients:
            self.gradient_norms = norms(dict(zip(program.gradients, rest)))
        loss = values.get(loss_name(values))
        losses = np.empty(0) if loss is None else np.asarray(loss, np.float32).reshape(-1)
        losses = losses.mean(keepdims=True) if len(losses) else losses
        return Outcome(losses, window.batch_rows, {})

    def _run_batch(self, program: Program, window: Window) -> list[np.ndarray]:
        arrays = window.arrays
        named = arrays if isinstance(arrays, Mapping) else dict(zip(_names(program.feeds), arrays))
        types = {variable.name: convert_dtype(variable.dtype) for variable in program.feeds}
        feed = {
            name: np.asarray(array).astype(types.get(name, np.asarray(array).dtype), copy=False)
            for name, array in named.items()
        }
        with foreign(self.model, "net" if program is self.train_program else "infer_net"):
            for variable in program.feeds:
                fixed, fed = list(variable.shape), feed.get(variable.name)
                if fed is not None and fixed and fed.shape and 0 <= fixed[0] != fed.shape[0]:
                    raise ValueError(
                        f"feed {variable.name} has shape {fixed}, and got {list(fed.shape)}"
                    )
            return self._run(program, feed)

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
        if self.train_program is None:
            return {}
        # The rate is the config's; a resumed run may have another one.
        slots = [name for name in self.train_program.slots if not _is_rate(name)]
        return rename_slots({n: self._get(n) for n in slots}, self._weights, "_", "/")

    def set_optimizer_state(self, state: Mapping[str, Any]) -> None:
        self._set_slots(state, self.train_program.slots if self.train_program else [])

    def _set_slots(self, state: Mapping[str, Any], known: Sequence[str]) -> None:
        named = rename_slots(state, self._weights, "/", "_")
        for name in named:
            if name not in known:
                raise UserError(
                    f"the checkpoint's optimizer has {name}, which this config's has not; "
                    "start afresh with -o runner.resume=false"
                )
        for name, value in named.items():
            self._set(name, value)

    def learning_rate(self) -> float | None:
        if self.train_program is None:
            return None
        rates = [name for name in self.train_program.persistables() if _is_rate(name)]
        return float(self._get(rates[0]).reshape(-1)[0]) if rates else None

    def data_loader(self) -> Any:
        """The model's own loader, for ``runner.reader_type: CustomizeDataLoader``.

        Raises:
            UserError: it has none, or none that can be iterated.
        """
        if not has(self.model, "create_data_loader"):
            raise UserError(
                f"{self.model_dir.path / 'static_model.py'}: class StaticModel has no method "
                "create_data_loader, which runner.reader_type CustomizeDataLoader needs"
            )
        with foreign(self.model, "create_data_loader"):
            loader = self.model.create_data_loader()
            return loader() if callable(loader) else loader

    def lacks(self, folder: Path) -> bool:
        return self.config.runner("use_inference") and not is_exported(folder)

    def finish_epoch(self, folder: Path) -> None:
        if self.config.runner("use_inference"):
            program = self._contract_program(training=False)
            with static.scope_guard(self.scope):
                export(program, self.executor, self.config, folder)


def _names(variables: Sequence[Any]) -> list[str]:
    return [variable.name for variable in variables]


def _create_feeds(model: Any, training: bool) -> Sequence[Any]:
    """Older directories take no ``is_infer``."""
    takes = inspect.signature(model.create_feeds).parameters
    for_infer = not training and "is_infer" in takes
    return model.create_feeds(is_infer=True) if for_infer else model.create_feeds()


def _is_rate(name: str) -> bool:
    return name.startswith("learning_rate")
