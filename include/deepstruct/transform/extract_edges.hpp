// The steps of a trace that are linear maps, or take the greatest: their edges.
#pragma once

#include "../models/dan_layers.hpp"
#include "../ops/pool.hpp"
#include "extract.hpp"

namespace deepstruct::detail {

/// A constant weight as the edges that exist, by rows; entry k of every slot belongs to edge k.
struct WeightEdges {
  std::vector<std::int32_t> start{0}, col;
  pool_vector<float> value;
  std::vector<std::pair<std::string, std::vector<float>>> slots;
  bool full = false;  // all of them in row-major order; start, col and slots are empty
  std::string module;
  bool trained = false;  // made from a parameter
};

inline WeightEdges TraceReader::weight_of(std::size_t k, std::size_t i, std::int64_t rows, std::int64_t cols) const {
  WeightEdges w;
  const int at = steps_[k].inputs[i];
  const Tensor& value = steps_[static_cast<std::size_t>(at)].value.value();
  const auto step_of = [&](int n) -> const Step* { return &steps_[static_cast<std::size_t>(n)]; };
  const Step* made = step_of(at);
  while (made->op == "reshape") made = step_of(made->inputs[0]);
  if (const Step* any = parameter_of(at)) w.module = module_of(*any);
  const Step* parameter = plain_parameter_of(at);
  w.trained = parameter_of(at) != nullptr;
  // The mask: an attribute of the op, or of the op that put packed values into a full weight, or constant factors.
  const Mask* mask = nullptr;
  const Tensor* factors = nullptr;
  for (const Step* s : {&steps_[k], made})
    for (const Attribute& a : s->attributes)
      if (const Mask* m = std::get_if<Mask>(&a.value)) mask = m;
  if (made->op == "mul" && parameter && step_of(made->inputs[1])->name.empty() &&
      step_of(made->inputs[1])->value.size() == rows * cols)
    factors = &step_of(made->inputs[1])->value.value();
  const auto known = parameter ? params_.find(parameter->value.node().get()) : params_.end();
  const bool masked = mask || (known != params_.end() && known->second.masked);
  const bool packed = mask && value.shape() == Shape{mask->nnz()};
  const Tensor* full = parameter && parameter->value.size() == rows * cols ? &parameter->value.value() : nullptr;
  const std::int64_t offset = made->op == "slice" && parameter ? integer(*made, "start0") : 0;  // of packed values
  const std::vector<const Param::Slot*> slots = slots_of(parameter);
  for (const Param::Slot* s : slots) w.slots.emplace_back(s->name, std::vector<float>());
  const auto row_major = [cols](const Tensor& t, std::int64_t r, std::int64_t c) {
    if (t.rank() == 2) return t(r, c);
    const std::int64_t n = r * cols + c;
    return t.rank() == 1 ? t(n)
                         : t(n / (t.size() / t.shape()[0]), n / (t.shape()[2] * t.shape()[3]) % t.shape()[1],
                             n / t.shape()[3] % t.shape()[2], n % t.shape()[3]);
  };
  const auto add = [&](std::int64_t r, std::int64_t c, std::int64_t e, float x) {
    const std::optional<float> least = masked ? options_.masked_threshold : options_.threshold;
    if (least && !(std::abs(x) >= *least)) return;
    w.col.push_back(static_cast<std::int32_t>(c));
    w.value.push_back(x);
    for (std::size_t n = 0; n < slots.size(); ++n)
      w.slots[n].second.push_back(full ? row_major(slots[n]->value, r, c) : slots[n]->value(offset + e));
  };
  const bool ignore_mask = mask && options_.recompute_masks && full;
  if (!mask && !factors && slots.empty() && value.rank() == 2 &&
      !(masked ? options_.masked_threshold : options_.threshold)) {
    w.full = true;
    if (!options_.weights) return w;
    w.value.resize(static_cast<std::size_t>(rows * cols));
    constexpr std::int64_t tile = 16;  // rows are columns in memory: a line of the cache at a time
    const matrix_view<const float> v = value.view();
    for (std::int64_t r0 = 0; r0 < rows; r0 += tile)
      for (std::int64_t c = 0; c < cols; ++c)
        for (std::int64_t r = r0; r < std::min(rows, r0 + tile); ++r) w.value[r * cols + c] = v.data[c * v.ld + r];
    return w;
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    if (mask && !ignore_mask) {
      for (std::int32_t e = mask->row_start()[r]; e < mask->row_start()[r + 1]; ++e) {
        const std::int32_t c = mask->col()[e];
        add(r, c, e, packed ? value(e) : row_major(value, r, c));
      }
    } else {
      for (std::int64_t c = 0; c < cols; ++c)
        if (!factors || row_major(*factors, r, c) != 0)
          add(r, c, r * cols + c, row_major(ignore_mask ? *full : value, r, c));
    }
    w.start.push_back(static_cast<std::int32_t>(w.col.size()));
  }
  return w;
}

/// y = x Wᵀ with a constant W.
inline void TraceReader::linear_map(std::size_t k) {
  const Step& s = steps_[k];
  if (!in(k).varies || in(k, 1).varies) refuse(k, "the weight depends on the input");
  if (s.value.shape().rank() != 2 || s.value.shape()[0] != 2) refuse(k, "samples do not stay apart");
  const Value& x = in(k);
  const std::int64_t rows = s.value.shape()[1], cols = static_cast<std::int64_t>(x.neuron.size());
  WeightEdges w = weight_of(k, 1, rows, cols);
  if (w.full) {
    NeuronBlock b = behind(k, x, rows, w.module);
    const bool all = std::find(x.neuron.begin(), x.neuron.end(), -1) == x.neuron.end();
    b.source.reserve(static_cast<std::size_t>(rows * cols));
    for (std::int64_t r = 0; r < rows; ++r) {
      if (all)
        b.source.insert(b.source.end(), x.neuron.begin(), x.neuron.end());
      else
        for (std::int64_t c = 0; c < cols; ++c)
          if (x.neuron[c] >= 0) b.add(x.neuron[c], w.value.empty() ? 1 : w.value[r * cols + c]);
      b.close_row();
    }
    if (all) b.weight = std::move(w.value);
    give(k, std::move(b));
    return;
  }
  if (!w.trained && static_cast<std::int64_t>(w.col.size()) == rows &&  // picks values: as index_select
      std::all_of(w.value.begin(), w.value.end(), [](float v) { return v == 1; })) {
    bool one_each = true;
    for (std::int64_t r = 0; r < rows; ++r) one_each &= w.start[r + 1] - w.start[r] == 1;
    if (one_each) {
      for (const std::int32_t c : w.col) values_[k].neuron.push_back(x.neuron[c]);
      return;
    }
  }
  NeuronBlock b = behind(k, x, rows, w.module);
  for (const auto& [name, values] : w.slots) b.weight_slots[name];
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int32_t e = w.start[r]; e < w.start[r + 1]; ++e) add_edge(b, x.neuron[w.col[e]], w, e);
    b.close_row();
  }
  give(k, std::move(b));
}

/// The edge from a neuron with weight e, unless the neuron is the constant 0.
inline void TraceReader::add_edge(NeuronBlock& b, std::int32_t from, const WeightEdges& w, std::int32_t e) {
  if (from < 0) return;
  b.add(from, w.value[e]);
  for (const auto& [name, values] : w.slots) b.weight_slots[name].push_back(values[e]);
}

/// conv2d and sparse_conv2d: the weight [out, in/groups·kh·kw] once for every place of the output.
inline void TraceReader::convolution(std::size_t k) {
  const Step& s = steps_[k];
  if (!in(k).varies || in(k, 1).varies) refuse(k, "the weight depends on the input");
  const Shape x = source(k).value.shape(), y = s.value.shape();
  const Shape stride = pair(s, "stride"), padding = pair(s, "padding"), dilation = pair(s, "dilation");
  const std::int64_t groups = integer(s, "groups"), depth = x[1] / groups;
  const Shape weight = source(k, 1).value.shape();
  const Shape kernel = s.op == "conv2d" ? Shape{weight[2], weight[3]} : pair(s, "kernel");
  const std::int64_t window = kernel[0] * kernel[1];
  const WeightEdges w = weight_of(k, 1, y[1], depth * window);
  NeuronBlock b = behind(k, in(k), y.size() / 2, w.module);
  for (const auto& [name, values] : w.slots) b.weight_slots[name];
  for (std::int64_t o = 0; o < y[1]; ++o)
    for (std::int64_t h = 0; h < y[2]; ++h)
      for (std::int64_t v = 0; v < y[3]; ++v) {
        for (std::int32_t e = w.start[o]; e < w.start[o + 1]; ++e) {
          const std::int64_t c = o / (y[1] / groups) * depth + w.col[e] / window;
          const std::int64_t row = h * stride[0] - padding[0] + w.col[e] % window / kernel[1] * dilation[0];
          const std::int64_t col = v * stride[1] - padding[1] + w.col[e] % kernel[1] * dilation[1];
          if (row >= 0 && row < x[2] && col >= 0 && col < x[3])
            add_edge(b, in(k).neuron[(c * x[2] + row) * x[3] + col], w, e);
        }
        b.close_row();
      }
  give(k, std::move(b));
  if (s.inputs.size() > 2) constant(k, 2);
}

/// max_pool2d, avg_pool2d and adaptive_avg_pool2d: the windows as edges of weight 1 or 1/terms.
inline void TraceReader::pooling(std::size_t k) {
  const Step& s = steps_[k];
  const Shape x = source(k).value.shape(), y = s.value.shape();
  const bool maximum = s.op == "max_pool2d";
  std::vector<PoolAxis> axes;
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const int d = static_cast<int>(axis);
    if (s.op == "adaptive_avg_pool2d") {
      axes.emplace_back("to_graph", x[2 + d], y[2 + d]);
      continue;
    }
    Pool2dOptions o;
    o.kernel[axis] = pair(s, "kernel")[d];
    o.stride[axis] = pair(s, "stride")[d];
    o.padding[axis] = pair(s, "padding")[d];
    if (maximum) o.dilation[axis] = pair(s, "dilation")[d];
    o.ceil_mode = integer(s, "ceil_mode") != 0;
    if (!maximum) o.count_include_pad = integer(s, "count_include_pad") != 0;
    axes.emplace_back("to_graph", x[2 + d], o, axis);
  }
  const kernels::pool_windows rows = axes[0].view(), cols = axes[1].view();
  NeuronBlock b = behind(k, in(k), y.size() / 2);
  b.maximum = maximum;
  for (std::int64_t c = 0; c < y[1]; ++c)
    for (std::int64_t h = 0; h < y[2]; ++h)
      for (std::int64_t v = 0; v < y[3]; ++v) {
        const float weight = maximum ? 1 : 1 / static_cast<float>(std::int64_t{rows.count[h]} * cols.count[v]);
        for (std::int64_t i = rows.begin[h]; i < rows.end[h]; i += rows.step)
          for (std::int64_t j = cols.begin[v]; j < cols.end[v]; j += cols.step)
            if (const std::int32_t n = in(k).neuron[(c * x[2] + i) * x[3] + j]; n >= 0)
              b.add(n, weight);
            else if (maximum)
              refuse(k, "a greatest of values and constants");
        b.close_row();
      }
  give(k, std::move(b));
}

/// A whole layered DAG, which keeps its branches.
inline void TraceReader::dag(std::size_t k) {
  const Step& s = steps_[k];
  if (in(k, 1).varies || in(k, 2).varies) refuse(k, "the weights depend on the input");
  const auto wiring =
      std::static_pointer_cast<const DagWiring>(std::get<std::shared_ptr<const void>>(attribute(s, "wiring")));
  const DagWiring& d = *wiring;
  const Value& x = in(k);
  const std::int64_t count = d.vertices - d.inputs, rows = d.rows();
  const WeightEdges w = weight_of(k, 1, rows, d.vertices);
  NeuronBlock b = behind(k, x, count, w.module);
  b.channels = count;
  for (const auto& [name, values] : w.slots) b.weight_slots[name];
  const std::int32_t first = neurons_.count, lowest = count > 0 ? b.layer[0] : 0;
  if (!d.joint()) b.row_start.assign(d.row_start.begin(), d.row_start.end());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int32_t e = w.start[r]; e < w.start[r + 1]; ++e)
      add_edge(b, w.col[e] < d.inputs ? x.neuron[w.col[e]] : first + w.col[e] - static_cast<std::int32_t>(d.inputs), w,
               e);
    b.close_row();
  }
  if (!d.layer_start.empty()) {
    for (std::size_t l = 1; l + 1 < d.layer_start.size(); ++l)
      for (std::int32_t v = d.layer_start[l]; v < d.layer_start[l + 1]; ++v)
        b.layer[v - d.inputs] = lowest + static_cast<std::int32_t>(l) - 1;
  } else {
    for (std::int64_t v = 0; v < count; ++v)
      for (std::int32_t e = w.start[d.row_of(v)]; e < w.start[d.row_of(v + 1)]; ++e)
        if (w.col[e] >= d.inputs) b.layer[v] = std::max(b.layer[v], b.layer[w.col[e] - d.inputs] + 1);
  }
  for (const VertexActivation f : d.activation)
    b.activation.push_back(neurons_.activation(std::string(activation_names[static_cast<std::size_t>(f)])));
  if (b.activation.empty()) b.activation.assign(static_cast<std::size_t>(rows), neurons_.activation("relu"));
  const Tensor& bias = source(k, 2).value.value();
  b.bias = bias.to_vector();
  for (const Param::Slot* slot : slots_of(plain_parameter_of(s.inputs[2])))
    b.bias_slots[slot->name] = slot->value.to_vector();
  give(k, std::move(b));
  values_[k].block = -1;
  values_[k].neuron.clear();
  for (const std::int32_t v : d.output)
    values_[k].neuron.push_back(v < d.inputs ? x.neuron[v] : first + v - static_cast<std::int32_t>(d.inputs));
}

/// sum_to: every element of the result adds up those that share its place.
inline void TraceReader::sum_of(std::size_t k) {
  const Shape x = with_extent(source(k).value.shape(), 0, 1), y = steps_[k].value.shape();
  if (y.rank() != x.rank() || y[0] != 2) refuse(k, "it sums over samples");
  NeuronBlock b = behind(k, in(k), y.size() / 2);
  Tensor number = Tensor::empty(with_extent(y, 0, 1));
  std::vector<std::vector<std::int32_t>> terms(static_cast<std::size_t>(number.size()));
  number = Tensor::from(number.shape(), iota_floats(k, number.size()));
  const std::vector<float> target = expand(Var(number), x).value().to_vector();
  for (std::size_t n = 0; n < target.size(); ++n)
    if (in(k).neuron[n] >= 0) terms[static_cast<std::size_t>(target[n])].push_back(in(k).neuron[n]);
  for (const auto& list : terms) {
    for (const std::int32_t n : list) b.add(n, 1);
    b.close_row();
  }
  give(k, std::move(b));
}
inline std::vector<float> TraceReader::iota_floats(std::size_t k, std::int64_t n) const {
  if (n >= 1 << 24) refuse(k, "more than 2^24 values a sample");  // numbers pass through ops as floats
  std::vector<float> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0.0f);
  return all;
}

}  // namespace deepstruct::detail
