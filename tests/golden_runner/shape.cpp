// ops.shape.
#include "differentiable.hpp"
#include "families.hpp"

#include "deepstruct/ops/reduce.hpp"

namespace golden {

namespace {

using Args = const Arguments&;

/// [start, stop, step] per extent with Python's rules: null is open, negative counts from the end.
ds::Slice python_slice(const Json& slices, const ds::Shape& shape) {
  ds::Slice s;
  std::vector<std::int64_t> extents(shape.extents().begin(), shape.extents().end());
  for (std::size_t k = 0; k < slices.size(); ++k) {
    const std::int64_t n = extents.at(k);
    const auto bound = [&](const Json& at, std::int64_t open) {
      const std::int64_t i = at.is_null() ? open : at.get<std::int64_t>();
      return std::clamp<std::int64_t>(i < 0 ? i + n : i, 0, n);
    };
    const Json& part = slices[k];
    const std::int64_t start = bound(part.at(0), 0), stop = bound(part.at(1), n);
    s.step[k] = part.at(2).is_null() ? 1 : part.at(2).get<std::int64_t>();
    ds::check(s.step[k] > 0, "golden: slice steps must be positive (", s.step[k], ")");
    s.start[k] = start;
    extents[k] = std::max<std::int64_t>(0, (stop - start + s.step[k] - 1) / s.step[k]);
  }
  s.shape = ds::Shape(extents);
  return s;
}

/// PyTorch's widths: before and after for the last extent, then for the one before it, and so on.
ds::Var pad(Args a) {
  const auto widths = a.extents("pad_last_to_first");
  const auto rank = static_cast<std::size_t>(a["x"].shape().rank());
  std::vector<std::int64_t> before(rank, 0), after(rank, 0);
  for (std::size_t k = 0; k + 1 < widths.size(); k += 2) {
    before.at(rank - 1 - k / 2) = widths[k];
    after.at(rank - 1 - k / 2) = widths[k + 1];
  }
  return ds::pad(a["x"], before, after, a.real("value", 0));
}

ds::Var cat(Args a) {
  auto xs = a.all();
  if (a.flag("same_tensor_twice")) xs.push_back(xs.at(0));
  return ds::cat(xs, a.integer("dim"));
}

ds::Var chunk(Args a) {
  const std::string formula = a.text("expression");
  if (formula != "2*chunk[1]+chunk[0]") throw NoRunner{"no runner for op chunk with expression " + formula};
  const auto pieces = ds::chunk(a["x"], a.integer("chunks"), a.integer("dim"));
  return pieces.at(1) * 2 + pieces.at(0);
}

ds::Var expression(Args a) {
  const std::string formula = a.text("expression");
  if (formula != "x*x + sum(x)*x") throw NoRunner{"no runner for op expression " + formula};
  const ds::Var x = a["x"];
  return x * x + ds::sum(x) * x;
}

ds::Var flip(Args a) {
  ds::Var y = a["x"];
  for (std::int64_t d : a.extents("dims")) y = ds::flip(y, {static_cast<int>(d)});
  return y;
}

const std::map<std::string, Op> shape_ops = {
    {"cat", cat},
    {"chunk", chunk},
    {"embedding", [](Args a) { return ds::embedding(a["weight"], a.indices("index")); }},
    {"expand", [](Args a) { return ds::expand(a["x"], ds::Shape(a.extents("shape"))); }},
    {"expression", expression},
    {"flatten", [](Args a) { return ds::flatten(a["x"], a.integer("start_dim")); }},
    {"flip", flip},
    {"gather", [](Args a) { return ds::gather(a["x"], a.indices("index"), a.integer("dim")); }},
    {"index_select", [](Args a) { return ds::index_select(a["x"], a.integer("dim"), a.indices("index").to_vector()); }},
    {"masked_fill", [](Args a) { return ds::masked_fill(a["x"], a.indices("mask"), a.real("value")); }},
    {"narrow", [](Args a) { return ds::narrow(a["x"], a.integer("dim"), a.integer("start"), a.integer("length")); }},
    {"pad", pad},
    {"permute", [](Args a) { return ds::permute(a["x"], a("dims").get<std::vector<int>>()); }},
    {"repeat", [](Args a) { return ds::repeat(a["x"], a.extents("repeats")); }},
    {"reshape", [](Args a) { return ds::reshape(a["x"], a.extents("shape")); }},
    {"select", [](Args a) { return ds::select(a["x"], a.integer("dim"), a.integer("index")); }},
    {"slice", [](Args a) { return ds::slice(a["x"], python_slice(a("slices"), a["x"].shape())); }},
    {"squeeze", [](Args a) { return ds::squeeze(a["x"], a.integer("dim")); }},
    {"stack", [](Args a) { return ds::stack(a.all(), a.integer("dim")); }},
    {"transpose", [](Args a) { return ds::transpose(a["x"], a.integer("dim0"), a.integer("dim1")); }},
    {"transpose_reshape",
     [](Args a) {
       return ds::reshape(ds::transpose(a["x"], a.integer("dim0"), a.integer("dim1")), a.extents("shape"));
     }},
    {"tril", [](Args a) { return ds::tril(a["x"], a.integer("diagonal")); }},
    {"unsqueeze", [](Args a) { return ds::unsqueeze(a["x"], a.integer("dim")); }},
    {"where", [](Args a) { return ds::where(a.indices("cond"), a["a"], a["b"]); }},
};

}  // namespace

void run_shape(Case& c) { check_differentiable(c, find_runner(shape_ops, "op", c.text("op"))); }

}  // namespace golden
