// Bodies of the dense kernels: register tiles of rows × vectors. Included once per instruction set.

inline constexpr int gemm_rows = 6;  // 6 × 4 accumulators fill the 32 registers of AVX-512, 6 × 2 the 16 of AVX2
inline constexpr int gemm_vectors = width == 16 ? 4 : 2;
inline constexpr std::int64_t gemm_depth = 512;  // terms per pass: 512 × 64 samples of x are 128 KiB and stay in L2

/// y[lane, o] (+)= Σ_i x[lane, i]·w(o, i) for `rows` ≤ gemm_rows rows and `lanes` ≤ Vectors·width lanes. A tile with
/// fewer rows reads its last row again and drops what it gives: one body for every height.
template <int Vectors>
inline void gemm_tile(const float* x, std::int64_t ldx, const float* w, std::int64_t w0, std::int64_t w1,
                      std::int64_t rows, std::int64_t depth, const float* bias, bool first, float* y,
                      std::int64_t y_lane, std::int64_t y_row, std::int64_t lanes) {
  const float* weight[gemm_rows];
  f32 sum[gemm_rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < gemm_rows; ++r) {
    const std::int64_t row = r < rows ? r : rows - 1;
    weight[r] = w + row * w0;
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = splat(first && bias ? bias[row] : 0.0f);
  }
  for (std::int64_t i = 0; i < depth; ++i) {
    f32 in[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) in[v] = load(x + i * ldx + v * width);
#pragma GCC unroll 8
    for (int r = 0; r < gemm_rows; ++r) {
      const f32 factor = splat(weight[r][i * w1]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += factor * in[v];
    }
  }
  const bool whole = y_lane == 1 && lanes == Vectors * width;
  for (int r = 0; r < rows; ++r) {
    float* to = y + r * y_row;
    const float* from = reinterpret_cast<const float*>(sum[r]);
    if (whole)
      for (int v = 0; v < Vectors; ++v)
        store(to + v * width, first ? load(from + v * width) : load(from + v * width) + load(to + v * width));
    else
      for (std::int64_t k = 0; k < lanes; ++k) to[k * y_lane] = first ? from[k] : from[k] + to[k * y_lane];
  }
}

/// y[b, o] = Σ_i x[b, i]·w(o, i) + bias[o] for o in [0, rows); entry (b, o) of y lies at y[b·y_lane + o·y_row].
inline void gemm(matrix_view<const float> x, const float* w, std::int64_t w0, std::int64_t w1, std::int64_t rows,
                 const float* bias, float* y, std::int64_t y_lane, std::int64_t y_row) {
  for (std::int64_t lane = 0; lane < x.rows;) {
    const std::int64_t left = x.rows - lane;
    const bool wide = left > (gemm_vectors - 1) * width;
    const std::int64_t most = wide ? gemm_vectors * width : width, lanes = left < most ? left : most;
    std::int64_t i = 0;
    do {
      const std::int64_t depth = x.cols - i < gemm_depth ? x.cols - i : gemm_depth;
      for (std::int64_t o = 0; o < rows; o += gemm_rows)
        (wide ? gemm_tile<gemm_vectors> : gemm_tile<1>)(x.data + lane + i * x.ld, x.ld, w + o * w0 + i * w1, w0, w1,
                                                        rows - o < gemm_rows ? rows - o : gemm_rows, depth,
                                                        bias ? bias + o : nullptr, i == 0,
                                                        y + lane * y_lane + o * y_row, y_lane, y_row, lanes);
      i += depth;
    } while (i < x.cols);
    lane += lanes;
  }
}

/// out(r, c) = Σ_b a[b, r]·b[b, c] of `rows` × `cols` ≤ 4 × 4 columns; float32 within 4096 samples, double beyond. A
/// smaller tile reads its last columns again and drops what they give.
inline void gemm_t_tile(matrix_view<const float> a, matrix_view<const float> b, std::int64_t rows, std::int64_t cols,
                        float* out, std::int64_t s0, std::int64_t s1) {
  double total[16] = {};
  f32 rest[8];
  const float* in[8];  // four columns of a, four of b
  for (int k = 0; k < 4; ++k) in[k] = a.col(k < rows ? k : rows - 1), in[4 + k] = b.col(k < cols ? k : cols - 1);
  for (std::int64_t s = 0; s < a.rows;) {
    const std::int64_t left = a.rows - s < 4096 ? a.rows - s : 4096;
    if (left < width) {  // the last few samples, filled up with zeros
      for (int k = 0; k < 8; ++k) {
        rest[k] = load_tail(in[k] + s, 1, left);
        in[k] = reinterpret_cast<const float*>(rest + k) - s;
      }
    }
    f32 sum[4][4] = {};
    const std::int64_t end = s + (left < width ? width : left / width * width);
    for (; s < end; s += width) {
#pragma GCC unroll 8
      for (int c = 0; c < 4; ++c)
#pragma GCC unroll 8
        for (int r = 0; r < 4; ++r) sum[r][c] += load(in[r] + s) * load(in[4 + c] + s);
    }
#pragma GCC unroll 4  // or the sums live in memory, at half the speed
    for (int r = 0; r < 4; ++r) {
      const quad dots = sum_lanes<width>(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
      for (int c = 0; c < 4; ++c) total[4 * r + c] += static_cast<double>(dots[c]);
    }
  }
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < cols; ++c) out[r * s0 + c * s1] = static_cast<float>(total[4 * r + c]);
}

/// out(r, c) = Σ_b a[b, r]·b[b, c] for columns c in [first, last).
inline void gemm_t(matrix_view<const float> a, matrix_view<const float> b, strided_view<float> out, std::int64_t first,
                   std::int64_t last) {
  for (std::int64_t c = first; c < last; c += 4)
    for (std::int64_t r = 0; r < a.cols; r += 4)
      gemm_t_tile({a.col(r), a.rows, a.cols, a.ld}, {b.col(c), b.rows, b.cols, b.ld}, a.cols - r < 4 ? a.cols - r : 4,
                  last - c < 4 ? last - c : 4, out.data + r * out.s0 + c * out.s1, out.s0, out.s1);
}
