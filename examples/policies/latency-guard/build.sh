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

if [ ! -d node_modules/@bytecodealliance/componentize-js ]; then
  if ! npm install --no-package-lock --no-audit --no-fund; then
    echo "latency-guard needs componentize-js, and npm could not install it" >&2
    exit 3
  fi
fi
mkdir -p build
node build.mjs
