// ops.optimizers.
#include "any_optimizer.hpp"
#include "families.hpp"

namespace golden {

namespace {

/// A model that is nothing but parameters.
struct Parameters {
  std::vector<ds::Param> values;
  static auto fields(auto& m) { return std::tuple{ds::Field{"", m.values}}; }
};

/// Gives p exactly the gradient g.
void give_gradient(const ds::Param& p, const ds::Tensor& g) { ds::backward(ds::sum(ds::mul(p, g))); }

/// A plain JSON list of numbers as a vector.
ds::Tensor to_vector_tensor(const Json& list) {
  std::vector<float> data;
  for (const Json& x : list) data.push_back(static_cast<float>(to_number(x)));
  return ds::Tensor::from({static_cast<std::int64_t>(data.size())}, data);
}

void check_trace(Case& c, AnyOptimizer optimizer) {
  std::vector<std::string> names;
  Parameters model;
  for (const auto& [name, array] : c["params"].items()) {
    names.push_back(name);
    model.values.emplace_back(to_tensor(array));
  }
  const Json &grads = c["grads_per_step"], &after = c["params_after_step"];
  c.equal("number of steps", static_cast<double>(grads.size()), static_cast<double>(after.size()));
  for (std::size_t t = 0; t < grads.size(); ++t) {
    for (std::size_t k = 0; k < names.size(); ++k) give_gradient(model.values[k], to_tensor(grads[t].at(names[k])));
    step(optimizer, model);
    for (std::size_t k = 0; k < names.size(); ++k)
      c.close("step " + std::to_string(t) + " " + names[k], after.at(t).at(names[k]), model.values[k].value());
  }
}

/// Once with the options that are not defaults, once with all of them, so that ours are PyTorch's defaults.
void run_trace(Case& c) {
  check_trace(c, make_optimizer(c.text("optimizer"), c["config"]));
  check_trace(c, make_optimizer(c.text("optimizer"), c["resolved_config"]));
}

/// The only description of these cases is PyTorch's message; its text names the option and the value at fault. Every
/// optimizer that has the option must refuse it, and leave the parameter alone.
void run_error(Case& c) {
  const std::string message = c["error"].at("message").get<std::string>();
  const std::vector<std::string> all = {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad"};
  const auto refuses = [&](const std::vector<std::string>& names, const Json& config, std::size_t parameters = 1) {
    for (const std::string& name : names) {
      Parameters model;
      model.values.resize(parameters, ds::Param(ds::Tensor::ones({2})));
      for (ds::Param& p : model.values) give_gradient(p, ds::Tensor::ones({2}));
      const std::string what = name + " with " + config.dump();
      c.throws(what, [&] {
        AnyOptimizer optimizer = make_optimizer(name, config);
        step(optimizer, model);
      });
      for (const ds::Param& p : model.values)
        c.expect(p.value() == ds::Tensor::ones({2}), what + ": expected an unchanged parameter, got a step");
    }
  };
  const auto colon = message.rfind(": ");
  const auto value = [&] { return std::stod(message.substr(colon + 2)); };
  if (message.starts_with("Invalid learning rate")) {
    refuses(all, {{"lr", value()}});
  } else if (message.starts_with("Invalid momentum")) {
    refuses({"SGD", "RMSprop"}, {{"momentum", value()}});
  } else if (message.starts_with("Invalid weight_decay")) {
    refuses(all, {{"weight_decay", value()}});
  } else if (message.starts_with("Invalid epsilon")) {
    refuses({"Adam", "AdamW", "RMSprop", "Adagrad"}, {{"eps", value()}});
  } else if (message.starts_with("Invalid alpha")) {
    refuses({"RMSprop"}, {{"alpha", value()}});
  } else if (message.starts_with("Invalid lr_decay")) {
    refuses({"Adagrad"}, {{"lr_decay", value()}});
  } else if (message.starts_with("Invalid beta parameter at index 0")) {
    refuses({"Adam", "AdamW"}, {{"betas", {value(), 0.999}}});
  } else if (message.starts_with("Invalid beta parameter at index 1")) {
    refuses({"Adam", "AdamW"}, {{"betas", {0.9, value()}}});
  } else if (message.starts_with("Nesterov momentum requires")) {
    refuses({"SGD"}, {{"nesterov", true}});
    refuses({"SGD"}, {{"nesterov", true}, {"momentum", 0.9}, {"dampening", 0.5}});
  } else if (message.find("empty parameter list") != std::string::npos) {
    refuses(all, Json::object(), 0);
  } else {
    throw NoRunner{"no runner for optimizer error " + message};
  }
}

/// A parameter without a gradient is not stepped, not even by weight decay.
void run_semantics(Case& c) {
  AnyOptimizer optimizer = make_optimizer(c["config"].at("name").get<std::string>(), c["config"]);
  Parameters model;
  for (const char* name : {"a", "b"}) {
    const ds::Param& p = model.values.emplace_back(to_vector_tensor(c[std::string(name) + "_before"]));
    const std::string grad = std::string(name) + "_grad";
    if (c.has(grad)) give_gradient(p, to_vector_tensor(c[grad]));
  }
  step(optimizer, model);
  c.close("a_after", c["a_after"], model.values[0].value());
  c.close("b_after", c["b_after"], model.values[1].value());
}

void run_clip(Case& c) {
  Parameters model;
  for (const Json& g : c["grads"]) {
    const ds::Tensor gradient = to_tensor(g);
    give_gradient(model.values.emplace_back(ds::Tensor::zeros(gradient.shape())), gradient);
  }
  c.close("total_norm", to_number(c["total_norm"]), ds::clip_grad_norm(model, to_number(c["max_norm"])));
  for (std::size_t k = 0; k < model.values.size(); ++k)
    c.close("clipped " + std::to_string(k), c["clipped"].at(k), model.values[k].grad());
}

const std::map<std::string, Runner> optimizer_ops = {{"optimizer", run_trace},
                                                     {"optimizer_error", run_error},
                                                     {"optimizer_semantics", run_semantics},
                                                     {"clip_grad_norm", run_clip}};

}  // namespace

void run_optimizer(Case& c) { find_runner(optimizer_ops, "op", c.text("op"))(c); }

}  // namespace golden
