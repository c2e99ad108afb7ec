// Bodies of the sparse kernels: every layer is `for each edge: y[target] += w·x[source]`, lanes over samples.
// Included once per instruction set.

/// Vectors of samples that go through a block together. All of a row's sums stay in registers; what a CPU can load per
/// cycle is the limit (one load a vector, one more an edge for its column and one every four for their weights), so
/// four AVX-512 vectors reach 80 % of the multiply-add peak from L1.
inline constexpr int sparse_vectors = width == 8 ? 8 : 4;

/// Rows of one block of a panel: all of them, or a few whose edges fit a buffer.
struct sparse_block {
  const plan_row* row;
  const std::uint16_t* col;
  const std::int32_t* edge;
  std::int64_t begin, rows;  ///< numbered within the pattern
  bool first, last;          ///< of the blocks of its panel
};
inline sparse_block sparse_block_of(const plan_view& p, std::int64_t panel, std::int64_t block) {
  const std::int64_t begin = panel * p.panel_rows, left = p.rows - begin,
                     rows = left < p.panel_rows ? left : p.panel_rows, at = p.first[panel * p.blocks + block];
  return {p.row + begin * p.blocks + block * rows,
          p.col + at,
          p.edge ? p.edge + at : nullptr,
          begin,
          rows,
          block == 0,
          block + 1 == p.blocks};
}
/// Takes rows with at most Plan::most_cols edges from the front of a block; `edges` tells how many.
inline sparse_block sparse_take(sparse_block& rest, std::int64_t& edges) {
  sparse_block part = rest;
  part.rows = edges = 0;
  while (part.rows < rest.rows && edges + rest.row[part.rows].edges <= Plan::most_cols)
    edges += rest.row[part.rows++].edges;
  rest.row += part.rows;
  rest.col += edges;
  rest.edge += edges;
  rest.begin += part.rows;
  rest.rows -= part.rows;
  return part;
}

/// to[k] = values[edge[k]]: values in the order of the walk. Four at a time: the whole backward pass
/// gains 2 to 5 %.
inline void sparse_stage(const float* values, const std::int32_t* edge, std::int64_t n, float* to) {
  std::int64_t k = 0;
  for (; k + 4 <= n; k += 4) {
    const float a = values[edge[k]], b = values[edge[k + 1]], c = values[edge[k + 2]], d = values[edge[k + 3]];
    to[k] = a, to[k + 1] = b, to[k + 2] = c, to[k + 3] = d;
  }
  for (; k < n; ++k) to[k] = values[edge[k]];
}
/// values[edge[k]] = from[k].
inline void sparse_unstage(const float* from, const std::int32_t* edge, std::int64_t n, float* values) {
  std::int64_t k = 0;
  for (; k + 4 <= n; k += 4) {
    values[edge[k]] = from[k], values[edge[k + 1]] = from[k + 1];
    values[edge[k + 2]] = from[k + 2], values[edge[k + 3]] = from[k + 3];
  }
  for (; k < n; ++k) values[edge[k]] = from[k];
}

/// y (+)= Σ w·x over the edges of a block for `left` samples, which fill at most Vectors vectors and more than
/// Vectors − 2; the last one may lie on that before it (both are the same then). The first block starts with the bias,
/// the last one ends with ReLU where wanted.
template <int Vectors>
inline void sparse_block_rows(sparse_block b, const float* values, bool walk_order, const float* x, std::int64_t ldx,
                              const float* bias, bool relu, float* y, std::int64_t ldy, std::int64_t left) {
  const std::int64_t last = (left > (Vectors - 1) * width ? Vectors - 1 : Vectors - 2) * width;
  const auto at = [&](int v) __attribute__((always_inline)) { return v == Vectors - 1 ? last : v * width; };
  for (std::int64_t r = 0; r < b.rows; ++r, y += ldy) {
    const std::int64_t n = b.row[r].edges;
    if (n == 0 && !b.first && !b.last) continue;
    f32 sum[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[v] = b.first ? splat(bias ? bias[r] : 0.0f) : load(y + at(v));
    const float* w = walk_order ? values : values + b.row[r].first;
    const auto add = [&](std::int64_t col, f32 factor) __attribute__((always_inline)) {
      const float* in = x + col * ldx;
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[v] += factor * load(in + at(v));
    };
    std::int64_t k = 0;
    for (; Vectors == sparse_vectors && k + 4 <= n; k += 4) {
      const quad factors = load_quad(w + k);
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) add(b.col[k + q], splat(factors[q]));
    }
    for (; k < n; ++k) add(b.col[k], splat(w[k]));
    b.col += n;
    if (walk_order) values += n;
    if (relu && b.last) {
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[v] = clamp_low(sum[v], 0.0f);
    }
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) store(y + at(v), sum[v]);
  }
}

/// The same for any number of lanes; x and y are storage of whole vectors.
inline void sparse_block_lanes(sparse_block b, const float* values, bool walk_order, const float* x, std::int64_t ldx,
                               const float* bias, bool relu, float* y, std::int64_t ldy, std::int64_t lanes) {
  constexpr int half = sparse_vectors / 2;
  for (std::int64_t lane = 0; lane < lanes;) {
    const std::int64_t left = lanes - lane;
    const bool whole = left > (sparse_vectors - 2) * width;  // three of four vectors cost less than two and one
    const bool many = left > 2 * width;
    (whole  ? sparse_block_rows<sparse_vectors>
     : many ? sparse_block_rows<half>
            : sparse_block_rows<2>)(b, values, walk_order, x + lane, ldx, bias, relu, y + lane, ldy, left);
    lane += (whole ? sparse_vectors : many ? half : 2) * width;
  }
}

/// y[b, r] = Σ_{edges (r, c)} w·x[b, c] + bias[r] for the rows of a panel and `lanes` samples.
inline void sparse_panel(plan_view p, std::int64_t panel, const float* values, const float* x, std::int64_t ldx,
                         const float* bias, bool relu, float* y, std::int64_t ldy, std::int64_t lanes) {
  float staged[Plan::most_cols];
  for (std::int64_t block = 0; block < p.blocks; ++block) {
    const float* in = x + block * p.block_cols * ldx;
    sparse_block rest = sparse_block_of(p, panel, block);
    for (std::int64_t edges = 0; rest.rows > 0;) {
      sparse_block part = rest;
      if (p.edge) {
        part = sparse_take(rest, edges);
        sparse_stage(values, part.edge, edges, staged);
      } else {
        rest.rows = 0;
      }
      sparse_block_lanes(part, p.edge ? staged : values, p.edge != nullptr, in, ldx, bias ? bias + part.begin : nullptr,
                         relu, y + part.begin * ldy, ldy, lanes);
    }
  }
}

/// One vector of samples of one row. Edges go to four sums in turn: a single one would wait 4 cycles for every FMA
/// (batch 1 to `width`: 3x slower).
inline void sparse_row_narrow(csr_view m, const float* values, std::int64_t r, const float* x, std::int64_t ldx,
                              float start, bool relu, float* y, std::int64_t lanes) {
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
  const f32 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  store_part(y, relu ? clamp_low(all, 0.0f) : all, lanes);
}

/// y[b, r] = Σ_{edges (r, c)} w·x[b, c] + bias[r] for rows r in [first, last), for few samples.
inline void sparse_rows(csr_view m, const float* values, matrix_view<const float> x, const float* bias, bool relu,
                        matrix_view<float> y, std::int64_t first, std::int64_t last) {
  for (std::int64_t lane = 0; lane < x.rows; lane += width)
    for (std::int64_t r = first; r < last; ++r)
      sparse_row_narrow(m, values, r, x.data + lane, x.ld, bias ? bias[r] : 0.0f, relu, y.col(r) + lane, x.rows - lane);
}

/// dw (+)= Σ dy·x over the samples of the edges of a block, in the order of the values, and with dx also dx (+)= w·dy:
/// `own` is the side that a row has (kept in registers, x of a transposed pattern), `other` the side its edges lead to.
/// A loaded column serves both sums, so this is bound by multiply-adds. Four edges' dot products are summed over lanes
/// together. `lanes` lanes count: all vectors are whole, or the last two have masks, which costs nothing, as other
/// units than those of the multiply-adds apply them. Where the last vector has no lane it is a shadow of that before
/// it.
template <int Vectors, bool Whole, bool WithDx>
inline void sparse_block_dots(sparse_block b, const float* w, const float* own, std::int64_t ldo, const float* other,
                              std::int64_t ldx, std::int64_t lanes, bool add, float* dw, float* dx, std::int64_t ldd) {
  const std::int64_t last = (Whole || lanes > (Vectors - 1) * width ? Vectors - 1 : Vectors - 2) * width;
  const i32 mask[2] = {first_lanes(lanes - (Vectors - 2) * width), first_lanes(lanes - (Vectors - 1) * width)};
  const auto lane = [&](int v) __attribute__((always_inline)) { return v == Vectors - 1 ? last : v * width; };
  const auto get = [&](const float* from, int v) __attribute__((always_inline)) {
    return Whole || v < Vectors - 2 ? load(from + lane(v)) : load_masked(from + lane(v), mask[v - (Vectors - 2)]);
  };
  for (std::int64_t r = 0; r < b.rows; ++r, own += ldo, dx += ldd) {
    const std::int64_t n = b.row[r].edges;
    if (n == 0 && !(WithDx && b.first)) continue;
    float* to = WithDx ? dw : dw + b.row[r].first;
    f32 mine[Vectors], sum[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      mine[v] = get(own, v);
      if constexpr (WithDx) sum[v] = b.first ? f32{} : load(dx + lane(v));
    }
    for (std::int64_t k = 0; k < n; k += 4) {
      f32 dot[4] = {};
      const std::int64_t left = n - k;
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) {
        if (q > 0 && q >= left) break;
        const float* from = other + b.col[k + q] * ldx;
        const f32 factor = WithDx ? splat(w[k + q]) : f32{};
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) {
          const f32 in = get(from, v);
          if constexpr (WithDx) sum[v] += factor * in;
          dot[q] = v == 0 ? in * mine[v] : dot[q] + in * mine[v];
        }
      }
      const quad dots = sum_lanes<width>(dot[0], dot[1], dot[2], dot[3]);
      if (left >= 4) {
        quad* at = reinterpret_cast<quad*>(to + k);
        *at = add ? *at + dots : dots;
      } else {
        for (int q = 0; q < left; ++q) to[k + q] = add ? to[k + q] + dots[q] : dots[q];
      }
    }
    b.col += n;
    if constexpr (WithDx) {
      w += n;
      dw += n;
#pragma GCC unroll 4
      for (int v = Vectors - 1; v >= 0; --v) store(dx + lane(v), sum[v]);
    }
  }
}

/// The same for all samples, so many at a time as registers hold: of three and four vectors four (33 to 63 samples as
/// two and two: 1.4 times the time).
template <bool WithDx>
inline void sparse_block_samples(sparse_block b, const float* w, const float* own, std::int64_t ldo, const float* other,
                                 std::int64_t ldx, std::int64_t samples, bool add, float* dw, float* dx,
                                 std::int64_t ldd) {
  for (std::int64_t s = 0; s < samples;) {
    const std::int64_t left = samples - s;
    (left >= 4 * width  ? sparse_block_dots<4, true, WithDx>
     : left > 2 * width ? sparse_block_dots<4, false, WithDx>
                        : sparse_block_dots<2, false, WithDx>)(b, w, own + s, ldo, other + s, ldx, left, add || s > 0,
                                                               dw, WithDx ? dx + s : nullptr, ldd);
    s += left > 2 * width ? 4 * width : 2 * width;
  }
}

/// dw (+)= of the edges of a panel over all samples.
inline void sparse_panel_dw(plan_view p, std::int64_t panel, matrix_view<const float> dy, matrix_view<const float> x,
                            bool add, float* dw) {
  for (std::int64_t block = 0; block < p.blocks; ++block) {
    const sparse_block b = sparse_block_of(p, panel, block);
    sparse_block_samples<false>(b, nullptr, dy.col(b.begin), dy.ld, x.col(block * p.block_cols), x.ld, x.rows, add, dw,
                                nullptr, 0);
  }
}

/// dx of the features of a panel of the transposed pattern and dw (+)= of their edges, over all samples.
inline void sparse_panel_backward(plan_view p, std::int64_t panel, const float* values, matrix_view<const float> x,
                                  matrix_view<const float> dy, bool add, matrix_view<float> dx, float* dw) {
  float w[Plan::most_cols], g[Plan::most_cols];
  for (std::int64_t block = 0; block < p.blocks; ++block) {
    sparse_block rest = sparse_block_of(p, panel, block);
    for (std::int64_t edges; rest.rows > 0;) {
      const sparse_block b = sparse_take(rest, edges);
      sparse_stage(values, b.edge, edges, w);
      if (add) sparse_stage(dw, b.edge, edges, g);
      sparse_block_samples<true>(b, w, x.col(b.begin), x.ld, dy.col(block * p.block_cols), dy.ld, x.rows, add, g,
                                 dx.col(b.begin), dx.ld);
      sparse_unstage(g, b.edge, edges, dw);
    }
  }
}
