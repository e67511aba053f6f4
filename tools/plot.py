"""Draw what runs left: ``python tools/plot.py RUN_FOLDER [RUN_FOLDER ...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rec_runner.system.errors import UserError
from rec_runner.system.files import atomic_write
from rec_runner.system.log import warn

FORMATS = ("png", "svg")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as the other tools do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool.

    Args:
        arguments: command line; by default the process's own.

    Returns:
        exit status: 0 when the pictures were written, 2 for bad input, 1 if the disk failed.
    """
    options = _parser().parse_args(arguments)
    try:
        for file in plot(options):
            print(file)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        description="Draw loss, metrics and speed by epoch, and ROC, precision and recall, "
        "calibration and scores of the predictions that infer wrote with "
        "runner.save_predictions=true. Several runs are laid over one another.",
    )
    parser.add_argument(
        "folders", nargs="+", metavar="RUN_FOLDER", help="a run's runner.model_save_path"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="where the pictures go (plots/ in the first RUN_FOLDER)"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=list(FORMATS),
        help="kinds of file to write (both)",
    )
    parser.add_argument(
        "--lang",
        choices=("zh", "en"),
        default="zh",
        help="language of the labels (zh; en where no font has Chinese characters)",
    )
    parser.add_argument(
        "--epoch", type=int, help="whose predictions to draw (the best, or else the last)"
    )
    return parser


def plot(options: argparse.Namespace) -> list[Path]:
    """Draw and write the pictures.

    Args:
        options: as the command line gives them.

    Returns:
        the files written.

    Raises:
        UserError: bad input, or no matplotlib.
    """
    try:
        from rec_runner import plots
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise UserError("plots need matplotlib: python -m pip install matplotlib") from error
    out = Path(options.out or Path(options.folders[0]) / "plots")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} should be a folder")
    runs = plots.read_runs(options.folders, options.epoch)
    font = plots.chinese_font()
    chinese = options.lang == "zh" and font is not None
    if options.lang == "zh" and not chinese:
        warn("no installed font has Chinese characters; the labels are in English")
    for folder, run in zip(options.folders, runs):
        if not run.scores:
            warn(f"{folder}: no predictions; infer writes them with runner.save_predictions=true")
    written = []
    # Names of tasks and folders may be Chinese where the labels are English.
    with plots.style(font) if chinese else plots.style(fallback=font):
        for name, figure in plots.draw(runs, "zh" if chinese else "en").items():
            for kind in options.format:
                file = out / f"{name}.{kind}"
                # Without a date, the same picture gives the same file.
                metadata = {"Date": None} if kind == "svg" else {}
                with atomic_write(file) as stream:
                    figure.savefig(stream, format=kind, metadata=metadata)
                written.append(file)
    return written


if __name__ == "__main__":
    sys.exit(main())
