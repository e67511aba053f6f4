"""The model directory under drivers that know nothing but the contract.

The two drivers below are written from the contract alone and touch nothing of ``tools/``: they do
with the model directory what PaddleRec's own tools do. Run as a script, this file is such a tool::

    FLAGS_enable_pir_api=0 python tests/test_paddlerec_contract.py dygraph MODEL_DIR OUTPUT_DIR
"""

from __future__ import annotations

import inspect
import json
import sys
import warnings
import zlib  # noqa: F401 - Paddle 2.6 brings one of its own, which breaks Python's if it is first
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SAVED = {"dygraph": "rec", "static": "rec_static"}
# 25 whole batches of the sample's 1000 rows: nothing is dropped, so that our tools train alike.
WHOLE = {"runner.train_batch_size": 40, "runner.epochs": 2}
SETTINGS = [
    *({"optimizer.class": name} for name in ("adam", "adamw", "sgd", "momentum", "adagrad")),
    *({"numeric_encoding": kind} for kind in ("none", "piecewise_linear")),
    {"optimizer.weight_decay": 0.01},  # Paddle's own clipping of gradients does not build there
    {"bottom_dropout": 0.2, "tower_dropout": 0.2, "bottom_size": [9, 7], "tower_size": [5, 4]},
    {"loss_weights": [1, 0], "initializer": "kaiming", "tower_initializer": "constant"},
    {"task_names": ["a"], "label_columns": [1], "feature_size": 500},
]


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


def drive_dygraph(config: dict[str, Any], output: Path) -> dict[str, Any]:
    """Train and infer as PaddleRec's eager tools do; what was seen on the way."""
    import numpy as np
    import paddle

    from dygraph_model import DygraphModel

    paddle.seed(12345)
    place = paddle.set_device("cpu")
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
    for epoch in range(config["runner.epochs"]):
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
    fresh.set_state_dict(paddle.load(str(folder / "rec.pdparams")))
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
    np.savez(output / "weights.npz", **{k: v.numpy() for k, v in fresh.state_dict().items()})
    return facts


@contextmanager
def fresh_static() -> Iterator[Any]:
    """Fresh scope, programs and names, as each of PaddleRec's static tools has in its process."""
    import paddle
    from paddle import static

    with (
        static.scope_guard(static.Scope()),
        paddle.utils.unique_name.guard(),
        static.program_guard(static.Program(), static.Program()),
    ):
        paddle.seed(12345)
        yield static.Executor(paddle.set_device("cpu"))


def zero_aucs(program: Any) -> None:
    """Let every AUC operator start anew, as PaddleRec does before an epoch.

    The new representation's operators remember nothing, and have no type.
    """
    import numpy as np
    from paddle import static

    for operator in program.global_block().ops:
        if getattr(operator, "type", None) == "auc":
            for name in (*operator.input("StatPos"), *operator.input("StatNeg")):
                count = static.global_scope().find_var(name).get_tensor()
                count.set(np.zeros(count.shape(), np.int64), static.cpu_places(1)[0])


def drive_static(config: dict[str, Any], output: Path) -> dict[str, Any]:
    """Train and infer as PaddleRec's static tools do; what was seen on the way."""
    import numpy as np
    import paddle
    from paddle import static

    paddle.enable_static()
    from static_model import StaticModel

    with fresh_static() as executor:
        model = StaticModel(config)
        feeds = model.create_feeds()
        names = [feed.name for feed in feeds]
        fetches = model.net(feeds)
        model.create_optimizer()
        executor.run(static.default_startup_program())
        facts: dict[str, Any] = {
            "feeds": {feed.name: [*feed.shape] for feed in feeds},
            "fetches": list(fetches),
            "losses": [],
            "train_auc": [],
        }
        program = static.default_main_program()
        for epoch in range(config["runner.epochs"]):
            losses = []
            zero_aucs(program)
            for batch in loader(config, "train", executor.place):
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
    with fresh_static() as executor:
        model = StaticModel(config)
        feeds = model.create_feeds(is_infer=True)
        fetches = model.infer_net(feeds)
        executor.run(static.default_startup_program())
        static.load(static.default_main_program(), str(prefix), executor)
        zero_aucs(static.default_main_program())
        rows = 0
        for batch in loader(config, "test", executor.place):
            feed = dict(zip([feed.name for feed in feeds], batch))
            values = executor.run(feed=feed, fetch_list=list(fetches.values()))
            rows += len(np.asarray(batch[0]))
        facts["infer_fetches"] = list(fetches)
        facts["rows"] = rows
        found = dict(zip(fetches, values))
        facts["infer_auc"] = {k: v.item() for k, v in found.items() if k.startswith("auc")}
        scope = static.global_scope()
        weights = {k: scope.find_var(v.name) for k, v in model.layer.state_dict().items()}
        arrays = {k: np.asarray(v.get_tensor()) for k, v in weights.items()}
        np.savez(output / "weights.npz", **arrays)
    return facts


def losses_of_settings(config: dict[str, Any]) -> list[float]:
    """The loss of a first and a second step, with each of ``SETTINGS``, on the static graph."""
    from paddle import static

    from static_model import StaticModel

    losses = []
    for setting in SETTINGS:
        given = {**config, **{f"hyper_parameters.{key}": value for key, value in setting.items()}}
        if "task_names" in setting:
            del given["hyper_parameters.task_num"]
        with fresh_static() as executor:
            model = StaticModel(given)
            feeds = model.create_feeds()
            fetches = model.net(feeds)
            model.create_optimizer()
            executor.run(static.default_startup_program())
            batch = next(iter(loader(given, "train", executor.place)))
            for _ in range(2):
                feed = dict(zip([feed.name for feed in feeds], batch))
                losses.append(executor.run(feed=feed, fetch_list=list(fetches.values()))[0].item())
    return losses


def drive_all(path: str, model_dir: Path, output: Path) -> dict[str, Any]:
    """With the config as it is, on whole batches, and what else this path should be tried with."""
    drive = {"dygraph": drive_dygraph, "static": drive_static}[path]
    config = flat_config(model_dir)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        facts = drive(config, output)
    facts["said"] = [str(w.message) for w in caught if "adapt" in str(w.message)]
    drive({**config, **WHOLE}, output / "whole")
    if path == "static":
        facts["losses_of_settings"] = losses_of_settings(config)
    return facts


if __name__ == "__main__":
    path, model_dir, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    sys.path.insert(0, str(model_dir))
    print(json.dumps(drive_all(path, model_dir, output)))
    sys.exit()

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from helpers import CONFIG, ROOT, Result, epoch_lines, override, run, run_cases  # noqa: E402

TASKS = ["auc_income", "auc_marital"]
LAST = 9


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
    """Static, with that flag: in the old program representation."""
    return drive("static", tmp_path_factory.mktemp("static"), FLAGS_enable_pir_api="0")


@pytest.fixture(scope="module")
def static_new(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Static, in the representation that this Paddle takes by default."""
    return drive("static", tmp_path_factory.mktemp("static_new"))


def weights(facts: dict[str, Any], run: str = ".") -> dict[str, np.ndarray]:
    """What a run left, by the names of the network's state dict."""
    return dict(np.load(facts["folder"] / run / "weights.npz"))


def check_learning(facts: dict[str, Any]) -> None:
    """Loss falls, all the while on whole batches; inference sees all rows of the config's batch."""
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


def test_an_eager_batch_and_what_the_calls_return(dygraph: dict[str, Any]) -> None:
    assert dygraph["batch"] == [
        [32, 499, "paddle.float32"],
        [32, 1, "paddle.int64"],
        [32, 1, "paddle.int64"],
    ]
    assert list(dygraph["printed"]) == ["loss"]
    assert dygraph["infer_returns"] == 2
    assert dygraph["infer_printed"] is None


@pytest.mark.parametrize("driver", ["static_run", "static_new"])
def test_the_static_model_is_driven(driver: str, request: pytest.FixtureRequest) -> None:
    facts = request.getfixturevalue(driver)
    assert list(facts["feeds"]) == ["features", "label_income", "label_marital"]
    assert list(facts["feeds"].values()) == [[-1, 499], [-1, 1], [-1, 1]]
    assert facts["fetches"] == ["cost", *TASKS]
    assert set(facts["fetches"]) <= set(facts["infer_fetches"])
    check_learning(facts)


def test_all_drivers_train_alike(
    dygraph: dict[str, Any], static_run: dict[str, Any], static_new: dict[str, Any]
) -> None:
    """The operators are the same; how they are grouped may change the last bits."""
    for facts in (static_run, static_new):
        assert facts["losses"] == pytest.approx(dygraph["losses"], rel=1e-5)
        theirs = weights(facts)
        for name, value in weights(dygraph).items():
            np.testing.assert_allclose(theirs[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_old_representation_trains_with_every_setting(
    static_run: dict[str, Any], static_new: dict[str, Any]
) -> None:
    losses = np.reshape(static_run["losses_of_settings"], (len(SETTINGS), 2))
    assert np.isfinite(losses).all() and (losses[:, 0] != losses[:, 1]).all()
    # Dropout draws from generators of its own in each.
    same = [i for i, setting in enumerate(SETTINGS) if "bottom_dropout" not in setting]
    expected = np.reshape(static_new["losses_of_settings"], losses.shape)
    np.testing.assert_allclose(losses[same], expected[same], rtol=1e-4)


def test_the_old_auc_counts_what_the_eager_metric_counts(
    dygraph: dict[str, Any], static_run: dict[str, Any]
) -> None:
    """PaddleRec prints what it fetches; both count probabilities in 4095 bins."""
    assert static_run["infer_auc"] == pytest.approx(dygraph["infer_auc"], abs=1e-3)
    np.testing.assert_allclose(static_run["train_auc"], dygraph["train_auc"], atol=2e-3)


def test_the_new_auc_is_a_number(static_new: dict[str, Any]) -> None:
    """In the new representation ``static.auc`` forgets earlier batches."""
    assert all(0 <= value <= 1 for value in static_new["infer_auc"].values())


@pytest.fixture(scope="module")
def ours(dygraph: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Our tools: a run, its scores, a run on whole batches; the eager driver's weights scored."""
    folder = tmp_path_factory.mktemp("ours")
    own, whole, theirs = folder / "own", folder / "whole", dygraph["folder"]
    sizes = [f"{key}={value}" for key, value in WHOLE.items()]
    cases = {
        "train": ("train", "static", override(model_save_path=own)),
        "infer": ("infer", "static", override(infer_load_path=own)),
        "whole": ("train", "static", [*override(model_save_path=whole), *sizes]),
        "theirs": ("infer", "static", override(infer_load_path=theirs)),
    }
    lines = [(tool, path, ["-m", str(CONFIG), *options]) for tool, path, options in cases.values()]
    results: dict[str, Result] = dict(zip(cases, run_cases(lines, cwd=folder)))
    assert [result.status for result in results.values()] == [0] * len(cases), results
    return {"folder": folder, **results}


def test_our_tools_score_what_the_eager_driver_saved(
    dygraph: dict[str, Any], ours: dict[str, Any]
) -> None:
    scores = epoch_lines(ours["theirs"].stdout)[LAST]
    for name, theirs in dygraph["infer_auc"].items():
        # Paddle's own metric counts probabilities in 4095 bins.
        assert scores[name] == pytest.approx(theirs, abs=5e-3)


@pytest.mark.parametrize("driver", ["dygraph", "static_run", "static_new"])
def test_a_driver_trains_as_our_tools_do(
    driver: str, ours: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """On whole batches even the weights are the same, but for the last bits of 50 steps.

    Our tools learn the statistics from blocks of other sizes and group the operators otherwise.
    """
    theirs = weights(request.getfixturevalue(driver), "whole")
    file = ours["folder"] / "whole" / "1" / "rec.pdparams"
    own = np.load(file, allow_pickle=True)
    assert own.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(value, own[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("driver", ["dygraph", "static_run"])
def test_a_driver_reaches_the_quality_of_our_tools(
    driver: str, ours: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """It leaves out 8 rows of 1000 in each epoch: other weights, and 360 rows vary by more."""
    facts = request.getfixturevalue(driver)
    last, test = (epoch_lines(ours[tool].stdout)[LAST] for tool in ("train", "infer"))
    assert facts["losses"][-1] == pytest.approx(last["loss"], abs=0.02)
    for place, task in enumerate(TASKS):
        assert facts["train_auc"][-1][place] == pytest.approx(last[task], abs=0.005)
        assert facts["infer_auc"][task] == pytest.approx(test[task], abs=0.01)


def test_a_network_that_adapts_itself_says_so_once(
    dygraph: dict[str, Any],
    static_run: dict[str, Any],
    static_new: dict[str, Any],
    ours: dict[str, Any],
) -> None:
    """In training, not in inference, and never under our tools, which call the hook."""
    for facts in (dygraph, static_run, static_new):
        (said,) = facts["said"]
        assert said.endswith("input statistics are learnt from data/train")
    assert not any("adapt" in ours[tool].stderr for tool in ("train", "infer", "whole", "theirs"))


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
