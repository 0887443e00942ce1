#!/usr/bin/env bash
# Builds build/latency-guard.wasm. Exit code 3: a tool is absent.
set -euo pipefail
cd "$(dirname "$0")"

for tool in node npm; do
  if ! command -v "$tool" >/dev/null; then
    echo "latency-guard needs $tool: install Node.js 20 or later" >&2
    exit 3
  fi
done

if [ ! -d node_modules/componentize-qjs ]; then
  if ! npm install --no-package-lock --no-audit --no-fund; then
    echo "latency-guard needs componentize-qjs, and npm could not install it" >&2
    exit 3
  fi
fi
# The world, with the contract as a dependency of its own.
rm -rf build
mkdir -p build/wit/deps/policy
cp wit/world.wit build/wit
cp ../../../wit/v0.1/policy.wit build/wit/deps/policy
# What `aio policy build` does, which is found from here as a project's own.
cp ../../../host/policy-build/src/build/componentize.mjs build
node build/componentize.mjs policy.js build/wit latency-guard build/latency-guard.wasm
