"""The static graph for any model directory, by the contract alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

import numpy as np
import paddle
from paddle import static

from rec_runner.contract.guard import describe, foreign
from rec_runner.contract.hooks import has
from rec_runner.data.rows import Window
from rec_runner.engine.arrays import norms
from rec_runner.engine.base import Outcome, step_seed
from rec_runner.engine.static.base import StaticBase, is_rate
from rec_runner.engine.static.program import Program
from rec_runner.metrics.model_metrics import FetchedMetrics, loss_name
from rec_runner.paddle_api.representation import (
    has_two_representations,
    type_name,
    use_representation,
)
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn
from rec_runner.system.schema import fitting, refusing

# Other ways to build a network that Paddle 3's representation of programs refuses.
AUC_STATES = "with the states of its AUCs"
OLD = "in the old representation"


class StaticEngine(StaticBase):
    """Drives any ``static_model.py`` by the contract alone, a batch at a time.

    A network that Paddle 3's representation of programs refuses, when it is built or at its first
    batch, is built again with what ``paddle.static.auc`` returns in the old one, and then in the
    old one.
    """

    def _set_up(self) -> None:
        super()._set_up()
        # PaddleRec's own checkpoints of training hold more than inference needs.
        self.whole_checkpoints = False
        self._other_ways = [AUC_STATES, OLD] if has_two_representations() else []
        self._waiting: dict[str, np.ndarray] = {}
        self.metrics: FetchedMetrics = FetchedMetrics(self._counters, self._set_counters)
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

    def _fall_back(self, error: UserError) -> None:
        """Build all anew in the next way in which it can be built.

        Raises:
            UserError: ``error``, if there is none.
        """
        if not self._other_ways or error.__cause__ is None:
            raise error
        state = self.snapshot() if self._weights else None
        scoring = self.training and self.score_program is not None
        while True:
            way = self._other_ways.pop(0)
            self.auc_states = way == AUC_STATES
            use_representation(old=way == OLD)
            self._make_executor()
            try:
                self.model = type(self.model)(self.config)
                self._build()
                if state is not None:
                    self.restore(state)
                if scoring:
                    self._build_score_program()
                break
            except Exception as second:
                if way == AUC_STATES:
                    error = second if isinstance(second, UserError) else error
                    continue
                reason = describe(second.__cause__ or second, self.model_dir.path)
                if reason in str(error):
                    raise error from second
                raise UserError(
                    f"{error}; nor does Paddle's old program representation take it: {reason}"
                ) from error
        self._set_counters(self._waiting)
        if way == OLD:
            warn(
                f"{self.model_dir.path / 'static_model.py'} runs in Paddle's old program "
                f"representation, because it does not in the new one ({error})"
            )

    def _build_score_program(self) -> None:
        self.score_program = self._contract_program(training=False)
        weights = self.state_dict()
        self._run_startup(self.score_program)
        self.set_state_dict(weights)

    def _training_program(self) -> Program:
        return self.train_program

    def _inference_program(self) -> Program:
        return self._built(lambda: self._contract_program(training=False))

    def _built(self, build: Callable[[], Any]) -> Any:
        """What ``build`` gives, after a fall-back if need be."""
        while True:
            try:
                return build()
            except UserError as error:
                self._fall_back(error)

    def train(self, window: Window, step: int) -> Outcome:
        def run() -> list[np.ndarray]:
            paddle.seed(step_seed(self.seed, step))
            return self._run_batch(self.train_program, window)

        return self._outcome(window, False, run)

    def score(self, window: Window) -> Outcome | None:
        def run() -> list[np.ndarray]:
            return self._run_batch(self.score_program, window)

        try:
            if self.score_program is None:
                self._built(self._build_score_program)
            return self._outcome(window, True, run)
        except UserError as error:
            self._leave_out(window, error, self._try)
            return None

    def _try(self, window: Window) -> None:
        """Score a batch, and let the ``auc`` operators forget it again."""
        counts = self._counters()
        self._run_batch(self.score_program, window)
        self._set_counters(counts)

    def _counters(self) -> dict[str, np.ndarray]:
        """Counts of the ``auc`` operators; the programs share their variables."""
        programs = [p for p in (self.train_program, self.score_program) if p is not None]
        return {name: self._get(name) for program in programs for name in program.auc_state}

    def _set_counters(self, counters: Mapping[str, np.ndarray]) -> None:
        own = self._counters()
        with refusing("the checkpoint's rec.pdstate is not of this network"):
            for name in counters.keys() & own.keys():
                self._set(name, fitting(counters[name], own[name], f"counts.{name}"))
        if self._other_ways:  # a network that is built anew at its first batch has them only then
            self._waiting = dict(counters)

    def _outcome(
        self, window: Window, scoring: bool, run: Callable[[], list[np.ndarray]]
    ) -> Outcome:
        """Run a batch, if need be built in another way, and count it."""
        fetched = self._built(run)
        program = self.score_program if scoring else self.train_program
        self._other_ways = []
        values = dict(zip(program.names, fetched))
        rest = iter(fetched[len(program.names) :])
        aucs = {name: [next(rest) for _ in inputs] for name, inputs in program.aucs.items()}
        self.metrics.update(values, aucs)
        if program.gradients:
            self.gradient_norms = norms(dict(zip(program.gradients, rest)))
        loss = values.get(loss_name(values) or "")
        losses = np.empty(0) if loss is None else np.asarray(loss, np.float32).reshape(-1)
        losses = losses.mean(keepdims=True) if len(losses) else losses
        return Outcome(losses, window.batch_rows, {})

    def feed_of(self, program: Program, window: Window) -> dict[str, np.ndarray]:
        """What to feed of a batch, by name, in the types of the program's feeds.

        Raises:
            UserError: it has another number of rows than a network of a fixed one takes.
        """
        arrays = window.arrays
        named = arrays if isinstance(arrays, Mapping) else dict(zip(_names(program.feeds), arrays))
        types = {variable.name: type_name(variable) for variable in program.feeds}
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
        return feed

    def fetch(self, program: Program, feed: dict[str, Any], wanted: list[Any]) -> list[np.ndarray]:
        """Any variables of a program, of one batch; nothing is counted."""
        with foreign(self.model, "infer_net"), static.scope_guard(self.scope):
            return self.executor.run(program.main, feed=feed, fetch_list=wanted)

    def _run_batch(self, program: Program, window: Window) -> list[np.ndarray]:
        feed = self.feed_of(program, window)
        with foreign(self.model, "net" if program is self.train_program else "infer_net"):
            return self._run(program, feed)

    def _run(self, program: Program, feed: dict[str, Any]) -> list[np.ndarray]:
        with static.scope_guard(self.scope):
            return self.executor.run(program.main, feed=feed, fetch_list=program.fetches)

    def _slots(self) -> Sequence[str]:
        # The rate is the config's; a resumed run may have another one.
        program = self.train_program
        return [name for name in program.slots if not is_rate(name)] if program else []

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


def _names(variables: Sequence[Any]) -> list[str]:
    return [variable.name for variable in variables]
