// Bodies of convolution: register tiles of channels × pixels × samples, read from blocks. Included once per instruction
// set.

inline constexpr int conv_parts = 16 / width;            // vectors of a pixel
inline constexpr int conv_pixels = width == 16 ? 4 : 1;  // of a dense tile
inline constexpr int conv_rows = width == 4 ? 2 : 6;     // 6 × 4 sums of 16 lanes, 6 × 2 of 8, 2 × 4 of 4

/// Stores `Pixels` pixels at distance y_pixel.
template <int Pixels>
[[gnu::always_inline]] inline void conv_store(const f32* sum, float* y, std::int64_t y_pixel, std::int64_t lanes) {
#pragma GCC unroll 16
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < conv_parts; ++v) {
      float* to = y + p * y_pixel + v * width;
      if (lanes >= conv_lanes)
        store(to, sum[p * conv_parts + v]);
      else if (lanes > v * width)
        store_part(to, sum[p * conv_parts + v], lanes - v * width);
    }
}

/// `Pixels` pixels of rows ≤ Rows channels: y[r] = Σ_k w[r·w_row + tap[k].weight]·x[tap[k]] + bias[r]. Rows that are
/// not there repeat the last one.
template <int Rows, int Pixels>
inline void conv_tile(const float* x, std::int64_t step, const conv_tap* tap, std::int64_t taps, const float* w,
                      std::int64_t w_row, std::int64_t rows, const float* bias, float* y, std::int64_t y_channel,
                      std::int64_t y_pixel, std::int64_t lanes) {
  constexpr int vectors = Pixels * conv_parts;
  const float* weight[Rows];
  f32 sum[Rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    const std::int64_t row = r < rows ? r : rows - 1;
    weight[r] = w + row * w_row;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[r][v] = splat(bias ? bias[row] : 0.0f);
  }
  for (std::int64_t k = 0; k < taps; ++k) {
    const float* from = x + std::int64_t{tap[k].at} * conv_lanes;
    const std::int64_t number = tap[k].weight;
    f32 in[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) in[v] = load(from + v / conv_parts * step + v % conv_parts * width);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const f32 factor = splat(weight[r][number]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[r][v] += factor * in[v];
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) conv_store<Pixels>(sum[r], y + r * y_channel, y_pixel, lanes);
}

/// A row of `pixels` pixels; the last tile is moved back over the one before it.
template <int Rows>
inline void conv_tiles(const float* x, std::int64_t step, const conv_tap* tap, std::int64_t taps, const float* w,
                       std::int64_t w_row, std::int64_t rows, const float* bias, float* y, std::int64_t y_channel,
                       std::int64_t y_pixel, std::int64_t pixels, std::int64_t lanes) {
  if (pixels < conv_pixels) {
    for (std::int64_t p = 0; p < pixels; ++p)
      conv_tile<Rows, 1>(x + p * step, step, tap, taps, w, w_row, rows, bias, y + p * y_pixel, y_channel, y_pixel,
                         lanes);
    return;
  }
  for (std::int64_t p = 0; p < pixels; p += conv_pixels) {
    const std::int64_t at = p + conv_pixels <= pixels ? p : pixels - conv_pixels;
    conv_tile<Rows, conv_pixels>(x + at * step, step, tap, taps, w, w_row, rows, bias, y + at * y_pixel, y_channel,
                                 y_pixel, lanes);
  }
}

/// `rows` channels of one group in `height` rows of pixels of one block.
inline void conv_dense(const float* x, std::int64_t x_row, std::int64_t x_pixel, const conv_tap* tap, std::int64_t taps,
                       const float* w, std::int64_t w_row, std::int64_t rows, const float* bias, float* y,
                       std::int64_t y_channel, std::int64_t y_row, std::int64_t y_pixel, std::int64_t height,
                       std::int64_t pixels, std::int64_t lanes) {
  for (std::int64_t r = 0; r < rows;) {
    const std::int64_t left = rows - r;
    auto body = conv_tiles<1>;
    std::int64_t take = 1;
    if constexpr (conv_rows > 4) {
      if (left > 4)
        body = conv_tiles<conv_rows>, take = conv_rows;
      else if (left > 2)
        body = conv_tiles<4>, take = 4;
    }
    if (take == 1 && left > 1) body = conv_tiles<2>, take = 2;
    if (take > left) take = left;
    for (std::int64_t h = 0; h < height; ++h)
      body(x + h * x_row, x_pixel, tap, taps, w + r * w_row, w_row, take, bias ? bias + r : nullptr,
           y + r * y_channel + h * y_row, y_channel, y_pixel, pixels, lanes);
    r += take;
  }
}

/// Rows × Pixels pixels of one channel over its edges; Line: the pixels of a row are neighbours in x.
template <int Rows, int Pixels, bool Line>
inline void conv_sparse_tile(const float* x, std::int64_t x_row, std::int64_t x_pixel, const conv_tap* tap,
                             std::int64_t edges, const float* values, float bias, float* y, std::int64_t y_row,
                             std::int64_t y_pixel, std::int64_t lanes) {
  constexpr int vectors = Pixels * conv_parts;
  f32 sum[Rows * vectors];
#pragma GCC unroll 16
  for (int v = 0; v < Rows * vectors; ++v) sum[v] = splat(bias);
  for (std::int64_t k = 0; k < edges; ++k) {
    const float* from = x + std::int64_t{tap[k].at} * conv_lanes;
    const f32 factor = splat(values[tap[k].weight]);
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      const float* in = from + r * x_row;
#pragma GCC unroll 16
      for (int p = 0; p < Pixels; ++p) {
#pragma GCC unroll 4
        for (int v = 0; v < conv_parts; ++v)
          sum[r * vectors + p * conv_parts + v] += factor * load(in + (Line ? p * conv_lanes : 0) + v * width);
        if (!Line) in += x_pixel;
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) conv_store<Pixels>(sum + r * vectors, y + r * y_row, y_pixel, lanes);
}

/// One channel in `height` rows of pixels of one block, tile by tile; the last ones are moved back over those before.
template <int Rows, int Pixels>
inline void conv_sparse_tiles(const float* x, std::int64_t x_row, std::int64_t x_pixel, const conv_tap* tap,
                              std::int64_t edges, const float* values, float bias, float* y, std::int64_t y_row,
                              std::int64_t y_pixel, std::int64_t height, std::int64_t pixels, std::int64_t lanes) {
  const auto body =
      x_pixel == conv_lanes ? conv_sparse_tile<Rows, Pixels, true> : conv_sparse_tile<Rows, Pixels, false>;
  for (std::int64_t h = 0; h < height; h += Rows)
    for (std::int64_t p = 0; p < pixels; p += Pixels) {
      const std::int64_t row = h + Rows <= height ? h : height - Rows, at = p + Pixels <= pixels ? p : pixels - Pixels;
      body(x + row * x_row + at * x_pixel, x_row, x_pixel, tap, edges, values, bias, y + row * y_row + at * y_pixel,
           y_row, y_pixel, lanes);
    }
}

/// One channel in `height` rows of pixels of one block: 16 sums of 16 lanes, 8 of 8 or 4, where there are so many
/// pixels.
inline void conv_sparse(const float* x, std::int64_t x_row, std::int64_t x_pixel, const conv_tap* tap,
                        std::int64_t edges, const float* values, float bias, float* y, std::int64_t y_row,
                        std::int64_t y_pixel, std::int64_t height, std::int64_t pixels, std::int64_t lanes) {
  auto body = conv_sparse_tiles<1, 1>;
  if constexpr (width == 16) {
    if (pixels >= 16)
      body = conv_sparse_tiles<1, 16>;
    else if (pixels >= 8 && height >= 2)
      body = conv_sparse_tiles<2, 8>;
    else if (pixels >= 4)
      body = height >= 4 ? conv_sparse_tiles<4, 4> : conv_sparse_tiles<1, 4>;
  } else {
    constexpr int many = 8 / conv_parts;
    if (pixels >= many) body = conv_sparse_tiles<1, many>;
  }
  body(x, x_row, x_pixel, tap, edges, values, bias, y, y_row, y_pixel, height, pixels, lanes);
}

/// sums[r·sum_row + t] += Σ dy[r]·x[tap[t]] over height × pixels pixels of one block, for rows ≤ Rows channels and taps
/// ≤ Taps: others repeat the last one and are dropped.
template <int Rows, int Taps>
inline void conv_dw_tile(const float* x, std::int64_t x_row, std::int64_t x_pixel, const conv_tap* tap,
                         std::int64_t taps, const float* dy, std::int64_t dy_channel, std::int64_t dy_row,
                         std::int64_t dy_pixel, std::int64_t rows, std::int64_t height, std::int64_t pixels,
                         double* sums, std::int64_t sum_row) {
  f32 sum[Rows * Taps] = {};
  std::int64_t up[Rows], in[Taps];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) up[r] = (r < rows ? r : rows - 1) * dy_channel;
#pragma GCC unroll 8
  for (int t = 0; t < Taps; ++t) in[t] = std::int64_t{tap[t < taps ? t : taps - 1].at} * conv_lanes;
  for (std::int64_t h = 0; h < height; ++h) {
    const float *from = x + h * x_row, *g = dy + h * dy_row;
    for (std::int64_t p = 0; p < pixels; ++p, from += x_pixel, g += dy_pixel) {
#pragma GCC unroll 4
      for (int v = 0; v < conv_parts; ++v) {
        f32 mine[Rows];
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) mine[r] = load(g + up[r] + v * width);
#pragma GCC unroll 8
        for (int t = 0; t < Taps; ++t) {
          const f32 other = load(from + in[t] + v * width);
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) sum[r * Taps + t] += mine[r] * other;
        }
      }
    }
  }
  float total[Rows * Taps];
#pragma GCC unroll 8
  for (int k = 0; k < Rows * Taps; k += 4)
    *reinterpret_cast<quad*>(total + k) = sum_lanes<width>(sum[k], sum[k + 1], sum[k + 2], sum[k + 3]);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t t = 0; t < taps; ++t) sums[r * sum_row + t] += static_cast<double>(total[r * Taps + t]);
}

inline constexpr int conv_dw_rows = width == 16 ? 4 : 2, conv_dw_taps = width == 16 ? 6 : 4;  // 24 and 8 sums

/// `rows` ≤ conv_dw_rows channels with all taps.
inline void conv_dense_dw(const float* x, std::int64_t x_row, std::int64_t x_pixel, const conv_tap* tap,
                          std::int64_t taps, const float* dy, std::int64_t dy_channel, std::int64_t dy_row,
                          std::int64_t dy_pixel, std::int64_t rows, std::int64_t height, std::int64_t pixels,
                          double* sums, std::int64_t sum_row) {
  const std::int64_t most = rows == 1 ? 8 : conv_dw_taps;
  const auto body = rows == 1 ? conv_dw_tile<1, 8> : conv_dw_tile<conv_dw_rows, conv_dw_taps>;
  for (std::int64_t t = 0; t < taps; t += most)
    body(x, x_row, x_pixel, tap + t, taps - t < most ? taps - t : most, dy, dy_channel, dy_row, dy_pixel, rows, height,
         pixels, sums + t, sum_row);
}

/// The edges of one channel.
inline void conv_sparse_dw(const float* x, std::int64_t x_row, std::int64_t x_pixel, const conv_tap* tap,
                           std::int64_t edges, const float* dy, std::int64_t dy_row, std::int64_t dy_pixel,
                           std::int64_t height, std::int64_t pixels, double* sums) {
  for (std::int64_t t = 0; t < edges;) {
    const std::int64_t left = edges - t, most = left > 4 ? 8 : 4, take = left < most ? left : most;
    (most == 8 ? conv_dw_tile<1, 8> : conv_dw_tile<1, 4>)(x, x_row, x_pixel, tap + t, take, dy, 0, dy_row, dy_pixel, 1,
                                                          height, pixels, sums + t, 0);
    t += take;
  }
}
