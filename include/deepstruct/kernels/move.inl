// Bodies of the kernels that turn rows into columns. Included once per instruction set.

/// y[c·ld + k] = rows[k][c] for n ≤ width rows and `cols` columns: whole tiles change places in registers.
inline void transpose_rows(const float* const* rows, std::int64_t n, std::int64_t cols, float* y, std::int64_t ld) {
  std::int64_t c = 0;
  if (n == width)
    for (; c + width <= cols; c += width) {
      f32 v[width];
#pragma GCC unroll 16
      for (int k = 0; k < width; ++k) v[k] = load(rows[k] + c);
      transpose_lanes(v);
#pragma GCC unroll 16
      for (int k = 0; k < width; ++k) store(y + (c + k) * ld, v[k]);
    }
  for (; c < cols; ++c)
    for (std::int64_t k = 0; k < n; ++k) y[c * ld + k] = rows[k][c];
}

/// y[c, b] = x[b, c] for b in [first, last).
inline void transpose(matrix_view<const float> x, matrix_view<float> y, std::int64_t first, std::int64_t last) {
  const float* rows[width];
  for (std::int64_t b = first; b < last; b += width)
    for (std::int64_t c = 0; c < x.cols; c += width) {
      const std::int64_t n = x.cols - c < width ? x.cols - c : width;
      for (std::int64_t k = 0; k < n; ++k) rows[k] = x.col(c + k) + b;
      transpose_rows(rows, n, last - b < width ? last - b : width, y.col(b) + c, y.ld);
    }
}

/// y[b, c] = x[order[b]·cols + c] for b in [first, last).
inline void gather_samples(const float* x, const std::int32_t* order, matrix_view<float> y, std::int64_t first,
                           std::int64_t last) {
  const float* rows[width];
  for (std::int64_t b = first; b < last; b += width) {
    const std::int64_t n = last - b < width ? last - b : width;
    for (std::int64_t k = 0; k < n; ++k) rows[k] = x + order[b + k] * y.cols;
    transpose_rows(rows, n, y.cols, y.data + b, y.ld);
  }
}
