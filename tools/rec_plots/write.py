"""Pictures as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rec_plots import style
from rec_plots.figures import draw
from rec_plots.runs import read_runs
from rec_runner.system.errors import UserError
from rec_runner.system.files import atomic_write
from rec_runner.system.log import warn
from rec_runner.system.parts import remove_left_overs


def write_pictures(
    folders: Sequence[str], out: str | None, formats: Sequence[str], lang: str, epoch: int | None
) -> Iterator[Path]:
    """Draw runs and write the pictures.

    Args:
        folders: ``runner.model_save_path`` of each run.
        out: folder of the pictures; by default ``plots`` in the first run's.
        formats: kinds of file, ``png`` or ``svg``.
        lang: the labels' language, ``zh`` or ``en``; English where no font has Chinese characters.
        epoch: whose predictions to draw, see :func:`rec_plots.runs.read_runs`.

    Yields:
        the files written.

    Raises:
        UserError: bad input, or a file that cannot be written.
    """
    target = Path(out or Path(folders[0]) / "plots")
    if target.is_file():
        raise UserError(f"--out {target} should be a folder")
    if out is None and target.is_symlink():
        raise UserError(f"{target} is a link, pictures go into a folder; give it with --out")
    runs = read_runs(folders, epoch)
    font = style.chinese_font()
    if lang == "zh" and font is None:
        warn("no installed font has Chinese characters; the labels are in English")
        lang = "en"
    for folder, run in zip(folders, runs):
        if not run.scores:
            warn(f"{folder}: no predictions; infer writes them with runner.save_predictions=true")
    remove_left_overs(target)
    # Names of tasks and folders may be Chinese where the labels are English.
    with style.context(font) if lang == "zh" else style.context(fallback=font):
        for name, figure in draw(runs, lang).items():
            for kind in formats:
                file = target / f"{name}.{kind}"
                # Without a date, the same picture gives the same file.
                with atomic_write(file) as stream:
                    figure.savefig(stream, format=kind, metadata={"Date": None})
                yield file
