# make install   .venv with the default stack, from requirements.lock
# make test      the tests
# make demo      draw two street worlds, train source-only and full at once, test both, compare
# make docs      the pages of docs/ as a site, in site/
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python

# Length and data of the demo; .ci/run shortens them.
ITERS ?= 400
IMAGES ?= --source 300 --target 300 --val 60
DEMO ?= data/demo
OUT ?= work_dirs/demo
export DEMO

.PHONY: install test demo docs
install: .venv/installed

.venv/installed: requirements.lock setup.cfg
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q --require-hashes --no-deps -r requirements.lock
	$(PY) -m pip install -q torch==2.13.0
	$(PY) -m pip install -q --no-deps -e .
	touch $@

test: install
	$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

demo: install
	$(PY) tools/dataset_converters/draw_demo.py $(DEMO) $(IMAGES)
	$(PY) tools/ablation.py configs/structseg/segformer_effnet-lite0_demo_source-only.py \
	  configs/structseg/segformer_effnet-lite0_demo.py --seeds 0 --work-dir $(OUT) --jobs 2 \
	  --cfg-options train_cfg.max_iters=$(ITERS) param_scheduler.1.end=$$(($(ITERS) + 1))
	@echo "To look at: $(OUT)/report.html, $(OUT)/examples.png, and in each run's folder vis_data."
	@echo "Next: your own data (docs/data.md), runs (docs/train.md), methods (docs/add_a_method.md)."

docs: install
	$(PY) -m pip install -q -e ".[docs]"
	$(PY) -m mkdocs build --strict
