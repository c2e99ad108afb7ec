// Bodies of the dense kernels: register tiles of rows × vectors. Included once per instruction set.

inline constexpr int gemm_rows = 6;  // 6 × 4 accumulators fill the 32 registers of AVX-512, 6 × 2 the 16 of AVX2
inline constexpr int gemm_vectors = width == 16 ? 4 : 2;
inline constexpr std::int64_t gemm_depth = 512;  // terms per pass: 512 × 64 samples of x are 128 KiB and stay in L2

/// y[lane, o] (+)= Σ_i x[lane, i]·w(o, i) for rows o … o + Rows and Vectors·width lanes from `lane` on.
template <int Rows, int Vectors>
[[gnu::always_inline]] inline void gemm_tile(const float* x, std::int64_t ldx, const float* w, std::int64_t w0,
                                             std::int64_t w1, std::int64_t depth, const float* bias, bool first,
                                             float* y, std::int64_t y_lane, std::int64_t y_row, std::int64_t lanes) {
  f32 sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = splat(first && bias ? bias[r] : 0.0f);
  for (std::int64_t i = 0; i < depth; ++i) {
    f32 in[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) in[v] = load(x + i * ldx + v * width);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const f32 weight = splat(w[r * w0 + i * w1]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += weight * in[v];
    }
  }
  if (y_lane == 1 && lanes >= Vectors * width) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) {
        float* to = y + r * y_row + v * width;
        store(to, first ? sum[r][v] : sum[r][v] + load(to));
      }
    return;
  }
  const std::int64_t n = lanes < Vectors * width ? lanes : Vectors * width;
  for (int r = 0; r < Rows; ++r) {
    const float* from = reinterpret_cast<const float*>(sum[r]);
    float* to = y + r * y_row;
    for (std::int64_t k = 0; k < n; ++k) to[k * y_lane] = first ? from[k] : from[k] + to[k * y_lane];
  }
}

template <int Vectors>
inline void gemm_panel(const float* x, std::int64_t ldx, const float* w, std::int64_t w0, std::int64_t w1,
                       std::int64_t rows, std::int64_t depth, const float* bias, bool first, float* y,
                       std::int64_t y_lane, std::int64_t y_row, std::int64_t lanes) {
  std::int64_t o = 0;
  for (; o + gemm_rows <= rows; o += gemm_rows)
    gemm_tile<gemm_rows, Vectors>(x, ldx, w + o * w0, w0, w1, depth, bias ? bias + o : nullptr, first, y + o * y_row,
                                  y_lane, y_row, lanes);
  for (; o + 2 <= rows; o += 2)
    gemm_tile<2, Vectors>(x, ldx, w + o * w0, w0, w1, depth, bias ? bias + o : nullptr, first, y + o * y_row, y_lane,
                          y_row, lanes);
  for (; o < rows; ++o)
    gemm_tile<1, Vectors>(x, ldx, w + o * w0, w0, w1, depth, bias ? bias + o : nullptr, first, y + o * y_row, y_lane,
                          y_row, lanes);
}

/// y[b, o] = Σ_i x[b, i]·w(o, i) + bias[o] for o in [0, rows); entry (b, o) of y lies at y[b·y_lane + o·y_row].
inline void gemm(matrix_view<const float> x, const float* w, std::int64_t w0, std::int64_t w1, std::int64_t rows,
                 const float* bias, float* y, std::int64_t y_lane, std::int64_t y_row) {
  for (std::int64_t lane = 0; lane < x.rows;) {
    const std::int64_t left = x.rows - lane;
    const bool wide = left > (gemm_vectors - 1) * width;
    std::int64_t i = 0;
    do {
      const std::int64_t depth = x.cols - i < gemm_depth ? x.cols - i : gemm_depth;
      if (wide)
        gemm_panel<gemm_vectors>(x.data + lane + i * x.ld, x.ld, w + i * w1, w0, w1, rows, depth, bias, i == 0,
                                 y + lane * y_lane, y_lane, y_row, left);
      else
        gemm_panel<1>(x.data + lane + i * x.ld, x.ld, w + i * w1, w0, w1, rows, depth, bias, i == 0, y + lane * y_lane,
                      y_lane, y_row, left);
      i += depth;
    } while (i < x.cols);
    lane += wide ? gemm_vectors * width : width;
  }
}

/// out(r, c) = Σ_b a[b, r]·b[b, c] of Rows × Cols columns; float32 within 4096 samples, double beyond.
template <int Rows, int Cols>
inline void gemm_t_tile(const float* a, std::int64_t lda, const float* b, std::int64_t ldb, std::int64_t samples,
                        float* out, std::int64_t s0, std::int64_t s1) {
  double total[Rows][Cols] = {};
  for (std::int64_t begin = 0; begin < samples; begin += 4096) {
    const std::int64_t end = samples - begin < 4096 ? samples : begin + 4096;
    f32 sum[Rows][Cols] = {};
    std::int64_t s = begin;
    for (; s + width <= end; s += width) {
      f32 left[Rows];
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) left[r] = load(a + r * lda + s);
#pragma GCC unroll 8
      for (int c = 0; c < Cols; ++c) {
        const f32 right = load(b + c * ldb + s);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) sum[r][c] += left[r] * right;
      }
    }
    for (int r = 0; r < Rows; ++r)
      for (int c = 0; c < Cols; ++c) {
        total[r][c] += static_cast<double>(lane_sum(reinterpret_cast<float*>(&sum[r][c])));
        for (std::int64_t k = s; k < end; ++k)
          total[r][c] += static_cast<double>(a[r * lda + k]) * static_cast<double>(b[c * ldb + k]);
      }
  }
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Cols; ++c) out[r * s0 + c * s1] = static_cast<float>(total[r][c]);
}

/// out(r, c) = Σ_b a[b, r]·b[b, c] for columns c in [first, last).
inline void gemm_t(matrix_view<const float> a, matrix_view<const float> b, strided_view<float> out, std::int64_t first,
                   std::int64_t last) {
  for (std::int64_t c = first; c < last;) {
    const bool four = c + 4 <= last;
    for (std::int64_t r = 0; r < a.cols;) {
      float* to = out.data + r * out.s0 + c * out.s1;
      if (four && r + 4 <= a.cols) {
        gemm_t_tile<4, 4>(a.col(r), a.ld, b.col(c), b.ld, a.rows, to, out.s0, out.s1);
        r += 4;
      } else if (four) {
        gemm_t_tile<1, 4>(a.col(r), a.ld, b.col(c), b.ld, a.rows, to, out.s0, out.s1);
        ++r;
      } else {
        gemm_t_tile<1, 1>(a.col(r), a.ld, b.col(c), b.ld, a.rows, to, out.s0, out.s1);
        ++r;
      }
    }
    c += four ? 4 : 1;
  }
}
