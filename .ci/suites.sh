#!/usr/bin/env bash
# Runs every suite, goes on after a failure, prints each one's result and time at the end, fails if any failed.
# Called by 'make test', which has installed what is needed, and says in PARALLEL how the suite that can be is split.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
bin=.venv/bin
results=()
failed=0

suite() {
  local name=$1 started=$SECONDS
  shift
  printf '\n=== %s ===\n' "$name"
  if "$@"; then
    results+=("passed  $name ($((SECONDS - started)) s)")
  else
    results+=("FAILED  $name ($((SECONDS - started)) s)")
    failed=1
  fi
}

suite ruff $bin/ruff check .
suite mypy $bin/mypy
suite "generated code" $bin/python proto/generate.py --check
suite "kernel objects" $bin/python agent/bpf/build.py --check
suite rules $bin/modelward rules test
# shellcheck disable=SC2086
suite unit $bin/python -m pytest -q ${PARALLEL:-} tests/unit
for folder in kernel browser e2e faults benign attacks phases; do
  suite "$folder" $bin/python -m pytest -q "tests/$folder"
done
suite demo $bin/python -m deploy.demo --no-color

printf '\n=== summary ===\n'
printf '%s\n' "${results[@]}"
exit $failed
