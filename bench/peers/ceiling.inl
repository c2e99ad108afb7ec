// Twelve independent chains of multiply-adds: what the cores can do at most. Included once per instruction set.

/// 24·width floating-point operations per round.
inline float multiply_add(std::int64_t rounds, float by) {
  f32 sum[12];
#pragma GCC unroll 12
  for (int k = 0; k < 12; ++k) sum[k] = splat(static_cast<float>(k));  // equal chains would be made one
  const f32 factor = splat(by), term = splat(1.0f);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < 12; ++k) sum[k] = sum[k] * factor + term;
  }
  f32 all{};
#pragma GCC unroll 12
  for (int k = 0; k < 12; ++k) all += sum[k];
  return all[0];
}
