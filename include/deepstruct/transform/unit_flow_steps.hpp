// UnitFlow, op by op: where the units of a value come from, and which of them are constant.
#pragma once

#include "unit_flow.hpp"

namespace deepstruct::detail {

/// The value of every element at a place of the unit axis, if they are all equal and finite.
inline std::optional<float> UnitFlow::uniform(std::size_t k, std::int64_t place) const {
  const Tensor& t = steps_[k].value.value();
  std::array<std::int64_t, 4> first{}, end{t.shape()[0], t.shape()[1], t.shape()[2], t.shape()[3]};
  first[values_[k].axis] = place;
  end[values_[k].axis] = place + 1;
  if (t.size() == 0) return std::nullopt;
  const float value = t(first[0], first[1], first[2], first[3]);
  for (std::int64_t c = first[1]; c < end[1]; ++c)
    for (std::int64_t h = first[2]; h < end[2]; ++h)
      for (std::int64_t w = first[3]; w < end[3]; ++w)
        for (std::int64_t b = first[0]; b < end[0]; ++b)
          if (t(b, c, h, w) != value || !std::isfinite(value)) return std::nullopt;
  return value;
}

/// An op that is not known: it needs all it reads, and what it gives stays.
inline void UnitFlow::opaque(std::size_t k) {
  for (const int i : steps_[k].inputs)
    if (values_[static_cast<std::size_t>(i)].varies) freeze(values_[static_cast<std::size_t>(i)]);
  Value& y = values_[k];
  const int rank = shape(k).rank();
  y.axis = rank == 3 ? 2 : rank >= 2 ? 1 : 0;
  fresh(y, shape(k)[y.axis]);
  freeze(y);
}

/// The places of the first input, in order, along another axis perhaps.
inline void UnitFlow::same_axis(std::size_t k, int axis) {
  const Value& x = values_[input(k)];
  Value& y = values_[k];
  y.axis = axis;
  y.single = x.single;
  y.unit = x.unit;
  y.constant = x.constant;
  y.kind = Kind::same;
}

/// An elementwise op: the places of its operands meet.
inline void UnitFlow::combine(std::size_t k) {
  Value& y = values_[k];
  const int rank = shape(k).rank();
  const auto aligned = [&](std::size_t i, int axis) { return axis - (rank - shape(i).rank()); };
  const Value* whole = nullptr;
  for (const int at : steps_[k].inputs) {
    const auto i = static_cast<std::size_t>(at);
    if (!values_[i].varies || (whole && (!whole->single || values_[i].single))) continue;
    const int axis = values_[i].axis + rank - shape(i).rank();
    if (shape(k)[axis] == shape(i)[values_[i].axis]) whole = &values_[i], y.axis = axis;
  }
  if (!whole) return opaque(k);
  const std::int64_t n = shape(k)[y.axis];
  for (const int at : steps_[k].inputs) {
    const auto i = static_cast<std::size_t>(at);
    const bool fits = shape(i)[values_[i].axis] == n || shape(i)[values_[i].axis] == 1;
    if (values_[i].varies && (values_[i].axis != aligned(i, y.axis) || !fits)) return opaque(k);
  }
  y.unit = whole->unit;
  y.single = whole->single;
  y.constant.assign(y.unit.size(), 1);
  y.kind = Kind::same;
  for (const int at : steps_[k].inputs) {
    const auto i = static_cast<std::size_t>(at);
    const Value& x = values_[i];
    if (x.varies) {
      const bool all = x.unit.size() == y.unit.size() && x.single == y.single;
      for (std::size_t p = 0; p < y.unit.size(); ++p) {
        if (all) tie(y.unit[p], x.unit[p]);
        y.constant[p] &= x.constant[all ? p : 0];
      }
      continue;
    }
    const int own = aligned(i, y.axis);
    if (own < 0 || shape(i)[own] != n) continue;  // the same for all places
    if (owner(i)) {
      use(node(i), own, y.unit);
      ++known_reads_[node(i)];
    } else if (n != 1) {
      freeze(y);  // constants that cannot shrink
    }
  }
}

/// Places keep their order; several behind each other may come of one.
inline void UnitFlow::reshape_of(std::size_t k) {
  const Value& x = values_[input(k)];
  Value& y = values_[k];
  const Shape &from = shape(input(k)), &to = shape(k);
  const std::int64_t n = from[x.axis];
  std::int64_t inner = 1, after = 1;
  for (int d = x.axis + 1; d < from.rank(); ++d) inner *= from[d];
  int axis = to.rank() - 1;
  for (; axis >= 1; after *= to[axis--]) {
    if (from.size() == 0 ? to[axis] == 0 && n == 0
                         : after > 0 && inner % after == 0 && (to[axis] * after) % (n * inner) == 0)
      break;
  }
  if (axis < 1) return opaque(k);
  y.axis = axis;
  y.kind = Kind::moved;
  for (std::int64_t q = 0; q < to[axis]; ++q) {
    const auto p = static_cast<std::int32_t>(q / (inner / after) % n);
    y.from.push_back(p);
    y.unit.push_back(x.unit[p]);
    y.constant.push_back(x.constant[p]);
  }
}

inline void UnitFlow::cat_of(std::size_t k) {
  const auto dim = static_cast<int>(integer(k, "dim"));
  Value& y = values_[k];
  for (const int i : steps_[k].inputs)
    if (values_[static_cast<std::size_t>(i)].varies) y.axis = values_[static_cast<std::size_t>(i)].axis;
  for (const int i : steps_[k].inputs) {
    const Value& x = values_[static_cast<std::size_t>(i)];
    if (x.varies ? x.axis != y.axis : y.axis != dim) return opaque(k);
  }
  if (y.axis != dim) return combine(k);
  y.kind = Kind::joined;
  for (const int at : steps_[k].inputs) {
    const auto i = static_cast<std::size_t>(at);
    if (!values_[i].varies) {
      for (std::int64_t p = 0; p < shape(i)[dim]; ++p) {
        freeze(std::span(&count_, 1));
        y.unit.push_back(count_++);
      }
      y.constant.insert(y.constant.end(), static_cast<std::size_t>(shape(i)[dim]), 1);
      continue;
    }
    y.unit.insert(y.unit.end(), values_[i].unit.begin(), values_[i].unit.end());
    y.constant.insert(y.constant.end(), values_[i].constant.begin(), values_[i].constant.end());
  }
}

/// Places that the model counts itself: all of them stay.
inline void UnitFlow::slice_of(std::size_t k) {
  constexpr std::array<std::string_view, 4> starts{"start0", "start1", "start2", "start3"},
      steps{"step0", "step1", "step2", "step3"};
  const Value& x = values_[input(k)];
  const auto axis = static_cast<std::size_t>(x.axis);
  const std::int64_t start = integer(k, starts[axis]), step = integer(k, steps[axis]), n = shape(k)[x.axis];
  if (start == 0 && step == 1 && n == shape(input(k))[x.axis]) return same_axis(k, x.axis);
  freeze(x);
  Value& y = values_[k];
  y.axis = x.axis;
  y.kind = Kind::moved;
  for (std::int64_t q = 0; q < n; ++q) {
    y.from.push_back(static_cast<std::int32_t>(start + q * step));
    y.unit.push_back(x.unit[y.from.back()]);
    y.constant.push_back(x.constant[y.from.back()]);
  }
}

/// A sum or a statistic: of other extents, or of all places together.
inline void UnitFlow::reduce(std::size_t k) {
  const Value& x = values_[input(k)];
  if (shape(k).rank() != shape(input(k)).rank()) return opaque(k);
  if (shape(k)[x.axis] != 1) return same_axis(k, x.axis);
  Value& y = values_[k];
  y.axis = x.axis;
  y.single = true;
  fresh(y, 1, std::find(x.constant.begin(), x.constant.end(), 0) == x.constant.end());
  freeze(y);
}

inline void UnitFlow::read(std::size_t k) {
  const std::string_view op = steps_[k].op;
  const auto is_one_of = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), op) != names.end();
  };
  if (is_one_of({"add",      "sub",   "mul",     "div",      "maximum",    "minimum", "relu", "leaky_relu",
                 "tanh",     "silu",  "sigmoid", "gelu",     "gelu_tanh",  "elu",     "selu", "softplus",
                 "softsign", "clamp", "exp",     "hardtanh", "log",        "log1p",   "sqrt", "sin",
                 "cos",      "abs",   "pow",     "affine",   "logsigmoid", "identity"}))
    return combine(k);
  const Value& x = values_[input(k)];
  if (is_one_of({"matmul", "sparse_linear"})) return linear(k);
  if (is_one_of({"conv2d", "sparse_conv2d"})) return convolution(k);
  if (op == "layered_dag") return network(k);
  if (op == "cat") return cat_of(k);
  if (!x.varies) return opaque(k);
  if (op == "reshape") return reshape_of(k);
  if (op == "slice") return slice_of(k);
  if (is_one_of({"sum_to", "layer_norm_rstd"})) return reduce(k);
  if (is_one_of({"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"}) && x.axis == 1) return same_axis(k, 1);
  if (is_one_of({"softmax", "log_softmax"}) && integer(k, "dim") != x.axis) return same_axis(k, x.axis);
  if (op == "permute") {
    int axis = 0;
    while (std::get<std::int64_t>(steps_[k].attributes[static_cast<std::size_t>(axis)].value) != x.axis) ++axis;
    return axis > 0 ? same_axis(k, axis) : opaque(k);
  }
  if (op == "batch_norm" && x.axis == 1 && is_leaf(input(k, 1), ParamOwner::norm) && owner(input(k, 2))) {
    same_axis(k, 1);
    for (const std::size_t i : {input(k, 1), input(k, 2)}) {
      use(node(i), 0, x.unit);
      ++known_reads_[node(i)];
    }
    return;
  }
  opaque(k);
}

}  // namespace deepstruct::detail
