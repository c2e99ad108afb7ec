// CapturedStep: forward pass, loss and backward pass that a GPU repeats by one launch.
#pragma once

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "../nn/module.hpp"

namespace deepstruct {

namespace detail {

/// Where the values of a model lie, and its masks, which it keeps alive.
struct ModelPlaces {
  pool_vector<const void*> values;
  pool_vector<std::int64_t> sizes;  // of their storage
  pool_vector<Mask> masks;

  template <class M>
  explicit ModelPlaces(const M& model) {
    struct Visitor {
      ModelPlaces& places;
      void operator()(const Path& path, const Param& p) const { (*this)(path, p.value()); }
      void operator()(const Path&, const Tensor& t) const {
        places.values.push_back(t.data());
        places.sizes.push_back(t.shape().storage());
      }
      void operator()(const Path&, const Mask& m) const { places.masks.push_back(m); }
    };
    walk(model, Visitor{*this});
  }
  friend bool operator==(const ModelPlaces& a, const ModelPlaces& b) {
    return a.values == b.values && a.sizes == b.sizes &&
           std::equal(a.masks.begin(), a.masks.end(), b.masks.begin(), b.masks.end(),
                      [](const Mask& m, const Mask& n) { return m.shares(n); });
  }
};

/// What f takes, as values, and what it returns.
template <class F>
struct StepTypes : StepTypes<decltype(&F::operator())> {};
template <class R, class F, class... In>
struct StepTypes<R (F::*)(In...) const> {
  using Result = R;
  using Inputs = std::tuple<std::remove_cvref_t<In>...>;
};

}  // namespace detail

/// A step f(inputs…) of training a model on a GPU, repeated without the host: its forward pass, loss and backward() run
/// as they are the first time, are captured as a CUDA graph the second, and are one launch from then on.
///
///   CapturedStep step(model, [&](const Tensor& x, const Indices& y) {
///     const Var loss = cross_entropy(model(x), y);
///     backward(loss);
///     return loss;
///   });
///   for (const auto& [x, y] : batches(data, 128, rng)) { loss = step(x, y); adam.step(model); }
///
/// Inputs are Tensors and Indices from any device, and copied to where f read the first ones; of another shape than
/// those they are not captured, but run as they are. All results are those of calls of f, bit by bit, also random ones,
/// which must come from ops (dropout) and this thread's default generator. What f returned, and the gradients, lie in
/// memory that the next call writes anew. The step is captured again when values or masks of the model are others, as
/// after pruning, or gradients are kept that were not when it was captured (add them up within f). After anything else
/// that f reads has changed (training mode, options), call forget(); what f does beside its ops it does when it is
/// captured only. A target of a loss that is no class, which cannot be seen, gives NaN. On the CPU each call is f's.
///
/// f and the model must outlive it. Throws Error where f waits for the device, replaces a value or mask of the model,
/// steps an optimizer, or reaches gradients of anything but the model's; all is as it was before the call then, but
/// what f did the first time.
template <class M, class F>
class CapturedStep {
  using Types = detail::StepTypes<F>;

 public:
  using Result = typename Types::Result;
  static_assert(!std::is_void_v<Result>, "a step returns what it computed: its loss");

  CapturedStep(M& model, F f) : model_(&model), f_(std::move(f)) {}
  CapturedStep(CapturedStep&&) noexcept = default;  // a copy's inputs would not be where the graph reads them
  CapturedStep& operator=(CapturedStep&&) noexcept = default;

  template <class... In>
  Result operator()(const In&... in) {
    static_assert(std::is_same_v<std::tuple<In...>, typename Types::Inputs>,
                  "a step is called with the Tensors and Indices that it takes");
    if constexpr (has_cuda)
      if (const Device device = device_of(*model_); device != Device::cpu) return on_gpu(device, in...);
    return f_(in...);
  }

  /// True if the next call, with inputs of the same shapes, is one launch.
  bool captured() const { return graph_ != nullptr; }
  /// Lets go of what is captured; the next call is as the first.
  void forget() {
    graph_.reset();
    result_.reset();
    places_.reset();
    gradients_.clear();
  }

 private:
  /// A parameter's gradient in the captured step, and whether there was one before it.
  struct Gradient {
    std::shared_ptr<Node> node;
    bool before = false;
    const void* data = nullptr;
    Tensor aside = {};  // itself, while another one is in its place
  };

  using Leaves = pool_vector<std::pair<const Node*, std::uint64_t>>;

  template <class... In>
  Result on_gpu(Device device, const In&... in) {
    const detail::ModelPlaces now(*model_);
    const bool known = places_ && *places_ == now && gradients_fit();
    const bool fits =
        inputs_ && std::apply([&](const auto&... at) { return ((at.shape() == in.shape()) && ...); }, *inputs_);
    if (known && graph_ && !fits) {
      lay_aside();
      return f_(to(in, device)...);
    }
    if (!known || !fits) {
      forget();
      inputs_.emplace(to(in, device)...);
      Result result = std::apply(f_, *inputs_);
      if (!(detail::ModelPlaces(*model_) == now)) fail_replaced();
      places_ = now;
      return result;
    }
    std::apply([&](auto&... at) { (at.assign(in), ...); }, *inputs_);
    if (!graph_) capture();
    launch();
    return *result_;
  }

  void capture() {
    const Draw first = next_draw();
    const std::uint64_t before = detail::node_count;
    Leaves leaves;
    each_param(*model_, [&](const Param& p) { gradients_.push_back({p.var().node(), p.has_grad()}); });
    try {
      std::exception_ptr problem;  // caught within, so that what f replaced is there to be put back
      const auto work = [&] {
        struct Noted {
          explicit Noted(Leaves* to) { detail::tape_state.leaves = to; }
          ~Noted() { detail::tape_state.leaves = nullptr; }
        } noted(&leaves);
        try {
          result_.emplace(std::apply(f_, *inputs_));
        } catch (...) {
          problem = std::current_exception();
        }
      };
      if constexpr (has_cuda) graph_ = std::make_shared<runtime::Capture>(work, first, "CapturedStep");
      const bool replaced = !(detail::ModelPlaces(*model_) == *places_);
      if (replaced) put_back();
      if (problem) std::rethrow_exception(problem);
      if (replaced) fail_replaced();
      draws_ = next_draw().number - first.number;
      if constexpr (has_cuda)
        check(graph_->draws() <= draws_, "CapturedStep: the step draws from another generator than the thread's (draw ",
              graph_->draws(), " of ", draws_, ")");
      for (const auto& [leaf, order] : leaves)
        check(order > before || std::any_of(gradients_.begin(), gradients_.end(),
                                            [leaf = leaf](const Gradient& g) { return g.node.get() == leaf; }),
              "CapturedStep: the step reaches a gradient that is none of the model's (", leaves.size(), " reached)");
    } catch (...) {
      for (const Gradient& g : gradients_) g.node->has_grad = g.before;
      default_rng() = Rng(first.seed, first.number);
      forget();
      throw;
    }
    default_rng() = Rng(first.seed, first.number);
    std::erase_if(gradients_, [&](const Gradient& g) {  // those that the step has nothing to do with
      return std::none_of(leaves.begin(), leaves.end(), [&](const auto& leaf) { return leaf.first == g.node.get(); });
    });
    for (Gradient& g : gradients_) {
      g.data = g.node->grad.data();
      g.node->has_grad = g.before;
    }
  }
  /// What stood in the places of before, which the capture keeps, into those of now.
  void put_back() {
    struct Visitor {
      const detail::ModelPlaces& before;
      std::size_t &value, &mask;
      void operator()(const Path&, Param& p) const { copy(p.mutable_value()); }
      void operator()(const Path&, Tensor& t) const { copy(t); }
      void operator()(const Path&, Mask& m) const {
        if (mask < before.masks.size()) m = before.masks[mask++];
      }
      void copy(Tensor& to) const {
        if (value == before.values.size()) return;
        const void* from = before.values[value];
        const bool fits = before.sizes[value++] == to.shape().storage();
        if constexpr (has_cuda)
          if (fits && from && from != to.data())
            runtime::copy_on_device(to.data(), from, static_cast<std::size_t>(to.shape().storage()) * sizeof(float),
                                    runtime::current_stream, "CapturedStep");
      }
    };
    std::size_t value = 0, mask = 0;
    walk(*model_, Visitor{*places_, value, mask});
  }
  [[noreturn]] void fail_replaced() const {
    fail("CapturedStep: the step puts values or masks of the model elsewhere, where the next one would not find them");
  }
  void launch() {
    const Draw first = next_draw();
    if constexpr (has_cuda) graph_->launch(runtime::current_stream, first, "CapturedStep");
    default_rng() = Rng(first.seed, first.number + draws_);
    for (Gradient& g : gradients_) {
      if (g.aside.size() > 0) g.node->grad = std::move(g.aside);
      g.node->has_grad = true;
    }
  }
  /// Whether gradients are where the captured step left them, and there only if they were before it.
  bool gradients_fit() const {
    if (!graph_) return true;
    for (const Gradient& g : gradients_) {
      const Tensor& own = g.aside.size() > 0 ? g.aside : g.node->grad;
      if (g.node->has_grad != g.before || own.data() != g.data) return false;
    }
    return true;
  }
  /// Takes the gradients of the captured step from where others will be put.
  void lay_aside() {
    for (Gradient& g : gradients_)
      if (!g.before && g.node->grad.data() == g.data) g.aside = std::move(g.node->grad);
  }
  static Draw next_draw() { return {default_rng().seed(), default_rng().draws()}; }

  M* model_;
  F f_;
  std::optional<typename Types::Inputs> inputs_;
  std::optional<detail::ModelPlaces> places_;
  std::shared_ptr<runtime::Capture> graph_;
  std::optional<Result> result_;
  pool_vector<Gradient> gradients_;
  std::uint64_t draws_ = 0;
};

}  // namespace deepstruct
