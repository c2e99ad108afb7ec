// Body of the kernel for one sample: lanes over 16 rows that stand below each other in slices, sources looked up in
// registers. AVX-512 only; what stands for it elsewhere is sparse_vector.

/// One part of the rows: for every block of 32 columns, which two vectors hold, its slices. Sources come by a
/// permutation of these two vectors: a gather costs 16 loads, this one instruction (1024 x 1024, density 0.1, one Zen 4
/// core: 11.5 µs, edge by edge 36 µs). False if an x is not finite: lanes without an edge multiply x by 0.
inline bool sliced_part(sliced_view s, std::int64_t part, const float* x, const float* bias, bool relu, float* y) {
  alignas(64) float sums[sliced_rows] = {};
  const float* w = s.values + s.step[part] * width;
  const std::int32_t* packed = s.col + s.pack[part] * width;
  const std::uint16_t* group = s.group + s.slice[part];
  f32 zero{};
  for (std::int64_t block = 0; block < s.blocks; ++block) {
    const std::int64_t c = block * 2 * width, left_cols = s.cols - c;
    f32 low = load(x + c), high = load(x + c + width);
    if (left_cols < 2 * width) {
      low = as_float(bits(low) & first_lanes(left_cols));
      high = as_float(bits(high) & first_lanes(left_cols - width));
    }
    zero += (low + high) * 0.0f;
    const std::int32_t run_end = s.run_end[part * s.blocks + block];
    for (std::int32_t k = part + block == 0 ? 0 : s.run_end[part * s.blocks + block - 1]; k < run_end; ++k) {
      const sliced_run run = s.run[k];
      for (std::int32_t slice = 0; slice < run.slices; ++slice) {
        float* to = sums + *group++ * width;
        f32 sum[2] = {load(to), {}};
        std::int32_t left = run.steps;
        for (; left >= sliced_pack; left -= sliced_pack, packed += width, w += sliced_pack * width) {
          const i32 at = load_bits(packed);
#pragma GCC unroll 6
          for (int j = 0; j < sliced_pack; ++j) sum[j % 2] += load(w + j * width) * lookup(low, high, at >> 5 * j);
        }
        if (left > 0) {
          i32 at = load_bits(packed);
          packed += width;
          for (; left > 0; --left, w += width, at >>= 5) sum[1] += load(w) * lookup(low, high, at);
        }
        store(to, sum[0] + sum[1]);
      }
    }
  }
  const std::int64_t first = part * sliced_rows, rows = s.rows - first < sliced_rows ? s.rows - first : sliced_rows;
  const std::int32_t* row = s.row + first;
  const float floor = relu ? 0.0f : -__builtin_inff();  // signs are nothing that a branch could foresee
  if (bias)
    for (std::int64_t k = 0; k < rows; ++k) sums[k] += bias[row[k]];
  for (std::int64_t k = 0; k < rows; ++k) y[row[k]] = sums[k] < floor ? floor : sums[k];
  float sum = 0;
  for (int k = 0; k < width; ++k) sum += zero[k];
  return sum == 0;
}
