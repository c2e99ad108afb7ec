// Inference: a trained model made ready to answer.
#pragma once

#include <functional>
#include <ostream>

#include "../kernels/sliced.hpp"
#include "../ops/dag.hpp"
#include "../ops/batch_norm.hpp"
#include "../ops/normalize.hpp"
#include "../ops/pool.hpp"
#include "module.hpp"

namespace deepstruct {

/// y = model(x) for any number of samples, without a tape, from a snapshot of the model.
///
/// The trace of one example becomes a list of instructions: what depends on parameters alone is computed once, a linear
/// map takes bias and ReLU along, and sparse weights are copied into the order of the kernel for one sample. A larger
/// batch runs depth first: tiles of 64 samples go through the whole list one by one, shared among threads, so that what
/// lies between layers stays in the cache; on a GPU it goes through whole. Safe to call from many threads.
class Inference {
 public:
  /// Samples of a tile.
  static constexpr std::int64_t tile = 64;

  /// Traces model(example); example [b, …] with b >= 1. Throws where an op has no form here (it would mix samples, draw
  /// random numbers, or depend on the example's values) and names it.
  template <class M>
  Inference(const M& model, const Tensor& example) : Inference(trace(model, two_samples(example))) {}

  /// The trace of a model with an example of at least two samples; with one, what mixes samples would not show.
  explicit Inference(const std::vector<Step>& steps) {
    check(!steps.empty() && steps[0].op == "leaf" && steps[0].value.shape()[0] >= 2,
          "Inference: needs the trace of a model with at least two samples (", steps.size(), " steps)");
    input_ = steps[0].value.shape();
    const auto plan = plan_of(steps);
    check(plan.back().varies, "Inference: the result does not depend on the input (", steps.back().op, ")");
    std::vector<int> made(steps.size(), -1);  // number of the value that a step became; -1: a constant
    made[0] = 0;
    for (std::size_t k = 1; k < steps.size(); ++k) {
      if (!plan[k].varies || plan[k].readers == 0) continue;
      const Shape& shape = steps[k].value.shape();
      check(shape.rank() >= 1 && shape[0] == input_[0], "Inference: ", steps[k].op, " gives no value per sample (",
            shape, " of ", input_[0], " samples)");
      if (!joins(steps[k], steps, plan, made)) instructions_.push_back(instruction(steps[k], plan[k], steps, made));
      made[k] = static_cast<int>(instructions_.size());
    }
    last_use_.assign(instructions_.size() + 1, 0);
    for (std::size_t k = 0; k < instructions_.size(); ++k) {
      for (int at : instructions_[k].inputs)
        if (at >= 0) last_use_[static_cast<std::size_t>(at)] = k + 1;
      Layer& layer = instructions_[k].layer;
      if (!layer || !layer.mask || layer.weight.device() != Device::cpu || !simd::supported(simd::Isa::avx512))
        continue;
      const csr_view pattern = layer.mask->csr();
      kernels::Sliced one(pattern, layer.weight.value().data());
      if (one.pays(pattern)) layer.one = std::move(one);
    }
  }

  /// y [b, …] of x [b, …]; throws unless the extents beyond the first are those of the example.
  Var operator()(const Var& x) const {
    check(x.shape().rank() == input_.rank() && with_extent(x.shape(), 0, input_[0]) == input_,
          "Inference: x has another shape than the example (", x.shape(), " and ", input_, ")");
    const std::int64_t samples = x.shape()[0], tiles = (samples + tile - 1) / tile, threads = num_threads();
    // Few tiles go through together: threads share the rows of a layer, or one thread's cache holds all (256 samples of
    // 784-300-100-10 gain nothing from tiles).
    if (x.device() != Device::cpu || tiles < threads || (threads == 1 && tiles <= 4)) return run(x);
    Vars parts(static_cast<std::size_t>(tiles));
    parallel_for(tiles, [&](std::int64_t k) {
      no_grad guard;
      parts[static_cast<std::size_t>(k)] = run(narrow(x, 0, k * tile, std::min(tile, samples - k * tile)));
    });
    return cat(parts, 0);
  }

  /// What runs, one instruction a line.
  void write(std::ostream& out) const {
    for (std::size_t k = 0; k < instructions_.size(); ++k) {
      const Instruction& i = instructions_[k];
      out << k + 1 << " = " << i.name << '(';
      for (std::size_t n = 0; n < i.inputs.size(); ++n)
        out << (n ? ", " : "") << (i.inputs[n] >= 0 ? std::to_string(i.inputs[n]) : "constant");
      out << ')';
      if (i.layer)
        out << (i.layer.bias ? " + bias" : "") << (i.layer.after == Activation::relu ? ", relu" : "") << " -> "
            << i.layer.outputs();
      out << '\n';
    }
  }

 private:
  /// A linear map with what follows it: dense [out, in], or the values of a mask's edges.
  struct Layer {
    Var weight;
    std::optional<Mask> mask;
    Var bias;
    Activation after = Activation::none;
    kernels::Sliced one;

    explicit operator bool() const { return static_cast<bool>(weight); }
    std::int64_t outputs() const { return mask ? mask->rows() : weight.shape()[0]; }
    Var operator()(const Var& x) const {
      if (x.shape()[0] == 1 && !one.empty() && x.device() == Device::cpu && simd::active() == simd::Isa::avx512) {
        Tensor y = Tensor::empty({1, outputs()});
        if (kernels::sliced_linear(cpu{}, one.view(), x.value().data(), bias ? bias.value().data() : nullptr,
                                   after == Activation::relu, y.data()))
          return y;
      }
      return mask ? sparse_linear(x, weight, *mask, bias, after) : linear(x, weight, bias, after);
    }
  };
  using Operation = std::function<Var(std::span<const Var>)>;
  struct Instruction {
    Layer layer;   // either this
    Operation op;  // or this
    std::string_view name;
    std::vector<int> inputs;  // 0: the input, k: instruction k, -1: a constant
    Vars constants;           // at the places of the -1
  };

  static Tensor two_samples(const Tensor& example) {
    check(example.rank() >= 1 && example.shape()[0] >= 1, "Inference: the example must have a sample (",
          example.shape(), ")");
    return example.shape()[0] > 1 ? example : cat({Var(example), Var(example)}, 0).value();
  }

  /// What becomes of a step of the trace.
  struct Planned {
    bool varies = false;         // it depends on the input
    int readers = 0;             // values that are made from it
    const Step* norm = nullptr;  // it is the layer norm (without weight and bias) of x, this is its layer_norm_rstd
  };
  static std::vector<Planned> plan_of(const std::vector<Step>& steps) {
    std::vector<Planned> plan(steps.size());
    plan[0].varies = true;
    const auto at = [&](int k) -> const Step& { return steps[static_cast<std::size_t>(k)]; };
    for (std::size_t k = 1; k < steps.size(); ++k) {
      const Step& s = steps[k];
      for (int i : s.inputs) plan[k].varies |= plan[static_cast<std::size_t>(i)].varies;
      // A trace holds layer norm as (x − mean)·rstd.
      if (s.op == "mul" && at(s.inputs[0]).op == "sub" && at(s.inputs[1]).op == "layer_norm_rstd" &&
          at(s.inputs[0]).inputs[0] == at(s.inputs[1]).inputs[0])
        plan[k].norm = &at(s.inputs[1]);
    }
    plan.back().readers = 1;
    for (std::size_t k = steps.size(); k-- > 1;) {
      if (plan[k].readers == 0) continue;
      for (int i : plan[k].norm ? std::span<const int>(plan[k].norm->inputs) : std::span<const int>(steps[k].inputs))
        ++plan[static_cast<std::size_t>(i)].readers;
    }
    return plan;
  }

  /// True if a step is weight, bias or ReLU behind the layer (norm) that was made last and whose value nobody else
  /// reads: then it has become part of it.
  bool joins(const Step& s, const std::vector<Step>& steps, const std::vector<Planned>& plan,
             const std::vector<int>& made) {
    const auto x = static_cast<std::size_t>(s.inputs[0]);
    if (instructions_.empty() || made[x] != static_cast<int>(instructions_.size()) || plan[x].readers != 1)
      return false;
    Instruction& last = instructions_.back();
    Layer& layer = last.layer;
    if (layer && s.op == "relu" && layer.after == Activation::none) {
      layer.after = Activation::relu;
      return true;
    }
    if (s.inputs.size() != 2 || plan[static_cast<std::size_t>(s.inputs[1])].varies) return false;
    const Tensor& constant = steps[static_cast<std::size_t>(s.inputs[1])].value.value();
    Var* place = nullptr;
    if (layer && s.op == "add" && !layer.bias && layer.after == Activation::none)
      place = &layer.bias;
    else if (last.name == "layer_norm" && !last.constants[2] &&
             (s.op == "add" || (s.op == "mul" && !last.constants[1])))
      place = &last.constants[s.op == "add" ? 2 : 1];
    const Shape& value = s.value.shape();
    if (!place || constant.shape() != Shape{value[value.rank() - 1]}) return false;
    *place = Var(constant);
    return true;
  }

  static Instruction instruction(const Step& s, const Planned& plan, const std::vector<Step>& steps,
                                 const std::vector<int>& made) {
    Instruction next;
    next.name = s.op;
    const auto& inputs = plan.norm ? plan.norm->inputs : s.inputs;
    const auto constant = [&](std::size_t i) { return made[static_cast<std::size_t>(inputs[i])] < 0; };
    const auto value = [&](std::size_t i) { return detach(steps[static_cast<std::size_t>(inputs[i])].value); };
    const bool dense =
        s.op == "matmul" && s.attributes.size() == 2 && !flag(s, "transpose_a") && flag(s, "transpose_b");
    if ((dense || s.op == "sparse_linear") && !constant(0) && constant(1)) {
      next.layer.weight = value(1);
      if (!dense) next.layer.mask = std::get<Mask>(attribute(s, "mask"));
      next.inputs = {made[static_cast<std::size_t>(inputs[0])]};
      return next;
    }
    if (plan.norm) {
      next.name = "layer_norm";
      next.op = [eps = number(*plan.norm, "eps")](std::span<const Var> x) {
        return detail::layer_norm_last(x[0], x[1], x[2], eps);
      };
      next.inputs = {made[static_cast<std::size_t>(inputs[0])], -1, -1};  // x, weight, bias
      next.constants = {Var(), Var(), Var()};
      return next;
    }
    next.op = operation(s);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      next.inputs.push_back(made[static_cast<std::size_t>(inputs[i])]);
      next.constants.push_back(constant(i) ? value(i) : Var());
    }
    return next;
  }

  static const decltype(Attribute::value)& attribute(const Step& s, std::string_view name) {
    for (const Attribute& a : s.attributes)
      if (a.name == name) return a.value;
    fail("Inference: the trace of ", s.op, " has no attribute ", name);
  }
  static bool flag(const Step& s, std::string_view name) { return std::get<std::int64_t>(attribute(s, name)) != 0; }
  static float number(const Step& s, std::string_view name) {
    return static_cast<float>(std::get<double>(attribute(s, name)));
  }
  static std::array<std::int64_t, 2> pair(const Step& s, std::string_view name) {
    const Shape& both = std::get<Shape>(attribute(s, name));
    return {both[0], both[1]};
  }

  /// The op of a step, for any number of samples.
  static Operation operation(const Step& s) {
    using X = std::span<const Var>;
    if (s.op == "add") return [](X x) { return add(x[0], x[1]); };
    if (s.op == "sub") return [](X x) { return sub(x[0], x[1]); };
    if (s.op == "mul") return [](X x) { return mul(x[0], x[1]); };
    if (s.op == "div") return [](X x) { return div(x[0], x[1]); };
    if (s.op == "maximum") return [](X x) { return maximum(x[0], x[1]); };
    if (s.op == "minimum") return [](X x) { return minimum(x[0], x[1]); };
    if (s.op == "affine") return [a = number(s, "a"), b = number(s, "b")](X x) { return affine(x[0], a, b); };
    if (s.op == "pow") return [p = number(s, "exponent")](X x) { return pow(x[0], p); };
    if (s.op == "leaky_relu") return [a = number(s, "slope")](X x) { return leaky_relu(x[0], a); };
    if (s.op == "clamp") return [a = number(s, "low"), b = number(s, "high")](X x) { return clamp(x[0], a, b); };
    if (s.op == "hardtanh") return [a = number(s, "low"), b = number(s, "high")](X x) { return hardtanh(x[0], a, b); };
    if (s.op == "elu") return [a = number(s, "alpha")](X x) { return elu(x[0], a); };
    if (s.op == "softplus")
      return [a = number(s, "beta"), b = number(s, "threshold")](X x) { return softplus(x[0], a, b); };
    if (s.op == "reshape" || s.op == "sum_to" || s.op == "expand") {
      const Shape to = s.value.shape();
      const auto f = s.op == "reshape"  ? [](const Var& x, const Shape& shape) { return reshape(x, shape.extents()); }
                     : s.op == "sum_to" ? [](const Var& x, const Shape& shape) { return sum_to(x, shape); }
                                        : [](const Var& x, const Shape& shape) { return expand(x, shape); };
      return [to, f](X x) { return f(x[0], with_extent(to, 0, x[0].shape()[0])); };
    }
    if ((s.op == "cat" || s.op == "softmax" || s.op == "log_softmax") &&
        std::get<std::int64_t>(attribute(s, "dim")) > 0) {
      const int dim = static_cast<int>(std::get<std::int64_t>(attribute(s, "dim")));
      if (s.op == "cat") return [dim](X x) { return cat(x, dim); };
      if (s.op == "softmax") return [dim](X x) { return softmax(x[0], dim); };
      return [dim](X x) { return log_softmax(x[0], dim); };
    }
    if (s.op == "layered_dag") {
      const auto wiring =
          std::static_pointer_cast<const DagWiring>(std::get<std::shared_ptr<const void>>(attribute(s, "wiring")));
      return [mask = std::get<Mask>(attribute(s, "mask")), wiring](X x) {
        return layered_dag(x[0], x[1], x[2], mask, wiring);
      };
    }
    if (s.op == "batch_norm")
      return [eps = number(s, "eps")](X x) { return batch_norm(x[0], x[3], x[4], x[1], x[2], eps); };
    if (s.op == "max_pool2d" || s.op == "avg_pool2d") {
      Pool2dOptions o{.kernel = pair(s, "kernel"), .stride = pair(s, "stride"), .padding = pair(s, "padding")};
      o.ceil_mode = flag(s, "ceil_mode");
      if (s.op == "max_pool2d") {
        o.dilation = pair(s, "dilation");
        return [o](X x) { return max_pool2d(x[0], o); };
      }
      o.count_include_pad = flag(s, "count_include_pad");
      return [o](X x) { return avg_pool2d(x[0], o); };
    }
    if (s.op == "adaptive_avg_pool2d") return [to = pair(s, "output")](X x) { return adaptive_avg_pool2d(x[0], to); };
    constexpr std::pair<std::string_view, Var (*)(const Var&)> functions[] = {{"relu", relu},
                                                                              {"tanh", tanh},
                                                                              {"sigmoid", sigmoid},
                                                                              {"silu", silu},
                                                                              {"gelu", gelu},
                                                                              {"softsign", softsign},
                                                                              {"gelu_tanh", gelu_tanh},
                                                                              {"selu", selu},
                                                                              {"exp", exp},
                                                                              {"log", log},
                                                                              {"log1p", log1p},
                                                                              {"sqrt", sqrt},
                                                                              {"sin", sin},
                                                                              {"cos", cos},
                                                                              {"abs", abs},
                                                                              {"logsigmoid", logsigmoid}};
    for (const auto& [name, f] : functions)
      if (s.op == name) return [f = f](X x) { return f(x[0]); };
    fail("Inference: no form of op ", s.op, " (value ", s.value.shape(), ")");
  }

  /// The whole list for a batch of any size.
  Var run(const Var& x) const {
    no_grad guard;
    Vars values(instructions_.size() + 1), in;
    values[0] = x;
    for (std::size_t k = 0; k < instructions_.size(); ++k) {
      const Instruction& i = instructions_[k];
      if (i.layer) {
        values[k + 1] = i.layer(values[static_cast<std::size_t>(i.inputs[0])]);
      } else {
        in.clear();
        for (std::size_t n = 0; n < i.inputs.size(); ++n)
          in.push_back(i.inputs[n] >= 0 ? values[static_cast<std::size_t>(i.inputs[n])] : i.constants[n]);
        values[k + 1] = i.op(in);
        in.clear();
      }
      for (int at : i.inputs)  // its memory serves the next layer
        if (at >= 0 && last_use_[static_cast<std::size_t>(at)] == k + 1) values[static_cast<std::size_t>(at)] = Var();
    }
    return values.back();
  }

  Shape input_;
  std::vector<Instruction> instructions_;
  std::vector<std::size_t> last_use_;  // of every value, the number of its last reader
};

}  // namespace deepstruct
