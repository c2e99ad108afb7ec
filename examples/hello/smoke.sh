#!/usr/bin/env bash
# Runs the example and checks what it prints.
set -euo pipefail
out=$("$1")
grep -q '^step 4  loss ' <<<"$out"
grep -Eq '^266610 numbers before, 27[0-9]{3} packed$' <<<"$out"
