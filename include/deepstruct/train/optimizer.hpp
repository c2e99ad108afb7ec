// Optimizers: SGD, Adam, AdamW, RMSprop, Adagrad. They hold hyper-parameters and the step count; what they remember of
// a parameter lives in the parameter's slots.
#pragma once

#include <cmath>

#include "../kernels/elementwise.hpp"
#include "../kernels/update.hpp"
#include "../nn/module.hpp"
#include "../ops/linear.hpp"

namespace deepstruct {

namespace detail {

/// Calls update(param) for every parameter with a gradient, then forgets the gradient. Entries behind a frozen mask
/// stay.
template <class M, class F>
void step_parameters(M& model, const char* op, F&& update) {
  if constexpr (has_cuda)
    check(!runtime::capturing, op, ": captured work cannot hold a step, whose rates change (step after the launch)");
  std::int64_t count = 0;
  each_param(model, [&](Param& p) {
    ++count;
    if (!p.has_grad()) return;
    common_device(op, p.value(), p.grad());
    for (const Param::Slot& s : p.slots()) common_device(op, p.value(), s.value);
    if (const Mask* live = p.live()) {
      Param before = p;
      update(p);
      const auto keep = [&](Tensor& now, const Tensor& was) {
        if constexpr (has_cuda)
          if (now.device() != Device::cpu) {
            no_grad guard;
            const Var edges = reshape(place_edges(Tensor::ones({live->nnz()}, now.device()), *live), now.shape());
            now.assign(where(detail::above(edges, 0), now, was).value());
            return;
          }
        for (std::int64_t r = 0; r < live->rows(); ++r)
          for (std::int64_t c = 0; c < live->cols(); ++c)
            if (!live->contains(r, c)) now(r, c) = was(r, c);
      };
      keep(p.mutable_value(), before.value());
      for (const Param::Slot& s : p.slots()) keep(p.slot(s.name), before.slot(s.name));  // new slots: zeros
    } else {
      update(p);
    }
    p.clear_grad();
  });
  check(count > 0, op, ": the model has no parameters (0)");
}

inline void check_rates(const char* op, double lr, double weight_decay) {
  check(lr >= 0, op, ": the learning rate must not be negative (", lr, ")");
  check(weight_decay >= 0, op, ": the weight decay must not be negative (", weight_decay, ")");
}
inline void check_unit(const char* op, const char* what, double x) {
  check(x >= 0 && x < 1, op, ": ", what, " must lie in [0, 1) (", x, ")");
}

}  // namespace detail

/// Stochastic gradient descent: w ← w − lr·d with d = g + λw, momentum m ← μm + (1 − τ)d (Sutskever et al. 2013).
struct SGD {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;

  /// Steps every parameter that has a gradient, and clears the gradients. Throws on invalid settings or no parameters.
  template <class M>
  void step(M& model) {
    detail::check_rates("SGD", lr, weight_decay);
    check(momentum >= 0, "SGD: the momentum must not be negative (", momentum, ")");
    check(!nesterov || (momentum > 0 && dampening == 0), "SGD: Nesterov needs momentum and no dampening (", momentum,
          ", ", dampening, ")");
    detail::step_parameters(model, "SGD", [&](Param& p) {
      const bool first = momentum > 0 && !p.has_slot("momentum_buffer");
      float* buffer = momentum > 0 ? p.slot("momentum_buffer").data() : nullptr;
      const kernels::sgd_rule rule{static_cast<float>(lr),
                                   static_cast<float>(momentum),
                                   static_cast<float>(dampening),
                                   static_cast<float>(weight_decay),
                                   nesterov,
                                   first};
      on(p.value().device(), [&](auto device) {
        kernels::sgd_step(device, p.mutable_value().data(), p.grad().data(), buffer, p.shape().storage(), rule);
      });
    });
  }
};

namespace detail {

template <class M>
void adam_step(M& model, const char* op, double lr, double beta1, double beta2, double eps, double weight_decay,
               bool amsgrad, bool decoupled, std::int64_t& steps) {
  check_rates(op, lr, weight_decay);
  check_unit(op, "beta1", beta1);
  check_unit(op, "beta2", beta2);
  check(eps >= 0, op, ": eps must not be negative (", eps, ")");
  const double t = static_cast<double>(steps + 1);
  const kernels::adam_rule rule{
      .lr = static_cast<float>(lr),
      .beta1 = static_cast<float>(beta1),
      .beta2 = static_cast<float>(beta2),
      .eps = static_cast<float>(eps),
      .weight_decay = static_cast<float>(weight_decay),
      .rest1 = static_cast<float>(1 - beta1),
      .rest2 = static_cast<float>(1 - beta2),
      .step_size = static_cast<float>(lr / (1 - std::pow(beta1, t))),
      .root = static_cast<float>(std::sqrt(1 - std::pow(beta2, t))),
      .decoupled = decoupled,
  };
  step_parameters(model, op, [&](Param& p) {
    // Slots first: making one may move the others.
    p.slot("exp_avg"), p.slot("exp_avg_sq");
    float* largest = amsgrad ? p.slot("max_exp_avg_sq").data() : nullptr;
    float *m = p.slot("exp_avg").data(), *v = p.slot("exp_avg_sq").data();
    on(p.value().device(), [&](auto device) {
      kernels::adam_step(device, p.mutable_value().data(), p.grad().data(), m, v, largest, p.shape().storage(), rule);
    });
  });
  ++steps;
}

}  // namespace detail

/// Adam (Kingma & Ba 2015), with L2 weight decay; amsgrad as in Reddi et al. 2018.
struct Adam {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool amsgrad = false;
  std::int64_t steps = 0;  ///< steps taken so far

  /// Steps every parameter that has a gradient, and clears the gradients. Throws on invalid settings or no parameters.
  template <class M>
  void step(M& model) {
    detail::adam_step(model, "Adam", lr, beta1, beta2, eps, weight_decay, amsgrad, false, steps);
  }
};

/// Adam with decoupled weight decay w ← w − lr·λ·w (Loshchilov & Hutter 2019).
struct AdamW {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  bool amsgrad = false;
  std::int64_t steps = 0;  ///< steps taken so far

  /// Steps every parameter that has a gradient, and clears the gradients. Throws on invalid settings or no parameters.
  template <class M>
  void step(M& model) {
    detail::adam_step(model, "AdamW", lr, beta1, beta2, eps, weight_decay, amsgrad, true, steps);
  }
};

/// RMSprop: w ← w − lr·g/(√v + eps), v ← αv + (1 − α)g² (Hinton 2012), optionally centred and with momentum.
struct RMSprop {
  double lr = 1e-2, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0;
  bool centered = false;

  /// Steps every parameter that has a gradient, and clears the gradients. Throws on invalid settings or no parameters.
  template <class M>
  void step(M& model) {
    detail::check_rates("RMSprop", lr, weight_decay);
    check(alpha >= 0 && eps >= 0 && momentum >= 0, "RMSprop: alpha, eps and momentum must not be negative (", alpha,
          ", ", eps, ", ", momentum, ")");
    const kernels::rmsprop_rule rule{static_cast<float>(lr), static_cast<float>(alpha), static_cast<float>(eps),
                                     static_cast<float>(weight_decay), static_cast<float>(momentum)};
    detail::step_parameters(model, "RMSprop", [&](Param& p) {
      p.slot("square_avg");
      if (centered) p.slot("grad_avg");
      if (momentum > 0) p.slot("momentum_buffer");
      float* mean = centered ? p.slot("grad_avg").data() : nullptr;
      float* buffer = momentum > 0 ? p.slot("momentum_buffer").data() : nullptr;
      on(p.value().device(), [&](auto device) {
        kernels::rmsprop_step(device, p.mutable_value().data(), p.grad().data(), p.slot("square_avg").data(), mean,
                              buffer, p.shape().storage(), rule);
      });
    });
  }
};

/// Adagrad: w ← w − lr·g/(√Σg² + eps) (Duchi et al. 2011).
struct Adagrad {
  double lr = 1e-2, lr_decay = 0, eps = 1e-10, weight_decay = 0;
  std::int64_t steps = 0;  ///< steps taken so far

  /// Steps every parameter that has a gradient, and clears the gradients. Throws on invalid settings or no parameters.
  template <class M>
  void step(M& model) {
    detail::check_rates("Adagrad", lr, weight_decay);
    check(lr_decay >= 0 && eps >= 0, "Adagrad: lr_decay and eps must not be negative (", lr_decay, ", ", eps, ")");
    const double rate = lr / (1 + static_cast<double>(steps) * lr_decay);
    detail::step_parameters(model, "Adagrad", [&](Param& p) {
      float* sum = p.slot("sum").data();
      on(p.value().device(), [&](auto device) {
        kernels::adagrad_step(device, p.mutable_value().data(), p.grad().data(), sum, p.shape().storage(),
                              {static_cast<float>(rate), static_cast<float>(eps), static_cast<float>(weight_decay)});
      });
    });
    ++steps;
  }
};

/// Scales all gradients by min(1, max_norm/(norm + 1e-6)) and returns their common norm √Σg² (Pascanu et al. 2013).
template <class M>
double clip_grad_norm(M& model, double max_norm) {
  check(max_norm >= 0, "clip_grad_norm: the norm must not be negative (", max_norm, ")");
  no_grad guard;
  Vars sums;  // all of them before the first is read, so that a GPU is waited for once
  each_param(model, [&](Param& p) {
    if (p.has_grad()) sums.push_back(sum(square(Var(p.grad()))));
  });
  double squares = 0;
  for (const Var& s : sums) squares += double{s.item()};
  const double total = std::sqrt(squares), factor = max_norm / (total + 1e-6);
  if (factor < 1)
    each_param(model, [&](Param& p) {
      if (!p.has_grad()) return;
      float* g = p.mutable_grad().data();
      on(p.grad().device(), [&](auto device) {
        kernels::map<kernels::fn::affine>(device, g, g, p.shape().storage(), static_cast<float>(factor), 0);
      });
    });
  return total;
}

}  // namespace deepstruct
