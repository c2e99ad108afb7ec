// Bodies of the optimizer steps; all arrays hold whole vectors. Included once per instruction set.

/// SGD with momentum (Sutskever et al. 2013, as PyTorch writes it).
inline void sgd_step(float* w, const float* g, float* momentum, std::int64_t n, sgd_rule rule) {
  for (std::int64_t i = 0; i < n; i += width) {
    const f32 weight = load(w + i);
    f32 d = load(g + i) + weight * rule.weight_decay;
    if (momentum) {
      const f32 m = rule.first ? d : load(momentum + i) * rule.momentum + d * (1.0f - rule.dampening);
      store(momentum + i, m);
      d = rule.nesterov ? d + m * rule.momentum : m;
    }
    store(w + i, weight - d * rule.lr);
  }
}

/// Adam, in PyTorch's order of operations: where |g| has a kink the last bit decides the way (Kingma & Ba 2015), AdamW
/// (Loshchilov & Hutter 2019), AMSGrad (Reddi et al. 2018, largest not null).
inline void adam_step(float* w, const float* g, float* m, float* v, float* largest, std::int64_t n, adam_rule rule) {
  for (std::int64_t i = 0; i < n; i += width) {
    f32 weight = load(w + i), d = load(g + i);
    if (rule.decoupled)
      weight *= 1.0f - rule.lr * rule.weight_decay;
    else
      d += weight * rule.weight_decay;
    const f32 mean = load(m + i) * rule.beta1 + d * rule.rest1;
    const f32 square = load(v + i) * rule.beta2 + d * rule.rest2 * d;
    store(m + i, mean);
    store(v + i, square);
    f32 bound = square;
    if (largest) {
      bound = f2(fn::maximum{}, load(largest + i), square);
      store(largest + i, bound);
    }
    store(w + i, weight - mean * rule.step_size / (sqrt(bound) / rule.root + rule.eps));
  }
}

/// RMSprop (Hinton 2012), optionally centred and with momentum.
inline void rmsprop_step(float* w, const float* g, float* v, float* mean, float* momentum, std::int64_t n,
                         rmsprop_rule rule) {
  for (std::int64_t i = 0; i < n; i += width) {
    const f32 weight = load(w + i), d = load(g + i) + weight * rule.weight_decay;
    const f32 square = load(v + i) * rule.alpha + d * d * (1.0f - rule.alpha);
    store(v + i, square);
    f32 variance = square;
    if (mean) {
      const f32 a = load(mean + i) * rule.alpha + d * (1.0f - rule.alpha);
      store(mean + i, a);
      variance -= a * a;
    }
    f32 step = d / (sqrt(variance) + rule.eps);
    if (momentum) {
      step += load(momentum + i) * rule.momentum;
      store(momentum + i, step);
    }
    store(w + i, weight - step * rule.lr);
  }
}

/// Adagrad (Duchi et al. 2011).
inline void adagrad_step(float* w, const float* g, float* v, std::int64_t n, adagrad_rule rule) {
  for (std::int64_t i = 0; i < n; i += width) {
    const f32 weight = load(w + i), d = load(g + i) + weight * rule.weight_decay;
    const f32 sum = load(v + i) + d * d;
    store(v + i, sum);
    store(w + i, weight - d * rule.lr / (sqrt(sum) + rule.eps));
  }
}
