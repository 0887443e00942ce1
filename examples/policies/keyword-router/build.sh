#!/usr/bin/env bash
# Builds build/keyword-router.wasm. Exit code 3: a tool is absent.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v cargo >/dev/null; then
  echo "keyword-router needs cargo: install Rust" >&2
  exit 3
fi
mkdir -p build
target="${CARGO_TARGET_DIR:-../../../target}"
target="$(mkdir -p "$target" && cd "$target" && pwd)/examples"
build=(build --quiet --locked --profile policy --package keyword-router
  --target wasm32-unknown-unknown --target-dir "$target")
if rustup target list --installed 2>/dev/null | grep -qx wasm32-unknown-unknown; then
  cargo "${build[@]}"
elif [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src ] && compgen -G '/usr/bin/wasm-ld*' >/dev/null; then
  # Debian's compiler, which builds the standard library from its source.
  linker=$(compgen -G '/usr/bin/wasm-ld*' | sort -V | tail -n 1)
  env -u RUSTFLAGS -u LD_LIBRARY_PATH RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$linker" \
    /usr/bin/cargo "${build[@]}" -Zbuild-std=std,panic_abort
else
  echo "keyword-router needs a compiler for wasm32-unknown-unknown: run \`rustup target add wasm32-unknown-unknown\`" >&2
  exit 3
fi
(cd ../../.. && cargo xtask component "$target/wasm32-unknown-unknown/policy/keyword_router.wasm" \
  --output examples/policies/keyword-router/build/keyword-router.wasm)
