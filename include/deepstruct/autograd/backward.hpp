// backward() and grad(): reverse-mode differentiation of what was recorded, without recursion and in a fixed order.
#pragma once

#include <algorithm>
#include <functional>
#include <map>

#include "../kernels/elementwise.hpp"
#include "var.hpp"

namespace deepstruct {

namespace detail {

/// a + b of equal shapes, as an op. The engine needs this one itself: gradients of a value used twice add up.
inline Var accumulate(const Var& a, const Var& b) {
  Tensor y = a.value();
  common_device("backward", a, b);
  check(a.shape() == b.shape(), "backward: gradients of one value differ in shape (", a.shape(), " and ", b.shape(),
        ")");
  on(y.device(), [&](auto device) { kernels::add_into(device, b.value().data(), y.data(), y.shape().storage()); });
  return record("add", std::move(y), {a, b}, {},
                [](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = dx[1] = dy; });
}

/// A value that gradients are arriving at, and their sum so far.
struct Pending {
  Var value;
  Var gradient;
};

/// Runs the rules from y down to nodes not older than `oldest`. Calls arrived(node, gradient) for every node with its
/// whole gradient, newest first: all that uses a value is newer than the value, so what is newest has its sum complete.
inline void pull_back(const Var& y, Var dy, std::uint64_t oldest, bool release,
                      const std::function<void(Node&, Var&)>& arrived) {
  if (!y.wants_grad()) return;
  std::map<std::uint64_t, Pending, std::greater<>, PoolAllocator<std::pair<const std::uint64_t, Pending>>> pending;
  pending.emplace(y.node()->order, Pending{y, std::move(dy)});
  Vars dx;
  while (!pending.empty()) {
    Pending newest = std::move(pending.begin()->second);
    pending.erase(pending.begin());
    Node& n = *newest.value.node();
    arrived(n, newest.gradient);
    if (!n.rule) {
      check(n.inputs.empty() && n.op == "leaf", "backward: the tape of this value was released (op ", n.op,
            "); keep it with {.keep_tape = true}");
      continue;
    }
    dx.assign(n.inputs.size(), Var());
    n.rule(newest.gradient, newest.value, n.inputs, dx);
    for (std::size_t k = 0; k < dx.size(); ++k) {
      const Var& x = n.inputs[k];
      if (!dx[k] || !x.wants_grad() || x.node()->order < oldest) continue;
      check(dx[k].shape() == x.shape(), "backward: rule of ", n.op, " gives a gradient of another shape (",
            dx[k].shape(), " for ", x.shape(), ")");
      common_device(n.op, x, dx[k]);
      Pending& at = pending[x.node()->order];
      at.value = x;
      at.gradient = at.gradient ? accumulate(at.gradient, dx[k]) : std::move(dx[k]);
    }
    if (release) {
      n.rule.clear();
      n.inputs.clear();
      n.attributes.clear();
    }
  }
}

}  // namespace detail

/// Options of backward.
struct BackwardOptions {
  bool keep_tape = false;  ///< keep what was recorded, so that backward can run again
};

/// Adds dL/dx to grad() of every leaf x that the scalar `loss` L depends on, in a fixed order, and releases the tape.
/// Throws unless loss has exactly one element and depends on a leaf that wants a gradient.
inline void backward(const Var& loss, BackwardOptions options = {}) {
  check(loss && loss.size() == 1, "backward: the loss must have exactly one element (shape ",
        loss ? loss.shape() : Shape{0}, ")");
  check(loss.wants_grad(), "backward: the loss depends on nothing that wants a gradient (shape ", loss.shape(), ")");
  no_grad guard;
  detail::pull_back(loss, Var(Tensor::ones(loss.shape(), loss.device())), 0, !options.keep_tape, [](Node& n, Var& dx) {
    if (n.op != "leaf") return;
    if (detail::tape_state.leaves) detail::tape_state.leaves->emplace_back(&n, n.order);
    if (!n.has_grad)
      n.grad = dx.node().use_count() == 1 ? std::move(dx.mutable_value()) : dx.value();  // nobody else's: no copy
    else if (common_device("backward", n.grad, dx); true)
      on(n.grad.device(),
         [&](auto device) { kernels::add_into(device, dx.value().data(), n.grad.data(), n.grad.shape().storage()); });
    n.has_grad = true;
  });
}

/// Options of grad.
struct GradOptions {
  bool create_graph = false;  ///< record the computation of the gradients, so that they can be differentiated again
  Var seed = {};              ///< dL/dy; ones by default, which needs a scalar y
};

/// d⟨seed, y⟩/dx for every x given; touches no .grad() and keeps the tape. Zero where y does not depend on x.
inline Vars grad(const Var& y, std::span<const Var> x, GradOptions options = {}) {
  check(options.seed || y.size() == 1, "grad: y must have exactly one element unless a seed is given (shape ",
        y.shape(), ")");
  check(!options.seed || options.seed.shape() == y.shape(), "grad: seed and y differ in shape (",
        options.seed ? options.seed.shape() : Shape{0}, " and ", y.shape(), ")");
  common_device("grad", y, options.seed);
  std::uint64_t oldest = y.node()->order;
  for (const Var& v : x) {
    check(static_cast<bool>(v), "grad: an x is the empty handle (", x.size(), " given)");
    oldest = std::min(oldest, v.node()->order);
  }
  Vars result(x.size());
  const bool before = std::exchange(detail::tape_state.gradients, options.create_graph);
  struct Restore {
    bool before;
    ~Restore() { detail::tape_state.gradients = before; }
  } restore{before};
  Var seed = options.seed ? options.seed : Var(Tensor::ones(y.shape(), y.device()));
  detail::pull_back(y, std::move(seed), oldest, false, [&](Node& n, Var& dx) {
    for (std::size_t k = 0; k < x.size(); ++k)
      if (x[k].node().get() == &n) result[k] = dx;
  });
  for (std::size_t k = 0; k < x.size(); ++k)
    if (!result[k]) result[k] = Var(Tensor::zeros(x[k].shape(), x[k].device()));
  return result;
}
inline Vars grad(const Var& y, std::initializer_list<Var> x, GradOptions options = {}) {
  return grad(y, std::span<const Var>(x.begin(), x.size()), std::move(options));
}

}  // namespace deepstruct
