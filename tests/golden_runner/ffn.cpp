// models.ffn: MaskedDeepFFN, with full and packed storage.
#include "any_optimizer.hpp"
#include "families.hpp"

#include "deepstruct/models/masked_deep_ffn.hpp"
#include "deepstruct/ops/loss.hpp"

namespace golden {

namespace {

using Model = ds::MaskedDeepFFN;

std::map<std::string, ds::Mask> masks_of(const Model& model) {
  std::map<std::string, ds::Mask> masks;
  ds::each<ds::MaskedLinearLayer>(
      model, [&](const std::string& name, const ds::MaskedLinearLayer& layer) { masks.emplace(name, layer.mask()); });
  return masks;
}

Model make_ffn_model(Case& c) {
  const ds::Shape in = to_shape(c["size_input"]);
  const auto hidden = c["hidden_layers"].get<std::vector<std::int64_t>>();
  const auto out = c["size_output"].get<std::int64_t>();
  std::int64_t before = in.size();
  for (std::int64_t width : hidden) before = to_shape(Json{before, width})[1];
  to_shape(Json{before, out});
  Model model(in, out, hidden, {.use_layer_norm = c["use_layer_norm"].get<bool>()});
  std::size_t loaded = 0;
  ds::each_param(model, [&](const std::string& name, ds::Param& p) {
    p.set_value(to_tensor(c["parameters"].at(name)));
    ++loaded;
  });
  ds::check(loaded == c["parameters"].size(), "golden: the model has not all parameters of the case (", loaded, " of ",
            c["parameters"].size(), ")");
  ds::each<ds::MaskedLinearLayer>(model, [&](const std::string& name, ds::MaskedLinearLayer& layer) {
    if (c.has("masks") && c["masks"].contains(name)) layer.set_mask(to_mask(c["masks"].at(name)));
  });
  return model;
}

/// What belongs to a parameter, as the full matrix it stands for, and zero where a packed weight has no edge.
class Layout {
 public:
  Layout(const Model& model, bool packed) : masks_(masks_of(model)), packed_(packed) {}

  Values got(const std::string& name, const ds::Tensor& t) const {
    const ds::Mask* mask = mask_of(name);
    return mask ? Values(ds::place_edges(ds::Var(t), *mask).value()) : Values(t);
  }
  Values expected(const std::string& name, const Json& array) const {
    Values values(array);
    if (const ds::Mask* mask = mask_of(name)) {
      const std::vector<float> exists = mask->to_dense().to_vector();
      for (std::size_t k = 0; k < std::min(exists.size(), values.data.size()); ++k)
        if (exists[k] == 0) values.data[k] = 0;
    }
    return values;
  }

 private:
  const ds::Mask* mask_of(const std::string& name) const {
    const std::string weight = ".weight";
    if (!packed_ || !name.ends_with(weight)) return nullptr;
    const auto found = masks_.find(name.substr(0, name.size() - weight.size()));
    return found == masks_.end() ? nullptr : &found->second;
  }

  std::map<std::string, ds::Mask> masks_;
  bool packed_;
};

void check_names(Case& c, const Model& model) {
  std::vector<std::string> full, local;
  for (const auto& entry : masks_of(model)) ds::check(!entry.first.empty(), "golden: a masked layer without a name");
  ds::each<ds::MaskedLinearLayer>(model, [&](const std::string& name, const ds::MaskedLinearLayer&) {
    full.push_back(name);
    local.push_back(name.substr(name.rfind('.') + 1));
  });
  c.equal("state_dict_keys", c["state_dict_keys"], ds::state_names(model));
  c.equal("maskable_full_names", c["maskable_full_names"], full);
  c.equal("maskable_layers_order", c["maskable_layers_order"], local);
}

void check_gradients(Case& c, const Model& model, const std::string& how) {
  const Layout layout(model, how == "packed ");
  const ds::Indices targets = to_indices(c["targets"]);
  const ds::Var x = ds::variable(to_tensor(c["input"]));
  const ds::Var y = model(x);
  const ds::Var loss = ds::cross_entropy(y, targets);
  c.close(how + "output", c["output"], y.value());
  c.close(how + "loss", to_number(c["loss_cross_entropy"]), loss.item());

  std::vector<std::string> names;
  std::vector<ds::Var> leaves{x};
  ds::each_param(model, [&](const std::string& name, const ds::Param& p) {
    names.push_back(name);
    leaves.push_back(p);
  });
  const ds::Vars recorded = ds::grad(loss, leaves, {.create_graph = true});
  ds::backward(loss);
  c.close(how + "grad_input", c["grad_input"], x.grad());
  c.close(how + "recorded grad_input", c["grad_input"], recorded[0].value());
  for (std::size_t k = 0; k < names.size(); ++k) {
    const Json& expected = c["grads"].at(names[k]);
    const ds::Var& p = leaves[k + 1];
    if (expected.is_null()) {  // an unused parameter
      c.expect(!p.has_grad(), how + "grad " + names[k] + ": expected none, got one");
      continue;
    }
    const Values want = layout.expected(names[k], expected);
    c.close(how + "grad " + names[k], want, layout.got(names[k], p.grad()), c.tolerance());
    c.close(how + "recorded grad " + names[k], want, layout.got(names[k], recorded[k + 1].value()), c.tolerance());
    p.clear_grad();
  }
}

/// Adam may move an entry whose gradient is rounding noise by up to three times its rate.
constexpr double atol_unstable = 3.1e-3;

void check_training(Case& c, const Json& data, Model model, const std::string& how, bool packed) {
  const Layout layout(model, packed);
  const ds::Tensor x = to_tensor(c["input"]);
  const ds::Indices targets = to_indices(c["targets"]);
  AnyOptimizer optimizer = make_optimizer(data.at("config").at("name").get<std::string>(), data.at("config"));
  const Json& losses = data.at("losses_before_each_step");
  for (std::size_t t = 0; t < losses.size(); ++t) {
    const ds::Var loss = ds::cross_entropy(model(x), targets);
    c.close(how + "loss before step " + std::to_string(t), to_number(losses[t]), loss.item());
    ds::backward(loss);
    step(optimizer, model);
  }
  const ds::Var y = model(x);
  c.close(how + "loss_after", to_number(data.at("loss_after")), ds::cross_entropy(y, targets).item());
  c.close(how + "output_after", data.at("output_after"), y.value());
  ds::each_param(std::as_const(model), [&](const std::string& name, const ds::Param& p) {
    std::set<std::int64_t> unstable;
    if (data.at("unstable_entries").contains(name))
      unstable = data.at("unstable_entries").at(name).get<std::set<std::int64_t>>();
    c.close(how + name, layout.expected(name, data.at("parameters_after").at(name)), layout.got(name, p.value()),
            c.tolerance(), unstable, atol_unstable);
  });
}

void check_masks(Case& c, const Json& data, const Model& model, const std::string& how) {
  for (const auto& [name, mask] : masks_of(model)) c.equal(how + " mask " + name, data.at("masks").at(name), mask);
  c.close(how + " output", data.at("output"), model(to_tensor(c["input"])).value());
}

void check_recompute(Case& c, const std::string& key, Model model) {
  const Json& data = c[key];
  if (key.starts_with("after_apply_then")) ds::apply_mask(model);
  ds::recompute_mask(model, static_cast<float>(to_number(data.at("theta"))));
  check_masks(c, data, model, key);
  check_masks(c, data, ds::pack(model), key + " packed");
}

}  // namespace

void run_ffn(Case& c) {
  if (c.text("model") != "MaskedDeepFFN") throw NoRunner{"no runner for model " + c.text("model")};
  const Model model = make_ffn_model(c);
  check_names(c, model);
  check_gradients(c, model, "");
  check_gradients(c, ds::pack(model), "packed ");
  check_gradients(c, ds::unpack(ds::pack(model)), "unpacked ");
  for (const auto& [name, data] : c["training"].items()) {
    check_training(c, data, model, name + " ", false);
    check_training(c, data, ds::pack(model), name + " packed ", true);
  }
  for (const auto& entry : c.data().items())
    if (entry.key().starts_with("after_apply_then_recompute") || entry.key().starts_with("after_recompute"))
      check_recompute(c, entry.key(), model);
}

}  // namespace golden
