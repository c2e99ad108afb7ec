// The trace of a network → its neurons: which values are neurons, which edges lead to them.
#pragma once

#include <unordered_map>

#include "../nn/module.hpp"
#include "../ops/dag.hpp"
#include "neurons.hpp"

namespace deepstruct {

/// How weights become edges.
struct ExtractOptions {
  /// Weights of plain layers are edges iff |w| >= threshold; without: all of them.
  std::optional<float> threshold = std::nullopt;
  /// Masked layers: the same of their edges. With `recompute_masks` |w| >= masked_threshold decides alone and the mask
  /// is ignored, as Python deepstruct does (which overwrites the mask); needs full storage to bring weights back.
  std::optional<float> masked_threshold = std::nullopt;
  bool recompute_masks = false;
  /// Carry the weights of edges; without, it is the structure that comes out.
  bool weights = true;
  /// Carry what optimizers remember of every weight and bias.
  bool slots = true;
  /// Carry the place of every edge in its sum, which readers of files need: in memory edges are in that order.
  bool positions = true;
};

namespace detail {

struct WeightEdges;

/// What a leaf of the trace is.
struct TracedParam {
  const Param* param = nullptr;
  bool masked = false;  // the weight of a masked layer, even if all of its edges exist
};
using TracedParams = std::unordered_map<const Node*, TracedParam>;

/// Reads a trace made with two samples, of which the second only shows that samples stay apart.
class TraceReader {
 public:
  TraceReader(const std::vector<Step>& steps, const TracedParams& params, const ExtractOptions& options)
      : steps_(steps),
        params_(params),
        options_(options),
        values_(steps.size()),
        readers_(steps.size(), 0),
        parameter_(steps.size(), -1),
        plain_(steps.size(), 0) {}

  Neurons read() {
    const Step& input = steps_[0];
    check(input.value.shape().rank() >= 1 && input.value.shape()[0] == 2, "to_graph: needs a trace with two samples (",
          input.value.shape(), ")");
    plan();
    check(values_.back().varies, "to_graph: the result does not depend on the input (", steps_.back().op, ")");
    NeuronBlock inputs;
    inputs.name = inputs.operation = "input";
    inputs.layer.assign(static_cast<std::size_t>(input.value.size() / 2), 0);
    inputs.channels = channels_of(input.value.shape());
    for (std::int64_t k = 0; k < inputs.count(); ++k) inputs.close_row();
    give(0, std::move(inputs));
    for (std::size_t k = 1; k < steps_.size(); ++k)
      if (values_[k].varies && readers_[k] > 0) step(k);
    end();
    return std::move(neurons_);
  }

 private:
  /// The neurons behind the elements of a value, those of one sample in row-major order.
  struct Value {
    bool varies = false;
    std::vector<std::int32_t> neuron;  // −1: the constant 0
    int block = -1;                    // it is all of this block, in order
    const Step* norm = nullptr;        // layer norm (without weight and bias) of x, this is its layer_norm_rstd
  };
  [[noreturn]] void refuse(std::size_t k, std::string_view why) const {
    const Step& s = steps_[k];
    std::string_view before = "the input";
    for (std::size_t n = 0; n < k; ++n)
      if (!steps_[n].name.empty()) before = steps_[n].name;
    fail("to_graph: ", s.op, " has no form as neurons: ", why, " (step ", k, " of the trace, value ", s.value.shape(),
         ", behind ", before, ")");
  }

  /// What depends on the input, and how many read it; a trace holds layer norm as (x − mean)·rstd.
  void plan() {
    const auto at = [&](int k) -> const Step& { return steps_[static_cast<std::size_t>(k)]; };
    values_[0].varies = true;
    for (std::size_t k = 1; k < steps_.size(); ++k) {
      const Step& s = steps_[k];
      for (int i : s.inputs) values_[k].varies |= values_[static_cast<std::size_t>(i)].varies;
      if (s.op == "mul" && at(s.inputs[0]).op == "sub" && at(s.inputs[1]).op == "layer_norm_rstd" &&
          at(s.inputs[0]).inputs[0] == at(s.inputs[1]).inputs[0])
        values_[k].norm = &at(s.inputs[1]);
    }
    readers_.back() = 1;
    for (std::size_t k = steps_.size(); k-- > 1;)
      if (readers_[k] > 0)
        for (int i : values_[k].norm ? values_[k].norm->inputs : steps_[k].inputs)
          ++readers_[static_cast<std::size_t>(i)];
    for (std::size_t k = 1; k < steps_.size(); ++k) {
      const Step& s = steps_[k];
      if (!s.name.empty()) parameter_[k] = static_cast<int>(k), plain_[k] = 1;
      for (const int i : s.inputs)
        if (parameter_[k] < 0) parameter_[k] = parameter_[static_cast<std::size_t>(i)];
      const bool keeps = s.op == "reshape" || s.op == "pick_edges" || s.op == "place_edges" || s.op == "slice" ||
                         (s.op == "mul" && s.value.shape() == at(s.inputs[0]).value.shape());
      if (keeps) plain_[k] = plain_[static_cast<std::size_t>(s.inputs[0])];
    }
  }

  static std::int64_t channels_of(const Shape& s) {
    return s.rank() >= 3 ? s[1] : s.size() / std::max<std::int64_t>(1, s[0]);
  }

  /// The value of step k is a new block.
  NeuronBlock& give(std::size_t k, NeuronBlock block) {
    const std::int64_t n = block.count();
    NeuronBlock& made = neurons_.append(std::move(block));
    values_[k].block = static_cast<int>(neurons_.blocks.size()) - 1;
    values_[k].neuron.resize(static_cast<std::size_t>(n));
    std::iota(values_[k].neuron.begin(), values_[k].neuron.end(), made.first);
    return made;
  }
  Value& in(std::size_t k, std::size_t i = 0) { return values_[static_cast<std::size_t>(steps_[k].inputs[i])]; }
  const Step& source(std::size_t k, std::size_t i = 0) const {
    return steps_[static_cast<std::size_t>(steps_[k].inputs[i])];
  }
  /// True if nobody but step k reads this input, which is a whole block: the block may change.
  bool exclusive(std::size_t k, std::size_t i) {
    const auto from = static_cast<std::size_t>(steps_[k].inputs[i]);
    return values_[from].block > 0 && readers_[from] == 1;
  }
  NeuronBlock& block_of(const Value& v) { return neurons_.blocks[static_cast<std::size_t>(v.block)]; }
  /// The value of step k is that of its i-th input, whose block was changed.
  void pass(std::size_t k, std::size_t i = 0) {
    values_[k].block = in(k, i).block;
    values_[k].neuron = in(k, i).neuron;
  }
  std::int32_t layer_behind(const Value& v) const {
    std::int32_t most = 0, last = -1;
    for (const std::int32_t n : v.neuron)
      if (n >= 0 && n != last) most = std::max(most, layer_of(n)), last = n;
    return most + 1;
  }
  std::int32_t layer_of(std::int32_t n) const { return neurons_.layer_of(n); }

  /// A block of n neurons that read a value, without edges yet.
  NeuronBlock behind(std::size_t k, const Value& x, std::int64_t n, std::string name = "") {
    NeuronBlock b;
    b.operation = steps_[k].op;
    b.name = name.empty() ? b.operation : std::move(name);
    b.layer.assign(static_cast<std::size_t>(n), layer_behind(x));
    b.channels = channels_of(steps_[k].value.shape());
    return b;
  }
  /// A block that passes a value on, weight 1, so that something can be applied to it; `neuron` where it is broadcast.
  NeuronBlock copy_of(std::size_t k, const Value& x, const std::vector<std::int32_t>& neuron) {
    NeuronBlock b = behind(k, x, static_cast<std::int64_t>(neuron.size()));
    for (const std::int32_t n : neuron) {
      if (n >= 0) b.add(n, 1);
      b.close_row();
    }
    return b;
  }
  NeuronBlock copy_of(std::size_t k, const Value& x) { return copy_of(k, x, x.neuron); }
  /// The input as a block of one open branch each that belongs to step k alone.
  NeuronBlock& opened(std::size_t k, std::size_t i = 0) {
    if (exclusive(k, i) && block_of(in(k, i)).open()) {
      pass(k, i);
      return block_of(values_[k]);
    }
    return give(k, copy_of(k, in(k, i)));
  }

  const decltype(Attribute::value)& attribute(const Step& s, std::string_view name) const {
    for (const Attribute& a : s.attributes)
      if (a.name == name) return a.value;
    fail("to_graph: the trace of ", s.op, " has no attribute ", name);
  }
  std::int64_t integer(const Step& s, std::string_view name) const {
    return std::get<std::int64_t>(attribute(s, name));
  }
  Shape pair(const Step& s, std::string_view name) const { return std::get<Shape>(attribute(s, name)); }

  /// The module that a parameter belongs to: its name without the last part.
  std::string module_of(const Step& s) const {
    const auto cut = s.name.rfind('.');
    return cut == std::string::npos ? std::string() : s.name.substr(0, cut);
  }
  /// The parameter that a constant was made from, if it was.
  const Step* parameter_of(int k) const {
    const int at = parameter_[static_cast<std::size_t>(k)];
    return at < 0 ? nullptr : &steps_[static_cast<std::size_t>(at)];
  }
  /// The same where entries of the constant are entries of the parameter: what optimizers remember of them belongs to
  /// edges.
  const Step* plain_parameter_of(int k) const {
    return plain_[static_cast<std::size_t>(k)] ? parameter_of(k) : nullptr;
  }
  /// Copies of what optimizers remember of a parameter.
  std::vector<const Param::Slot*> slots_of(const Step* s) const {
    std::vector<const Param::Slot*> all;
    const auto found = s && options_.slots ? params_.find(s->value.node().get()) : params_.end();
    if (found != params_.end())
      for (const Param::Slot& slot : found->second.param->slots()) all.push_back(&slot);
    return all;
  }

  WeightEdges weight_of(std::size_t k, std::size_t i, std::int64_t rows, std::int64_t cols) const;
  std::vector<float> spread(std::size_t k, const Tensor& constant) const;
  std::vector<float> iota_floats(std::size_t k, std::int64_t n) const;
  std::vector<std::int32_t> aligned(std::size_t k, std::size_t i);
  static void add_edge(NeuronBlock& b, std::int32_t from, const WeightEdges& w, std::int32_t e);
  NeuronBlock& opened_without_norm(std::size_t k);
  NeuronBlock pair_of(std::size_t k);
  bool in_one_order(const std::vector<std::int32_t>& neuron) const;

  void step(std::size_t k);
  void combine(std::size_t k);
  void greatest(std::size_t k, bool own);
  void linear_map(std::size_t k);
  void convolution(std::size_t k);
  void pooling(std::size_t k);
  void dag(std::size_t k);
  void sum_of(std::size_t k);
  void constant(std::size_t k, std::size_t at);
  void norm_of(std::size_t k);
  void batch_norm(std::size_t k);
  void couple(std::size_t k);
  void move(std::size_t k);
  void end();

  const std::vector<Step>& steps_;
  const TracedParams& params_;
  const ExtractOptions& options_;
  std::vector<Value> values_;
  std::vector<int> readers_;
  std::vector<int> parameter_;  // of every constant, a step; −1: none
  std::vector<char> plain_;
  Neurons neurons_;
};

/// An activation as text: its name and parameters, such as leaky_relu(0.01).
inline std::string activation_text(const Step& s) {
  std::string text(s.op), sign = "(";
  for (const Attribute& a : s.attributes)
    if (const double* x = std::get_if<double>(&a.value)) {
      text += sign + shortest(static_cast<float>(*x));
      sign = ",";
    }
  return sign == "," ? text + ")" : text;
}

}  // namespace detail

}  // namespace deepstruct
