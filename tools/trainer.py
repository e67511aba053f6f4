"""Train in the eager graph: ``python tools/trainer.py -m config.yaml``."""

import sys

from rec_runner.cli import main

if __name__ == "__main__":
    sys.exit(main("train", "dygraph"))
