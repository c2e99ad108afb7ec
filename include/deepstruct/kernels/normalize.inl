// Bodies of softmax and layer norm: statistics per sample, so per lane; no horizontal operation. Included once per
// instruction set.

/// log-softmax or softmax over `terms` entries at distance `step`, for up to `width` lanes.
inline void softmax_lanes(const float* x, float* y, std::int64_t terms, std::int64_t step, std::int64_t lanes,
                          bool logarithm) {
  f32 top = load(x);
  for (std::int64_t k = 1; k < terms; ++k) top = f2(fn::maximum{}, top, load(x + k * step));
  const f32 infinite =
      top == -__builtin_inff() ? f32{} : top;  // a row of −∞ gives NaN, as (−∞) − (−∞) would not be wanted here
  f32 sum{};
  for (std::int64_t k = 0; k < terms; ++k) sum += exp(load(x + k * step) - infinite);
  if (logarithm) {
    const f32 total = infinite + log(sum);
    for (std::int64_t k = 0; k < terms; ++k) store_part(y + k * step, load(x + k * step) - total, lanes);
  } else {
    const f32 scale = 1.0f / sum;
    for (std::int64_t k = 0; k < terms; ++k)
      store_part(y + k * step, exp(load(x + k * step) - infinite) * scale, lanes);
  }
}

/// dx = scale·exp(log_p) over `terms` rows, for up to `width` lanes.
inline void scaled_exp_lanes(const float* log_p, const float* scale, float* dx, std::int64_t terms, std::int64_t step,
                             std::int64_t lanes) {
  const f32 by = load(scale);
  for (std::int64_t k = 0; k < terms; ++k) store_part(dx + k * step, exp(load(log_p + k * step)) * by, lanes);
}

/// y = (x − mean)/√(var + eps)·w + b over `terms` consecutive rows, for up to `width` lanes; writes mean and 1/√(var +
/// eps).
inline void layer_norm_lanes(const float* x, const float* w, const float* b, float* y, float* mean, float* rstd,
                             std::int64_t terms, std::int64_t step, std::int64_t lanes, float eps) {
  f32 sum{};
  for (std::int64_t k = 0; k < terms; ++k) sum += load(x + k * step);
  const float inverse = 1.0f / static_cast<float>(terms);
  const f32 m = sum * inverse;
  f32 squares{};
  for (std::int64_t k = 0; k < terms; ++k) {
    const f32 d = load(x + k * step) - m;
    squares += d * d;
  }
  const f32 r = 1.0f / sqrt(squares * inverse + eps);
  for (std::int64_t k = 0; k < terms; ++k) {
    f32 v = (load(x + k * step) - m) * r;
    if (w) v *= w[k];
    if (b) v += b[k];
    store_part(y + k * step, v, lanes);
  }
  store_part(mean, m, lanes);
  store_part(rstd, r, lanes);
}

/// dx of layer norm: r·(g − mean(g) − x̂·mean(g·x̂)) with g = dy·w and x̂ = (x − mean)·r.
inline void layer_norm_dx_lanes(const float* dy, const float* x, const float* w, const float* mean, const float* rstd,
                                float* dx, std::int64_t terms, std::int64_t step, std::int64_t lanes) {
  const f32 m = load(mean), r = load(rstd);
  f32 plain{}, weighted{};
  for (std::int64_t k = 0; k < terms; ++k) {
    f32 g = load(dy + k * step);
    if (w) g *= w[k];
    plain += g;
    weighted += g * ((load(x + k * step) - m) * r);
  }
  const float inverse = 1.0f / static_cast<float>(terms);
  plain *= inverse;
  weighted *= inverse;
  for (std::int64_t k = 0; k < terms; ++k) {
    f32 g = load(dy + k * step);
    if (w) g *= w[k];
    store_part(dx + k * step, r * (g - plain - (load(x + k * step) - m) * r * weighted), lanes);
  }
}
