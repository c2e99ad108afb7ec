// Bodies of the sparse kernels: every layer is `for each edge: y[target] += w·x[source]`, lanes over samples.
// Included once per instruction set.

/// Vectors vectors of samples, at distance `step`, of one panel of rows: the sums of four rows stay in registers while
/// their edges of a block of columns, which L1 holds, go by. Positions of columns are 2-byte loads, so that few loads
/// feed addresses. Within a block the values of a transposed pattern lie close together too: looking them up is cheap.
template <int Vectors>
inline void sparse_panel(csr_view m, plan_view p, std::int64_t panel, const float* values, const float* x,
                         std::int64_t ldx, const float* bias, float* y, std::int64_t ldy, std::int64_t step) {
  const auto add = [&](f32 * sum, std::int64_t k, const float* from) __attribute__((always_inline)) {
    const f32 w = splat(values[m.edge ? m.edge[k] : k]);
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[v] += w * load(from + v * step);
  };
  for (std::int64_t block = 0; block < p.blocks; ++block) {
    const float* in = x + block * p.block_cols * ldx;
    const row_group* last = p.group + p.first_group[panel * p.blocks + block + 1];
    for (const row_group* g = p.group + p.first_group[panel * p.blocks + block]; g < last; ++g) {
      f32 sum[4][Vectors];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v)
          sum[j][v] = block > 0 ? load(y + g->row[j] * ldy + v * step) : splat(bias ? bias[g->row[j]] : 0.0f);
      const std::uint16_t* col = p.col + g->col;
      for (std::int64_t k = 0; k < g->common; ++k, col += 4) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) add(sum[j], g->first[j] + k, in + col[j] * ldx);
      }
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j)
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) store(y + g->row[j] * ldy + v * step, sum[j][v]);
      for (int j = 0; j < g->rows; ++j) {  // what a row has beyond the shortest of the four
        if (g->rest[j] == 0) continue;
        float* to = y + g->row[j] * ldy;
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) sum[0][v] = load(to + v * step);
        for (std::int64_t k = 0; k < g->rest[j]; ++k) add(sum[0], g->first[j] + g->common + k, in + *col++ * ldx);
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) store(to + v * step, sum[0][v]);
      }
    }
  }
}

/// y[b, r] = Σ_{edges (r, c)} w·x[b, c] + bias[r] for the rows of a panel and `lanes` samples; x and y are storage of
/// whole vectors. Where less than two are left, both are the same one.
inline void sparse_tile(csr_view m, plan_view p, std::int64_t panel, const float* values, const float* x,
                        std::int64_t ldx, const float* bias, float* y, std::int64_t ldy, std::int64_t lanes) {
  std::int64_t lane = 0;
  if constexpr (width == 16)  // 16 of 32 registers; the others have 16
    for (; lanes - lane > 3 * width; lane += 4 * width)
      sparse_panel<4>(m, p, panel, values, x + lane, ldx, bias, y + lane, ldy, width);
  for (; lane < lanes; lane += 2 * width)
    sparse_panel<2>(m, p, panel, values, x + lane, ldx, bias, y + lane, ldy, lanes - lane > width ? width : 0);
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

/// y[b, r] = Σ_{edges (r, c)} w·x[b, c] + bias[r] for rows r in [first, last), for few samples.
inline void sparse_rows(csr_view m, const float* values, matrix_view<const float> x, const float* bias,
                        matrix_view<float> y, std::int64_t first, std::int64_t last) {
  for (std::int64_t lane = 0; lane < x.rows; lane += width)
    for (std::int64_t r = first; r < last; ++r)
      sparse_row_narrow(m, values, r, x.data + lane, x.ld, bias ? bias[r] : 0.0f, y.col(r) + lane, x.rows - lane);
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

/// dw[e] (+)= Σ dy[b, r]·x[b, c] over Vectors·width samples, or the `left` <= width ones of the last vector (Vectors
/// 0), for the edges of a block: dy stays in registers for a whole row, four dot products are summed over lanes
/// together.
template <int Vectors>
inline void sparse_dots_block(csr_view m, plan_view p, std::int64_t block, const float* dy, std::int64_t ldy,
                              const float* x, std::int64_t ldx, std::int64_t left, bool first, float* dw) {
  constexpr int most = Vectors > 0 ? Vectors : 1;
  const i32 mask = first_lanes(left);
  const auto get = [&](const float* from) __attribute__((always_inline)) {
    return Vectors > 0 ? load(from) : load_masked(from, mask);
  };
  for (const row_group* g = p.group + p.first_group[block]; g < p.group + p.first_group[block + 1]; ++g)
    for (int j = 0; j < g->rows; ++j) {
      f32 own[most];
#pragma GCC unroll 8
      for (int v = 0; v < most; ++v) own[v] = get(dy + g->row[j] * ldy + v * width);
      const std::int32_t end = g->first[j] + g->common + g->rest[j];
      for (std::int32_t e = g->first[j]; e < end; e += 4) {
        f32 sum[4];
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) {
          const float* in = x + m.col[e + q < end ? e + q : end - 1] * ldx;
          sum[q] = own[0] * get(in);
#pragma GCC unroll 8
          for (int v = 1; v < most; ++v) sum[q] += own[v] * get(in + v * width);
        }
        const quad dots = sum_lanes<width>(sum[0], sum[1], sum[2], sum[3]);
        if (e + 4 <= end) {
          quad* to = reinterpret_cast<quad*>(dw + e);
          *to = first ? dots : *to + dots;
        } else {
          for (int q = 0; e + q < end; ++q) dw[e + q] = first ? dots[q] : dw[e + q] + dots[q];
        }
      }
    }
}

/// dw of the edges of panels [first, last) over all samples. A block of x stays in cache for all of them.
inline void sparse_dots_panels(csr_view m, plan_view p, std::int64_t first, std::int64_t last,
                               matrix_view<const float> dy, matrix_view<const float> x, float* dw) {
  for (std::int64_t block = 0; block < p.blocks; ++block)
    for (std::int64_t s = 0; s < x.rows;) {
      const std::int64_t left = x.rows - s;
      const int vectors = left >= 8 * width ? 8 : left >= 4 * width ? 4 : left >= 2 * width ? 2 : 0;
      const auto body = vectors == 8   ? sparse_dots_block<8>
                        : vectors == 4 ? sparse_dots_block<4>
                        : vectors == 2 ? sparse_dots_block<2>
                                       : sparse_dots_block<0>;
      for (std::int64_t panel = first; panel < last; ++panel)
        body(m, p, panel * p.blocks + block, dy.data + s, dy.ld, x.data + s, x.ld, left, s == 0, dw);
      s += vectors > 0 ? vectors * width : width;
    }
}
