// ops.nn: softmax, losses, linear, layer norm, dropout.
#include "differentiable.hpp"
#include "families.hpp"

#include "deepstruct/nn/layers.hpp"
#include "deepstruct/ops/loss.hpp"

namespace golden {

namespace {

using Args = const Arguments&;

ds::Reduction reduction(Args a) {
  static const std::map<std::string, ds::Reduction> names = {
      {"mean", ds::Reduction::mean}, {"sum", ds::Reduction::sum}, {"none", ds::Reduction::none}};
  return a.has("reduction") ? names.at(a.text("reduction")) : ds::Reduction::mean;
}
ds::ClassLossOptions class_options(Args a) {
  return {.reduction = reduction(a),
          .weight = a["weight"],
          .ignore_index = a.has("ignore_index") ? a.integer("ignore_index") : -100,
          .label_smoothing = a.real("label_smoothing", 0)};
}

template <ds::Var (*f)(const ds::Var&, const ds::Var&, ds::Reduction)>
ds::Var loss(Args a) {
  return f(a["x"], a["target"], reduction(a));
}

ds::Var kl_div(Args a) {
  const std::string formula = a.text("expression"), how = a.text("reduction");
  if (formula != "kl_div(log_softmax(x,1), target)" || how != "batchmean")
    throw NoRunner{"no runner for op kl_div with expression " + formula + ", reduction " + how};
  return ds::kl_div(ds::log_softmax(a["x"], 1), a["target"]);
}

const std::map<std::string, Op> nn_ops = {
    {"binary_cross_entropy_with_logits", loss<ds::binary_cross_entropy_with_logits>},
    {"cross_entropy", [](Args a) { return ds::cross_entropy(a["x"], a.indices("target"), class_options(a)); }},
    {"kl_div", kl_div},
    {"l1_loss", loss<ds::l1_loss>},
    {"layer_norm",
     [](Args a) {
       return ds::layer_norm(a["x"], ds::Shape(a.extents("normalized_shape")), a["weight"], a["bias"],
                             a.real("eps", 1e-5f));
     }},
    {"linear", [](Args a) { return ds::linear(a["x"], a["weight"], a["bias"]); }},
    {"log_softmax", [](Args a) { return ds::log_softmax(a["x"], a.integer("dim")); }},
    {"mse_loss", loss<ds::mse_loss>},
    {"nll_loss", [](Args a) { return ds::nll_loss(a["x"], a.indices("target").to_vector(), class_options(a)); }},
    {"smooth_l1_loss", [](Args a) { return ds::smooth_l1_loss(a["x"], a["target"], reduction(a), a.real("beta", 1)); }},
    {"softmax", [](Args a) { return ds::softmax(a["x"], a.integer("dim")); }},
};

/// Every element is dropped or scaled, the gradient alike; the share of kept ones is 1 − p within five standard errors.
void check_dropped(Case& c, float p, double scale) {
  const std::int64_t n = 10000;
  ds::Rng rng(1);
  const ds::Var x = ds::variable(ds::Tensor::ones({n}));
  const ds::Var y = ds::dropout(x, p, rng);
  ds::backward(ds::sum(y));
  c.expect(y.value() == x.grad(), "gradient: expected the mask and scale of the output, got others");
  std::int64_t kept = 0;
  y.value().for_each([&](std::int64_t i, float v) {
    if (v != 0) c.close("kept element " + std::to_string(i), scale, v, {1e-6, 0});
    kept += v != 0;
  });
  const double rate = static_cast<double>(kept) / static_cast<double>(n), expected = 1 - double{p};
  c.close("keep rate", expected, rate, {0, 5 * std::sqrt(expected * double{p} / static_cast<double>(n))});
}

void run_dropout(Case& c) {
  const Arguments a(c);
  const ds::Var x = a["x"];
  ds::Dropout layer(a.real("p"));
  ds::set_training(layer, false);
  c.equal("evaluation", c["eval_output"], layer(x).value());
  c.equal("p = 0", c["p0_train_output"], ds::dropout(x, 0).value());
  c.equal("p = 1", c["p1_train_output"], ds::dropout(x, 1).value());
  c.throws("invalid p", [&] { ds::dropout(x, 1.5f); });
  c.throws("invalid p", [&] { ds::dropout(x, -0.5f); });
  c.throws("invalid p", [&] { ds::dropout(x, std::numeric_limits<float>::quiet_NaN()); });
  check_dropped(c, a.real("p"), to_number(c["scale"]));
}

}  // namespace

void run_nn(Case& c) {
  const std::string op = c.text("op");
  if (op == "dropout") return run_dropout(c);
  if (op == "conv2d") return run_conv(c);
  if (op.find("pool2d") != op.npos || op.starts_with("batch_norm")) return run_pool(c);
  check_differentiable(c, find_runner(nn_ops, "op", op));
}

}  // namespace golden
