#!/usr/bin/env bash
# Plants a defect: copies the headers to a folder and changes one line of one of them.
# Usage: plant.sh INCLUDE FOLDER HEADER SED-EXPRESSION
set -euo pipefail
include=$1 folder=$2 header=$3 expression=$4
rm -rf "$folder"
mkdir -p "$folder"
cp -r "$include/deepstruct" "$folder/deepstruct"
sed -i -E "$expression" "$folder/$header"
changed=$(diff "$include/$header" "$folder/$header" | grep -c '^<' || true)
if [ "$changed" -ne 1 ]; then
  echo "plant: the defect must change one line of $header ($changed)" >&2
  exit 1
fi
touch "$folder/planted"
