"""The model directory under drivers that know nothing but the contract.

The two drivers below are written from the contract alone and touch nothing of ``tools/``: they do
with the model directory what PaddleRec's own tools do. Run as a script, this file is such a tool::

    python tests/test_paddlerec_contract.py dygraph MODEL_DIR OUTPUT_DIR
"""

from __future__ import annotations

import inspect
import json
import sys
import zlib  # noqa: F401 - Paddle 2.6 brings one of its own, which breaks Python's if it is first
from pathlib import Path
from typing import Any

EPOCHS = 10
SAVED = {"dygraph": "rec", "static": "rec_static"}


def flat_config(model_dir: Path) -> dict[str, Any]:
    """The config flattened to a plain dict, as the contract has it."""
    import yaml

    tree = yaml.safe_load((model_dir / "config.yaml").read_text(encoding="utf-8"))
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, child in value.items():
                walk(f"{prefix}.{name}", child)
        else:
            flat[prefix] = value

    for section in ("runner", "hyper_parameters"):
        walk(section, tree[section])
    flat["config_abs_dir"] = str(model_dir)
    flat["yaml_path"] = str(model_dir / "config.yaml")
    return flat


def loader(config: dict[str, Any], phase: str, place: Any) -> Any:
    """A DataLoader over the reader's rows, the last incomplete batch dropped."""
    from importlib import import_module

    from paddle.io import DataLoader

    folder = Path(config["config_abs_dir"], config[f"runner.{phase}_data_dir"])
    files = [str(file) for file in folder.iterdir()]
    prefix = "infer" if phase == "test" else phase
    reader = import_module(config[f"runner.{prefix}_reader_path"])
    return DataLoader(
        reader.RecDataset(files, config),
        batch_size=config[f"runner.{prefix}_batch_size"],
        places=place,
        drop_last=True,
        return_list=True,
        num_workers=0,
    )


def drive_dygraph(model_dir: Path, output: Path) -> dict[str, Any]:
    """Train and infer as PaddleRec's eager tools do; what was seen on the way."""
    import paddle

    from dygraph_model import DygraphModel

    paddle.seed(12345)
    place = paddle.set_device("cpu")
    config = flat_config(model_dir)
    config["runner.infer_batch_size"] = 60
    model = DygraphModel()
    net = model.create_model(config)
    optimizer = model.create_optimizer(net, config)
    metrics, names = model.create_metrics()
    facts: dict[str, Any] = {
        "is_layer": isinstance(net, paddle.nn.Layer),
        "is_optimizer": isinstance(optimizer, paddle.optimizer.Optimizer),
        "metrics": [isinstance(metric, paddle.metric.Metric) for metric in metrics],
        "names": names,
        "losses": [],
        "train_auc": [],
    }
    for epoch in range(EPOCHS):
        net.train()
        losses = []
        for batch in loader(config, "train", place):
            optimizer.clear_grad()
            loss, metrics, printed = model.train_forward(net, metrics, batch, config)
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
        facts["batch"] = [[*tensor.shape, str(tensor.dtype)] for tensor in batch]
        facts["batches"] = len(losses)
        facts["printed"] = {name: float(tensor.numpy()) for name, tensor in printed.items()}
        facts["losses"].append(sum(losses) / len(losses))
        facts["train_auc"].append([metric.accumulate() for metric in metrics])
        for metric in metrics:
            metric.reset()
        folder = output / str(epoch)
        folder.mkdir(parents=True)
        paddle.save(net.state_dict(), str(folder / "rec.pdparams"))
        paddle.save(optimizer.state_dict(), str(folder / "rec.pdopt"))
    fresh = model.create_model(config)
    fresh.set_state_dict(paddle.load(str(output / str(EPOCHS - 1) / "rec.pdparams")))
    fresh.eval()
    metrics, names = model.create_metrics()
    rows = 0
    for batch in loader(config, "test", place):
        result = model.infer_forward(fresh, metrics, batch, config)
        metrics, printed = result
        rows += len(batch[0])
    facts["infer_returns"] = len(result)
    facts["infer_printed"] = None if printed is None else sorted(printed)
    facts["rows"] = rows
    facts["infer_auc"] = dict(zip(names, [metric.accumulate() for metric in metrics]))
    return facts


def drive_static(model_dir: Path, output: Path) -> dict[str, Any]:
    """Train and infer as PaddleRec's static tools do; what was seen on the way."""
    import numpy as np
    import paddle
    from paddle import static

    paddle.enable_static()
    from static_model import StaticModel

    paddle.seed(12345)
    place = paddle.set_device("cpu")
    config = flat_config(model_dir)
    config["runner.infer_batch_size"] = 60
    model = StaticModel(config)
    feeds = model.create_feeds()
    names = [feed.name for feed in feeds]
    fetches = model.net(feeds)
    model.create_optimizer()
    executor = static.Executor(place)
    executor.run(static.default_startup_program())
    facts: dict[str, Any] = {
        "feeds": {feed.name: [*feed.shape] for feed in feeds},
        "fetches": list(fetches),
        "losses": [],
        "train_auc": [],
    }
    program = static.default_main_program()
    for epoch in range(EPOCHS):
        losses = []
        for batch in loader(config, "train", place):
            values = executor.run(
                program, feed=dict(zip(names, batch)), fetch_list=list(fetches.values())
            )
            losses.append(values[0].item())
        facts["batches"] = len(losses)
        facts["losses"].append(sum(losses) / len(losses))
        facts["train_auc"].append([value.item() for value in values[1:]])
        prefix = output / str(epoch) / SAVED["static"]
        prefix.parent.mkdir(parents=True)
        static.save(program, str(prefix))
    # PaddleRec infers in a process of its own: fresh scope, fresh programs, fresh names.
    with (
        static.scope_guard(static.Scope()),
        paddle.utils.unique_name.guard(),
        static.program_guard(static.Program(), static.Program()),
    ):
        model = StaticModel(config)
        feeds = model.create_feeds(is_infer=True)
        fetches = model.infer_net(feeds)
        executor.run(static.default_startup_program())
        static.load(static.default_main_program(), str(prefix), executor)
        rows = 0
        for batch in loader(config, "test", place):
            feed = dict(zip([feed.name for feed in feeds], batch))
            values = executor.run(feed=feed, fetch_list=list(fetches.values()))
            rows += len(np.asarray(batch[0]))
        facts["infer_fetches"] = list(fetches)
        facts["rows"] = rows
        found = dict(zip(fetches, values))
        facts["infer_auc"] = {k: v.item() for k, v in found.items() if k.startswith("auc")}
    return facts


if __name__ == "__main__":
    path, model_dir, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    sys.path.insert(0, str(model_dir))
    drive = {"dygraph": drive_dygraph, "static": drive_static}[path]
    print(json.dumps(drive(model_dir, output)))
    sys.exit()

import pytest  # noqa: E402
from helpers import CONFIG, ROOT, epoch_lines, override, run, run_ok  # noqa: E402

TASKS = ["auc_income", "auc_marital"]


def drive(path: str, folder: Path, **environment: str) -> dict[str, Any]:
    """Run a driver of this file to its end, from a foreign folder."""
    command = [sys.executable, __file__, path, str(ROOT), str(folder / "saved")]
    result = run(command, cwd=folder, **environment)
    assert result.status == 0, result.stderr
    return {"folder": folder / "saved", **json.loads(result.stdout.splitlines()[-1])}


@pytest.fixture(scope="module")
def dygraph(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Eager, with the flag that PaddleRec sets at the top of every tool."""
    return drive("dygraph", tmp_path_factory.mktemp("dygraph"), FLAGS_enable_pir_api="0")


@pytest.fixture(scope="module")
def static_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Static, with the flag left at its default, without which Paddle 3.3.1 breaks the path."""
    return drive("static", tmp_path_factory.mktemp("static"))


def check_learning(facts: dict[str, Any]) -> None:
    """Loss falls, all the while on whole batches; inference sees whole batches too."""
    # These drivers know no adapt(): the network sees the raw columns, and learns them roughly.
    assert facts["losses"][-1] < facts["losses"][0] / 2
    assert facts["batches"] == 1000 // 32
    assert facts["rows"] == 360
    assert list(facts["infer_auc"]) == TASKS


def test_the_eager_model_is_driven(dygraph: dict[str, Any]) -> None:
    assert dygraph["is_layer"]
    assert dygraph["is_optimizer"]
    assert dygraph["metrics"] == [True, True]
    assert dygraph["names"] == TASKS
    check_learning(dygraph)
    assert all(0.65 < value < 1 for value in dygraph["train_auc"][-1])
    assert all(0.65 < value < 1 for value in dygraph["infer_auc"].values())


def test_an_eager_batch_and_what_the_calls_return(dygraph: dict[str, Any]) -> None:
    assert dygraph["batch"] == [
        [32, 499, "paddle.float32"],
        [32, 1, "paddle.int64"],
        [32, 1, "paddle.int64"],
    ]
    assert list(dygraph["printed"]) == ["loss"]
    assert dygraph["infer_returns"] == 2
    assert dygraph["infer_printed"] is None


def test_the_static_model_is_driven(static_run: dict[str, Any]) -> None:
    assert list(static_run["feeds"]) == ["features", "label_income", "label_marital"]
    assert list(static_run["feeds"].values()) == [[-1, 499], [-1, 1], [-1, 1]]
    assert static_run["fetches"] == ["cost", *TASKS]
    assert set(static_run["fetches"]) <= set(static_run["infer_fetches"])
    check_learning(static_run)


def test_both_drivers_train_alike(dygraph: dict[str, Any], static_run: dict[str, Any]) -> None:
    assert static_run["losses"] == pytest.approx(dygraph["losses"], rel=1e-3)


def test_the_static_auc_is_a_number(static_run: dict[str, Any]) -> None:
    """Paddle 3's ``static.auc`` forgets earlier batches: this driver sees that of the last one."""
    assert all(0 <= value <= 1 for value in static_run["infer_auc"].values())


def test_our_tools_score_what_the_eager_driver_saved(dygraph: dict[str, Any]) -> None:
    last = EPOCHS - 1
    options = override(
        infer_load_path=dygraph["folder"], infer_start_epoch=last, infer_end_epoch=EPOCHS
    )
    log = run_ok("static_infer", "-m", CONFIG, *options, cwd=dygraph["folder"])
    scores = epoch_lines(log)[last]
    for name, theirs in dygraph["infer_auc"].items():
        # Paddle's own metric counts probabilities in 4095 bins.
        assert scores[name] == pytest.approx(theirs, abs=5e-3)


def parameters(function: Any) -> list[str]:
    """Names of a function's parameters, but for ``self``."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_signatures_are_those_of_the_contract() -> None:
    from paddle.io import IterableDataset

    from census_reader import RecDataset
    from dygraph_model import DygraphModel
    from static_model import StaticModel

    expected = {
        DygraphModel.create_model: ["config"],
        DygraphModel.create_optimizer: ["dy_model", "config"],
        DygraphModel.create_metrics: [],
        DygraphModel.train_forward: ["dy_model", "metrics_list", "batch_data", "config"],
        DygraphModel.infer_forward: ["dy_model", "metrics_list", "batch_data", "config"],
        DygraphModel.create_feeds: ["batch_data", "config"],
        StaticModel: ["config"],
        StaticModel.create_feeds: ["is_infer"],
        StaticModel.net: ["inputs", "is_infer"],
        StaticModel.create_optimizer: ["strategy"],
        StaticModel.infer_net: ["inputs"],
        RecDataset: ["file_list", "config"],
    }
    for function, names in expected.items():
        assert parameters(function) == names, function
    assert parameters(DygraphModel) == []
    assert inspect.signature(StaticModel.create_feeds).parameters["is_infer"].default is False
    assert inspect.signature(StaticModel.net).parameters["is_infer"].default is False
    assert inspect.signature(StaticModel.create_optimizer).parameters["strategy"].default is None
    assert issubclass(RecDataset, IterableDataset)


def test_the_fixed_names_of_the_layout_are_there() -> None:
    names = ["__init__.py", "README.md", "config.yaml", "census_reader.py", "net.py"]
    names += ["static_model.py", "dygraph_model.py", "config_bigdata.yaml"]
    names += [f"tools/{tool}.py" for tool in ("trainer", "infer", "static_trainer", "static_infer")]
    names += [f"data/{split}/{split}_data.txt" for split in ("train", "test")]
    missing = [name for name in names if not (ROOT / name).is_file()]
    assert missing == []
