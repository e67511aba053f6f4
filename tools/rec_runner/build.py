"""What every job builds from its config: engine and reader, weights from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np

from rec_runner.checkpoint.choice import choose_epoch
from rec_runner.checkpoint.store import Checkpoints
from rec_runner.checkpoint.weights import load_weights, match
from rec_runner.config import Config
from rec_runner.contract.guard import foreign, iterate
from rec_runner.contract.hooks import READING_BLOCKS, call_hook, has, reads_blocks
from rec_runner.contract.model_dir import ModelDir
from rec_runner.data.columns import COLUMNS, known_columns, settle_columns
from rec_runner.data.files import list_files
from rec_runner.data.sources import test_folder
from rec_runner.engine.base import Engine
from rec_runner.engine.scoring import BlockScoring
from rec_runner.keys import BOTH, BY_NAME
from rec_runner.system.errors import UserError
from rec_runner.system.log import warn
from rec_runner.system.signals import noted


@noted()
def build_engine(
    graph: str,
    config: Config,
    phase: str,
    scores: bool,
    read_first: Callable[[Any], None] | None = None,
) -> tuple[Engine, Any]:
    """Engine and reader class: by blocks where both have the hooks, else by the contract.

    Args:
        graph: ``dygraph`` or ``static``.
        config: the run's config.
        phase: ``train`` or ``infer``.
        scores: rows are to be scored too, not only trained on.
        read_first: has a reader by blocks, its class, read some rows before the network is built;
            by default they are read once more later.

    Returns:
        the engine, and class ``RecDataset``, None where the static model makes the batches itself.

    Raises:
        UserError: the model directory breaks the contract; names file and class.
    """
    model_dir = ModelDir(config.model_dir)
    training = phase == "train"
    kind, arguments, blocks, contract = _classes(graph, model_dir, config, scores)
    reader = None
    if graph != "static" or config.runner("reader_type") != "CustomizeDataLoader":
        reader = load_reader(model_dir, config, phase)
        if training or COLUMNS in config:
            settle_columns(config, reader, "train_data_dir" if training else test_folder(config)[0])
    with foreign(kind):
        model = kind(*arguments)
    if reader is None:
        return contract(model_dir, config, model, training), None
    by_blocks = reads_blocks(model, reader)
    if by_blocks:
        read_first = read_first or partial(read_first_block, config, phase)
        read_first(reader)
    chosen = blocks if by_blocks else contract
    return chosen(model_dir, config, model, training), reader


def _classes(
    graph: str, model_dir: ModelDir, config: Config, scores: bool
) -> tuple[Any, list[Any], type[BlockScoring], type[Engine]]:
    """Class of the model and its arguments; engines of rows in blocks, and by the contract."""
    if graph == "static":
        from rec_runner.engine.static.blocks import BlockStaticEngine
        from rec_runner.engine.static.contract import StaticEngine

        kind = model_dir.load("static_model", "StaticModel", scores)
        return kind, [config], BlockStaticEngine, StaticEngine
    from rec_runner.engine.dygraph.blocks import BlockDygraphEngine
    from rec_runner.engine.dygraph.contract import DygraphEngine

    kind = model_dir.load("dygraph_model", "DygraphModel", scores)
    return kind, [], BlockDygraphEngine, DygraphEngine


@noted()
def build_scorer(graph: str, config: Config) -> BlockScoring:
    """An engine that predicts rows; no reader is asked, so that no files of rows have to be there.

    Args:
        graph: ``dygraph`` or ``static``.
        config: the run's config, with the columns that the checkpoint knows.

    Raises:
        UserError: the model directory breaks the contract, or lacks the hooks of whole blocks.
    """
    model_dir = ModelDir(config.model_dir)
    kind, arguments, blocks, _ = _classes(graph, model_dir, config, scores=True)
    with foreign(kind):
        model = kind(*arguments)
    lacking = next((hook for hook in READING_BLOCKS if not has(model, hook)), None)
    if lacking is not None:
        raise UserError(
            f"{kind.__name__} of {config.model_dir} has no hook {lacking}: to predict rows without "
            f"labels takes the hooks {', '.join(READING_BLOCKS)}, see doc/model_directory_EN.md"
        )
    return blocks(model_dir, config, model, False)


def read_first_block(config: Config, phase: str, reader: Any) -> None:
    """Have the reader check some rows against the sizes that the config names.

    A network of wrong sizes may take all memory, and no row would ever get to it.

    Raises:
        UserError: what the reader says of the rows.
    """
    key = "train_data_dir" if phase == "train" else test_folder(config)[0]
    first = list_files(config, key)[:1]
    with foreign(reader):
        dataset = reader(first, config)
    with suppress(OSError):  # told in its turn, when cheaper checks are behind us
        for _ in iterate(dataset, "blocks", call_hook(dataset, "blocks")):
            break


def load_reader(model_dir: ModelDir, config: Config, phase: str) -> Any:
    """Class ``RecDataset`` of a phase, ``train`` or ``infer``."""
    return model_dir.load(_reader_module(model_dir, config, phase), "RecDataset")


def _reader_module(model_dir: ModelDir, config: Config, phase: str) -> str:
    """The reader's module; a config that names only the one for training means both.

    Test rows that are a share of the training rows are read as these are.

    Raises:
        UserError: the config names a file.
    """
    phase = "train" if test_folder(config)[1] else phase
    key = f"{phase}_reader_path"
    named = config.get("runner.infer_reader_path") is not None
    if phase == "infer" and not named:
        if not (model_dir.path / f"{config.runner(key)}.py").is_file():
            key = "train_reader_path"
    name = config.runner(key)
    if name.endswith(".py") or "/" in name:
        module = Path(name).name.removesuffix(".py")
        raise UserError(
            f"{config['yaml_path']}: runner.{key} should be the name of a module in the "
            f"config's folder, without .py, such as {module}, got {name!r}"
        )
    return name


def warn_unused(graph: str, phase: str, config: Config, engine: Engine, reader: Any) -> None:
    """Say which keys of the config this tool or this directory has no use for.

    Keys of the other phase are passed over, since a config is shared; so are those that the
    directory's own code reads, and those that only say what holds anyway.

    Args:
        graph: ``dygraph`` or ``static``.
        phase: ``train`` or ``infer``.
        config: the run's config.
        engine: what runs the model.
        reader: class ``RecDataset``, None where the model makes its batches.
    """
    by_contract = not engine.reads_blocks
    hooks = by_contract and "is for directories with our hooks of whole blocks"
    no_reader = reader is None and "is not for reader_type CustomizeDataLoader"
    no_export = not config.runner("use_inference") and "needs runner.use_inference"
    workers = not by_contract and "is for readers without blocks(), here the tool reads by itself"
    named = phase == "infer" and not test_folder(config)[1]
    unused = {
        "test_share": named and "draws from train_data_dir where no test_data_dir is given",
        "save_predictions": by_contract and "needs a model with our hooks",
        "use_inference": graph != "static" and "is for the static trainer",
        "save_inference_feed_varnames": no_export,
        "save_inference_fetch_varnames": no_export,
        "cache_dir": hooks,
        "cache_mb": hooks,
        "shuffle_buffer": hooks,
        "bad_rows": hooks,
        "bad_rows_cap": hooks,
        "num_workers": no_reader or workers,
        "shuffle": no_reader,
        "test_data_dir": no_reader,
        "reader_type": graph != "static" and "is for the static tools, this one takes the reader",
    }
    for name, reason in unused.items():
        given = BY_NAME[name].phase in (phase, BOTH) and config.is_set(name)
        if reason and given and not engine.model_dir.mentions(f"runner.{name}"):
            warn(f"{config['yaml_path']}: runner.{name} has no effect here: it {reason}")


def open_checkpoint(graph: str, config: Config, wanted: str | None) -> tuple[BlockScoring, Path]:
    """A trained network to predict rows with; no files of rows have to be there.

    Args:
        graph: ``dygraph`` or ``static``.
        config: the run's config; what the checkpoint knows of columns is put into it.
        wanted: which epoch, see :func:`choose_epoch`.

    Returns:
        the engine, the checkpoint's weights loaded, and the checkpoint's folder.

    Raises:
        UserError: there is no such checkpoint, or it is of another network.
    """
    checkpoints = Checkpoints(config.runner("infer_load_path"))
    epoch = choose_epoch(config, checkpoints, wanted)
    fingerprint, folder = checkpoints.fingerprint(epoch), checkpoints.folder / str(epoch)
    config.update(known_columns(fingerprint))
    engine = build_scorer(graph, config)
    load_weights_into(engine, load_weights(folder), str(folder))
    warn_of_other_tasks(fingerprint, config, engine.model, folder)
    return engine, folder


@noted()
def load_weights_into(engine: Engine, weights: Mapping[str, np.ndarray], name: str) -> None:
    """Set all weights of an engine from a checkpoint's.

    Args:
        engine: whose network it is.
        weights: by name, of this network or as the hook ``convert_state_dict`` knows them.
        name: what errors call the checkpoint.

    Raises:
        UserError: the checkpoint is of another network, names what differs.
    """
    try:
        state = call_hook(engine.model, "convert_state_dict", weights, default=weights)
    except Exception as error:
        if getattr(error, "user_error", False):
            raise UserError(f"checkpoint {name}: {error}") from error
        raise
    own = engine.state_dict()
    engine.set_state_dict(match(state, own, name, whole=engine.whole_checkpoints))


def warn_of_other_tasks(
    fingerprint: Mapping[str, Any], config: Config, model: Any, folder: Path
) -> None:
    """Warn of tasks under other names, or of other columns, which load and score all the same.

    Args:
        fingerprint: what the checkpoint notes of its run.
        config: the run's config.
        model: ``DygraphModel`` or ``StaticModel``.
        folder: the checkpoint's.
    """
    resolve = partial(call_hook, model, "resolved_settings", default={})
    meant: list[Mapping[str, Any]] = [{}, {}]
    with suppress(Exception):  # settings of an older version perhaps
        meant = [resolve(fingerprint), resolve(config)]
    for name in ("task_names", "label_columns"):
        key = f"hyper_parameters.{name}"
        was, now = fingerprint.get(key), config.get(key)
        if None in (was, now) or was == now:
            continue
        if key not in meant[0] or meant[0][key] != meant[1].get(key):
            warn(f"{key} was {was} when checkpoint {folder} was trained and is {now} now")
