"""Programs run with less than ``Executor.run`` does each time.

Private: ``Executor._executor_cache`` and ``paddle.base.core`` of Paddle 3; where they are missing,
as in Paddle 2.6, ``Executor.run`` does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
from paddle import static

from rec_runner.paddle_api.representation import in_new_representation


class RepeatedRun:
    """One program, run again and again without what ``Executor.run`` repeats each time.

    Under Paddle 3 ``Executor.run`` prints the whole program to text at every call, to look up
    the compiled one: 0.35 ms, nearly half a step of 32 rows. Here it is looked up once.

    Args:
        executor: runs the program where this Paddle has no compiled one to look up.
        place: where feeds go.
        scope: holds the weights.
        program: what to run, ``main``, and what to fetch of it, ``fetches``.
    """

    def __init__(self, executor: Any, place: Any, scope: Any, program: Any) -> None:
        self._executor = executor
        self._place = place
        self._scope = scope
        self._program = program
        self._compiled: Any = None

    def run(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Feed arrays by name; the program's fetches come back."""
        if self._compiled is None and not self._look_up(feed):
            with static.scope_guard(self._scope):
                return self._executor.run(
                    self._program.main, feed=dict(feed), fetch_list=self._program.fetches
                )
        for name, array in feed.items():
            tensor = paddle.base.core.DenseTensor()
            tensor.set(np.ascontiguousarray(array), self._place, self._zero_copy)
            paddle.base.core.set_feed_variable(self._scope, tensor, name, 0)
        if self._schedule is not None:
            rate = np.array([self._schedule()], np.float32)
            self._scope.find_var(self._rate).get_tensor().set(rate, self._place)
        # What Paddle calls here asks for its flags each time, which takes longer than an operator.
        fetched = self._compiled._new_exe.run(self._names, False)._move_to_list()
        return [np.array(tensor) for tensor in fetched]

    def _look_up(self, feed: Mapping[str, np.ndarray]) -> bool:
        cache = getattr(self._executor, "_executor_cache", None)
        look_up = getattr(cache, "get_pir_program_and_executor", None)
        if look_up is None or not in_new_representation():
            return False
        with static.scope_guard(self._scope):
            main, compiled, _ = look_up(
                self._program.main,
                dict(feed),
                self._program.fetches,
                "feed",
                "fetch",
                self._place,
                self._scope,
                None,
            )
        if not hasattr(compiled, "_new_exe"):
            return False
        self._compiled = compiled
        self._names = list(feed)
        self._zero_copy = isinstance(self._place, paddle.CPUPlace)
        self._schedule = getattr(main, "lr_scheduler", None)
        self._rate = getattr(main, "lr_name", None)
        return True
