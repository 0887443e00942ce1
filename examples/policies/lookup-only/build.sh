#!/usr/bin/env bash
# Builds build/lookup-only.wasm. Exit code 3: a tool is absent.
set -euo pipefail
cd "$(dirname "$0")"

# The newest of a tool: Debian puts the version into the name (`clang-22`).
newest() { compgen -c "$1" | grep -xE "$1(-[0-9]+)?" | sort -V | tail -n 1 || true; }
clang=$(newest clang)
linker=$(newest wasm-ld)
if [ -z "$clang" ] || [ -z "$linker" ]; then
  echo "lookup-only needs clang and wasm-ld: install clang and lld" >&2
  exit 3
fi
if ! command -v cargo >/dev/null; then
  echo "lookup-only needs cargo, for \`cargo xtask component\`" >&2
  exit 3
fi

# The world, with the contract as a dependency of its own.
rm -rf build/wit
mkdir -p build/wit/deps/policy
cp wit/world.wit build/wit/
cp ../../../wit/v0.1/policy.wit build/wit/deps/policy/

for source in policy.c memory.c generated/lookup_only.c; do
  "$clang" --target=wasm32 -Os -mbulk-memory -ffreestanding -isystem libc -Wall -Wextra -Werror \
    -c "$source" -o "build/$(basename "$source" .c).o"
done
"$linker" --no-entry --gc-sections --strip-all build/policy.o build/memory.o build/lookup_only.o \
  -o build/module.wasm

here=$PWD
cd ../../..
cargo xtask component "$here/build/module.wasm" --wit "$here/build/wit" --world lookup-only \
  --output "$here/build/lookup-only.wasm"
