"""What pictures say: the labels in both languages, and names that fit into a legend."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Sequence
from pathlib import Path

_WORDS = {  # Chinese, English
    "training": ("各轮指标", "Metrics by epoch"),
    "auc": ("AUC", "AUC"),
    "logloss": ("对数损失", "log loss"),
    "gauc": ("GAUC（组内 AUC）", "GAUC"),
    "r2": ("R²", "R²"),
    "mae": ("平均绝对误差 MAE", "MAE"),
    "mse": ("均方误差 MSE", "MSE"),
    "loss": ("总损失", "loss (all tasks)"),
    "rows_per_second": ("训练速度（行/秒）", "training speed, rows/s"),
    "epoch": ("轮次 epoch", "epoch"),
    "train": ("训练", "training"),
    "valid": ("验证", "validation"),
    "infer": ("测试", "test"),
    "roc": ("ROC 曲线", "ROC"),
    "fpr": ("假正率", "false positive rate"),
    "tpr": ("真正率", "true positive rate"),
    "precision_recall": ("精确率与召回率", "Precision and recall"),
    "recall": ("召回率", "recall"),
    "precision": ("精确率", "precision"),
    "calibration": ("校准曲线", "Calibration"),
    "predicted": ("预测概率（均值）", "mean predicted probability"),
    "observed": ("正例所占比例", "share of positive rows"),
    "scores": ("得分分布", "Scores by label"),
    "probability": ("预测概率", "predicted probability"),
    "share": ("占该类行数的比例", "share of the label's rows"),
    "positive": ("标签 1", "label 1"),
    "negative": ("标签 0", "label 0"),
    "chance": ("随机", "chance"),
    "perfect": ("理想", "perfect"),
    "rate": ("正例率", "share of positives"),
    "ap": ("平均精确率", "AP"),
    "ece": ("校准误差 ECE", "ECE"),
    "predictions": ("预测值与真实值", "Predicted against true"),
    "prediction": ("预测值", "predicted"),
    "true": ("真实值", "true"),
    "residuals": ("残差分布", "Residuals"),
    "residual": ("预测值 − 真实值", "predicted − true"),
    "share_of_rows": ("占行数的比例", "share of rows"),
    "outside": ("图外 {share:.1%}", "{share:.1%} outside the picture"),
    "one_class": ("标签只有一类", "labels of one class only"),
    "no_labels": ("没有已知的标签", "no known labels"),
    "no_scores": ("没有预测", "no predictions"),
    "rows": ("{rows:,} 行", "{rows:,} rows"),
}
_ZH, _EN = zip(*_WORDS.values())
TEXT = {"zh": dict(zip(_WORDS, _ZH)), "en": dict(zip(_WORDS, _EN))}


def short_names(folders: Sequence[Path]) -> list[str]:
    """The end of each path, as many parts as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({p[-depth:] for p in parts}) < len(set(parts)):
        depth += 1
    return [drawable(_cut("/".join(p[-depth:]))) for p in parts]


def drawable(name: str) -> str:
    """A name as pictures can show it.

    What no font draws becomes a space; one goes before an underscore at the start, which would
    take a label out of matplotlib's legends.
    """
    text = "".join(character if character.isprintable() else " " for character in name)
    return f" {text}" if text.startswith("_") else text


def _cut(name: str, longest: int = 32) -> str:
    """A long name without its middle; a Chinese character is as wide as two letters."""
    if _start(name, longest) == name:
        return name
    half = (longest - 1) // 2
    return f"{_start(name, half)}…{_start(name[::-1], half)[::-1]}"


def _start(text: str, width: int) -> str:
    """As much of a text as is no wider than so many letters."""
    widths = itertools.accumulate(1 + is_wide(character) for character in text)
    return text[: sum(so_far <= width for so_far in widths)]


def is_wide(character: str) -> bool:
    """Whether a character is as wide as two letters, as Chinese ones are."""
    return unicodedata.east_asian_width(character) in "WF"
