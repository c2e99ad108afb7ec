// ops.reductions.
#include "differentiable.hpp"
#include "families.hpp"

#include "deepstruct/ops/reduce.hpp"

namespace golden {

namespace {

using Args = const Arguments&;

/// The attributes dim (null: all extents; a number; a list) and keepdim.
ds::Over over(Args a) {
  if (!a.has("dim")) return {};
  const Json& dim = a("dim");
  if (!dim.is_array()) return ds::Over(dim.get<int>(), a.flag("keepdim"));
  ds::pool_vector<int> dims;
  for (const Json& d : dim) dims.push_back(d.get<int>());
  return ds::Over(std::move(dims), a.flag("keepdim"));
}

template <ds::Var (*f)(const ds::Var&, const ds::Over&)>
ds::Var reduce(Args a) {
  return f(a["x"], over(a));
}
template <ds::Var (*f)(const ds::Var&, const ds::Over&, bool)>
ds::Var spread(Args a) {
  return f(a["x"], over(a), !a.has("unbiased") || a.flag("unbiased"));
}
/// max and min: over one extent they choose an entry, over all they share the gradient.
template <ds::Extremum (*along)(const ds::Var&, int, bool), ds::Var (*all)(const ds::Var&, const ds::Over&)>
ds::Var extremum(Args a) {
  return a.has("dim") ? along(a["x"], a.integer("dim"), a.flag("keepdim")).values : all(a["x"], {});
}

const std::map<std::string, Op> reduction_ops = {
    {"amax", reduce<ds::amax>},
    {"amin", reduce<ds::amin>},
    {"cumsum", [](Args a) { return ds::cumsum(a["x"], a.integer("dim")); }},
    {"logsumexp", reduce<ds::logsumexp>},
    {"max", extremum<ds::max, ds::amax>},
    {"mean", reduce<ds::mean>},
    {"min", extremum<ds::min, ds::amin>},
    {"norm",
     [](Args a) {
       if (a.number("ord") != 2) throw NoRunner{"no runner for op norm with ord " + a("ord").dump()};
       return ds::norm(a["x"], over(a));
     }},
    {"prod", [](Args a) { return ds::prod(a["x"], a.integer("dim"), a.flag("keepdim")); }},
    {"std", spread<ds::std>},
    {"sum", reduce<ds::sum>},
    {"var", spread<ds::var>},
};

/// Keys "all", "dim0", "dim-1" … name the extent.
void run_argmax(Case& c) {
  const ds::Tensor x = to_tensor(c["inputs"].at("x")), ties = to_tensor(c["ties"].at("x"));
  for (const auto& [key, expected] : c["outputs"].items()) {
    if (key == "all")
      c.equal("argmax all", expected, ds::Indices::scalar(static_cast<std::int32_t>(ds::argmax(x))));
    else
      c.equal("argmax " + key, expected, ds::argmax(x, std::stoi(key.substr(3))));
  }
  const std::string prefix = "argmax_dim";
  for (const auto& [key, expected] : c["ties"].items())
    if (key.starts_with(prefix))
      c.equal("ties " + key, expected, ds::argmax(ties, std::stoi(key.substr(prefix.size()))));
}

}  // namespace

void run_reduction(Case& c) {
  const std::string op = c.text("op");
  if (op == "argmax") return run_argmax(c);
  check_differentiable(c, find_runner(reduction_ops, "op", op));
  if (!c.has("indices")) return;
  const Arguments a(c);
  const auto choose = op == "max" ? ds::max : ds::min;
  c.equal("indices", c["indices"], choose(a["x"], a.integer("dim"), a.flag("keepdim")).indices);
}

}  // namespace golden
