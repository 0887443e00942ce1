#!/usr/bin/env bash
# Builds build/budget.wasm. Exit code 3: a tool is absent.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v python3 >/dev/null; then
  echo "budget needs python3" >&2
  exit 3
fi
if [ ! -x .venv/bin/componentize-py ]; then
  if ! { python3 -m venv .venv && .venv/bin/pip install --quiet componentize-py==0.25.1; }; then
    echo "budget needs componentize-py, and pip could not install it" >&2
    exit 3
  fi
fi

# The world, with the contract as a dependency of its own.
rm -rf build/wit
mkdir -p build/wit/deps/policy
cp wit/world.wit build/wit/
cp ../../../wit/v0.1/policy.wit build/wit/deps/policy/
.venv/bin/componentize-py --wit-path build/wit --world budget \
  componentize --stub-wasi policy --output build/budget.wasm
echo "build/budget.wasm: $(wc -c <build/budget.wasm) bytes"
