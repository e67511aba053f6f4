# make quickstart   set up .venv, then train and infer on the sample, in both graphs
# make serve        train on the sample's raw rows unless that was done before, export, and serve
#                   predictions and a page at http://127.0.0.1:8000; PORT=8080 takes another port
# make lint         set up .venv with the test tools, then check style, format and types
# make test         the same, then run the tests
# make test-kills   kill a short training at each of its file operations and resume it, 20 minutes
# make test-compat  the tests on Paddle 2.6 and 3.3, the four tools under Python 3.9 to 3.13, the
#                   pictures with the newest matplotlib;
#                   ONLY="py310-paddle26 py39-paddle33" runs these settings alone

PYTHON ?= python3
BIN := .venv/bin
CONFIG := config.yaml
SERVED := config_raw.yaml
SERVED_MODEL := output_model_share_bottom_raw
PORT := 8000

.PHONY: quickstart serve lint test test-kills test-compat clean

quickstart: .venv/.ready
	$(BIN)/python -u tools/trainer.py -m $(CONFIG)
	$(BIN)/python -u tools/infer.py -m $(CONFIG)
	$(BIN)/python -u tools/static_trainer.py -m $(CONFIG)
	$(BIN)/python -u tools/static_infer.py -m $(CONFIG)
	@echo
	@echo "The model of each epoch is in output_model_share_bottom/, its metrics beside it. What next:"
	@echo "  . .venv/bin/activate"
	@echo "  python -u tools/infer.py -m $(CONFIG) -o runner.save_predictions=true   # a score for each row"
	@echo "  python -m pip install matplotlib && python tools/plot.py output_model_share_bottom"
	@echo "  sh datasets/census/run.sh && python -u tools/static_trainer.py -m config_bigdata.yaml"
	@echo "  make serve   # a trained model, exported and behind an address, with a page to try it"
	@echo "README.md (README_EN.md in English) has the rest: data of your own, plots, all settings."

serve: .venv/.ready-serve
	ls -d $(SERVED_MODEL)/[0-9]* >/dev/null 2>&1 || $(BIN)/python -u tools/trainer.py -m $(SERVED)
	$(BIN)/python tools/export.py -m $(SERVED)
	$(BIN)/python tools/serve.py --model $(SERVED_MODEL)/export --port $(PORT)

lint: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-kills: .venv/.ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/kills.py

test-compat:
	$(PYTHON) tests/compat/run.py $(if $(ONLY),--only $(ONLY))

.venv/.ready: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -r requirements.txt
	touch $@

.venv/.ready-dev: .venv/.ready requirements-dev.txt requirements-serve.txt
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@

.venv/.ready-serve: .venv/.ready requirements-serve.txt
	$(BIN)/python -m pip install -q -r requirements-serve.txt
	touch $@

clean:
	rm -rf .venv .venv-py* output_* .pytest_cache .ruff_cache .mypy_cache
