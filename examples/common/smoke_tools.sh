# What the smoke tests of the examples share. They have set $exe, the program, and $dir, a folder of their own.
rm -rf "$dir" && mkdir -p "$dir/data"

# Generated images and labels as IDX files in $dir/data: 400 to train, 200 to test.
python3 - "$dir/data" <<'PY'
import random, struct, sys
random.seed(1)
for half, n in (("train", 400), ("t10k", 200)):
    labels = bytes(i % 10 for i in range(n))
    images = bytearray()
    for label in labels:  # class k is bright in rows 2k and 2k + 1
        images += bytes(min(255, random.randrange(60) + (150 if y // 2 == label else 0)) for y in range(28) for _ in range(28))
    open(f"{sys.argv[1]}/{half}-images-idx3-ubyte", "wb").write(struct.pack(">IIII", 0x803, n, 28, 28) + images)
    open(f"{sys.argv[1]}/{half}-labels-idx1-ubyte", "wb").write(struct.pack(">II", 0x801, n) + labels)
PY

# The program answers these arguments with one clear sentence and exit code 2.
complains() {
  local text code=0
  text=$("$exe" "$@" 2>&1 >/dev/null) || code=$?
  if [ "$code" -ne 2 ] || [ "$(wc -l <<<"$text")" -ne 1 ] || [ "${#text}" -lt 10 ]; then
    echo "exit $code and '$text' for: $*" >&2
    return 1
  fi
}
