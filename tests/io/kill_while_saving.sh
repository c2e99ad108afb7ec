#!/usr/bin/env bash
# Kills a program that saves one checkpoint after the other, at random moments: the file must always be a whole
# checkpoint, never older than before, and beside it there is at most the one file that the next save overwrites.
# Usage: kill_while_saving.sh PROGRAM [KILLS]   (PROGRAM is made from kill/save_in_a_loop.cpp)
set -euo pipefail

program=$1 kills=${2:-20}
folder=$(mktemp -d)
saver=
trap '[ -z "$saver" ] || kill -9 "$saver" 2> /dev/null || true; rm -rf "$folder"' EXIT
file=$folder/checkpoint.safetensors
RANDOM=$kills

fail() {
  echo "kill_while_saving: $*" >&2
  ls -la "$folder" >&2
  exit 1
}

last=0 partial=0 advanced=0
for ((k = 1; k <= kills; ++k)); do
  "$program" save "$file" &
  saver=$!
  # The first save must be done once, then up to a fifth of a second: many saves, and a moment within one.
  while [ ! -e "$file" ]; do
    kill -0 "$saver" 2> /dev/null || fail "the program ended by itself"
    sleep 0.01
  done
  sleep "0.$(printf %03d $((RANDOM % 200)))"
  kill -9 "$saver" 2> /dev/null || fail "the program ended by itself"
  wait "$saver" 2> /dev/null || true
  saver=
  number=$("$program" check "$file") || fail "no whole checkpoint after kill $k"
  [ "$number" -ge "$last" ] || fail "checkpoint $number after kill $k is older than $last"
  [ "$number" -eq "$last" ] || advanced=$((advanced + 1))
  last=$number
  left=$(find "$folder" -type f ! -name checkpoint.safetensors | wc -l)
  [ "$left" -le 1 ] || fail "$left files are left over after kill $k"
  partial=$((partial + left))
done
[ "$advanced" -gt 0 ] || fail "no run saved anything"
echo "kill_while_saving: $kills kills, $partial of them while a file was being written; $last checkpoints, all whole"
