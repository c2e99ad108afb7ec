// Param: a trainable leaf with its optimizer slots; copies deeply, so that models are values.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "../autograd/backward.hpp"
#include "../kernels/move.hpp"

namespace deepstruct {

/// A leaf Var that copies deeply, together with what optimizers remember of it (moments, momenta).
///
/// `auto ticket = model;` is a snapshot because every Param in it copies its value and its slots (not its gradient).
class Param {
 public:
  /// Optimizer state of the shape of the value, under its name (at most 15 characters, so that it needs no memory of
  /// its own).
  struct Slot {
    std::string name;
    Tensor value;
  };

  Param() : Param(Tensor()) {}
  Param(Tensor value) : var_(variable(std::move(value))) {}  // NOLINT: a parameter is made from its value
  Param(const Param& other) : var_(variable(other.value())), slots_(other.slots_), live_(other.live_) {}
  Param(Param&&) noexcept = default;
  Param& operator=(const Param& other) { return *this = Param(other); }
  [[gnu::noinline]] Param& operator=(Param&&) noexcept = default;
  [[gnu::noinline]] ~Param() = default;

  operator const Var&() const { return var_; }  // NOLINT: a parameter is used where a Var is
  const Var& var() const { return var_; }
  const Tensor& value() const { return var_.value(); }
  const Shape& shape() const { return value().shape(); }
  std::int64_t size() const { return value().size(); }
  bool has_grad() const { return var_.has_grad(); }
  const Tensor& grad() const { return var_.grad(); }
  void clear_grad() const { var_.clear_grad(); }

  /// The value, to change in place; its shape must stay.
  Tensor& mutable_value() { return var_.mutable_value(); }
  Tensor& mutable_grad() { return var_.mutable_grad(); }
  /// Takes a value of the same shape, moved to where the parameter is, and keeps gradient and slots.
  void set_value(Tensor value) {
    check(value.shape() == shape(), "set_value: a parameter keeps its shape (", shape(), ", got ", value.shape(), ")");
    var_.mutable_value() = to(std::move(value), device());
  }

  const pool_vector<Slot>& slots() const { return slots_; }
  bool has_slot(std::string_view name) const { return find(name) < slots_.size(); }
  /// The slot of this name, made of zeros when there is none yet.
  Tensor& slot(std::string_view name) {
    const std::size_t k = find(name);
    if (k == slots_.size()) slots_.push_back({std::string(name), Tensor::zeros(shape(), value().device())});
    return slots_[k].value;
  }
  void clear_slots() { slots_.clear(); }

  Device device() const { return value().device(); }
  /// A copy on a device, with gradient and slots.
  Param copy_on(Device device) const {
    Param copy(to(value(), device));
    if (has_grad()) {
      copy.var_.node()->grad = to(grad(), device);
      copy.var_.node()->has_grad = true;
    }
    for (const Slot& s : slots_) copy.slots_.push_back({s.name, to(s.value, device)});
    copy.live_ = live_;
    return copy;
  }
  /// Moves value, gradient and slots to a device.
  void move_to(Device device) {
    if (device != this->device()) *this = copy_on(device);
  }

  /// Optimizers step only entries of this mask (empty: all); weights behind a frozen mask stay as they are.
  const Mask* live() const { return live_ ? &*live_ : nullptr; }
  void set_live(std::optional<Mask> live) { live_ = std::move(live); }

  /// Replaces value, gradient and slots by f of each: the one way the shape of a parameter changes.
  template <class F>
  void transform(F&& f) {
    const Var next = variable(f(value()));
    pool_vector<Slot> slots;
    for (const Slot& s : slots_) slots.push_back({s.name, f(s.value)});
    if (has_grad()) {
      next.node()->grad = f(grad());
      next.node()->has_grad = true;
    }
    var_ = next;
    slots_ = std::move(slots);
    live_.reset();
  }

 private:
  std::size_t find(std::string_view name) const {
    std::size_t k = 0;
    while (k < slots_.size() && slots_[k].name != name) ++k;
    return k;
  }

  Var var_;
  pool_vector<Slot> slots_;
  std::optional<Mask> live_;
};

/// Moves value, gradient and slots of packed edges together: entry e of the result is entry map[e] of before, 0 where
/// that is −1 (a new edge starts with zero moments). The one way a pattern changes under an optimizer.   param [nnz] →
/// [map.size()]
inline void remap(Param& param, std::span<const std::int32_t> map) {
  check(param.shape().rank() == 1, "remap: needs packed values (", param.shape(), ")");
  for (std::int32_t e : map)
    check(e >= -1 && e < param.size(), "remap: edge outside the parameter (", e, " of ", param.size(), ")");
  const Mirror<std::int32_t> index(map, param.device());
  param.transform([&](const Tensor& t) {
    Tensor next = Tensor::empty({static_cast<std::int64_t>(map.size())}, t.device());
    on(next.device(), [&](auto device) { kernels::remap(device, t.data(), index.data(), next.data(), next.size()); });
    return next;
  });
}

}  // namespace deepstruct
