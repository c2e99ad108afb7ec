// Cases of whole models with masked layers: names, outputs, gradients, training and masks, in full and packed storage.
#pragma once

#include "any_optimizer.hpp"
#include "families.hpp"

#include "deepstruct/nn/masked_linear.hpp"
#include "deepstruct/ops/loss.hpp"

namespace golden {

template <class Model>
std::map<std::string, ds::Mask> masks_of(const Model& model) {
  std::map<std::string, ds::Mask> masks;
  ds::each<ds::MaskedLinearLayer>(
      model, [&](const std::string& name, const ds::MaskedLinearLayer& layer) { masks.emplace(name, layer.mask()); });
  return masks;
}

/// Parameters and masks of the case.
template <class Model>
void load_state(Case& c, Model& model) {
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
}

/// What the case expects of a parameter: where packed, zero for a weight without an edge.
template <class Model>
Values expected_values(const Json& array, const std::string& name, const Model& full, bool packed) {
  Values values(array);
  const std::string weight = ".weight";
  if (!packed || !name.ends_with(weight)) return values;
  const auto masks = masks_of(full);
  const auto mask = masks.find(name.substr(0, name.size() - weight.size()));
  if (mask == masks.end()) return values;
  const std::vector<float> exists = mask->second.to_dense().to_vector();
  for (std::size_t k = 0; k < std::min(exists.size(), values.data.size()); ++k)
    if (exists[k] == 0) values.data[k] = 0;
  return values;
}

template <class Model>
void check_names(Case& c, const Model& model) {
  std::vector<std::string> full, local;
  ds::each<ds::MaskedLinearLayer>(model, [&](const std::string& name, const ds::MaskedLinearLayer&) {
    full.push_back(name);
    local.push_back(name.substr(name.rfind('.') + 1));
  });
  c.equal("state_dict_keys", c["state_dict_keys"], ds::state_names(model));
  c.equal("maskable_full_names", c["maskable_full_names"], full);
  c.equal("maskable_layers_order", c["maskable_layers_order"], local);
}

/// `gradients` holds a gradient in the place of every parameter.
template <class Model>
void check_gradient_model(Case& c, const Model& gradients, const std::string& how, bool packed) {
  const Model full = ds::unpack(gradients);
  ds::each_param(full, [&](const std::string& name, const ds::Param& p) {
    const Json& expected = c["grads"].at(name);
    if (!expected.is_null())
      c.close(how + name, expected_values(expected, name, full, packed), Values(p.value()), c.tolerance());
  });
}

template <class Model>
void check_gradients(Case& c, const Model& model, const std::string& how, bool packed) {
  const ds::Indices targets = to_indices(c["targets"]);
  const ds::Var x = ds::variable(to_tensor(c["input"]));
  const ds::Var y = model(x);
  const ds::Var loss = ds::cross_entropy(y, targets);
  c.close(how + "output", c["output"], y.value());
  c.close(how + "loss", to_number(c["loss_cross_entropy"]), loss.item());

  std::vector<ds::Var> leaves{x};
  ds::each_param(model, [&](const ds::Param& p) { leaves.push_back(p); });
  const ds::Vars recorded = ds::grad(loss, leaves, {.create_graph = true});
  ds::backward(loss);
  c.close(how + "grad_input", c["grad_input"], x.grad());
  c.close(how + "recorded grad_input", c["grad_input"], recorded[0].value());
  Model fused = model, taped = model;
  std::size_t k = 0;
  std::vector<ds::Tensor> reached;
  ds::each_param(model, [&](const std::string& name, const ds::Param& p) {
    const bool unused = c["grads"].contains(name) && c["grads"].at(name).is_null();
    c.expect(p.has_grad() == !unused,
             how + "grad " + name + (unused ? ": expected none, got one" : ": expected one, got none"));
    reached.push_back(p.has_grad() ? p.grad() : ds::Tensor::zeros(p.shape()));
    p.clear_grad();
  });
  ds::each_param(fused, [&](ds::Param& p) { p.set_value(reached[k++]); });
  k = 1;
  ds::each_param(taped, [&](ds::Param& p) { p.set_value(recorded[k++].value()); });
  check_gradient_model(c, fused, how + "grad ", packed);
  check_gradient_model(c, taped, how + "recorded grad ", packed);
}

/// Adam may move an entry whose gradient is rounding noise by up to three times its rate.
inline constexpr double atol_unstable = 3.1e-3;

template <class Model>
void check_training(Case& c, const Json& data, Model model, const std::string& how, bool packed) {
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
  const Model full = ds::unpack(model);
  ds::each_param(full, [&](const std::string& name, const ds::Param& p) {
    std::set<std::int64_t> unstable;
    if (data.at("unstable_entries").contains(name))
      unstable = data.at("unstable_entries").at(name).template get<std::set<std::int64_t>>();
    c.close(how + name, expected_values(data.at("parameters_after").at(name), name, full, packed), Values(p.value()),
            c.tolerance(), unstable, atol_unstable);
  });
}

template <class Model>
void check_masks(Case& c, const Json& data, const Model& model, const std::string& how) {
  for (const auto& [name, mask] : masks_of(ds::unpack(model)))
    c.equal(how + " mask " + name, data.at("masks").at(name), mask);
  c.close(how + " output", data.at("output"), model(to_tensor(c["input"])).value());
}

template <class Model>
void check_recompute(Case& c, const std::string& key, Model model) {
  const Json& data = c[key];
  if (key.starts_with("after_apply_then")) ds::apply_mask(model);
  ds::recompute_mask(model, static_cast<float>(to_number(data.at("theta"))));
  check_masks(c, data, model, key);
  check_masks(c, data, ds::pack(model), key + " packed");
}

/// All that a case of a model holds, for the model in full storage.
template <class Model>
void check_model(Case& c, const Model& model) {
  check_names(c, model);
  check_gradients(c, model, "", false);
  check_gradients(c, ds::pack(model), "packed ", true);
  check_gradients(c, ds::unpack(ds::pack(model)), "unpacked ", true);
  for (const auto& [name, data] : c["training"].items()) {
    check_training(c, data, model, name + " ", false);
    check_training(c, data, ds::pack(model), name + " packed ", true);
  }
  for (const auto& entry : c.data().items())
    if (entry.key().starts_with("after_apply_then_recompute") || entry.key().starts_with("after_recompute"))
      check_recompute(c, entry.key(), model);
}

}  // namespace golden
