// Var: the handle to a recorded value, and record(), the whole interface of an op to the engine.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "../core/mask.hpp"
#include "../core/tensor.hpp"

namespace deepstruct {

inline namespace DEEPSTRUCT_BACKENDS {

struct Node;

/// Handle to a node of the recorded computation: a value, its gradient, and how it came about. Copies share the node.
class Var {
 public:
  /// The empty handle.
  Var() = default;
  /// A constant.
  Var(Tensor value);  // NOLINT: every op takes a Tensor where it takes a Var
  explicit Var(std::shared_ptr<Node> node);
  [[gnu::noinline]] Var(const Var&) = default;
  Var(Var&&) noexcept = default;
  Var& operator=(const Var&) = default;
  [[gnu::noinline]] Var& operator=(Var&&) noexcept = default;
  [[gnu::noinline]] ~Var() = default;

  const Tensor& value() const;
  /// The value, to change in place between recordings (by an optimizer, a pruner, a loader).
  Tensor& mutable_value() const;
  const Shape& shape() const { return value().shape(); }
  std::int64_t size() const { return value().size(); }
  Device device() const { return value().device(); }
  /// The only element; throws unless there is exactly one.
  float item() const { return value().item(); }

  /// True if backward() computes a gradient for it.
  bool wants_grad() const;
  /// True once backward() has reached this leaf since the last clear_grad().
  bool has_grad() const;
  /// The gradient that backward() accumulated in this leaf; throws if there is none.
  const Tensor& grad() const;
  Tensor& mutable_grad() const;
  void clear_grad() const;

  explicit operator bool() const { return node_ != nullptr; }
  const std::shared_ptr<Node>& node() const { return node_; }
  friend bool operator==(const Var&, const Var&) = default;

 private:
  friend struct Node;
  std::shared_ptr<Node> node_;
};

}  // namespace DEEPSTRUCT_BACKENDS

/// A few Vars, from the pool: inputs of a node, gradients of a rule.
using Vars = pool_vector<Var>;

/// One named attribute of a recorded op: a stride, an axis, a mask, or what only ops of a kind know (a DagWiring).
struct Attribute {
  std::string_view name;
  std::variant<std::int64_t, double, Shape, Mask, Draw, Indices, std::shared_ptr<const void>> value;
};
using Attributes = pool_vector<Attribute>;

/// The backward rule of an op: from dy, y and the inputs x it fills dx[k] for every x[k] that wants a gradient (others
/// may stay empty). It runs only if at least one does. Written with ops and capturing attributes only, so that
/// derivatives are differentiable again and no cycle can form.
class Rule {
 public:
  Rule() = default;
  Rule(const Rule&) = delete;
  Rule& operator=(const Rule&) = delete;
  ~Rule() { clear(); }
  explicit operator bool() const { return object_ != nullptr; }
  void clear() {
    if (!object_) return;
    if (type_->destroy) type_->destroy(object_);
    BufferPool::instance().give(std::exchange(object_, nullptr), type_->size);
  }
  void operator()(const Var& dy, const Var& y, std::span<const Var> x, std::span<Var> dx) const {
    type_->call(object_, dy, y, x, dx);
  }

 private:
  friend class NewRule;
  struct Type {
    std::size_t size;
    void (*move)(void* to, void* from);  // null: as bytes
    void (*destroy)(void*);              // null: nothing to do
    void (*call)(const void*, const Var&, const Var&, std::span<const Var>, std::span<Var>);
  };
  template <class F>
  static constexpr Type type_of() {
    Type type{sizeof(F), nullptr, nullptr,
              [](const void* f, const Var& dy, const Var& y, std::span<const Var> x, std::span<Var> dx) {
                (*static_cast<const F*>(f))(dy, y, x, dx);
              }};
    if constexpr (!std::is_trivially_copyable_v<F>)
      type.move = [](void* to, void* from) { ::new (to) F(std::move(*static_cast<F*>(from))); };
    if constexpr (!std::is_trivially_destructible_v<F>) type.destroy = [](void* f) { static_cast<F*>(f)->~F(); };
    return type;
  }
  template <class F>
  static constexpr Type type = type_of<F>();

  void* object_ = nullptr;
  const Type* type_ = nullptr;
};

/// A rule on its way into a node, by reference: any callable, seen as one type, so that the compiler makes one record()
/// for all ops.
class NewRule {
 public:
  template <class F>
  NewRule(F&& f)  // NOLINT: a rule is written where it is recorded
      : object_(const_cast<void*>(static_cast<const void*>(&f))), type_(&Rule::type<std::remove_cvref_t<F>>) {
    static_assert(!std::is_lvalue_reference_v<F>, "a rule is moved from: pass a temporary");
  }
  /// Puts the rule where there was none.
  void move_to(Rule& rule) const {
    rule.object_ = BufferPool::instance().take(type_->size);
    rule.type_ = type_;
    if (type_->move)
      type_->move(rule.object_, object_);
    else
      std::memcpy(rule.object_, object_, type_->size);
  }

 private:
  void* object_;
  const Rule::Type* type_;
};

/// One recorded value. Users hold it through Var only.
struct DEEPSTRUCT_BACKENDS::Node {
  Tensor value;
  Tensor grad;  // of leaves; shape [0] until backward() reaches it
  bool wants_grad = false;
  bool has_grad = false;
  std::uint64_t order = 0;  // rises along every edge of the tape
  std::string_view op = "leaf";
  Attributes attributes;
  Vars inputs;
  Rule rule;

  Node() = default;
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();
};

namespace detail {

/// Creation count of all nodes. At namespace scope: a static inside a template would count per type (and lose
/// gradients).
inline std::atomic<std::uint64_t> node_count = 0;

inline std::shared_ptr<Node> make_node(Tensor value) {
  auto node = std::allocate_shared<Node>(PoolAllocator<Node>());
  node->value = std::move(value);
  node->order = node_count.fetch_add(1, std::memory_order_relaxed) + 1;
  return node;
}

/// What this thread records now.
struct Recording {
  bool gradients = true;
  pool_vector<std::shared_ptr<Node>>* trace = nullptr;  // set while trace() runs
  /// Set by who asks which leaves backward() reaches: they themselves, and their order.
  pool_vector<std::pair<const Node*, std::uint64_t>>* leaves = nullptr;
};
inline thread_local Recording tape_state;

}  // namespace detail

// Iterative: a chain of a million nodes must not recurse through its handles.
inline Node::~Node() {
  Vars dying = std::move(inputs);
  while (!dying.empty()) {
    const Var last = std::move(dying.back());
    dying.pop_back();
    if (last.node_.use_count() != 1) continue;
    for (Var& v : last.node_->inputs)
      dying.push_back(std::move(v));  // add(x, x) holds x twice: the second handle is the last
    last.node_->inputs.clear();
  }
}
inline Var::Var(std::shared_ptr<Node> node) : node_(std::move(node)) {}
inline Var::Var(Tensor value) : node_(detail::make_node(std::move(value))) {}
inline const Tensor& Var::value() const {
  check(node_ != nullptr, "Var: an empty handle has no value");
  return node_->value;
}
inline Tensor& Var::mutable_value() const {
  check(node_ != nullptr, "Var: an empty handle has no value");
  return node_->value;
}
inline bool Var::wants_grad() const { return node_ && node_->wants_grad; }
inline bool Var::has_grad() const { return node_ && node_->has_grad; }
inline const Tensor& Var::grad() const { return mutable_grad(); }
inline Tensor& Var::mutable_grad() const {
  check(has_grad(), "grad: no gradient has reached this value (shape ", shape(), ")");
  return node_->grad;
}
inline void Var::clear_grad() const {
  if (node_) node_->has_grad = false;
}

/// A leaf whose gradient backward() computes.
inline Var variable(Tensor value) {
  Var v(std::move(value));
  v.node()->wants_grad = true;
  return v;
}

/// The same value without its history: a constant.
inline Var detach(const Var& x) { return Var(x.value()); }

/// While it lives, this thread records no gradients: `no_grad guard;`
class no_grad {
 public:
  no_grad() : before_(std::exchange(detail::tape_state.gradients, false)) {}
  ~no_grad() { detail::tape_state.gradients = before_; }
  no_grad(const no_grad&) = delete;
  no_grad& operator=(const no_grad&) = delete;

 private:
  bool before_;
};

/// True while this thread records gradients.
inline bool grad_enabled() { return detail::tape_state.gradients; }

/// True while rules should be written as compositions of ops, not call a fused kernel: gradients or a trace are
/// recorded.
inline bool recording() { return detail::tape_state.gradients || detail::tape_state.trace; }

/// The inputs of an op while it is recorded, by reference: up to three of which empty handles are left out, or any
/// number.
class Inputs {
 public:
  Inputs(std::span<const Var> all) : all_(all) {}  // NOLINT: any way of naming inputs
  Inputs(const Vars& all) : all_(all) {}           // NOLINT
  Inputs(std::initializer_list<std::reference_wrapper<const Var>> few) {
    check(few.size() <= few_.size(), "record: more than three inputs are passed as a span (", few.size(), ")");
    for (const Var& x : few)
      if (x) few_[count_++] = &x;
  }
  std::size_t size() const { return count_ > 0 ? count_ : all_.size(); }
  const Var& operator[](std::size_t k) const { return count_ > 0 ? *few_[k] : all_[k]; }

 private:
  std::span<const Var> all_;
  std::array<const Var*, 3> few_{};
  std::size_t count_ = 0;
};

/// The result of an op: `value`, remembered with its inputs and rule if any input wants a gradient, or while a trace is
/// made; else nothing but the value is kept.
[[gnu::noinline]] inline Var record(std::string_view op, Tensor value, const Inputs& inputs,
                                    std::span<const Attribute> attributes, const NewRule& rule) {
  Var made(std::move(value));
  Node& y = *made.node();
  for (std::size_t k = 0; k < inputs.size(); ++k) y.wants_grad |= inputs[k].wants_grad();
  y.wants_grad &= grad_enabled();
  if (!y.wants_grad && !detail::tape_state.trace) return made;
  y.op = op;
  y.inputs.reserve(inputs.size());
  for (std::size_t k = 0; k < inputs.size(); ++k) y.inputs.push_back(inputs[k]);
  y.attributes = Attributes(attributes.begin(), attributes.end());
  if (detail::tape_state.trace) detail::tape_state.trace->push_back(made.node());
  if (y.wants_grad) rule.move_to(y.rule);
  return made;
}
inline Var record(std::string_view op, Tensor value, const Inputs& inputs, std::initializer_list<Attribute> attributes,
                  const NewRule& rule) {
  return record(op, std::move(value), inputs, std::span(attributes.begin(), attributes.size()), rule);
}

/// The same value on a device; its gradient goes back the same way. The value itself where it is there already.
[[nodiscard]] inline Var to(const Var& x, Device device) {
  if (x.device() == device) return x;
  return record(
      "to", to(x.value(), device), {x}, {},
      [](const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) { dx[0] = to(dy, in[0].device()); });
}

}  // namespace deepstruct
