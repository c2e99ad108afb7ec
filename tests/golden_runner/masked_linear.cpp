// masked_linear: MaskedLinearLayer. Qnn are the known quirks of the Python original; a fixed one is checked as fixed.
#include <regex>

#include "any_optimizer.hpp"
#include "differentiable.hpp"
#include "families.hpp"

#include "deepstruct/models/masked_deep_ffn.hpp"

namespace golden {

namespace {

using Layer = ds::MaskedLinearLayer;
using Options = ds::MaskedLinearOptions;

std::vector<std::string> parameter_names(const Layer& layer) {
  std::vector<std::string> names;
  ds::each_param(layer, [&](const std::string& name, const ds::Param&) { names.push_back(name); });
  return names;
}

bool is_binary(const Json& array) {
  const Values values(array);
  return std::all_of(values.data.begin(), values.data.end(), [](double x) { return x == 0 || x == 1; });
}

/// A layer with weight, bias and (hard or soft) mask of `data`, as far as it names them.
Layer make_layer(const Json& data, Options options = {}) {
  const ds::Tensor weight = to_tensor(data.at("weight"));
  ds::check(weight.rank() == 2, "golden: the weight must be a matrix (", weight.shape(), ")");
  options.bias = data.contains("bias") && !data.at("bias").is_null();
  Layer layer(weight.shape()[1], weight.shape()[0], options);
  layer.weight.set_value(weight);
  if (options.bias) layer.bias->set_value(to_tensor(data.at("bias")));
  if (data.contains("mask")) {
    if (is_binary(data.at("mask")))
      layer.set_mask(to_tensor(data.at("mask")));
    else
      layer.set_soft_mask(to_tensor(data.at("mask")));
  }
  return layer;
}

/// Output and gradients, by backward() and by a recorded grad(); packed gradients are laid out as a full matrix.
void check_forward_backward(Case& c, Layer layer, const std::string& how) {
  const ds::Tensor dy = to_tensor(c["grad_output"]);
  const auto full = [&](const ds::Tensor& t) {
    return layer.packed() ? ds::place_edges(ds::Var(t), layer.mask()).value() : t;
  };
  const ds::Var x = ds::variable(to_tensor(c["input"]));
  const ds::Var y = layer(x);
  c.close(how + "output", c["output"], y.value());
  if (y.shape() != dy.shape()) return;

  std::vector<ds::Var> leaves{x, layer.weight};
  if (layer.bias) leaves.push_back(*layer.bias);
  const ds::Vars recorded = ds::grad(y, leaves, {.create_graph = true, .seed = dy});
  ds::backward(dot(y, dy));
  c.close(how + "grad_input", c["grad_input"], x.grad());
  c.close(how + "grad_weight", c["grad_weight"], full(layer.weight.grad()));
  c.close(how + "recorded grad_input", c["grad_input"], recorded[0].value());
  c.close(how + "recorded grad_weight", c["grad_weight"], full(recorded[1].value()));
  if (!layer.bias) return;
  c.close(how + "grad_bias", c["grad_bias"], layer.bias->grad());
  c.close(how + "recorded grad_bias", c["grad_bias"], recorded[2].value());
}

void run_forward_backward(Case& c) {
  Layer layer = make_layer(c.data());
  check_forward_backward(c, layer, "");
  if (is_binary(c["mask"])) {
    Layer packed = layer;
    packed.pack();
    check_forward_backward(c, packed, "packed ");
    c.equal("packed weight_count", to_number(c["weight_count"]), packed.weight_count());
    packed.unpack();
    check_forward_backward(c, packed, "unpacked ");
  }
  c.close("weight_count", to_number(c["weight_count"]), layer.weight_count());
  c.close("saliency", c["saliency"], layer.saliency());
  layer.apply_mask();
  c.close("weight_after_apply_mask", c["weight_after_apply_mask"], layer.weight.value());
  c.close("output_after_apply_mask", c["output_after_apply_mask"], layer(to_tensor(c["input"])).value());
}

void run_recompute_mask(Case& c) {
  const float theta = static_cast<float>(to_number(c["theta"]));
  const ds::Tensor weight = to_tensor(c["weight"]);
  const ds::Mask before = to_mask(c["mask_before"]);
  Layer layer(weight.shape()[1], weight.shape()[0], Options{});
  layer.weight.set_value(weight);
  layer.set_mask(before);
  const auto values = weight.to_vector();
  if (std::any_of(values.begin(), values.end(), [](float w) { return std::isnan(w); })) {  // Q12: upstream keeps NaN
    c.throws("recompute_mask of NaN", [&] { layer.recompute_mask(theta); });
    c.equal("mask after the error", before, layer.mask());
    return;
  }
  const auto check = [&](const char* key, auto&& change) {
    Layer changed = layer;
    change(changed);
    c.equal(key, c[key], changed.mask());
    return changed;
  };
  check("mask_after_recompute", [&](Layer& l) { l.recompute_mask(theta); });
  check("mask_after_recompute_default_theta", [](Layer& l) { l.recompute_mask(); });
  const Layer applied = check("mask_after_apply_then_recompute", [&](Layer& l) {
    l.apply_mask();
    l.recompute_mask(theta);
  });
  c.close("weight_after_apply", c["weight_after_apply"], applied.weight.value());

  Layer packed = layer;  // no remembered weights: edges can only go
  packed.pack();
  packed.recompute_mask(theta);
  const ds::Mask anew = to_mask(c["mask_after_recompute"]);
  const auto both = [&](std::int32_t, std::int64_t r, std::int64_t col) { return anew.contains(r, col); };
  c.equal("packed mask after recompute", before.filter(both), packed.mask());
}

// ---- learnable masks
// ------------------------------------------------------------------------------------------------------

constexpr Options learnable{.learnable_mask = true, .gradient = Options::Gradient::none};

/// One `expr` of item_operations: [row], [row, column] or all.
struct Item {
  std::optional<std::int64_t> row, column;

  explicit Item(const std::string& text) {
    const auto comma = text.find(',');
    row = number(text.substr(0, comma));
    if (comma != std::string::npos) column = number(text.substr(comma + 1));
  }
  static std::optional<std::int64_t> number(const std::string& text) {
    if (text.find(':') != std::string::npos) return std::nullopt;
    return std::stoll(text);
  }
};

/// Reading is right for every index (Q11: upstream fails on an element and misreads a block).
void check_get(Case& c, const Layer& layer, const Json& op, const Item& item) {
  const std::string what = op.at("expr").get<std::string>();
  const ds::Tensor mask = to_tensor(op.at("mask_after"));
  for (std::int64_t r = 0; r < mask.shape()[0]; ++r) {
    if (item.row && r != *item.row) continue;
    const auto row = layer.row(r);
    for (std::int64_t k = 0; k < mask.shape()[1]; ++k) {
      if (item.column && k != *item.column) continue;
      c.expect(
          (mask(r, k) != 0) == row.at(static_cast<std::size_t>(k)) &&
              row[static_cast<std::size_t>(k)] == layer.mask().contains(r, k),
          what + ": expected the entry of the mask, got another at " + std::to_string(r) + ", " + std::to_string(k));
    }
  }
}

/// Writing one element is right upstream; writing a row goes to the wrong axis there (Q11) and is a row here.
void check_set(Case& c, Layer& layer, const Json& op, const Item& item, const std::string& value) {
  const std::string what = op.at("expr").get<std::string>();
  ds::check(item.row.has_value(), "golden: cannot set ", what);
  const double number = value.starts_with("ones") ? 1 : std::stod(value);
  if (item.column) {
    layer.set_edge(*item.row, *item.column, number > 0.5);
    c.equal(what + ": mask", op.at("mask_after"), layer.mask());
    if (number == 0 || number == 1) c.close(what + ": alphas", op.at("alphas_after"), layer.alphas().value());
    return;
  }
  const ds::Mask before = layer.mask();
  layer.set_row(*item.row, std::vector<bool>(static_cast<std::size_t>(layer.in_features()), number > 0.5));
  const auto wanted = [&](std::int64_t r, std::int64_t k) {
    return r == *item.row ? number > 0.5 : before.contains(r, k);
  };
  c.equal(what + ": mask", ds::Mask::where(before.rows(), before.cols(), wanted), layer.mask());
}

void check_item_operation(Case& c, Layer& layer, const Json& op) {
  static const std::regex get(R"(get layer\[(.+)\])"), set(R"(set layer\[(.+)\] = (.+))"),
      recompute(R"(recompute_mask\((.+)\))");
  const std::string expr = op.at("expr").get<std::string>();
  const ds::Mask before = layer.mask();
  std::smatch match;
  if (std::regex_match(expr, match, get)) {
    check_get(c, layer, op, Item(match[1]));
  } else if (std::regex_match(expr, match, set)) {
    check_set(c, layer, op, Item(match[1]), match[2]);
  } else if (expr == "set mask = bool tensor") {  // Q11: upstream cannot
    const auto other = [&](std::int64_t r, std::int64_t k) { return !before.contains(r, k); };
    const ds::Mask opposite = ds::Mask::where(before.rows(), before.cols(), other);
    layer.set_mask(opposite);
    c.equal(expr, opposite, layer.mask());
  } else if (std::regex_match(expr, match, recompute)) {  // Q11: upstream cannot
    const float theta = std::stof(match[1]);
    const ds::Tensor& w = layer.weight.value();
    layer.recompute_mask(theta);
    const auto large = [&](std::int64_t r, std::int64_t k) { return std::abs(w(r, k)) >= theta; };
    c.equal(expr, ds::Mask::where(before.rows(), before.cols(), large), layer.mask());
  } else if (expr.starts_with("reset_parameters(")) {
    const ds::Tensor w = layer.weight.value();
    layer.reset_parameters(ds::default_rng(), expr.find("keep_mask=True") != std::string::npos);
    c.expect(!(w == layer.weight.value()), expr + ": expected new weights, got the old ones");
    c.equal(expr + ": mask", op.at("mask_after"), layer.mask());
    c.close(expr + ": alphas", op.at("alphas_after"), layer.alphas().value());
  } else {
    ds::fail("golden: unknown item operation (", expr, ")");
  }
}

void check_adam_on_alphas(Case& c, Layer layer) {
  const Json& data = c["adam_on_alphas"];
  if (data.at("loss") != "sum(|alphas[:,:,1]|)") ds::fail("golden: unknown loss (", data.at("loss").dump(), ")");
  layer.set_mask(to_tensor(data.at("start_mask")));
  AnyOptimizer optimizer = make_optimizer(data.at("optimizer").at("name").get<std::string>(), data.at("optimizer"));
  for (int t = 0; t < data.at("steps").get<int>(); ++t) {
    ds::backward(ds::sum(ds::abs(ds::select(layer.alphas(), 2, 1))));
    step(optimizer, layer);
  }
  c.close("adam_on_alphas: alphas_after", data.at("alphas_after"), layer.alphas().value());
  c.equal("adam_on_alphas: mask_after", data.at("mask_after"), layer.mask());
}

void run_mask_as_params(Case& c) {
  Layer layer = make_layer(c.data(), learnable);
  const ds::Tensor x = to_tensor(c["input"]);
  c.equal("state_dict_keys", c["state_dict_keys"], ds::state_names(layer));
  c.equal("parameter_names", c["parameter_names"], parameter_names(layer));
  c.expect(layer.mask().is_full(), "initial mask: expected every connection on (Q10), got fewer");

  const auto with_alphas = [&](const char* alphas, const char* mask, const char* output) {
    layer.alphas().set_value(to_tensor(c[alphas]));
    c.equal(mask, c[mask], layer.mask());
    c.close(output, c[output], layer(x).value());
  };
  with_alphas("alphas_initial", "mask_initial", "output_initial");
  with_alphas("alphas", "mask_from_alphas", "output");
  check_forward_backward(c, layer, "");
  c.equal("weight_count", to_number(c["weight_count"]), layer.weight_count());
  c.expect(!layer.alphas().has_grad(), "alphas: expected no gradient without straight-through, got one");
  Layer through = make_layer(c.data(), {.learnable_mask = true});  // Q11: upstream has no gradient
  through.alphas().set_value(to_tensor(c["alphas"]));
  check_forward_backward(c, through, "straight-through ");
  ds::backward(dot(through(x), to_tensor(c["grad_output"])));
  c.expect(through.alphas().has_grad(), "alphas: expected a straight-through gradient, got none");

  layer.set_mask(to_tensor(c["set_mask"]));
  c.close("alphas_after_set", c["alphas_after_set"], layer.alphas().value());
  c.equal("mask_after_set", c["mask_after_set"], layer.mask());
  c.close("output_after_set", c["output_after_set"], layer(x).value());

  Layer item = layer;
  Json before = c["alphas_after_set"];
  for (const Json& op : c["item_operations"]) {
    // An operation that fails upstream changes nothing, so its state is also what it starts from.
    item.alphas().set_value(to_tensor(op.at("error").is_null() ? before : op.at("alphas_after")));
    check_item_operation(c, item, op);
    before = op.at("alphas_after");
  }

  const Json& apply = c["apply_mask"];
  layer.weight.set_value(to_tensor(apply.at("weight_before")));
  layer.set_mask(to_tensor(apply.at("mask")));
  layer.apply_mask();
  c.close("apply_mask", apply.at("weight_after"), layer.weight.value());
  check_adam_on_alphas(c, layer);
}

// ---- small behaviours
// -----------------------------------------------------------------------------------------------------

/// A small layer for behaviours that do not say how large theirs was.
Layer some_layer(Options options = {}) { return Layer(5, 3, options); }

void run_defaults(Case& c) {
  const Json& result = c["result"];
  const ds::Shape shape = to_shape(result.at("mask_shape"));
  const Layer layer(shape[1], shape[0]);
  c.equal("state_dict_keys", result.at("state_dict_keys"), ds::state_names(layer));
  c.equal("parameter_names", result.at("parameter_names"), parameter_names(layer));
  c.expect(layer.mask().shape() == shape, "mask_shape: expected another");
  c.expect(layer.mask().is_full() == result.at("mask_all_ones").get<bool>(), "mask_all_ones: expected the opposite");
  c.expect(layer.options().keep_layer_input == result.at("keep_layer_input").get<bool>(),
           "keep_layer_input: expected the opposite");
  layer(ds::Tensor::ones({2, shape[1]}));
  c.expect(layer.layer_input().has_value() != result.at("layer_input_is_none").get<bool>(),
           "layer_input_is_none: expected the opposite");
  const bool is_abs = layer.saliency() == ds::abs(layer.weight).value();
  c.expect(is_abs == result.at("saliency_is_abs_weight").get<bool>(), "saliency_is_abs_weight: expected the opposite");
}

void run_no_bias(Case& c) {
  c.equal("state_dict_keys", c["result"].at("state_dict_keys"), ds::state_names(some_layer({.bias = false})));
}

void run_learnable_keys(Case& c) {
  const Json& result = c["result"];
  const ds::Shape shape = to_shape(result.at("alphas_shape"));
  const Layer layer(shape[1], shape[0], {.learnable_mask = true});
  c.equal("state_dict_keys", result.at("state_dict_keys"), ds::state_names(layer));
  c.expect(layer.alphas().shape() == shape, "alphas_shape: expected another");
  c.equal("n_parameters", to_number(result.at("n_parameters")), static_cast<double>(parameter_names(layer).size()));
}

/// Statements "l[row,column]=value", "l[row]=value", "l[row,:n]=tensor([…])", then reads "get[row]" and
/// "get[row,column]".
void run_set_items(Case& c) {
  static const std::regex statement(R"(l\[(\d+)(?:,(:?)(\d+))?\]=(?:tensor\(\[([^\]]*)\]\)|(\w+)))");
  const Json& result = c["result"];
  const Values mask(result.at("mask"));
  Layer layer(mask.shape[1], mask.shape[0]);
  const std::string text = result.at("expr").get<std::string>();
  for (std::sregex_iterator at(text.begin(), text.end(), statement), end; at != end; ++at) {
    const std::smatch& m = *at;
    const std::int64_t row = std::stoll(m[1]);
    const bool value = m[5] == "True" || m[5] == "1";
    if (m[4].matched) {
      std::vector<bool> flags = layer.row(row);
      std::istringstream values(m[4]);
      std::string one;
      for (std::size_t k = 0; std::getline(values, one, ','); ++k) flags.at(k) = std::stod(one) != 0;
      layer.set_row(row, flags);
    } else if (m[3].matched) {
      layer.set_edge(row, std::stoll(m[3]), value);
    } else {
      layer.set_row(row, std::vector<bool>(static_cast<std::size_t>(layer.in_features()), value));
    }
  }
  c.equal("mask", result.at("mask"), layer.mask());
  for (const auto& [key, expected] : result.items()) {
    if (!key.starts_with("get[")) continue;
    const Item item(key.substr(4, key.size() - 5));
    std::vector<bool> got = layer.row(item.row.value());
    if (item.column) got = {layer.mask().contains(*item.row, *item.column)};
    const Values want(expected);
    c.expect(std::equal(want.data.begin(), want.data.end(), got.begin(), got.end()), key + ": expected other flags");
  }
}

void run_keep_input(Case& c) {
  const ds::Tensor x = to_tensor(c["result"].at("input"));
  const Layer layer(x.shape()[x.rank() - 1], 3, Options{.keep_layer_input = true});
  layer(x);
  c.expect(layer.layer_input().has_value(), "layer_input: expected the input, got none");
  if (layer.layer_input()) c.close("layer_input", c["result"].at("layer_input"), *layer.layer_input());
}

void run_forward(Case& c) {
  const Json& result = c["result"];
  c.close("output", result.at("output"), make_layer(result)(to_tensor(result.at("input"))).value());
}

void run_saliency_shape(Case& c) {
  Layer layer = some_layer();
  const ds::Tensor before = layer.saliency();
  c.throws("saliency of another shape", [&] {
    layer.set_saliency(ds::Tensor::ones({layer.in_features(), layer.out_features()}));
  });
  c.equal("saliency after the error", before, layer.saliency());
}

void run_saliency(Case& c) {
  const ds::Tensor saliency = to_tensor(c["result"].at("set"));
  Layer layer(saliency.shape()[1], saliency.shape()[0]);
  layer.set_saliency(saliency);
  c.equal("saliency", c["result"].at("get"), layer.saliency());
}

/// Q13: upstream takes a mask of any shape, fails later in forward, or broadcasts it; here set_mask refuses it.
void refuses_mask(Case& c, const ds::Tensor& flags) {
  for (const bool learns : {false, true}) {
    Layer layer = some_layer({.learnable_mask = learns});
    c.throws("mask of another shape", [&] { layer.set_mask(flags); });
    c.expect(layer.mask().is_full(), "mask after the error: expected it unchanged");
    layer(ds::Tensor::ones({2, layer.in_features()}));
  }
  Layer layer = some_layer();
  c.throws("soft mask of another shape", [&] { layer.set_soft_mask(flags); });
  c.throws("mask of another shape", [&] { layer.set_mask(ds::Mask::from_dense(flags)); });
  layer.pack();
  c.throws("mask of another shape, packed", [&] { layer.set_mask(ds::Mask::from_dense(flags)); });
  c.expect(layer.mask().is_full(), "mask after the error: expected it unchanged");
}
void run_wrong_mask(Case& c) {
  const Layer layer = some_layer();
  refuses_mask(c, ds::Tensor::ones({layer.out_features(), layer.in_features() + 1}));
  refuses_mask(c, ds::Tensor::ones({layer.in_features(), layer.out_features()}));
}
void run_broadcast_mask(Case& c) {
  const ds::Tensor mask = to_tensor(c["result"].at("mask"));
  Layer layer = make_layer(Json{{"weight", c["result"].at("weight")}, {"bias", c["result"].at("bias")}});
  c.throws("mask of another shape", [&] { layer.set_mask(mask); });
  c.throws("soft mask of another shape", [&] { layer.set_soft_mask(mask); });
  refuses_mask(c, ds::Tensor::ones({some_layer().out_features(), 1}));
}

/// The sizes of the layer follow from the bound 1/√in and the number of its connections.
void run_reset(Case& c) {
  const Json& result = c["result"];
  const double bound = to_number(result.at("weight_bound")), total = to_number(result.at("mask_sum_after_reset"));
  const std::int64_t in = std::lround(1 / (bound * bound));
  Layer layer(in, to_shape(Json{std::lround(total / static_cast<double>(in)), in})[0]);
  ds::Rng rng(1);
  layer.set_mask(ds::Mask::zeros(layer.out_features(), in));
  const auto check = [&](const char* key, bool keep_mask) {
    layer.weight.set_value(ds::Tensor::full(layer.weight.shape(), 7));
    layer.reset_parameters(rng, keep_mask);
    c.equal(key, to_number(result.at(key)), layer.weight_count());
    for (float w : layer.weight.value().to_vector())
      c.expect(std::abs(double{w}) <= bound * (1 + 1e-6),
               std::string(key) + ": expected weights within the bound, got " + std::to_string(w));
  };
  check("mask_sum_after_reset_keep_mask", true);
  check("mask_sum_after_reset", false);
}

/// Q18: upstream's models cannot reset their parameters.
void run_model_reset(Case& c) {
  ds::MaskedDeepFFN model(5, 2, {4, 3});
  const ds::Mask kept = ds::Mask::zeros(4, 5);
  model.layer_first.set_mask(kept);
  const ds::Tensor before = model.layer_first.weight.value();
  ds::Rng rng(1);
  ds::reset_parameters(model, rng, true);
  c.equal("mask kept", kept, model.layer_first.mask());
  ds::reset_parameters(model, rng);
  c.expect(model.layer_first.mask().is_full(), "mask after reset: expected every connection on");
  c.expect(!(before == model.layer_first.weight.value()), "weights after reset: expected new ones");
}

/// Recognised by a part of the description, the first that fits.
const std::vector<std::pair<std::string, Runner>> behaviours = {
    {"reset_parameters raises", run_model_reset},
    {"reset_parameters", run_reset},
    {"bias=False", run_no_bias},
    {"mask_as_params=True", run_learnable_keys},
    {"__setitem__", run_set_items},
    {"keep_layer_input=True", run_keep_input},
    {"double input", run_forward},
    {"1-d input", run_forward},
    {"saliency setter shape", run_saliency_shape},
    {"explicit saliency", run_saliency},
    {"mask setter does not check the shape", run_wrong_mask},
    {"wrongly shaped mask", run_wrong_mask},
    {"mask silently broadcasts", run_broadcast_mask},
    {"MaskedLinearLayer(", run_defaults},
};

void run_behaviour(Case& c) {
  const std::string description = c.text("description");
  for (const auto& [part, runner] : behaviours)
    if (description.find(part) != std::string::npos) return runner(c);
  throw NoRunner{"no runner for behaviour " + description};
}

const std::map<std::string, Runner> masked_linear_kinds = {{"forward_backward", run_forward_backward},
                                                           {"recompute_mask", run_recompute_mask},
                                                           {"mask_as_params", run_mask_as_params},
                                                           {"behaviour", run_behaviour}};

}  // namespace

void run_masked_linear(Case& c) { find_runner(masked_linear_kinds, "kind", c.text("kind"))(c); }

}  // namespace golden
