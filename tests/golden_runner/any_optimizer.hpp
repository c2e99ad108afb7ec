// An optimizer from its name and options as PyTorch calls them.
#pragma once

#include <variant>

#include "harness.hpp"

#include "deepstruct/train/optimizer.hpp"

namespace golden {

using AnyOptimizer = std::variant<ds::SGD, ds::Adam, ds::AdamW, ds::RMSprop, ds::Adagrad>;

namespace detail {

/// Takes the option if the optimizer has it; true if so.
template <class O>
bool take(O& o, const std::string& key, const Json& value) {
  const auto number = [&] { return to_number(value); };
  const auto flag = [&] { return value.get<bool>(); };
  if (key == "lr") return o.lr = number(), true;
  if (key == "weight_decay") return o.weight_decay = number(), true;
  if constexpr (requires { o.momentum; })
    if (key == "momentum") return o.momentum = number(), true;
  if constexpr (requires { o.dampening; })
    if (key == "dampening") return o.dampening = number(), true;
  if constexpr (requires { o.nesterov; })
    if (key == "nesterov") return o.nesterov = flag(), true;
  if constexpr (requires { o.beta1; })
    if (key == "betas") return o.beta1 = to_number(value.at(0)), o.beta2 = to_number(value.at(1)), true;
  if constexpr (requires { o.eps; })
    if (key == "eps") return o.eps = number(), true;
  if constexpr (requires { o.amsgrad; })
    if (key == "amsgrad") return o.amsgrad = flag(), true;
  if constexpr (requires { o.alpha; })
    if (key == "alpha") return o.alpha = number(), true;
  if constexpr (requires { o.centered; })
    if (key == "centered") return o.centered = flag(), true;
  if constexpr (requires { o.lr_decay; })
    if (key == "lr_decay") return o.lr_decay = number(), true;
  return key == "initial_accumulator_value" && number() == 0;
}

}  // namespace detail

/// Options that are not named keep their defaults; "name" is ignored.
inline AnyOptimizer make_optimizer(const std::string& name, const Json& config) {
  static const std::map<std::string, AnyOptimizer> named = {{"SGD", ds::SGD{}},
                                                            {"Adam", ds::Adam{}},
                                                            {"AdamW", ds::AdamW{}},
                                                            {"RMSprop", ds::RMSprop{}},
                                                            {"Adagrad", ds::Adagrad{}}};
  AnyOptimizer any = find_runner(named, "optimizer", name);
  for (const auto& entry : config.items()) {
    if (entry.key() == "name") continue;
    const bool known = std::visit([&](auto& o) { return detail::take(o, entry.key(), entry.value()); }, any);
    ds::check(known, "golden: ", name, " has no option ", entry.key(), " of value ", entry.value().dump());
  }
  return any;
}

template <class M>
void step(AnyOptimizer& any, M& model) {
  std::visit([&](auto& o) { o.step(model); }, any);
}

}  // namespace golden
