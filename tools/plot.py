"""Draw what runs left: ``python tools/plot.py RUN_FOLDER [RUN_FOLDER ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rec_runner.cli import Parser
from rec_runner.system.errors import UserError

FORMATS = ("png", "svg")
LANGUAGES = ("zh", "en")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool.

    Args:
        arguments: command line; by default the process's own.

    Returns:
        exit status: 0 when the pictures were written, 2 for bad input, 1 if the disk failed.
    """
    parser = Parser(
        description="Draw loss, metrics and speed by epoch, and ROC, precision and recall, "
        "calibration and scores of the predictions that infer wrote with "
        "runner.save_predictions=true; of a regression, predicted against true and the residuals. "
        "Several runs are laid over one another.",
    )
    add = parser.add_argument
    add("folders", nargs="+", metavar="RUN_FOLDER", help="a run's runner.model_save_path")
    add("--out", metavar="DIR", help="where the pictures go (plots/ in the first RUN_FOLDER)")
    add(
        "--format", dest="formats", nargs="+", choices=FORMATS, default=FORMATS, help="kinds (both)"
    )
    add("--lang", choices=LANGUAGES, default="zh", help="language of the labels (zh)")
    add("--epoch", type=int, help="whose predictions to draw (the best, or else the last)")
    options = parser.parse_args(arguments)
    try:
        from rec_plots.write import write_pictures

        for file in write_pictures(**vars(options)):
            print(file)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        advice = "plots need matplotlib: python -m pip install matplotlib"
        print(f"error: {advice} ({error})", file=sys.stderr)
        return UserError.exit_status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
