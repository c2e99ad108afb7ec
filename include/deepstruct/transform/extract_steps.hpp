// The steps of a trace that neurons can express: constants, norms, sums of values, movements; and the whole walk.
#pragma once

#include "../nn/layers.hpp"
#include "extract_edges.hpp"

namespace deepstruct::detail {

/// A constant operand of step k with the shape of one sample of its value.
inline std::vector<float> TraceReader::spread(std::size_t k, const Tensor& constant) const {
  const Shape one = with_extent(steps_[k].value.shape(), 0, 1);
  for (int d = 0; d < constant.rank(); ++d)
    if (const std::int64_t own = constant.shape()[constant.rank() - 1 - d];
        d >= one.rank() || (own != 1 && own != one[one.rank() - 1 - d]))
      refuse(k, "a constant differs from sample to sample");
  return expand(Var(constant), one).value().to_vector();
}

/// add, sub, mul and div with a constant, the operand `at`; also the bias of a convolution.
inline void TraceReader::constant(std::size_t k, std::size_t at) {
  const Step& s = steps_[k];
  const std::size_t other = 1 - std::min<std::size_t>(at, 1);
  Tensor raw = source(k, at).value.value();
  const bool convolution_bias = at == 2;
  if (convolution_bias) raw = reshape(Var(raw), {1, raw.size(), 1, 1}).value();
  std::vector<float> c = spread(k, raw);
  const bool add = s.op == "add" || s.op == "sub" || convolution_bias;
  if ((s.op == "sub" || s.op == "div") && at == 0) refuse(k, "a constant minus or over a value");
  if (s.op == "sub")
    for (float& x : c) x = -x;
  if (s.op == "div")
    for (float& x : c) x = 1 / x;
  std::map<std::string, std::vector<float>> slots;
  const Step* parameter = plain_parameter_of(s.inputs[at]);
  if (s.op == "add" || s.op == "mul" || convolution_bias)
    for (const Param::Slot* slot : slots_of(parameter))
      if (slot->value.size() == raw.size())
        slots[slot->name] = spread(k, reshape(Var(slot->value), raw.shape()).value());
  const auto passed = [&]() -> NeuronBlock& {
    if (convolution_bias) return block_of(values_[k]);
    return opened(k, other);
  };
  if (!convolution_bias && exclusive(k, other) && block_of(in(k, other)).open() &&
      block_of(in(k, other)).norm == "layer" && in(k, other).neuron.size() == c.size()) {
    NeuronBlock& b = block_of(in(k, other));
    auto* place = add ? &b.norm_bias : b.norm_weight.empty() && b.norm_bias.empty() ? &b.norm_weight : nullptr;
    if (place && place->empty()) {
      *place = std::move(c);
      for (auto& [name, values] : slots) b.norm_slots[(add ? "norm_bias." : "norm_weight.") + name] = std::move(values);
      return pass(k, other);
    }
  }
  if (!add) {
    const Value& x = in(k, other);
    const std::vector<std::int32_t> neuron = aligned(k, other);
    NeuronBlock b = behind(k, x, static_cast<std::int64_t>(neuron.size()), parameter ? module_of(*parameter) : "");
    for (const auto& [name, values] : slots) b.weight_slots[name];
    for (std::size_t n = 0; n < neuron.size(); ++n) {
      if (neuron[n] >= 0) {
        b.add(neuron[n], c[n]);
        for (const auto& [name, values] : slots) b.weight_slots[name].push_back(values[n]);
      }
      b.close_row();
    }
    give(k, std::move(b));
    return;
  }
  NeuronBlock* b = nullptr;
  if (!convolution_bias &&
      (in(k, other).neuron.size() != c.size() ||
       (exclusive(k, other) && block_of(in(k, other)).open() && !block_of(in(k, other)).norm.empty()))) {
    b = &give(k, copy_of(k, in(k, other), aligned(k, other)));
  } else {
    b = &passed();
  }
  if (b->bias.empty()) {
    b->bias = std::move(c);
    b->bias_slots = std::move(slots);
  } else {
    for (std::size_t n = 0; n < c.size(); ++n) b->bias[n] = b->bias_of(static_cast<std::int64_t>(n)) + c[n];
    b->biased.clear();
  }
}

/// The neurons of an input, broadcast to the value of step k.
inline std::vector<std::int32_t> TraceReader::aligned(std::size_t k, std::size_t i) {
  const Shape from = source(k, i).value.shape(), to = steps_[k].value.shape();
  const std::vector<std::int32_t>& neuron = in(k, i).neuron;
  if (from == to) return neuron;
  if (from.rank() != to.rank() || from[0] != 2) refuse(k, "samples do not stay apart");
  const Tensor number = Tensor::from(with_extent(from, 0, 1), iota_floats(k, from.size() / 2));
  std::vector<std::int32_t> all;
  for (const float n : expand(Var(number), with_extent(to, 0, 1)).value().to_vector())
    all.push_back(neuron[static_cast<std::size_t>(n)]);
  return all;
}

/// Layer norm: the neurons of the last extent together.
inline void TraceReader::norm_of(std::size_t k) {
  const Step& norm = *values_[k].norm;
  const auto from = static_cast<std::size_t>(norm.inputs[0]);
  NeuronBlock* b = nullptr;
  if (values_[from].block > 0 && readers_[from] == 1 && block_of(values_[from]).open() &&
      block_of(values_[from]).norm.empty()) {
    values_[k].block = values_[from].block;
    values_[k].neuron = values_[from].neuron;
    b = &block_of(values_[k]);
  } else {
    b = &give(k, copy_of(k, values_[from]));
  }
  const Shape& s = steps_[k].value.shape();
  b->norm = "layer";
  b->norm_eps = static_cast<float>(std::get<double>(attribute(norm, "eps")));
  for (std::int64_t n = 0; n < b->count(); ++n) b->norm_group.push_back(static_cast<std::int32_t>(n / s[s.rank() - 1]));
}

/// Batch norm in evaluation: of every channel z ↦ (z − mean)/√(variance + eps)·weight + bias.
inline void TraceReader::batch_norm(std::size_t k) {
  const Step& s = steps_[k];
  NeuronBlock& b = opened_without_norm(k);
  const std::int64_t each = b.count() / std::max<std::int64_t>(1, s.value.shape()[1]);
  b.norm = "batch";
  b.norm_eps = static_cast<float>(std::get<double>(attribute(s, "eps")));
  for (std::int64_t n = 0; n < b.count(); ++n) {
    const std::int64_t c = n / each;
    b.norm_group.push_back(static_cast<std::int32_t>(c));
    b.norm_weight.push_back(source(k, 1).value.value()(c));
    b.norm_bias.push_back(source(k, 2).value.value()(c));
    b.norm_mean.push_back(source(k, 3).value.value()(c));
    b.norm_variance.push_back(source(k, 4).value.value()(c));
  }
  for (const std::size_t i : {std::size_t{1}, std::size_t{2}})
    for (const Param::Slot* slot : slots_of(plain_parameter_of(s.inputs[i]))) {
      auto& values = b.norm_slots[(i == 1 ? "norm_weight." : "norm_bias.") + slot->name];
      for (const std::int32_t c : b.norm_group) values.push_back(slot->value(c));
    }
}
/// softmax and log_softmax: neurons that share all places but that of one extent.
inline void TraceReader::couple(std::size_t k) {
  const Step& s = steps_[k];
  const auto dim = integer(s, "dim");
  if (dim == 0) refuse(k, "it couples samples");
  NeuronBlock& b = opened_without_norm(k);
  b.norm = std::string(s.op);
  std::int64_t behind_dim = 1;
  for (int d = static_cast<int>(dim) + 1; d < s.value.shape().rank(); ++d) behind_dim *= s.value.shape()[d];
  const std::int64_t extent = s.value.shape()[static_cast<int>(dim)];
  for (std::int64_t n = 0; n < b.count(); ++n)
    b.norm_group.push_back(static_cast<std::int32_t>(n / (extent * behind_dim) * behind_dim + n % behind_dim));
}
inline NeuronBlock& TraceReader::opened_without_norm(std::size_t k) {
  if (exclusive(k, 0) && !block_of(in(k)).norm.empty()) return give(k, copy_of(k, in(k)));
  return opened(k);
}

/// Ops that only move values: what they do with numbers, they do with neurons. Numbers of the second sample are
/// negative, so that mixing is seen.
inline void TraceReader::move(std::size_t k) {
  const Step& s = steps_[k];
  Vars inputs;
  std::vector<std::int32_t> all{-1};  // neuron of every number, 0: the constant 0
  for (std::size_t i = 0; i < s.inputs.size(); ++i) {
    const Shape& shape = source(k, i).value.shape();
    const auto half = static_cast<std::size_t>(shape.size() / 2);
    std::vector<float> numbers(2 * half, 0.0f);
    if (in(k, i).varies) {
      if (all.size() + half >= 1 << 24) refuse(k, "more than 2^24 values a sample");
      for (std::size_t n = 0; n < half; ++n) {
        if (in(k, i).neuron[n] < 0) continue;
        numbers[n] = static_cast<float>(all.size());
        numbers[half + n] = -numbers[n];
        all.push_back(in(k, i).neuron[n]);
      }
    } else {
      source(k, i).value.value().for_each([&](std::int64_t, float x) {
        if (x != 0) refuse(k, "constants other than 0 among values");
      });
      numbers.assign(static_cast<std::size_t>(shape.size()), 0.0f);
    }
    inputs.push_back(Tensor::from(shape, numbers));
  }
  const Var& x = inputs[0];
  const auto slice_of = [&] {
    Slice c;
    const std::array<const char*, 4> start{"start0", "start1", "start2", "start3"},
        step{"step0", "step1", "step2", "step3"};
    for (std::size_t d = 0; d < 4; ++d) c.start[d] = integer(s, start[d]), c.step[d] = integer(s, step[d]);
    c.shape = s.op == "slice" ? s.value.shape() : x.shape();
    return c;
  };
  Var y;
  if (s.op == "reshape") {
    y = reshape(x, s.value.shape());
  } else if (s.op == "permute") {
    std::vector<int> dims;
    for (const Attribute& a : s.attributes) dims.push_back(static_cast<int>(std::get<std::int64_t>(a.value)));
    y = permute(x, dims);
  } else if (s.op == "expand") {
    y = expand(x, s.value.shape());
  } else if (s.op == "cat") {
    y = cat(inputs, static_cast<int>(integer(s, "dim")));
  } else if (s.op == "slice") {
    y = slice(x, slice_of());
  } else if (s.op == "place") {
    y = place(x, s.value.shape(), slice_of());
  } else if (s.op == "gather") {
    y = gather(x, std::get<Indices>(attribute(s, "index")), static_cast<int>(integer(s, "dim")));
  } else {
    y = x;
  }
  const std::vector<float> moved = y.value().to_vector();
  const std::size_t half = moved.size() / 2;
  if (y.shape().rank() < 1 || y.shape()[0] != 2) refuse(k, "samples do not stay apart");
  std::vector<std::int32_t>& neuron = values_[k].neuron;
  neuron.resize(half);
  for (std::size_t n = 0; n < half; ++n) {
    if (moved[n] < 0 || moved[half + n] != -moved[n]) refuse(k, "samples do not stay apart");
    neuron[n] = all[static_cast<std::size_t>(moved[n])];
  }
  if (s.inputs.size() == 1 && in(k).block >= 0 && readers_[static_cast<std::size_t>(s.inputs[0])] == 1 &&
      neuron == in(k).neuron)
    values_[k].block = in(k).block;
}

inline void TraceReader::step(std::size_t k) {
  const Step& s = steps_[k];
  if (values_[k].norm) return norm_of(k);
  const auto one_of = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), s.op) != names.end();
  };
  if (s.op == "sparse_linear") return linear_map(k);
  if (s.op == "matmul") {
    if (s.attributes.size() != 2 || integer(s, "transpose_a") != 0) refuse(k, "it is no linear map of features");
    if (integer(s, "transpose_b") == 0) refuse(k, "its weight is not [out, in]");
    return linear_map(k);
  }
  if (one_of({"conv2d", "sparse_conv2d"})) return convolution(k);
  if (one_of({"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"})) return pooling(k);
  if (s.op == "layered_dag") return dag(k);
  if (s.op == "sum_to") return sum_of(k);
  if (s.op == "batch_norm") return batch_norm(k);
  if (one_of({"softmax", "log_softmax"})) return couple(k);
  if (one_of({"reshape", "permute", "expand", "cat", "slice", "place", "gather", "identity"})) return move(k);
  if (one_of({"add", "sub", "mul", "div", "maximum"})) {
    const bool both = in(k, 0).varies && in(k, 1).varies;
    if (!both && s.op != "maximum") return constant(k, in(k, 0).varies ? 1 : 0);
    if (!both || s.op == "mul" || s.op == "div")
      refuse(k, both ? "a product of two values" : "a greatest with a constant");
    return combine(k);
  }
  if (s.op == "affine") {
    const auto a = static_cast<float>(std::get<double>(attribute(s, "a"))),
               c = static_cast<float>(std::get<double>(attribute(s, "b")));
    const bool normed = exclusive(k, 0) && !block_of(in(k)).norm.empty();
    NeuronBlock& b = normed ? give(k, copy_of(k, in(k))) : opened(k);
    for (float& w : b.weight) w *= a;
    if (b.bias.empty() && c == 0) return;
    b.bias.resize(static_cast<std::size_t>(b.count()));
    for (std::size_t n = 0; n < b.bias.size(); ++n)
      b.bias[n] = a * (b.has_bias(static_cast<std::int64_t>(n)) ? b.bias[n] : 0) + c;
    if (c != 0) b.biased.clear();
    return;
  }
  if (one_of({"relu",  "leaky_relu", "clamp",    "hardtanh", "tanh", "sigmoid",  "logsigmoid", "silu",
              "gelu",  "gelu_tanh",  "softplus", "elu",      "selu", "softsign", "exp",        "log",
              "log1p", "sqrt",       "pow",      "sin",      "cos",  "abs"})) {
    NeuronBlock& b = opened(k);
    b.activation.assign(static_cast<std::size_t>(b.rows()), neurons_.activation(activation_text(s)));
    return;
  }
  refuse(k, "no vertex computes it");
}

/// x + y, x − y and max(x, y) of two values that depend on the input.
inline void TraceReader::combine(std::size_t k) {
  const Step& s = steps_[k];
  const auto whole = [&](std::size_t i) { return exclusive(k, i) && source(k, i).value.shape() == s.value.shape(); };
  if (s.op == "maximum") return greatest(k, whole(0));
  const auto sums = [&](std::size_t i) { return s.op == "add" && whole(i) && !block_of(in(k, i)).maximum; };
  const auto normed = [&](std::size_t i) { return !block_of(in(k, i)).norm.empty(); };
  if (sums(0) && sums(1) && in(k, 0).block != in(k, 1).block && !(normed(0) && normed(1))) {
    NeuronBlock &x = block_of(in(k, 0)), &y = block_of(in(k, 1));
    const bool later = in(k, 1).block > in(k, 0).block;  // sums stand where their last branch was made
    NeuronBlock& kept = later ? y : x;
    NeuronBlock sum = normed(1) ? sum_branches(y, x) : sum_branches(x, y);  // the norm is of the first branch
    sum.first = kept.first;
    sum.name = kept.name;
    sum.operation = kept.operation;
    (later ? x : y).dead = true;
    kept = std::move(sum);
    return pass(k, later ? 1 : 0);
  }
  if (sums(0) || sums(1)) {
    const std::size_t mine = sums(0) ? 0 : 1;
    const NeuronBlock passed = copy_of(k, in(k, 1 - mine), aligned(k, 1 - mine));
    NeuronBlock& b = block_of(in(k, mine));
    b = sum_branches(b, passed);
    return pass(k, mine);
  }
  give(k, pair_of(k));
}
/// max(x, y), in the block of x where that is a greatest already.
inline void TraceReader::greatest(std::size_t k, bool own) {
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}})
    for (const std::int32_t n : in(k, i).neuron)
      if (n < 0) refuse(k, "a greatest of values and constants");
  if (own && block_of(in(k)).maximum && block_of(in(k)).activation.empty() && block_of(in(k)).bias.empty()) {
    NeuronBlock& b = block_of(in(k));
    const NeuronBlock more = copy_of(k, in(k, 1), aligned(k, 1));
    NeuronBlock all;
    for (std::int64_t n = 0; n < b.count(); ++n) {
      copy_edges(all, b, n);
      copy_edges(all, more, n);
      all.close_row();
      b.layer[n] = std::max(b.layer[n], more.layer[n]);
    }
    b.edge_start = std::move(all.edge_start);
    b.source = std::move(all.source);
    b.weight = std::move(all.weight);
    return pass(k);
  }
  NeuronBlock b = pair_of(k);
  b.maximum = true;
  give(k, std::move(b));
}
/// Neurons that read both values, the second with −1 where it is subtracted.
inline NeuronBlock TraceReader::pair_of(std::size_t k) {
  const std::vector<std::int32_t> x = aligned(k, 0), y = aligned(k, 1);
  NeuronBlock b = behind(k, in(k, 0), static_cast<std::int64_t>(x.size()));
  b.layer.assign(x.size(), std::max(layer_behind(in(k, 0)), layer_behind(in(k, 1))));
  for (std::size_t n = 0; n < x.size(); ++n) {
    if (x[n] >= 0) b.add(x[n], 1);
    if (y[n] >= 0) b.add(y[n], steps_[k].op == "sub" ? -1.0f : 1.0f);
    b.close_row();
  }
  return b;
}

/// The outputs: neurons of their own, in ascending order.
inline void TraceReader::end() {
  const std::size_t last = steps_.size() - 1;
  const std::int64_t inputs = neurons_.blocks[0].count();
  bool plain = true;
  std::int32_t before = -1;
  for (const std::int32_t n : values_[last].neuron) {
    plain &= n >= inputs && n > before;
    before = n;
  }
  if (plain) plain = in_one_order(values_[last].neuron);
  if (!plain) {
    Value x = values_[last];
    NeuronBlock b = copy_of(last, x);
    b.name = b.operation = "output";
    give(last, std::move(b));
  }
  neurons_.outputs = values_[last].neuron;
}
/// True if the layers of ascending neurons ascend too: so the graph keeps their order.
inline bool TraceReader::in_one_order(const std::vector<std::int32_t>& neuron) const {
  std::int32_t layer = 0;
  for (const std::int32_t n : neuron) {
    if (layer_of(n) < layer) return false;
    layer = layer_of(n);
  }
  return true;
}

/// The trace of an evaluation-mode copy of the model, read as neurons.
template <class M>
Neurons neurons_of(const M& model, const Shape& example, const ExtractOptions& options) {
  check(example.rank() >= 1, "to_graph: the input needs a batch and features (", example, ")");
  M copy = model;
  to(copy, Device::cpu);
  set_training(copy, false);
  no_grad guard;
  const std::vector<Step> steps = trace(std::as_const(copy), Tensor::zeros(with_extent(example, 0, 2)));
  TracedParams params;
  each_param(std::as_const(copy), [&](const Param& p) { params[p.var().node().get()].param = &p; });
  each_masked(std::as_const(copy), [&](const auto& layer) { params[layer.weight.var().node().get()].masked = true; });
  return TraceReader(steps, params, options).read();
}

}  // namespace deepstruct::detail
