"""Score checkpoints in the static graph: ``python tools/static_infer.py -m config.yaml``."""

import sys

from rec_runner.cli import main

if __name__ == "__main__":
    sys.exit(main("infer", "static"))
