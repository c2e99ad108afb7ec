#include "differentiable.hpp"

#include "deepstruct/ops/reduce.hpp"

namespace golden {

Arguments::Arguments(const Case& c) : attributes_(c.has("attrs") ? c["attrs"] : Json::object()) {
  const Json none = Json::object();
  const Json& grads = c.has("grads") ? c["grads"] : none;
  for (const auto& [name, array] : c["inputs"].items()) {
    if (is_float(array))
      floats_.emplace_back(name, grads.contains(name) ? ds::variable(to_tensor(array)) : ds::Var(to_tensor(array)));
    else
      indices_.emplace(name, to_indices(array));
  }
}

ds::Var Arguments::operator[](std::string_view name) const {
  for (const auto& [key, x] : floats_)
    if (key == name) return x;
  return {};
}

std::vector<ds::Var> Arguments::all() const {
  std::vector<ds::Var> xs;
  for (const auto& input : floats_) xs.push_back(input.second);
  return xs;
}

namespace {

struct Leaves {
  std::vector<std::string> names;
  std::vector<ds::Var> values;

  Leaves(const Arguments& a, const Json& grads) {
    for (const auto& entry : grads.items()) {
      names.push_back(entry.key());
      values.push_back(a[entry.key()]);
      ds::check(static_cast<bool>(values.back()), "golden: a gradient of no float input (", entry.key(), ")");
    }
  }
};

void check_second(Case& c, const Leaves& x, const ds::Vars& g) {
  const Json& second = c["second"];
  ds::Var s;
  for (std::size_t k = 0; k < x.names.size(); ++k) {
    const ds::Var term = dot(g[k], to_tensor(second.at("v").at(x.names[k])));
    s = s ? ds::add(s, term) : term;
  }
  for (const bool create_graph : {false, true}) {
    const ds::Vars hvp = ds::grad(s, x.values, {.create_graph = create_graph});
    for (std::size_t k = 0; k < x.names.size(); ++k)
      c.close((create_graph ? "recorded hvp " : "hvp ") + x.names[k], second.at("hvp").at(x.names[k]), hvp[k].value());
  }
}

}  // namespace

void check_differentiable(Case& c, const Op& op) {
  const Arguments fused(c), recorded(c);
  const ds::Var y = op(fused);
  c.close("output", c["output"], y.value());
  const ds::Tensor dy = to_tensor(c["grad_output"]);
  if (y.shape() != dy.shape() || c["grads"].empty()) return;

  const Leaves a(fused, c["grads"]);
  ds::backward(dot(y, dy));
  for (std::size_t k = 0; k < a.names.size(); ++k)
    c.close("grad " + a.names[k], c["grads"].at(a.names[k]), a.values[k].grad());

  const Leaves b(recorded, c["grads"]);
  const ds::Vars g = ds::grad(op(recorded), b.values, {.create_graph = true, .seed = dy});
  for (std::size_t k = 0; k < b.names.size(); ++k)
    c.close("recorded grad " + b.names[k], c["grads"].at(b.names[k]), g[k].value());
  if (c.has("second")) check_second(c, b, g);
}

}  // namespace golden
