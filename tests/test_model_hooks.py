"""The hooks that both wrappers share, and a network that adapts itself where no tool does."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import (
    CONFIG,
    ROOT,
    epoch_lines,
    make_model_dir,
    override,
    run,
    run_cases,
    sample,
    write_table,
)

from dygraph_model import DygraphModel
from rec_runner.config import load_config

HOOKS = (
    *("task_names", "adapt", "convert_state_dict", "resolved_settings"),
    *("scoring_weights", "score_rows", "onnx_model"),
)

# A reader that knows the contract alone, of rows that are read by index.
BY_INDEX = """
import numpy as np
from paddle.io import Dataset

class RecDataset(Dataset):
    def __init__(self, file_list, config):
        self.rows = np.loadtxt(file_list[0], delimiter=",", dtype="float32", ndmin=2)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index % len(self.rows)]  # there is no end to be found by counting up
        return [row[1:], row[:1].astype("int64")]
"""

# Builds the network to train it, and for inference; what it says, and whether statistics are set.
STATIC_SCRIPT = """
import json, sys, warnings
import numpy as np
import paddle

sys.path.insert(0, sys.argv[1])
paddle.enable_static()
from static_model import StaticModel

found = []
for config in json.load(sys.stdin):
    for is_infer in (False, True):
        main, startup = paddle.static.Program(), paddle.static.Program()
        scope = paddle.static.Scope()
        with (
            paddle.static.program_guard(main, startup),
            paddle.static.scope_guard(scope),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            model = StaticModel(config)
            model.net(model.create_feeds(), is_infer)
            paddle.static.Executor(paddle.CPUPlace()).run(startup)
            mean = scope.find_var(model.layer.encoding.mean.name).get_tensor()
            said = [str(w.message) for w in caught if "statistics" in str(w.message)]
            found.append([bool(np.asarray(mean).any()), said])
print(json.dumps(found))
"""


def settings(**changes: Any) -> dict[str, Any]:
    """The sample's config, changed; ``__`` is a dot, a name without is ``runner``'s."""
    return dict(load_config(str(CONFIG), override(**changes)[1:]))


def mean_after_a_step(config: Mapping[str, Any], weights: Mapping[str, Any]) -> np.ndarray:
    """``encoding.mean`` once a batch has been trained by the contract, ``weights`` loaded first."""
    model = DygraphModel()
    net = model.create_model(config)
    optimizer = model.create_optimizer(net, config)
    for name, value in weights.items():
        net.state_dict()[name].set_value(value)
    features, labels = sample("train")
    batch = [features[:8], *labels.astype("int64").T[:, :8, np.newaxis]]
    for _ in range(2):
        loss, _, _ = model.train_forward(net, model.create_metrics()[0], batch, config)
        assert np.isfinite(float(loss))
        loss.backward()
        optimizer.step()
    return net.state_dict()["encoding.mean"].numpy()


@pytest.mark.parametrize("wrapper", ["dygraph_model.py", "static_model.py"])
def test_a_shared_hook_is_told_once(wrapper: str) -> None:
    text = (ROOT / wrapper).read_text(encoding="utf-8")
    for hook in HOOKS:
        assert f"def {hook}(" not in text
        assert f"def {hook}(" in (ROOT / "model_hooks.py").read_text(encoding="utf-8")


def test_statistics_are_those_of_the_training_rows() -> None:
    with pytest.warns(UserWarning, match="learnt from data/train$") as caught:
        mean = mean_after_a_step(settings(), {})
    assert len([w for w in caught if "adapt" in str(w.message)]) == 1
    features, _ = sample("train")
    numeric = ((features != 0) & (features != 1)).any(axis=0)
    expected = np.where(numeric, features.mean(axis=0, dtype=np.float64), 0)
    np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_statistics_that_came_with_weights_are_kept() -> None:
    loaded = np.arange(499, dtype=np.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*adapt")
        mean = mean_after_a_step(settings(), {"encoding.mean": loaded})
        np.testing.assert_array_equal(mean, loaded)
        # Weights that were trained on raw columns go on with them.
        assert not mean_after_a_step(settings(model_init_path="folder/0"), {}).any()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"train_data_dir": "nowhere"}, "FileNotFoundError: .*nowhere"),
        ({"train_reader_path": "no_such_reader"}, "ModuleNotFoundError: .*no_such_reader"),
        ({"train_data_dir": "tests"}, r"RowError: .*py:1: row has \d+ columns"),
        ({"train_data_dir": "empty"}, "ValueError: expected rows of 499 features, found none"),
    ],
    ids=["no_folder", "no_reader", "no_numbers", "no_rows"],
)
def test_rows_that_cannot_be_read_are_no_new_failure(
    changes: dict[str, str], reason: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    config = settings(**changes)
    if changes.get("train_data_dir") == "empty":
        config["config_abs_dir"] = str(tmp_path)
    with pytest.warns(UserWarning, match=f"input statistics are left out, because {reason}"):
        assert not mean_after_a_step(config, {}).any()


def test_the_static_graph_starts_from_them_in_training_alone() -> None:
    configs = [settings(), settings(train_data_dir="nowhere"), settings(model_init_path="x/0")]
    command = [sys.executable, "-c", STATIC_SCRIPT, str(ROOT)]
    result = run(command, cwd=ROOT, stdin=json.dumps(configs))
    assert result.status == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    training, inference = found[::2], found[1::2]
    assert [adapted for adapted, _ in training] == [True, False, False]
    (learnt,), (left_out,), none = [said for _, said in training]
    assert learnt.endswith("input statistics are learnt from data/train")
    assert "input statistics are left out, because FileNotFoundError" in left_out
    assert none == []
    assert inference == [[False, []]] * 3


def test_our_tools_leave_it_to_the_network_where_the_reader_has_no_blocks(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(50, 10, size=(200, 3))
    labels = features[:, :1] > 50
    runner = {"train_data_dir": "data", "test_data_dir": "data", "train_reader_path": "by_index"}
    runner |= {"infer_reader_path": "by_index", "train_batch_size": 20, "infer_batch_size": 20}
    runner |= {"epochs": 3, "print_interval": 5, "use_gpu": False}
    hyper = {"feature_size": 3, "task_names": ["a"], "label_columns": [0], "bottom_size": 8}
    hyper["optimizer"] = {"learning_rate": 0.03}
    config = make_model_dir(tmp_path / "model", runner, hyper)
    (config.parent / "by_index.py").write_text(BY_INDEX, encoding="utf-8")
    write_table(config.parent / "data" / "rows.txt", np.hstack([labels, features]))
    cases = [
        ("train", path, ["-m", str(config), *override(model_save_path=tmp_path / path)])
        for path in ("dygraph", "static")
    ]
    for result in run_cases(cases, cwd=tmp_path):
        assert result.status == 0, result.stderr
        assert "input statistics are learnt from data" in result.stderr
        assert epoch_lines(result.stdout)[2]["auc_a"] > 0.97
