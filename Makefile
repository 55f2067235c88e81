# Two commands set everything up from nothing: `make demo` and `make test`.
# They need Python >= 3.11, pip, make and gcc.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard crispyx/_kernels/*.pyx crispyx/_kernels/*.h)

# CACHE=folder keeps other tools, their answers and screens there in place of ~/.cache.
KEPT = $(if $(CACHE),--cache $(CACHE))

.PHONY: help demo test test-slow validate mutants bench bench-kernels bench-check scale \
	reliability fuzz fuzz-coverage check-bounds check-address \
	check-threads gallery images lint lock docs tutorials build clean

help:
	@echo "make demo       run the whole workflow on a real (or simulated) screen into demo_output/"
	@echo "make test       run the tests"
	@echo "make test-slow  run the long tests too"
	@echo "make bench      compare time and memory with other tools; writes docs/benchmarks.md"
	@echo "make bench-kernels  time every method, compiled against its definition"
	@echo "make reliability  kill, fill, damage and crowd every operation; writes docs/reliability.md"
	@echo "make fuzz       open damaged files and stores (N=1500) at every door"
	@echo "make fuzz-coverage  let coverage find inputs of a reader (READER=all, SECONDS=60 each)"
	@echo "make check-bounds, check-address, check-threads  kernels under bounds checks, sanitizers"
	@echo "make gallery    draw every figure from the real screens in CRISPYX_DATA_DIR into docs/gallery.md"
	@echo "make images     renew what figures are compared with; look at build/images before committing"
	@echo "make bench-check  fail when a kernel is more than 25 % slower than its baseline"
	@echo "make scale      measure how time and memory grow; writes docs/scaling.md"
	@echo "make validate   compare results with other tools; writes docs/parity.md"
	@echo "make mutants    show that wrong kernels are caught"
	@echo "make lint       run every static check"
	@echo "make lock       write versions and hashes of all packages down; LOCKED=1 installs those"
	@echo "make docs       build the documentation into docs/_build, warnings as errors"
	@echo "make tutorials  run the notebooks again"
	@echo "make build      build sdist and wheel into dist/"
	@echo "make clean      remove everything that was made"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crispyx needs Python >= 3.11; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# One stamp a set of extras: each installs the package in place with what its target needs. With
# LOCKED=1, every package has the version and the hash that `make lock` wrote down.
LOCK := .github/requirements.txt
$(VENV)/installed-%: $(BIN)/python $(SOURCES)
ifdef LOCKED
	$(BIN)/python -m pip install --quiet --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
else
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
endif
	@touch $@

lock: $(BIN)/python
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet pyproject.toml .github/building.in --upgrade --extra test \
		--extra lint --extra docs --extra validation --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate -o $(LOCK)
	$(BIN)/uv pip compile --quiet .github/wheels.in --upgrade --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate -o .github/wheels.txt

demo: $(VENV)/installed-all
	$(BIN)/crispyx demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(VENV)/installed-test,validation
	$(BIN)/python -m pytest -n 2

bench: $(VENV)/installed-test
	$(BIN)/python -m validation bench all --docs $(KEPT)

bench-kernels: $(VENV)/installed-test
	$(BIN)/python -m pytest validation/benchmarks/test_kernels.py --benchmark-columns=median,rounds

reliability: $(VENV)/installed-test
	mkdir -p build
	-$(BIN)/python -m pytest tests/faults -m "slow or not slow" -n 2 -q -p no:cacheprovider \
		--cases $(or $(CASES),16) --tally build/tally.json
	cd tests && ../$(BIN)/python -m faults.page ../build/tally.json ../docs/reliability.md

fuzz: $(VENV)/installed-test
	cd tests && ../$(BIN)/python -m faults.fuzz $(or $(N),1500)

# atheris has no wheels for every Python: an environment of its own.
READER ?= calls constructs settings entries features matrix
fuzz-coverage: $(VENV)/installed-test
	$(BIN)/python -m venv --system-site-packages build/fuzzing
	echo "$(abspath .)" > $$(build/fuzzing/bin/python -c 'import site; print(site.getsitepackages()[0])')/here.pth
	echo "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')" >> \
		$$(build/fuzzing/bin/python -c 'import site; print(site.getsitepackages()[0])')/here.pth
	build/fuzzing/bin/python -m pip install --quiet "atheris>=2.3"
	cd tests && for reader in $(READER); do \
		../build/fuzzing/bin/python -m faults.coverage $$reader ../build/corpus/$$reader \
			-max_total_time=$(or $(SECONDS),60) -max_len=4096 -timeout=30 || exit 1; done

# Builds of the kernels beside the tree, and the tests that reach them.
KERNEL_TESTS := tests/methods tests/io/test_source.py tests/io/test_genes.py \
	tests/faults/test_kernels.py tests/faults/test_kernel_threads.py
BUILD_AT = $(BIN)/python setup.py -q build --build-lib build/$(1)/lib --build-temp build/$(1)/temp
CHECKED = $(2) $(BIN)/python -P -m pytest -o pythonpath="build/$(1)/lib tests" \
	-p no:cacheprovider -q -m "not slow" $(or $(3),$(KERNEL_TESTS))
# Python keeps memory to its end, which is no leak of the kernels.
# The C++ runtime comes before the libraries that throw exceptions, or they end the process.
ASAN = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0
# The sanitizer does not see what gcc's OpenMP runtime orders. LLVM's takes the same calls, and its tool
# Archer tells it (Debian: libomp-dev). Modules built without the sanitizer, such as Python, are left out.
OMP ?= $(lastword $(sort $(wildcard /usr/lib/llvm-*/lib/libarcher.so)))
TSAN = LD_PRELOAD="$$(gcc -print-file-name=libtsan.so) $(dir $(OMP))libomp.so.5" \
	OMP_TOOL_LIBRARIES=$(OMP) TSAN_OPTIONS=ignore_noninstrumented_modules=1

check-bounds: $(VENV)/installed-test
	CRISPYX_DEBUG=1 $(call BUILD_AT,checked)
	$(call CHECKED,checked,)

check-address: $(VENV)/installed-test
	CRISPYX_SANITIZE=address,undefined $(call BUILD_AT,address)
	$(call CHECKED,address,$(ASAN))

check-threads: $(VENV)/installed-test
	@test -n "$(OMP)" || { echo "needs LLVM's OpenMP with Archer: OMP=/path/to/libarcher.so"; exit 1; }
	CRISPYX_SANITIZE=thread $(call BUILD_AT,thread)
	$(call CHECKED,thread,$(TSAN),tests/faults/test_kernel_threads.py)

images: $(VENV)/installed-test
	CRISPYX_NEW_BASELINES=build/images $(BIN)/python -m pytest -q tests/workflows/test_images.py

gallery: $(VENV)/installed-test
	$(BIN)/python -m validation gallery

bench-check: $(VENV)/installed-test
	$(BIN)/python -m validation check

scale: $(VENV)/installed-test
	$(BIN)/python -m validation scale --docs $(KEPT)

validate: $(VENV)/installed-test
	$(BIN)/python -m validation run all --docs $(KEPT)

mutants: $(VENV)/installed-test
	$(BIN)/python -m validation mutants --docs $(KEPT)

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(BIN):$$PATH" $(BIN)/cython-lint crispyx
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/codespell crispyx reference validation tests docs README.md CHANGELOG.md Makefile setup.py pyproject.toml

docs: $(VENV)/installed-test,docs,validation
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build
	$(BIN)/python -m pytest -q -m "slow or not slow" tests/test_documentation.py tests/workflows/test_recipes.py

tutorials: $(VENV)/installed-all,docs
	cd docs/tutorials && $(abspath $(BIN))/jupyter execute --inplace *.ipynb

build: $(VENV)/installed-test
	rm -rf dist
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) build dist docs/_build docs/jupyter_execute demo_output benchmark_output validation_output *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find crispyx -name '*.so' -delete
