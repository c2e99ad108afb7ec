// ops.nn: convolution, dense, and the same with a mask of all its weights.
#include "differentiable.hpp"
#include "families.hpp"

#include "deepstruct/ops/conv.hpp"

namespace golden {

namespace {

ds::Conv2dOptions conv_options(const Arguments& a) {
  const auto pair = [&](const char* name) {
    const auto extents = a.extents(name);
    ds::check(extents.size() == 2, "golden: conv2d wants pairs (", name, ")");
    return std::array{extents[0], extents[1]};
  };
  return {pair("stride"), pair("padding"), pair("dilation"), a.integer("groups")};
}

ds::Var sparse_conv(const Arguments& a) {
  const ds::Var w = a["weight"];
  const ds::Shape& s = w.shape();
  const ds::Mask all = ds::Mask::ones(s[0], s[1] * s[2] * s[3]);
  const ds::Var values = ds::pick_edges(ds::reshape(w, all.shape()), all);
  return ds::sparse_conv2d(a["x"], values, all, {s[2], s[3]}, a["bias"], conv_options(a));
}

}  // namespace

void run_conv(Case& c) {
  check_differentiable(c,
                       [](const Arguments& a) { return ds::conv2d(a["x"], a["weight"], a["bias"], conv_options(a)); });
  check_differentiable(c, sparse_conv);
}

}  // namespace golden
