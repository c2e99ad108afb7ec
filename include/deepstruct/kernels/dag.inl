// Bodies of the DAG kernels: all vertices of a tile of samples in topological order, lanes over samples. A tile is an
// array [vertices, Vectors · width], so the vertices that an edge connects are at most two lines of a cache apart from
// what a load expects, whatever the batch. Included once per instruction set.

/// Vectors of samples of a tile: their sums stay in registers.
inline constexpr int dag_vectors = 4;
/// Which branches are positive: eight of them share a vector of words, branch j has bits 4·(j mod 8) + v of vector
/// j / 8 for vector v of samples. To 8 bytes of signs a tile loads 256 of values.
[[gnu::always_inline]] inline i32 dag_signs(const std::int32_t* positive, std::int64_t j) {
  return load_bits(positive + j / 8 * width) >> static_cast<int>(j % 8 * 4);
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

[[gnu::always_inline]] inline f32 activated(f32 z, Activation activation) {
  switch (activation) {
    case Activation::none:
      return z;
    case Activation::tanh:
      return tanh(z);
    case Activation::sigmoid:
      return sigmoid(z);
    default:
      return clamp_low(z, 0.0f);
  }
}
/// Derivative of the activation, from what it gave.
[[gnu::always_inline]] inline f32 activation_slope(f32 y, Activation activation) {
  switch (activation) {
    case Activation::none:
      return splat(1.0f);
    case Activation::tanh:
      return 1.0f - y * y;
    case Activation::sigmoid:
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
        const Activation activation = d.activation ? d.activation[k] : Activation::relu;
        if (activation == Activation::relu) {
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
        signs = j % 8 == 0 ? own : signs | own << static_cast<int>(j % 8 * 4);
        store_bits(positive + j / 8 * width, signs);
      }
    }
    float* to = h + (d.inputs + k) * tile;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store(to + v * width, out[v]);
  }
}

/// Sums over lanes, four at a time, wherever their results go: a vertex has two or three edges and as many sums, so one
/// by one they would be the greater part of the work.
struct dag_sums {
  f32 waiting[4];
  float* to[4];
  int count = 0;
  bool add;

  [[gnu::always_inline]] void push(f32 v, float* result) {
    waiting[count] = v;
    to[count] = result;
    if (++count == 4) flush();
  }
  [[gnu::always_inline]] void flush() {
    const quad sum = sum_lanes<width>(waiting[0], waiting[1], waiting[2], waiting[3]);
    for (int q = 0; q < count; ++q) *to[q] = add ? *to[q] + sum[q] : sum[q];
    count = 0;
  }
};

/// Gradients of one tile, vertices from the last to the first: what arrives at a vertex is the sum over its outgoing
/// edges, and the loaded gradient of a target serves the edge's weight too. `g` [vertices, tile] is scratch: dL/dh, or
/// dL/dz where joint. dw is in the order of the transposed mask.
template <int Vectors, bool Joint>
inline void dag_backward_tile(dag_view d, const float* values, const float* h, const std::int32_t* positive, bool add,
                              float* g, float* dw, float* db, float* vertex_sum) {
  constexpr std::int64_t tile = Vectors * width;
  const bool far = d.vertices * tile * 4 > dag_cached;
  const std::int32_t* target = Joint ? d.by_column.col : d.target;
  const float* from_first = Joint ? g + d.inputs * tile : g;
  const std::int64_t nnz = d.by_column.nnz;
  std::int64_t next_output = d.outputs - 1;
  dag_sums sums;
  sums.add = add;
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
    const std::int64_t end = d.by_column.start[u + 1];
    for (std::int64_t k = d.by_column.start[u]; k < end; ++k) {
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
      sums.push(dot, dw + k);
    }
    if (u >= d.inputs) {
      const std::int64_t k = u - d.inputs;
      f32 all{};
      if constexpr (Joint) {
        const Activation activation = d.activation ? d.activation[k] : Activation::relu;
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) {
          sum[v] = activation == Activation::relu ? (mine[v] > 0.0f ? sum[v] : f32{})
                                                  : sum[v] * activation_slope(mine[v], activation);
          all += sum[v];
        }
        sums.push(all, db + k);
      } else {
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) all += sum[v];
        sums.push(all, vertex_sum + k);
        for (std::int64_t j = d.branch_start[k]; j < d.branch_start[k + 1]; ++j) {
          const i32 signs = dag_signs(positive, j);
          f32 some{};
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) some += (signs & (1 << v)) != 0 ? sum[v] : f32{};
          sums.push(some, db + j);
        }
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store(own + v * width, sum[v]);
  }
  sums.flush();
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
