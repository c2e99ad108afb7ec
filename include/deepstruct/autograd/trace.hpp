// trace(): the ordered list of everything a computation does; extraction, MAC counts and capture read it.
#pragma once

#include <unordered_map>
#include <vector>

#include "var.hpp"

namespace deepstruct {

/// One value of a trace: an op applied to earlier values, or a leaf (an input, a parameter, a constant).
struct Step {
  std::string_view op;      ///< "leaf" for values that were there before
  Attributes attributes;    ///< strides, axes, masks …
  std::vector<int> inputs;  ///< positions of the inputs in the trace
  Var value;                ///< what was computed
  std::string name;         ///< dotted name of a parameter, "input" for the example, else empty
};

/// Runs y = f(x) recording every op, fused ones as their parts, and returns all values in order; the last one is y.
template <class F>
std::vector<Step> trace_function(F&& f, const Var& x) {
  pool_vector<std::shared_ptr<Node>> nodes;
  struct Restore {
    pool_vector<std::shared_ptr<Node>>* before;
    ~Restore() { detail::tape_state.trace = before; }
  } restore{std::exchange(detail::tape_state.trace, &nodes)};
  const Var y = f(x);
  std::vector<Step> steps;
  std::unordered_map<const Node*, int> position;
  const auto add = [&](const std::shared_ptr<Node>& n, std::vector<int> inputs) {
    position.emplace(n.get(), static_cast<int>(steps.size()));
    const bool leaf = inputs.empty();
    steps.push_back({leaf ? "leaf" : n->op, leaf ? Attributes() : n->attributes, std::move(inputs), Var(n),
                     n == x.node() ? "input" : ""});
  };
  add(x.node(), {});
  for (const auto& n : nodes) {
    std::vector<int> inputs;
    for (const Var& in : n->inputs) {
      if (!position.contains(in.node().get())) add(in.node(), {});  // it was there before: a parameter or a constant
      inputs.push_back(position.at(in.node().get()));
    }
    add(n, std::move(inputs));
  }
  check(position.contains(y.node().get()), "trace: the function returned a value it did not compute (shape ", y.shape(),
        ")");
  steps.resize(static_cast<std::size_t>(position.at(y.node().get())) + 1);  // what came later y does not need
  return steps;
}

}  // namespace deepstruct
