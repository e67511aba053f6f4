"""What makes training fast changes nothing that is computed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import weakref
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import paddle
import pytest
from helpers import CONFIG, ROOT, TOOLS, override, run, run_ok
from model_dirs import make_data

from rec_runner.checkpoint.weights import load_weights
from rec_runner.data import row_cache
from rec_runner.data.block_source import BlockSource
from rec_runner.data.prefetch import Prefetched, prefetch, run_ahead
from rec_runner.data.row_cache import RowCache
from rec_runner.data.rows import named_block
from rec_runner.engine.arrays import (
    encode_by_columns,
    encode_in_pieces,
    joined_log_odds,
    step_labels,
)
from rec_runner.paddle_api.device import as_tensor
from rec_runner.paddle_api.fused_adam import direct_update
from rec_runner.system.errors import UserError


class NamedBlock(NamedTuple):
    """A block that names its file."""

    features: np.ndarray
    labels: np.ndarray
    file: str


class Rows:
    """A reader of numbered rows in uneven blocks."""

    def __init__(self, rows: int = 1000, cuts: tuple[int, ...] = (7, 300, 1, 450)) -> None:
        self.features = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        self.labels = np.arange(rows, dtype=np.float32).reshape(rows, 1)
        self.cuts = np.cumsum(cuts)
        self.passes = 0

    def blocks(self):
        self.passes += 1
        pieces = zip(np.split(self.features, self.cuts), np.split(self.labels, self.cuts))
        yield from ((f, y, "rows.txt") for f, y in pieces)


def epoch(source: BlockSource, number: int = 0, first: int = 0, stops=((10, 1),)) -> np.ndarray:
    """Rows of an epoch in the order of training; every window is checked."""
    order, batch = [], first
    for window in source.windows(number, first, stops):
        features, labels = window.arrays["features"], window.arrays["labels"]
        assert window.first_batch == batch
        assert np.array_equal(features[:, 0], labels[:, 0] * 3)
        batch = window.end_batch
        order.append(labels[:, 0])
    return np.concatenate(order)


@pytest.mark.parametrize("chunk_rows", [64, 333, 5000])
def test_the_order_is_the_same_cached_or_not(chunk_rows: int) -> None:
    reader = Rows()
    cached = BlockSource(lambda: reader, 32, "rows", 5, chunk_rows, cache_bytes=1 << 20)
    bare = BlockSource(Rows, 32, "rows", 5, chunk_rows, cache_bytes=0)
    seen = [epoch(cached, n) for n in range(3)]
    assert reader.passes == 1
    for number, order in enumerate(seen):
        assert np.array_equal(order, epoch(bare, number))
        assert np.array_equal(np.sort(order), np.arange(1000))
        assert not np.array_equal(order, np.arange(1000))
    assert not np.array_equal(seen[0], seen[1])


def test_an_epoch_can_start_anywhere() -> None:
    source = BlockSource(Rows, 32, "rows", 5, 333, cache_bytes=1 << 20)
    whole = epoch(source, 1)
    for first in (1, 10, 11, 31):
        assert np.array_equal(epoch(source, 1, first), whole[first * 32 :])


def test_windows_end_where_log_lines_and_checkpoints_follow() -> None:
    source = BlockSource(Rows, 32, "rows")
    ends = [window.end_batch for window in source.windows(0, 0, [(10, 1), (7, 0)])]
    assert ends == [1, 7, 11, 14, 21, 28, 31, 32]


def test_a_budget_too_small_keeps_nothing() -> None:
    reader = Rows()
    source = BlockSource(lambda: reader, 32, "rows", None, 100, cache_bytes=5000)
    epoch(source), epoch(source)
    assert reader.passes == 2


@pytest.mark.parametrize("chunk_rows", [1 << 50, 1 << 61])
def test_more_rows_than_memory_can_hold_are_said(chunk_rows: int) -> None:
    source = BlockSource(Rows, 32, "rows", None, chunk_rows)
    with pytest.raises(UserError, match=f"runner.shuffle_buffer: .* no memory for {chunk_rows}"):
        epoch(source)


def test_encoded_rows_are_kept_only_where_the_encoding_stays() -> None:
    for keep, calls_wanted in ((True, 10), (False, 20)):
        calls = []
        source = BlockSource(Rows, 32, "rows", None, 100, cache_bytes=1 << 20)
        assert source.count() == 32 and source.known_rows == 1000
        source.encode_with(lambda rows, own, calls=calls: (calls.append(1), rows)[1], keep=keep)
        epoch(source), epoch(source)
        assert len(calls) == calls_wanted


@pytest.mark.parametrize("disk", [False, True])
def test_whatever_else_a_reader_names_goes_with_its_rows(tmp_path: Path, disk: bool) -> None:
    class Weighted(Rows):
        """Blocks are mappings; a weight is twice the row's number."""

        def blocks(self):
            for features, labels, file in super().blocks():
                yield {"features": features, "labels": labels, "weights": 2 * labels, "file": file}

    (tmp_path / "rows.txt").write_text("1")
    for _ in range(1 + disk):
        cache = RowCache(tmp_path, [str(tmp_path / "rows.txt")], "settings") if disk else None
        source = BlockSource(Weighted, 32, "rows", 5, 333, cache_bytes=1 << 20, disk=cache)
        source.encode_with(lambda features, own: features + 1, keep=True)
        for _ in range(2):
            windows = list(source.windows(1, 0, [(10, 1)]))
            numbers = np.concatenate([window.arrays["labels"] for window in windows])
            weights = np.concatenate([window.arrays["weights"] for window in windows])
            features = np.concatenate([window.arrays["features"] for window in windows])
            assert np.array_equal(weights, 2 * numbers)
            assert np.array_equal(features[:, :1], 3 * numbers + 1)
            assert {window.files for window in windows} == {("rows.txt",)}
            assert len(numbers) == 1000 and windows[1].part(1, 2).arrays["weights"].shape == (32, 1)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (np.zeros((3, 2)), "it should yield named arrays, and yielded a ndarray"),
        ({"features": np.zeros((3, 2))}, r"features, labels \[n, T\] and more"),
        ((np.zeros((3, 2)), np.zeros((2, 1))), "all equally long"),
    ],
)
def test_a_block_that_is_none_is_said(block: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        named_block(block, "rows.txt")


def test_prefetch_passes_errors_on_and_stops_when_its_consumer_does() -> None:
    def failing():
        yield 1
        raise OSError("gone")

    items = prefetch(failing())
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)
    made = []
    endless = prefetch(made.append(n) or n for n in range(10**9))
    assert next(endless) == 0
    endless.close()
    count = len(made)
    assert count < 10 and len(made) == count


def test_as_much_is_made_ahead_as_is_asked_for_and_no_more() -> None:
    made = []

    def items():
        for weight in (5, 5, 1, 20, 1, 1):
            made.append(weight)
            yield weight

    def wait_for(number: int) -> None:
        end = time.monotonic() + 10
        while len(made) < number and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(0.05)
        assert len(made) == number

    ahead = Prefetched(items(), 11, lambda weight: weight)
    wait_for(4)  # 11 wait, and one is in hand
    given = iter(ahead)
    assert next(given) == 5
    wait_for(5)
    assert [next(given) for _ in range(3)] == [5, 1, 20]
    wait_for(6)
    assert list(given) == [1, 1]


def test_jobs_are_run_ahead_in_order_and_each_error_is_told_in_its_turn() -> None:
    drawn, run = [], []

    def job(number: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        run.append(number)
        if number == 7:
            raise OSError("gone")
        return number

    def jobs(last: int = 100, error: Exception | None = None):
        for number in range(last):
            assert threading.current_thread() is threading.main_thread()
            drawn.append(number)
            yield partial(job, number)
            time.sleep(0.01)
        if error is not None:
            raise error

    given = run_ahead(jobs(), 2)
    assert not drawn
    assert next(given) == 0 and len(drawn) == 3
    assert [next(given) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(OSError, match="gone"):
        next(given)
    assert len(drawn) == 10 and run[:8] == drawn[:8]
    for error in (None, UserError("late")):
        seen = []
        with pytest.raises(UserError, match="late") if error else nullcontext():
            for number in run_ahead(jobs(4, error)):
                seen.append(number)
        assert seen == [0, 1, 2, 3]
    threads = threading.active_count()
    stopped = run_ahead(jobs())
    assert next(stopped) == 0
    stopped.close()
    assert threading.active_count() == threads and len(drawn) < 30


def test_shuffled_rows_are_put_together_in_the_background_and_encoded_by_who_asks() -> None:
    threads = {}

    def encode(rows: np.ndarray, own: bool) -> np.ndarray:
        threads["encode"] = threading.current_thread()
        return rows

    class Watched(np.ndarray):
        """Rows that note who takes of them."""

        def take(self, *arguments, **named):
            threads["take"] = threading.current_thread()
            return super().take(*arguments, **named)

    source = BlockSource(Rows, 32, "rows", 5, 333, cache_bytes=1 << 20)
    source.count()
    for number, chunk in enumerate(source._cache):
        watched = {name: array.view(Watched) for name, array in chunk.arrays.items()}
        source._cache[number] = chunk._replace(arrays=watched)
    source.encode_with(encode, keep=True)
    assert len(epoch(source)) == 1000
    assert threads["encode"] is threading.main_thread() is not threads["take"]


@pytest.mark.parametrize("seed", [None, 5])
def test_of_rows_that_are_not_kept_no_more_are_in_memory_than_have_to_be(seed: int | None) -> None:
    raw, encoded = [], []

    def alive(made: list[weakref.ref]) -> int:
        return len({id(array()) for array in made} - {id(None)})

    def encode(rows: np.ndarray, own: bool) -> np.ndarray:
        # A window may lie in two chunks; the last one was of the first of them.
        assert alive(raw) <= 2 and alive(encoded) <= 1 and len(rows) <= 20
        out = rows + 1
        raw.append(weakref.ref(rows.base if rows.base is not None else rows))
        encoded.append(weakref.ref(out))
        return out

    source = BlockSource(Rows, 10, "rows", seed, 100)
    source.encode_with(encode, keep=True)
    windows = source.windows(0, 0, [(1, 0)])
    for window in windows:
        assert window.rows == 10 and alive(raw) <= 2 and alive(encoded) == 1
    assert len(encoded) == 1 + 100  # one row tells how long they are


class Broken(Rows):
    """A reader that fails before or after its first block."""

    def __init__(self, error: Exception, good: int) -> None:
        super().__init__()
        self.error, self.good = error, good

    def blocks(self):
        for number, block in enumerate(super().blocks()):
            if number == self.good:
                raise self.error
            yield block


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_rows_read_while_the_network_is_built_are_those_of_the_first_pass(cache_mb: int) -> None:
    for counted in (False, True):
        reader = Rows()
        source = BlockSource(lambda: reader, 32, "rows", 5, 333, cache_bytes=cache_mb << 20)  # noqa: B023
        source.begin()
        source.features()  # and nobody asks for the first of them
        if counted:
            assert source.count() == 32
        bare = BlockSource(Rows, 32, "rows", 5, 333)
        for number in range(2):
            assert np.array_equal(epoch(source, number), epoch(bare, number))
        assert reader.passes == (1 if cache_mb else 2 + counted)
        source.close()


def test_what_a_reader_says_of_its_first_rows_is_told_at_once_and_of_others_in_its_turn() -> None:
    early, late, gone = UserError("early"), UserError("late"), OSError(2, "gone", "rows.txt")
    with pytest.raises(UserError, match="early"):
        BlockSource(lambda: Broken(early, 0), 32, "rows").begin()
    for error, good, said in ((late, 1, "late"), (gone, 0, "rows.txt cannot be read: gone")):
        source = BlockSource(lambda: Broken(error, good), 32, "rows")  # noqa: B023
        source.begin()
        with pytest.raises(UserError, match=said):
            source.count()
    none = BlockSource(lambda: SimpleNamespace(blocks=lambda: iter(())), 32, "rows")
    none.begin()
    with pytest.raises(UserError, match="rows holds no rows"):
        none.count()
    abandoned = BlockSource(Rows, 32, "rows", None, 10)
    abandoned.begin()
    threads = threading.active_count()
    abandoned.close()
    assert threading.active_count() < threads


def test_rows_encoded_where_they_are_kept_are_encoded_once() -> None:
    def encode(rows: np.ndarray, own: bool) -> np.ndarray:
        rows = rows if own else rows.copy()
        rows += 1
        return rows

    for cache_bytes in (0, 5000, 1 << 20):
        for first in ("count", "window"):
            source = BlockSource(Rows, 32, "rows", None, 100, cache_bytes=cache_bytes)
            if first == "count":
                source.count()
            source.encode_with(encode, keep=True)
            for _ in range(3):
                windows = list(source.windows(0, 0, [(10, 1)]))
                features = np.concatenate([window.arrays["features"] for window in windows])
                assert np.array_equal(features, Rows().features + 1)


def test_disk_cache_is_used_whole_and_rebuilt_torn_or_stale(tmp_path: Path) -> None:
    data = tmp_path / "rows.txt"
    data.write_text("1")
    folder = tmp_path / "cache"

    def passes() -> tuple[int, np.ndarray]:
        reader = Rows()
        disk = RowCache(folder, [str(data)], "settings")
        source = BlockSource(lambda: reader, 32, "rows", 5, 333, disk=disk)
        return reader.passes, epoch(source), reader.passes

    _, first, count = passes()
    assert count == 1
    _, again, count = passes()
    assert count == 0
    assert np.array_equal(first, again)

    cache = RowCache(folder, [str(data)], "settings").path
    with open(cache / "features.bin", "r+b") as file:
        file.truncate(100)  # torn
    assert passes()[2] == 1
    assert passes()[2] == 0
    (cache / "manifest.json").unlink()  # not finished
    assert passes()[2] == 1
    os.utime(data, ns=(1, 1))  # stale
    assert passes()[2] == 1
    assert RowCache(folder, [str(data)], "other settings").load() is None


def cache_of(folder: Path, **changes: object) -> RowCache:
    """A cache of the numbered rows, its manifest changed and signed anew."""
    data = folder / "rows.txt"
    data.write_text("1")
    cache = RowCache(folder / "cache", [str(data)], "settings")
    for _ in cache.written(named_block(block, "rows.txt") for block in Rows().blocks()):
        pass
    assert cache.load() is not None
    file = cache.path / "manifest.json"
    manifest = json.loads(file.read_text())
    for key, value in changes.items():
        array, _, name = key.partition("__")
        if name:
            manifest["arrays"][array][name] = value
        else:
            manifest[array] = value
    manifest["own_crc32"] = row_cache._own_checksum(manifest)
    file.write_text(json.dumps(manifest))
    return cache


@pytest.mark.parametrize(
    "changes",
    [
        {"features__dtype": "O", "features__shape": [500, 3]},  # would take bytes for pointers
        {"features__dtype": "float64", "features__shape": [500, 3]},
        {"labels__dtype": "int32"},
        {"features__shape": [1500, 2]},
        {"features__shape": [-1000, -3]},
        {"features__shape": [1000.0, 3]},
        {"features__shape": [True, 3000]},
        {"features__shape": [3000]},
        {"features__shape": None},
        {"files": [["rows.txt", 999]]},
        {"files": [["rows.txt", "999"]]},
        {"skipped": 3},
    ],
)
def test_a_crafted_disk_cache_is_not_used(tmp_path: Path, changes: dict[str, object]) -> None:
    assert cache_of(tmp_path, **changes).load() is None


@pytest.mark.parametrize("name", ["features.bin", "labels.bin", "manifest.json"])
def test_a_disk_cache_with_a_changed_bit_is_not_used(tmp_path: Path, name: str) -> None:
    cache = cache_of(tmp_path)
    file = cache.path / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert cache.load() is None


def test_rows_that_are_no_matrix_of_float32_are_not_cached(tmp_path: Path) -> None:
    data = tmp_path / "rows.txt"
    data.write_text("1")
    reader = Rows()
    reader.labels = reader.labels.astype(np.float64)
    disk = RowCache(tmp_path / "cache", [str(data)], "settings")
    assert len(epoch(BlockSource(lambda: reader, 32, "rows", disk=disk))) == 1000
    assert disk.load() is None


def test_a_disk_cache_tells_of_files_and_skipped_rows_as_the_files_do(tmp_path: Path) -> None:
    class TwoFiles(Rows):
        """Its first 308 rows are of one file, the others of another."""

        def blocks(self):
            for block in super().blocks():
                yield NamedBlock(*block[:2], "a.txt" if block[1][0, 0] < 308 else "b.txt")

        def skipped_rows(self):
            return 12, ["a.txt:3: label is 7"]

    data = tmp_path / "rows.txt"
    data.write_text("1")
    seen = []
    for _ in range(2):
        disk = RowCache(tmp_path / "cache", [str(data)], "settings")
        source = BlockSource(TwoFiles, 32, "rows", None, 100, disk=disk)
        files = [window.files for window in source.windows(0, 0, [(5, 0)])]
        seen.append((files, source.take_skipped()))
        assert source.take_skipped() == (0, [])
    assert seen[0] == seen[1]
    assert seen[0][1] == (12, ["a.txt:3: label is 7"])
    assert [("a.txt",), ("a.txt", "b.txt"), ("b.txt",)] == list(dict.fromkeys(seen[0][0]))


def test_a_broken_off_pass_leaves_no_disk_cache(tmp_path: Path) -> None:
    data = tmp_path / "rows.txt"
    data.write_text("1")
    disk = RowCache(tmp_path / "cache", [str(data)], "settings")
    source = BlockSource(Rows, 32, "rows", None, 100, disk=disk)
    windows = source.windows(0, 0, [(1, 0)])
    next(windows)
    windows.close()
    assert disk.load() is None


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_direct_update_is_the_optimizers_own_step(kind: str) -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(5, 3)).astype(np.float32)
    gradients = rng.normal(size=(6, 5, 3)).astype(np.float32)
    results = []
    for direct in (False, True):
        weight = paddle.create_parameter([5, 3], "float32")
        weight.set_value(start)
        rate = paddle.optimizer.lr.LambdaDecay(0.1, lambda step: 1 / (1 + step))
        decay = {"weight_decay": 0.1} if kind == "AdamW" else {}
        optimizer = getattr(paddle.optimizer, kind)(rate, parameters=[weight], **decay)
        update = None
        for gradient in gradients:
            (weight * paddle.to_tensor(gradient)).sum().backward()
            if direct and update is not None:
                update()
            else:
                optimizer.step()
                optimizer.clear_grad()
                update = direct_update(optimizer) if direct else None
            rate.step()
        if direct:
            known = hasattr(optimizer, "_amsgrad")  # Paddle 2.6's operators take other arguments
            assert update.__name__ == ("direct" if known else "whole")
        results.append(weight.numpy())
    assert np.array_equal(*results)


def test_direct_update_waits_for_the_slots_of_every_weight() -> None:
    used, unused = (paddle.create_parameter([2], "float32") for _ in range(2))
    optimizer = paddle.optimizer.Adam(0.1, parameters=[used, unused])
    used.sum().backward()
    optimizer.step()
    assert direct_update(optimizer).__name__ == "whole"


def test_direct_update_leaves_other_optimizers_to_themselves() -> None:
    weight = paddle.create_parameter([2], "float32")
    clip = paddle.nn.ClipGradByGlobalNorm(1.0)
    for optimizer in (
        paddle.optimizer.SGD(0.1, parameters=[weight]),
        paddle.optimizer.Adam(0.1, parameters=[weight], weight_decay=0.1),
        paddle.optimizer.AdamW(0.1, parameters=[weight], grad_clip=clip),
    ):
        assert direct_update(optimizer).__name__ == "whole"


def test_batches_are_cut_without_mixing_rows_or_tasks() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (70, 3)).astype(np.float32)
    pieces = [piece for stack in step_labels(labels, 32) for piece in stack]
    assert [piece.shape for piece in pieces] == [(3, 32, 1), (3, 32, 1), (3, 6, 1)]
    assert np.array_equal(joined_log_odds(pieces), labels)
    array = np.random.default_rng(1).random((700, 999), np.float32)
    assert np.array_equal(encode_in_pieces(array, lambda rows: rows * 2), array * 2)
    assert np.array_equal(as_tensor(array[100:200]).numpy(), array[100:200])


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    "columns",
    [[], [3], [0, 1, 2, 7], [998, 5, 6, 4], [5, 5], [2, 3, 999, 1000], [1003, 0], [*range(999)]],
)
def test_columns_are_encoded_wherever_they_are(columns: list[int], own: bool) -> None:
    rows = np.random.default_rng(0).random((700, 999), np.float32)
    expected = np.zeros((700, max([998, *columns]) + 1), np.float32)
    expected[:, :999] = rows
    values = rows[:, :1] + np.arange(len(columns), dtype=np.float32)
    for place, column in enumerate(columns):
        expected[:, column] = values[:, place]
    given, done = rows.copy(), 0

    def encode(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal done
        done += len(piece)
        return np.array(columns, np.int64), values[done - len(piece) : done]

    encoded = encode_by_columns(given, encode, own)
    assert np.array_equal(encoded, expected)
    assert (encoded is given) == (own and expected.shape == rows.shape)
    assert own or np.array_equal(given, rows)


def test_weights_are_bit_for_bit_the_same_with_every_kind_of_cache(tmp_path: Path) -> None:
    shared = {"epochs": 2, "shuffle": "true", "shuffle_buffer": 300}
    kinds = {
        "memory": {"cache_mb": 64},
        "none": {"cache_mb": 0},
        "disk": {"cache_mb": 0, "cache_dir": tmp_path / "cache"},
        "disk again": {"cache_mb": 64, "cache_dir": tmp_path / "cache"},
    }
    weights = {}
    for number, (kind, options) in enumerate(kinds.items()):
        out = override(**shared, **options, model_save_path=f"run{number}")
        run_ok("static_trainer" if number % 2 else "trainer", "-m", CONFIG, *out, cwd=tmp_path)
        weights[kind] = load_weights(tmp_path / f"run{number}" / "1")
    for kind, state in weights.items():
        for name, value in state.items():
            assert np.array_equal(value, weights["memory"][name]), (kind, name)


def environment(threads: object, batch_size: int, cpu: str, **given: str) -> dict[str, str]:
    """What ``prepare_environment`` sets, in a process of its own."""
    script = (
        "import json, os, pathlib, sys\n"
        f"pathlib.Path.read_text = lambda *a, **k: 'vendor_id : {cpu}'\n"
        "os.cpu_count = lambda: 4\n"
        "from rec_runner.system.environment import prepare_environment\n"
        f"prepare_environment({threads}, {batch_size})\n"
        "print(json.dumps(dict(os.environ)))\n"
    )
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("OMP", "MKL", "KMP", "FLAGS"))
    }
    output = subprocess.run(
        [sys.executable, "-c", script],
        env={**clean, "PYTHONPATH": str(TOOLS), **given},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return json.loads(output)


def test_environment_suits_processor_and_batch_and_spares_a_persons_own() -> None:
    small = environment(None, 32, "AuthenticAMD")
    assert (small["OMP_NUM_THREADS"], small["MKL_NUM_THREADS"]) == ("1", "1")
    assert small["MKL_DEBUG_CPU_TYPE"] == "5"
    large = environment(None, 1024, "GenuineIntel")
    assert large["MKL_NUM_THREADS"] == "4"
    assert "OMP_NUM_THREADS" not in large
    assert large["KMP_BLOCKTIME"] == "1"
    assert "MKL_DEBUG_CPU_TYPE" not in large
    own = environment(
        2, 32, "AuthenticAMD", MKL_DEBUG_CPU_TYPE="4", MKL_NUM_THREADS="3", KMP_BLOCKTIME="7"
    )
    assert (own["MKL_DEBUG_CPU_TYPE"], own["MKL_NUM_THREADS"]) == ("4", "3")
    assert own["KMP_BLOCKTIME"] == "7"


# What a tool leaves behind in its process: modules, objects that the collector is spared.
_REMAINS = """
import gc, json, runpy, sys
sys.argv[:] = sys.argv[1:]
sys.path.insert(0, {tools!r})
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code
print(json.dumps([sorted(sys.modules), gc.get_freeze_count(), gc.isenabled()]))
"""


def remains(tool: str, arguments: list[object], cwd: Path) -> tuple[set[str], int, bool]:
    """Modules, objects frozen, and whether the collector runs, where a tool has just ended."""
    code = _REMAINS.format(tools=str(TOOLS))
    result = run([sys.executable, "-c", code, str(TOOLS / f"{tool}.py"), *map(str, arguments)], cwd)
    assert result.status == 0, result.stderr
    modules, frozen, collects = json.loads(result.stdout.splitlines()[-1])
    return {*modules}, frozen, collects


@pytest.mark.parametrize(("tool", "other"), [("infer", "static"), ("static_infer", "dygraph")])
def test_scoring_imports_nothing_it_has_no_use_for(tool: str, other: str, tmp_path: Path) -> None:
    """Nor is the collector kept busy with Paddle's modules, which never become garbage."""
    trainer = tool.replace("infer", "trainer")
    run_ok(trainer, "-m", CONFIG, *override(epochs=1, model_save_path=tmp_path), cwd=tmp_path)
    wanted = override(infer_load_path=tmp_path, infer_start_epoch=0, infer_end_epoch=1)
    modules, frozen, collects = remains(tool, ["-m", CONFIG, *wanted], tmp_path)
    assert {"paddle", "pyarrow.csv", "rec_runner.infer"} <= modules
    # For pictures, evaluation and tables; locks of folders, and patches: both bring asyncio.
    heavy = "matplotlib pandas sklearn visualdl filelock unittest.mock"
    mine = ("train", "checkpoint.lock", "checkpoint.resume", f"engine.{other}.base")
    assert not {*heavy.split(), *(f"rec_runner.{name}" for name in mine)} & modules
    assert collects and frozen > 100_000


def test_a_directory_with_a_reader_of_its_own_pays_for_no_csv_engine(tmp_path: Path) -> None:
    folder = tmp_path / "two_tower"
    shutil.copytree(ROOT / "tests" / "model_dirs" / folder.name, folder)
    make_data.write(folder.name, folder)
    out = tmp_path / "out"
    config = ["-m", folder / "config.yaml", *override(epochs=1, infer_end_epoch=1)]
    run_ok("trainer", *config, f"runner.model_save_path={out}", cwd=tmp_path)
    modules, _, _ = remains("infer", [*config, f"runner.infer_load_path={out}"], tmp_path)
    assert "rec_runner.infer" in modules and not {"pyarrow", "visualdl"} & modules
