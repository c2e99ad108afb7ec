// Bodies of the reduction kernels. Included once per instruction set.

[[gnu::always_inline]] inline f32 combine(fn::add, f32 a, f32 b) { return a + b; }
[[gnu::always_inline]] inline f32 combine(fn::maximum, f32 a, f32 b) { return f2(fn::maximum{}, a, b); }
[[gnu::always_inline]] inline f32 combine(fn::minimum, f32 a, f32 b) { return f2(fn::minimum{}, a, b); }

/// Op over n contiguous elements, n >= 1. Sums leave float32 for double every 1024 vectors of 4 accumulators.
template <class Op>
inline double reduce_run(const float* x, std::int64_t n) {
  double total = scalar::identity(Op{});
  std::int64_t i = 0;
  while (i + 4 * width <= n) {
    const std::int64_t end = n - i < 4096 ? n : i + 4096;
    f32 a0 = load(x + i), a1 = load(x + i + width), a2 = load(x + i + 2 * width), a3 = load(x + i + 3 * width);
    for (i += 4 * width; i + 4 * width <= end; i += 4 * width) {
      a0 = combine(Op{}, a0, load(x + i));
      a1 = combine(Op{}, a1, load(x + i + width));
      a2 = combine(Op{}, a2, load(x + i + 2 * width));
      a3 = combine(Op{}, a3, load(x + i + 3 * width));
    }
    a0 = combine(Op{}, combine(Op{}, a0, a1), combine(Op{}, a2, a3));
    for (int k = 0; k < width; ++k) total = scalar::combine(Op{}, total, static_cast<double>(a0[k]));
  }
  for (; i < n; ++i) total = scalar::combine(Op{}, total, static_cast<double>(x[i]));
  return total;
}

/// y[0 … lanes) = Op over the reduced extents of x, lane by lane (x has stride 1 along the lanes), lanes <= width.
template <class Op>
inline void reduce_lanes(const float* x, const nest<1>& reduced, float* y, std::int64_t lanes) {
  double total[width];
  for (int k = 0; k < width; ++k) total[k] = scalar::identity(Op{});
  f32 part{};
  std::int64_t in_part = 0;
  for (std::int64_t i3 = 0; i3 < reduced.extent[3]; ++i3)
    for (std::int64_t i2 = 0; i2 < reduced.extent[2]; ++i2)
      for (std::int64_t i1 = 0; i1 < reduced.extent[1]; ++i1)
        for (std::int64_t i0 = 0; i0 < reduced.extent[0]; ++i0) {
          const float* at = x + i0 * reduced.stride[0][0] + i1 * reduced.stride[0][1] + i2 * reduced.stride[0][2] +
                            i3 * reduced.stride[0][3];
          const f32 v = load_part(at, lanes);
          part = in_part == 0 ? v : combine(Op{}, part, v);
          if (++in_part == 256) {
            for (int k = 0; k < width; ++k) total[k] = scalar::combine(Op{}, total[k], static_cast<double>(part[k]));
            in_part = 0;
          }
        }
  if (in_part > 0)
    for (int k = 0; k < width; ++k) total[k] = scalar::combine(Op{}, total[k], static_cast<double>(part[k]));
  for (int k = 0; k < lanes; ++k) y[k] = static_cast<float>(total[k]);
}

/// sums[c] = Σ_b dz[b, c] of columns [first, last), with dz = dy, or dy where y > 0 and else 0, which is written then.
/// Four columns are summed over lanes together; float32 within 4096 samples, double beyond.
inline void column_sums(matrix_view<const float> dy, const float* y, float* dz, float* sums, std::int64_t first,
                        std::int64_t last) {
  for (std::int64_t c = first; c < last; c += 4) {
    double total[4] = {};
    const std::int64_t columns = last - c < 4 ? last - c : 4;
    for (std::int64_t begin = 0; begin < dy.rows; begin += 4096) {
      const std::int64_t end = dy.rows - begin < 4096 ? dy.rows : begin + 4096;
      f32 sum[4] = {};
      for (int j = 0; j < columns; ++j) {
        const std::int64_t at = (c + j) * dy.ld;
        f32 all{};
        for (std::int64_t s = begin; s < end; s += width) {
          f32 v = load(dy.data + at + s);
          if (y) {
            v = load(y + at + s) > 0.0f ? v : f32{};
            store_part(dz + at + s, v, dy.ld < 16 ? end - s : width);
          }
          if (end - s < width) v = as_float(bits(v) & first_lanes(end - s));
          all += v;
        }
        sum[j] = all;
      }
      const quad part = sum_lanes<width>(sum[0], sum[1], sum[2], sum[3]);
      for (int j = 0; j < 4; ++j) total[j] += static_cast<double>(part[j]);
    }
    for (int j = 0; j < columns; ++j) sums[c + j] = static_cast<float>(total[j]);
  }
}
