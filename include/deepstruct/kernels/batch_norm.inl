// Bodies of batch norm: one channel, which is `runs` runs of n numbers at distance `step`. Included once per
// instruction set.

/// One vector of channel_sums: what is added to the first and to the second sum.
template <ChannelSum Kind>
[[gnu::always_inline]] inline void add_terms(const float* x, const float* dy, float shift, f32& first, f32& second) {
  if constexpr (Kind == ChannelSum::products) {
    const f32 d = load(dy);
    first += d;
    second += d * (load(x) - shift);
  } else if constexpr (Kind == ChannelSum::squares) {
    const f32 d = load(x) - shift;
    first += d * d;
  } else {
    first += load(x);
  }
}

/// sums[0] = Σ x, or Σ (x − shift)², or Σ dy and sums[1] = Σ dy·(x − shift): float32 within some 4096 terms, double
/// beyond.
template <ChannelSum Kind>
inline void channel_sums(const float* x, const float* dy, std::int64_t runs, std::int64_t n, std::int64_t step,
                         float shift, double* sums) {
  const i32 tail = first_lanes(n % width);
  double total = 0, other = 0;
  f32 a{}, b{}, odd_a{}, odd_b{};
  std::int64_t open = 0;
  for (std::int64_t r = 0; r < runs; ++r)
    for (std::int64_t begin = 0; begin < n; begin += 4096) {
      const std::int64_t at = r * step + begin, count = n - begin < 4096 ? n - begin : 4096;
      std::int64_t i = 0;
      for (; i + 2 * width <= count; i += 2 * width) {  // two sums in turn: one addition would wait for the other
        add_terms<Kind>(x + at + i, dy + at + i, shift, a, b);
        add_terms<Kind>(x + at + i + width, dy + at + i + width, shift, odd_a, odd_b);
      }
      if (i + width <= count) {
        add_terms<Kind>(x + at + i, dy + at + i, shift, a, b);
        i += width;
      }
      if (i < count) {
        f32 last_a{}, last_b{};
        add_terms<Kind>(x + at + i, dy + at + i, shift, last_a, last_b);
        odd_a += as_float(bits(last_a) & tail);
        odd_b += as_float(bits(last_b) & tail);
      }
      open += count;
      if (open < 4096 && (r + 1 < runs || begin + count < n)) continue;
      a += odd_a;
      b += odd_b;
      for (int k = 0; k < width; ++k) {
        total += static_cast<double>(a[k]);
        other += static_cast<double>(b[k]);
      }
      a = b = odd_a = odd_b = f32{};
      open = 0;
    }
  sums[0] = total;
  if constexpr (Kind == ChannelSum::products) sums[1] = other;
}

/// y = (x − shift)·scale + offset of `room` numbers per run.
inline void channel_affine(const float* x, float* y, std::int64_t runs, std::int64_t room, std::int64_t step,
                           float shift, float scale, float offset) {
  for (std::int64_t r = 0; r < runs; ++r)
    for (std::int64_t i = 0; i < room; i += width)
      store_part(y + r * step + i, (load(x + r * step + i) - shift) * scale + offset, room - i);
}

/// dx = scale·(dy − mean_dy − (x − shift)·slope)
inline void channel_dx(const float* dy, const float* x, float* dx, std::int64_t runs, std::int64_t room,
                       std::int64_t step, float shift, float scale, float mean_dy, float slope) {
  for (std::int64_t r = 0; r < runs; ++r)
    for (std::int64_t i = 0; i < room; i += width) {
      const std::int64_t at = r * step + i;
      store_part(dx + at, (load(dy + at) - mean_dy - (load(x + at) - shift) * slope) * scale, room - i);
    }
}
