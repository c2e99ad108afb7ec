// Bodies of pooling: one row of a result of one channel, samples in the lanes. Included once per instruction set.

/// The greatest of every window of a row, NaN above all, and unless null the place of the first such; x is the channel.
inline void max_pool_row(const float* x, std::int64_t x_ld, const pool_windows& rows, const pool_windows& cols,
                         std::int64_t row, float* y, std::int32_t* index, std::int64_t y_ld, std::int64_t samples) {
  const std::int64_t p0 = rows.begin[row], p1 = rows.end[row], p_step = rows.step, q_step = cols.step, in = cols.in;
  for (std::int64_t j = 0; j < cols.out; ++j) {
    const std::int64_t q0 = cols.begin[j], q1 = cols.end[j];
    for (std::int64_t b = 0; b < samples; b += width) {
      f32 best = load(x + (p0 * in + q0) * x_ld + b);
      i32 at = i32{} + static_cast<std::int32_t>(p0 * in + q0);
      for (std::int64_t p = p0; p < p1; p += p_step)
        for (std::int64_t q = q0; q < q1; q += q_step) {
          const f32 v = load(x + (p * in + q) * x_ld + b);
          const i32 wins = ~(v <= best) & (best == best);  // greater, or the first NaN
          best = wins ? v : best;
          at = wins ? i32{} + static_cast<std::int32_t>(p * in + q) : at;
        }
      store_part(y + j * y_ld + b, best, samples - b);
      if (!index) continue;
      if (samples - b >= width)
        store_bits(index + j * y_ld + b, at);
      else
        for (std::int64_t k = 0; k < samples - b; ++k) index[j * y_ld + b + k] = at[k];
    }
  }
}

/// dx of a row of the image: dy of the windows that chose its places.
inline void max_pool_dx_row(const float* dy, const std::int32_t* index, std::int64_t y_ld, const pool_windows& rows,
                            const pool_windows& cols, std::int64_t row, float* dx, std::int64_t x_ld,
                            std::int64_t samples) {
  const std::int64_t p0 = rows.first[row], p1 = rows.last[row];
  for (std::int64_t j = 0; j < cols.in; ++j) {
    const std::int64_t q0 = cols.first[j], q1 = cols.last[j];
    const i32 own = i32{} + static_cast<std::int32_t>(row * cols.in + j);
    for (std::int64_t b = 0; b < samples; b += width) {
      f32 sum{};
      for (std::int64_t p = p0; p < p1; ++p)
        for (std::int64_t q = q0; q < q1; ++q) {
          const std::int64_t at = (p * cols.out + q) * y_ld + b;
          sum += as_float(bits(load(dy + at)) & (load_bits(index + at) == own));
        }
      store_part(dx + j * x_ld + b, sum, samples - b);
    }
  }
}

/// Σ x of n places at distance ld, each over its window's count if these are given.
[[gnu::always_inline]] inline f32 run_sum(const float* x, std::int64_t ld, std::int64_t n, std::int64_t row_count,
                                          const std::int32_t* col_count) {
  f32 sum{};
  if (!col_count)
    for (std::int64_t q = 0; q < n; ++q) sum += load(x + q * ld);
  else
    for (std::int64_t q = 0; q < n; ++q)
      sum += load(x + q * ld) * (1.0f / static_cast<float>(row_count * col_count[q]));
  return sum;
}

/// Σ x(p, q) of the places [p0, p1) × [q0, q1) of a plane of `in` columns, each over its counts if these are given;
/// float32 within 4096 terms, double beyond.
[[gnu::always_inline]] inline f32 plane_sum(const float* x, std::int64_t ld, std::int64_t in, std::int64_t p0,
                                            std::int64_t p1, std::int64_t q0, std::int64_t q1,
                                            const std::int32_t* row_count, const std::int32_t* col_count) {
  f32 sum{};
  if ((p1 - p0) * (q1 - q0) <= 4096) {
    for (std::int64_t p = p0; p < p1; ++p)
      sum += run_sum(x + (p * in + q0) * ld, ld, q1 - q0, col_count ? row_count[p] : 0,
                     col_count ? col_count + q0 : nullptr);
    return sum;
  }
  double total[width] = {};
  for (std::int64_t p = p0; p < p1; ++p)
    for (std::int64_t q = q0; q < q1; q += 1024) {
      const f32 part = run_sum(x + (p * in + q) * ld, ld, q1 - q < 1024 ? q1 - q : 1024, col_count ? row_count[p] : 0,
                               col_count ? col_count + q : nullptr);
      for (int k = 0; k < width; ++k) total[k] += static_cast<double>(part[k]);
    }
  for (int k = 0; k < width; ++k) sum[k] = static_cast<float>(total[k]);
  return sum;
}

/// The average of every window of a row; x is the channel.
inline void avg_pool_row(const float* x, std::int64_t x_ld, const pool_windows& rows, const pool_windows& cols,
                         std::int64_t row, float* y, std::int64_t y_ld, std::int64_t samples) {
  for (std::int64_t j = 0; j < cols.out; ++j) {
    const float scale = 1.0f / static_cast<float>(std::int64_t{rows.count[row]} * cols.count[j]);
    for (std::int64_t b = 0; b < samples; b += width) {
      const f32 sum =
          plane_sum(x + b, x_ld, cols.in, rows.begin[row], rows.end[row], cols.begin[j], cols.end[j], nullptr, nullptr);
      store_part(y + j * y_ld + b, sum * scale, samples - b);
    }
  }
}

/// dx of a row of the image: the shares of dy of the windows its places lie in.
inline void avg_pool_dx_row(const float* dy, std::int64_t y_ld, const pool_windows& rows, const pool_windows& cols,
                            std::int64_t row, float* dx, std::int64_t x_ld, std::int64_t samples) {
  for (std::int64_t j = 0; j < cols.in; ++j)
    for (std::int64_t b = 0; b < samples; b += width) {
      const f32 sum = plane_sum(dy + b, y_ld, cols.out, rows.first[row], rows.last[row], cols.first[j], cols.last[j],
                                rows.count, cols.count);
      store_part(dx + j * x_ld + b, sum, samples - b);
    }
}
