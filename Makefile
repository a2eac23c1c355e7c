# make install   .venv with the default stack, from requirements.lock
# make test      the tests
# make demo      draw two street worlds, train source-only and full, test both, compare
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python

# Length and data of the demo; .ci/run shortens them.
ITERS ?= 1000
IMAGES ?= --source 300 --target 300 --val 60
DEMO ?= data/demo
OUT ?= work_dirs/demo
export DEMO

.PHONY: install test demo
install: .venv/installed

.venv/installed: requirements.lock setup.cfg
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q -r requirements.lock
	$(PY) -m pip install -q --no-deps -e .
	touch $@

test: install
	$(PY) -m pytest -q

# $(call train_and_test,NAME,CONFIG)
define train_and_test
$(PY) tools/train.py configs/structseg/$(2).py --work-dir $(OUT)/$(1) --cfg-options \
  train_cfg.max_iters=$(ITERS) param_scheduler.0.end=$$(($(ITERS) + 1))
$(PY) tools/test.py configs/structseg/$(2).py $(OUT)/$(1)/iter_$(ITERS).pth --work-dir $(OUT)/$(1)
endef

demo: install
	$(PY) tools/dataset_converters/draw_demo.py $(DEMO) $(IMAGES)
	$(call train_and_test,source-only,deeplabv2_lite0_demo_source-only)
	$(call train_and_test,full,deeplabv2_lite0_demo)
	$(PY) tools/analysis_tools/compare.py $(OUT)/source-only $(OUT)/full --picture $(OUT)/demo.png
