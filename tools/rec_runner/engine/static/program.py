"""A static program with its start-up, its feeds and its fetches."""

from __future__ import annotations

import inspect
import linecache
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import nn, static

from rec_runner.contract.guard import call, check_returned, foreign
from rec_runner.paddle_api.auc import auc_inputs, auc_state, auc_with_states, is_auc_state
from rec_runner.paddle_api.gradients import is_dense, optimized_gradients
from rec_runner.paddle_api.representation import layer_names_anew, set_to_inference


@contextmanager
def _sources_taken_as_read() -> Iterator[None]:
    """Context in which Python does not look whether source files have changed since it read them.

    Paddle notes with each operator that is built the lines of code that led to it; to look at all
    their files each time took half of the time that building takes.
    """
    check = linecache.checkcache
    linecache.checkcache = lambda filename=None: None
    try:
        yield
    finally:
        linecache.checkcache = check


class Program:
    """A program with its start-up, what to feed and what to fetch.

    Weights are named anew from zero in each, so that programs which build the same network
    share its weights in one scope.

    Attributes:
        feeds: variables to feed, in reader order.
        named: what the model gives to fetch, by name.
        fetches: variables to fetch.
        names: names of the first of them; inputs of the AUCs follow.
        aucs: inputs of each AUC that the model names, see ``paddle_api.auc``.
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
    def building(self, auc_states: bool = False) -> Iterator[None]:
        """Operators made inside go into this program, see :func:`build_by_contract`."""
        with ExitStack() as stack:
            stack.enter_context(layer_names_anew())
            stack.enter_context(_sources_taken_as_read())
            if auc_states:
                stack.enter_context(auc_with_states())
            stack.enter_context(static.program_guard(self.main, self.startup))
            stack.enter_context(paddle.utils.unique_name.guard())
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Tensor do not have 'place' interface")
            yield

    def persistables(self) -> list[str]:
        """Names of the variables that outlive a run: weights, buffers, optimizer slots."""
        names = [variable.name for variable in self.main.list_vars() if variable.persistable]
        return [name for name in names if name not in ("feed", "fetch")]

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


def build_by_contract(model: Any, training: bool, auc_states: bool, gradients: bool) -> Program:
    """What a model builds by the contract's methods.

    Args:
        model: a ``StaticModel``.
        training: build ``net`` and its optimizer, else ``infer_net``.
        auc_states: let ``paddle.static.auc`` give its states, see ``paddle_api.auc``.
        gradients: fetch the gradients in training.

    Raises:
        UserError: one of its methods failed.
    """
    program = Program()
    with program.building(auc_states):
        with foreign(model, "create_feeds"):
            program.feeds = list(_create_feeds(model, training))
        member = "net" if training else "infer_net"
        fetches = call(model, member, program.feeds)
        fits = isinstance(fetches, Mapping) and all(hasattr(v, "shape") for v in fetches.values())
        check_returned(model, member, fetches, fits, "a dict of variables to fetch")
        program.set_fetches(fetches)
        program.weights = [n for n in program.persistables() if n not in program.auc_state]
        if not training:
            set_to_inference(program.main)
            return program
        call(model, "create_optimizer")
        known = {*program.weights, *program.auc_state}
        program.slots = [n for n in program.persistables() if n not in known]
        if gradients:
            names = {name: name for name in program.weights}
            program.fetch_gradients(optimized_gradients(program.main), names)
    return program


def _create_feeds(model: Any, training: bool) -> Sequence[Any]:
    """Older directories take no ``is_infer``."""
    takes = inspect.signature(model.create_feeds).parameters
    for_infer = not training and "is_infer" in takes
    return model.create_feeds(is_infer=True) if for_infer else model.create_feeds()


def hook_weights(weights: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
    """Parameters of the current program for what the hook ``scoring_weights`` gave, by its names.

    Args:
        weights: the arrays; whoever runs the program puts them into its scope.
        prefix: what stands before a name in the scope.
    """
    zero = nn.initializer.Constant(0.0)
    return {
        name: static.create_parameter(
            list(value.shape), str(value.dtype), name=prefix + name, default_initializer=zero
        )
        for name, value in weights.items()
    }
