// Bodies of the DAG kernels: all vertices of a tile of samples in topological order, lanes over samples. A tile is an
// array [vertices, Vectors · width], so the vertices that an edge connects are at most two lines of a cache apart from
// what a load expects, whatever the batch. Included once per instruction set.

/// Vectors of samples of a tile: their sums stay in registers.
inline constexpr int dag_vectors = 4;
/// Which branches are positive: eight of them share a vector of words, branch j has bits 4·(j mod 8) + v of vector
/// j / 8 for vector v of samples. To 8 bytes of signs a tile loads 256 of values.
[[gnu::always_inline]] inline i32 dag_signs(const std::int32_t* positive, std::int64_t j) {
  return load_bits(positive + (j >> 3) * width) >> static_cast<int>((j & 7) * 4);
}
/// How many edges ahead a vertex is fetched when a tile does not fit into the second cache: a step of 20 thousand
/// edges takes 0.8 times as long; where it fits, nothing is gained.
inline constexpr std::int64_t dag_ahead = 12;
inline constexpr std::int64_t dag_cached = std::int64_t{1} << 20;

template <int Vectors>
[[gnu::always_inline]] inline void dag_fetch(const float* p) {
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) __builtin_prefetch(p + v * width);
}

[[gnu::always_inline]] inline f32 activated(f32 z, VertexActivation activation) {
  switch (activation) {
    case VertexActivation::none:
      return z;
    case VertexActivation::tanh:
      return tanh(z);
    case VertexActivation::sigmoid:
      return sigmoid(z);
    default:
      return clamp_low(z, 0.0f);
  }
}
/// Derivative of the activation, from what it gave.
[[gnu::always_inline]] inline f32 activation_slope(f32 y, VertexActivation activation) {
  switch (activation) {
    case VertexActivation::none:
      return splat(1.0f);
    case VertexActivation::tanh:
      return 1.0f - y * y;
    case VertexActivation::sigmoid:
      return y * (1.0f - y);
    default:
      return y > 0.0f ? splat(1.0f) : f32{};
  }
}

/// h of all vertices behind the inputs, and which branches are positive.
template <int Vectors, bool Joint>
inline void dag_forward_tile(dag_view d, const float* values, const float* bias, const float* constant, float* h,
                             std::int32_t* positive) {
  constexpr std::int64_t tile = Vectors * width;
  const std::int32_t* col = d.by_row.col;
  const std::int64_t count = d.vertices - d.inputs, nnz = d.by_row.nnz;
  const bool far = d.vertices * tile * 4 > dag_cached;
  i32 signs{};
  for (std::int64_t k = 0; k < count; ++k) {
    f32 out[Vectors];
    std::int64_t j = Joint ? k : d.branch_start[k];
    const std::int64_t last = Joint ? k + 1 : d.branch_start[k + 1];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) out[v] = Joint ? f32{} : splat(constant[k]);
    for (; j < last; ++j) {
      std::int64_t e = Joint ? d.by_row.start[j] : d.branch[j].begin;
      const std::int64_t end = Joint ? d.by_row.start[j + 1] : d.branch[j].end;
      f32 sum[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[v] = splat(bias[Joint ? j : d.branch[j].row]);
      for (; e < end; ++e) {
        const float* in = h + col[e] * tile;
        if (far && e + dag_ahead < nnz) dag_fetch<Vectors>(h + col[e + dag_ahead] * tile);
        const f32 factor = splat(values[e]);
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sum[v] += factor * load(in + v * width);
      }
      if constexpr (Joint) {
        const VertexActivation activation = d.activation ? d.activation[k] : VertexActivation::relu;
        if (activation == VertexActivation::relu) {
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) out[v] = clamp_low(sum[v], 0.0f);
        } else {
          for (int v = 0; v < Vectors; ++v) out[v] = activated(sum[v], activation);
        }
      } else {
        i32 own{};
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) {
          own |= (sum[v] > 0.0f) & (1 << v);
          out[v] += clamp_low(sum[v], 0.0f);
        }
        signs = (j & 7) == 0 ? own : signs | own << static_cast<int>((j & 7) * 4);
        store_bits(positive + (j >> 3) * width, signs);
      }
    }
    float* to = h + (d.inputs + k) * tile;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store(to + v * width, out[v]);
  }
}

/// to[0 … n) (+)= the sums over lanes of n <= 4 vectors.
[[gnu::always_inline]] inline void dag_write(quad sum, std::int64_t n, bool add, float* to) {
  for (int q = 0; q < n; ++q) to[q] = add ? to[q] + sum[q] : sum[q];
}

/// Gradients of one tile, vertices from the last to the first: what arrives at a vertex is the sum over its outgoing
/// edges, and the loaded gradient of a target serves the edge's weight too. `g` [vertices, tile] is scratch: dL/dh, or
/// dL/dz where joint. dw is in the order of the transposed mask.
///
/// Sums over lanes are made four at a time: those of a vertex's last edges, up to three, together with its own. To let
/// them wait in memory for others costs more than it saves (a stored vector of 64 bytes is not forwarded to its load on
/// Zen 4: 1.3 to 1.4 times the time).
template <int Vectors, bool Joint>
inline void dag_backward_tile(dag_view d, const float* values, const float* h, const std::int32_t* positive, bool add,
                              float* g, float* dw, float* db, float* vertex_sum) {
  constexpr std::int64_t tile = Vectors * width;
  const bool far = d.vertices * tile * 4 > dag_cached;
  const std::int32_t* target = Joint ? d.by_column.col : d.target;
  const float* from_first = Joint ? g + d.inputs * tile : g;
  const std::int64_t nnz = d.by_column.nnz;
  std::int64_t next_output = d.outputs - 1;
  for (std::int64_t u = d.vertices - 1; u >= 0; --u) {
    float* own = g + u * tile;
    f32 sum[Vectors], mine[Vectors];
    const bool is_output = next_output >= 0 && d.output[next_output] == u;
    next_output -= is_output;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      sum[v] = is_output ? load(own + v * width) : f32{};
      mine[v] = load(h + u * tile + v * width);
    }
    /// What arrives through edge k, and its product with h.
    const auto arrive = [&](std::int64_t k) __attribute__((always_inline)) {
      const float* from = from_first + target[k] * tile;
      if (far && k + dag_ahead < nnz) dag_fetch<Vectors>(from_first + target[k + dag_ahead] * tile);
      const f32 factor = splat(values[k]);
      const i32 signs = Joint ? i32{} : dag_signs(positive, d.through[k]);
      f32 dot{};
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) {
        f32 in = load(from + v * width);
        if constexpr (!Joint) in = (signs & (1 << v)) != 0 ? in : f32{};
        sum[v] += factor * in;
        dot = v == 0 ? in * mine[v] : dot + in * mine[v];
      }
      return dot;
    };
    const std::int64_t end = d.by_column.start[u + 1];
    std::int64_t k = d.by_column.start[u];
    for (; k + 4 <= end; k += 4) {
      const f32 a = arrive(k), b = arrive(k + 1), c = arrive(k + 2), e = arrive(k + 3);
      dag_write(sum_lanes<width>(a, b, c, e), 4, add, dw + k);
    }
    f32 dot[3] = {};
#pragma GCC unroll 3
    for (int q = 0; q < 3; ++q) {
      if (k + q >= end) break;
      dot[q] = arrive(k + q);
    }
    f32 all{};
    if constexpr (Joint) {
      if (u >= d.inputs) {
        const VertexActivation activation = d.activation ? d.activation[u - d.inputs] : VertexActivation::relu;
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v)
          sum[v] = activation == VertexActivation::relu ? (mine[v] > 0.0f ? sum[v] : f32{})
                                                        : sum[v] * activation_slope(mine[v], activation);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      all += sum[v];
      store(own + v * width, sum[v]);
    }
    const quad sums = sum_lanes<width>(dot[0], dot[1], dot[2], all);
    dag_write(sums, end - k, add, dw + k);
    if (u < d.inputs) continue;
    float* whole = (Joint ? db : vertex_sum) + (u - d.inputs);
    *whole = add ? *whole + sums[3] : sums[3];
    if constexpr (!Joint) {
      const std::int64_t last = d.branch_start[u - d.inputs + 1];
      for (std::int64_t j = d.branch_start[u - d.inputs]; j < last; j += 4) {
        f32 some[4] = {};
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) {
          if (j + q >= last) break;
          const i32 signs = dag_signs(positive, j + q);
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) some[q] += (signs & (1 << v)) != 0 ? sum[v] : f32{};
        }
        dag_write(sum_lanes<width>(some[0], some[1], some[2], some[3]), last - j < 4 ? last - j : 4, add, db + j);
      }
    }
  }
}

/// c[k] = Σ max(bias, 0) over the branches of vertex k that have no edge: what the original's mathematics adds to
/// every sample.
inline void dag_constants_of(dag_view d, const float* bias, float* c, std::int64_t first, std::int64_t last) {
  for (std::int64_t k = first; k < last; ++k) {
    f32 sum{};
    const std::int32_t end = d.row_start[k + 1];
    std::int32_t r = d.row_start[k];
    for (; r < end && r + width <= d.by_row.rows; r += width) {
      const i32 empty = load_bits(d.by_row.start + r) == load_bits(d.by_row.start + r + 1);
      sum += clamp_low(as_float(bits(load(bias + r)) & first_lanes(end - r) & empty), 0.0f);
    }
    float rest = 0;
    for (; r < end; ++r)
      if (d.by_row.start[r] == d.by_row.start[r + 1]) rest += bias[r] < 0 ? 0.0f : bias[r];
    c[k] = rest + sum_lanes<width>(sum, f32{}, f32{}, f32{})[0];
  }
}

/// db of every row of vertices first to last: that of its branch if it has edges, else what arrives at the vertex where
/// the bias is positive. Sums over parts in their order.
inline void dag_bias_gradients(dag_view d, const float* bias, const float* branch_sums, const float* vertex_sums,
                               std::int64_t parts, float* db, std::int64_t first, std::int64_t last) {
  const std::int64_t count = d.vertices - d.inputs;
  for (std::int64_t k = first; k < last; ++k) {
    float whole = 0;
    for (std::int64_t p = 0; p < parts; ++p) whole += vertex_sums[p * count + k];
    const std::int32_t end = d.row_start[k + 1];
    std::int32_t r = d.row_start[k];
    for (; r + width <= end; r += width) store(db + r, load(bias + r) > 0.0f ? splat(whole) : f32{});
    for (; r < end; ++r) db[r] = bias[r] > 0 ? whole : 0.0f;
    for (std::int32_t j = d.branch_start[k]; j < d.branch_start[k + 1]; ++j) {
      float sum = 0;
      for (std::int64_t p = 0; p < parts; ++p) sum += branch_sums[p * d.branches + j];
      db[d.branch[j].row] = sum;
    }
  }
}
