"""Predictions of new rows: ``python tools/predict.py -m config.yaml rows.csv``."""

import sys

from rec_runner.predict import main

if __name__ == "__main__":
    sys.exit(main())
