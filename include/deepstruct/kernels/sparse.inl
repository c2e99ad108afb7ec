// Bodies of the sparse kernels: every layer is `for each edge: y[target] += w·x[source]`, lanes over samples.
// Included once per instruction set.

/// Vectors·width samples of one row: the accumulators stay in registers for all its edges.
template <int Vectors>
[[gnu::always_inline]] inline void sparse_row(csr_view m, const float* values, std::int64_t r, const float* x,
                                              std::int64_t ldx, float start, float* y, std::int64_t lanes) {
  f32 sum[Vectors];
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) sum[v] = splat(start);
  for (std::int32_t k = m.start[r]; k < m.start[r + 1]; ++k) {
    const float weight = values[m.edge ? m.edge[k] : k];
    const float* in = x + m.col[k] * ldx;
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[v] += weight * load(in + v * width);
  }
  if (lanes >= Vectors * width) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) store(y + v * width, sum[v]);
  } else {
    const float* from = reinterpret_cast<const float*>(sum);
    for (std::int64_t k = 0; k < lanes; ++k) y[k] = from[k];
  }
}

/// One vector of samples of one row. Edges go to four sums in turn: a single one would wait 4 cycles for every FMA
/// (batch 1 to `width`: 3x slower).
inline void sparse_row_narrow(csr_view m, const float* values, std::int64_t r, const float* x, std::int64_t ldx,
                              float start, float* y, std::int64_t lanes) {
  f32 sum[4] = {splat(start)};
  for (std::int32_t k = m.start[r]; k < m.start[r + 1]; k += 4) {
    const std::int32_t n = m.start[r + 1] - k < 4 ? m.start[r + 1] - k : 4;
    if (n == 4) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) sum[j] += values[m.edge ? m.edge[k + j] : k + j] * load(x + m.col[k + j] * ldx);
    } else {
      for (int j = 0; j < n; ++j) sum[0] += values[m.edge ? m.edge[k + j] : k + j] * load(x + m.col[k + j] * ldx);
    }
  }
  store_part(y, (sum[0] + sum[1]) + (sum[2] + sum[3]), lanes);
}

/// y[b, r] = Σ_{edges (r, c)} w·x[b, c] + bias[r] for rows r in [first, last). 8 vectors cover the latency of the FMA
/// units.
inline void sparse_rows(csr_view m, const float* values, matrix_view<const float> x, const float* bias,
                        matrix_view<float> y, std::int64_t first, std::int64_t last) {
  for (std::int64_t lane = 0; lane < x.rows;) {
    const std::int64_t left = x.rows - lane;
    const int vectors = left > 6 * width ? 8 : left > 2 * width ? 4 : 1;
    for (std::int64_t r = first; r < last; ++r) {
      const float start = bias ? bias[r] : 0.0f;
      if (vectors == 8)
        sparse_row<8>(m, values, r, x.data + lane, x.ld, start, y.col(r) + lane, left);
      else if (vectors == 4)
        sparse_row<4>(m, values, r, x.data + lane, x.ld, start, y.col(r) + lane, left);
      else
        sparse_row_narrow(m, values, r, x.data + lane, x.ld, start, y.col(r) + lane, left);
    }
    lane += vectors * width;
  }
}

/// dw[e] = Σ_b dy[b, r]·x[b, c] for the edges of rows [first, last); float32 within 4096 samples, double beyond.
inline void sparse_dots(csr_view m, matrix_view<const float> dy, matrix_view<const float> x, float* dw,
                        std::int64_t first, std::int64_t last) {
  for (std::int64_t r = first; r < last; ++r)
    for (std::int32_t e = m.start[r]; e < m.start[r + 1]; ++e) {
      const float *left = dy.col(r), *right = x.col(m.col[e]);
      double total = 0;
      for (std::int64_t begin = 0; begin < x.rows; begin += 4096) {
        const std::int64_t end = x.rows - begin < 4096 ? x.rows : begin + 4096;
        f32 even{}, odd{};
        std::int64_t s = begin;
        for (; s + 2 * width <= end; s += 2 * width) {
          even += load(left + s) * load(right + s);
          odd += load(left + s + width) * load(right + s + width);
        }
        for (; s + width <= end; s += width) even += load(left + s) * load(right + s);
        if (s < end) {
          const i32 mask = first_lanes(end - s);
          odd += load_masked(left + s, mask) * load_masked(right + s, mask);
        }
        even += odd;
        total += static_cast<double>(lane_sum(reinterpret_cast<float*>(&even)));
      }
      dw[e] = static_cast<float>(total);
    }
}
