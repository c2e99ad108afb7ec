// A layered DAG on the CPU: all its vertices forward, and all gradients backward, tile by tile of samples.
#pragma once

#include "elementwise.hpp"

#include "../simd/baseline_begin.hpp"
#include "dag.inl"
#include "../simd/end.hpp"

#include "../simd/avx2_begin.hpp"
#include "dag.inl"
#include "../simd/end.hpp"

#include "../simd/avx512_begin.hpp"
#include "dag.inl"
#include "../simd/end.hpp"

namespace deepstruct::kernels {

/// Words of signs of a tile, eight branches to a vector.
inline std::int64_t dag_sign_words(dag_view d) { return (d.branches + 7) / 8 * active_width(); }

/// Samples of a full tile.
inline std::int64_t dag_tile() { return 4 * std::int64_t{active_width()}; }
inline std::int64_t dag_tiles(std::int64_t samples) { return (samples + dag_tile() - 1) / dag_tile(); }
/// Parts of the sums over samples: one a tile, eight at most, so that they never depend on threads.
inline std::int64_t dag_parts(std::int64_t samples) { return std::min<std::int64_t>(8, dag_tiles(samples)); }

/// The tile that begins at a sample: how many of them count, and how many it has room for (1, 2 or 4 vectors).
struct dag_tile_shape {
  std::int64_t samples, room;
};
inline dag_tile_shape dag_tile_at(std::int64_t sample, std::int64_t samples) {
  const std::int64_t width = active_width(), left = std::min(dag_tile(), samples - sample);
  return {left, left <= width ? width : left <= 2 * width ? 2 * width : 4 * width};
}
/// One of six compilations of a body for the active instruction set: by vectors of the tile, joint or not.
template <class Body>
Body dag_body(const Body (&body)[6], std::int64_t room, bool joint) {
  const std::int64_t vectors = room / active_width();
  return body[(vectors == 4 ? 2 : vectors - 1) * 2 + (joint ? 1 : 0)];
}

inline void dag_constants(cpu, dag_view d, const float* bias, float* c) {
  const auto body = simd::pick(&baseline::dag_constants_of, &avx2::dag_constants_of, &avx512::dag_constants_of);
  parallel_blocks(d.vertices - d.inputs, 4096,
                  [&](std::int64_t first, std::int64_t last) { body(d, bias, c, first, last); });
}

inline void dag_forward(cpu, dag_view d, const float* values, const float* bias, const float* constant,
                        matrix_view<const float> x, matrix_view<float> y, float* h, std::int32_t* positive,
                        std::int64_t places) {
  using Body = void (*)(dag_view, const float*, const float*, const float*, float*, std::int32_t*);
  static constexpr Body all[3][6] = {
      {&baseline::dag_forward_tile<1, false>, &baseline::dag_forward_tile<1, true>,
       &baseline::dag_forward_tile<2, false>, &baseline::dag_forward_tile<2, true>,
       &baseline::dag_forward_tile<4, false>, &baseline::dag_forward_tile<4, true>},
      {&avx2::dag_forward_tile<1, false>, &avx2::dag_forward_tile<1, true>, &avx2::dag_forward_tile<2, false>,
       &avx2::dag_forward_tile<2, true>, &avx2::dag_forward_tile<4, false>, &avx2::dag_forward_tile<4, true>},
      {&avx512::dag_forward_tile<1, false>, &avx512::dag_forward_tile<1, true>, &avx512::dag_forward_tile<2, false>,
       &avx512::dag_forward_tile<2, true>, &avx512::dag_forward_tile<4, false>, &avx512::dag_forward_tile<4, true>}};
  const auto& bodies = *simd::pick(&all[0], &all[1], &all[2]);
  const std::int64_t tile = dag_tile();
  parallel_for(places, [&](std::int64_t place) {
    float* own = h + place * d.vertices * tile;
    std::int32_t* signs = positive + place * dag_sign_words(d);
    for (std::int64_t at = place * tile; at < x.rows; at += places * tile) {
      const auto [samples, room] = dag_tile_at(at, x.rows);
      for (std::int64_t u = 0; u < d.inputs;
           ++u) {  // lanes without a sample repeat the last one: nothing overflows in them
        float* to = own + u * room;
        std::copy_n(x.col(u) + at, samples, to);
        std::fill(to + samples, to + room, to[samples - 1]);
      }
      dag_body(bodies, room, !d.row_start)(d, values, bias, constant, own, signs);
      for (std::int64_t o = 0; o < d.outputs; ++o) std::copy_n(own + d.output[o] * room, samples, y.col(o) + at);
    }
  });
}

inline void dag_backward(cpu, dag_view d, const float* values, const float* h, const std::int32_t* positive,
                         matrix_view<const float> dy, matrix_view<float> dx, float* g, float* dw, float* branch_sums,
                         float* vertex_sums) {
  using Body =
      void (*)(dag_view, const float*, const float*, const std::int32_t*, bool, float*, float*, float*, float*);
  static constexpr Body all[3][6] = {
      {&baseline::dag_backward_tile<1, false>, &baseline::dag_backward_tile<1, true>,
       &baseline::dag_backward_tile<2, false>, &baseline::dag_backward_tile<2, true>,
       &baseline::dag_backward_tile<4, false>, &baseline::dag_backward_tile<4, true>},
      {&avx2::dag_backward_tile<1, false>, &avx2::dag_backward_tile<1, true>, &avx2::dag_backward_tile<2, false>,
       &avx2::dag_backward_tile<2, true>, &avx2::dag_backward_tile<4, false>, &avx2::dag_backward_tile<4, true>},
      {&avx512::dag_backward_tile<1, false>, &avx512::dag_backward_tile<1, true>, &avx512::dag_backward_tile<2, false>,
       &avx512::dag_backward_tile<2, true>, &avx512::dag_backward_tile<4, false>, &avx512::dag_backward_tile<4, true>}};
  const auto& bodies = *simd::pick(&all[0], &all[1], &all[2]);
  const std::int64_t tile = dag_tile(), tiles = dag_tiles(dy.rows), parts = dag_parts(dy.rows),
                     count = d.vertices - d.inputs, sums = d.row_start ? d.branches : count;
  parallel_for(parts, [&](std::int64_t part) {
    float* own = g + part * d.vertices * tile;
    const std::int64_t first = part * tiles / parts, last = (part + 1) * tiles / parts;
    for (std::int64_t t = first; t < last; ++t) {
      const std::int64_t at = t * tile;
      const auto [samples, room] = dag_tile_at(at, dy.rows);
      for (std::int64_t o = 0; o < d.outputs; ++o) {
        float* to = own + d.output[o] * room;
        std::copy_n(dy.col(o) + at, samples, to);
        std::fill(to + samples, to + room, 0.0f);
      }
      dag_body(bodies, room, !d.row_start)(d, values, h + t * d.vertices * tile, positive + t * dag_sign_words(d),
                                           t > first, own, dw + part * d.by_row.nnz, branch_sums + part * sums,
                                           vertex_sums + part * count);
      if (dx.data)
        for (std::int64_t u = 0; u < d.inputs; ++u) std::copy_n(own + u * room, samples, dx.col(u) + at);
    }
  });
}

inline void dag_gradients(cpu, dag_view d, const float* bias, const float* dw_parts, const float* branch_sums,
                          const float* vertex_sums, std::int64_t parts, float* dw, float* db) {
  const std::int64_t nnz = d.by_row.nnz, count = d.vertices - d.inputs;
  parallel_blocks(nnz, 1 << 14, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t k = first; k < last; ++k) {
      float sum = dw_parts[k];
      for (std::int64_t p = 1; p < parts; ++p) sum += dw_parts[p * nnz + k];
      dw[d.by_column.edge[k]] = sum;
    }
  });
  if (d.row_start) {
    const auto body = simd::pick(&baseline::dag_bias_gradients, &avx2::dag_bias_gradients, &avx512::dag_bias_gradients);
    return parallel_blocks(count, 4096, [&](std::int64_t first, std::int64_t last) {
      body(d, bias, branch_sums, vertex_sums, parts, db, first, last);
    });
  }
  for (std::int64_t k = 0; k < count; ++k) {
    float sum = branch_sums[k];
    for (std::int64_t p = 1; p < parts; ++p) sum += branch_sums[p * count + k];
    db[k] = sum;
  }
}

}  // namespace deepstruct::kernels
