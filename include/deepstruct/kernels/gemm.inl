// Bodies of the dense kernels: register tiles of rows × vectors. Included once per instruction set.

inline constexpr int gemm_rows = 6;  // 6 × 4 accumulators fill the 32 registers of AVX-512, 6 × 2 the 16 of AVX2
inline constexpr int gemm_vectors = width == 16 ? 4 : 2;
inline constexpr std::int64_t gemm_depth = 512;  // terms per pass: 512 × 64 samples of x are 128 KiB and stay in L2

/// y[lane, o] (+)= Σ_i x[lane, i]·w(o, i) for `rows` ≤ Rows rows and `lanes` ≤ Vectors·width lanes. A tile with
/// fewer rows reads its last row again and drops what it gives, one with a vector less computes its last one twice: one
/// body for every height, and one for a single row, which waits for memory (a sample through 1024 × 1024: half the
/// time).
template <int Vectors, int Rows>
inline void gemm_tile(const float* x, std::int64_t ldx, const float* w, std::int64_t w0, std::int64_t w1,
                      std::int64_t rows, std::int64_t depth, const float* bias, bool first, float* y,
                      std::int64_t y_lane, std::int64_t y_row, std::int64_t lanes) {
  const std::int64_t last = (lanes > (Vectors - 1) * width ? Vectors - 1 : Vectors - 2) * width;
  const float* weight[Rows];
  f32 sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    const std::int64_t row = r < rows ? r : rows - 1;
    weight[r] = w + row * w0;
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = splat(first && bias ? bias[row] : 0.0f);
  }
  for (std::int64_t i = 0; i < depth; ++i) {
    f32 in[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) in[v] = load(x + i * ldx + (v < Vectors - 1 ? v * width : last));
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const f32 factor = splat(weight[r][i * w1]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += factor * in[v];
    }
  }
  const bool whole = y_lane == 1 && (lanes == Vectors * width || y_row >= 16);  // rows of 16 and more are padded
  for (int r = 0; r < rows; ++r) {
    float* to = y + r * y_row;
    const float* from = reinterpret_cast<const float*>(sum[r]);
    if (whole)
      for (int v = 0; v < Vectors; ++v) {
        if (v * width > last) continue;
        const f32 part = load(from + v * width);
        store(to + v * width, first ? part : part + load(to + v * width));
      }
    else
      for (std::int64_t k = 0; k < lanes; ++k) to[k * y_lane] = first ? from[k] : from[k] + to[k * y_lane];
  }
}

/// y[b, o] = Σ_i x[b, i]·w(o, i) + bias[o] for o in [0, rows); entry (b, o) of y lies at y[b·y_lane + o·y_row].
inline void gemm(matrix_view<const float> x, const float* w, std::int64_t w0, std::int64_t w1, std::int64_t rows,
                 const float* bias, float* y, std::int64_t y_lane, std::int64_t y_row) {
  for (std::int64_t lane = 0; lane < x.rows;) {
    const std::int64_t left = x.rows - lane;
    const bool wide = left > (gemm_vectors - 2) * width;
    const std::int64_t most = (wide ? gemm_vectors : 2) * width, lanes = left < most ? left : most;
    std::int64_t i = 0;
    do {
      const std::int64_t depth = x.cols - i < gemm_depth ? x.cols - i : gemm_depth;
      for (std::int64_t o = 0; o < rows; o += gemm_rows)
        (!wide       ? gemm_tile<2, gemm_rows>
         : rows == 1 ? gemm_tile<gemm_vectors, 1>
                     : gemm_tile<gemm_vectors, gemm_rows>)(x.data + lane + i * x.ld, x.ld, w + o * w0 + i * w1, w0, w1,
                                                           rows - o < gemm_rows ? rows - o : gemm_rows, depth,
                                                           bias ? bias + o : nullptr, i == 0,
                                                           y + lane * y_lane + o * y_row, y_lane, y_row, lanes);
      i += depth;
    } while (i < x.cols);
    lane += lanes;
  }
}

/// y[b, o] = Σ_i x[b·depth + i]·w[o·w0 + i] for o in [0, rows), few samples and terms in one piece: lanes over the
/// terms, four rows summed over lanes together.
inline void gemm_dots(const float* x, std::int64_t samples, std::int64_t depth, const float* w, std::int64_t w0,
                      std::int64_t rows, matrix_view<float> y) {
  const std::int64_t whole = depth / width * width;
  const i32 rest = first_lanes(depth - whole);
  for (std::int64_t o = 0; o < rows; o += 4) {
    const float* row[4];
    for (std::int64_t r = 0; r < 4; ++r) row[r] = w + (o + r < rows ? o + r : rows - 1) * w0;
    for (std::int64_t b = 0; b < samples; ++b) {
      const float* in = x + b * depth;
      f32 sum[4] = {};
      for (std::int64_t i = 0; i < whole; i += width)
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) sum[r] += load(in + i) * load(row[r] + i);
      if (whole < depth)
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) sum[r] += load_masked(in + whole, rest) * load_masked(row[r] + whole, rest);
      const quad sums = sum_lanes<width>(sum[0], sum[1], sum[2], sum[3]);
      for (std::int64_t r = 0; r < 4 && o + r < rows; ++r) y.col(o + r)[b] = sums[r];
    }
  }
}
