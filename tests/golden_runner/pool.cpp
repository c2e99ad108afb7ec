// ops.nn: pooling and batch norm, with its running statistics.
#include "differentiable.hpp"
#include "families.hpp"

#include "deepstruct/nn/batch_norm.hpp"
#include "deepstruct/nn/pool.hpp"

namespace golden {

namespace {

using Args = const Arguments&;

/// A number for both directions or [h, w].
std::array<std::int64_t, 2> pair(Args a, std::string_view name, std::int64_t otherwise) {
  if (!a.has(name)) return {otherwise, otherwise};
  if (a(name).is_number()) return {a.integer(name), a.integer(name)};
  const auto both = a.extents(name);
  ds::check(both.size() == 2, "golden: not a pair (", name, ")");
  return {both[0], both[1]};
}
ds::Pool2dOptions options(Args a) {
  return {.kernel = pair(a, "kernel_size", 1),
          .stride = pair(a, "stride", 0),
          .padding = pair(a, "padding", 0),
          .dilation = pair(a, "dilation", 1),
          .ceil_mode = a.flag("ceil_mode"),
          .count_include_pad = !a.has("count_include_pad") || a.flag("count_include_pad")};
}

/// The layer that the case describes, with its running statistics before the call.
template <class Layer>
Layer layer_of(const Case& c, Args a) {
  Layer layer(c["running_mean_before"].at("shape")[0].get<std::int64_t>(),
              {.eps = a.real("eps"), .momentum = a.real("momentum"), .affine = static_cast<bool>(a["weight"])});
  layer.running_mean = to_tensor(c["running_mean_before"]);
  layer.running_var = to_tensor(c["running_var_before"]);
  layer.training = a.flag("training");
  if (layer.weight) {
    layer.weight->set_value(a["weight"].value());
    layer.bias->set_value(a["bias"].value());
  }
  return layer;
}

template <class Layer>
void run_batch_norm(Case& c) {
  const Arguments plain(c);
  const Layer layer = layer_of<Layer>(c, plain);
  c.close("output of the layer", c["output"], layer(plain["x"]).value());
  c.close("running_mean", c["running_mean_after"], layer.running_mean);
  c.close("running_var", c["running_var_after"], layer.running_var);
  c.equal("num_batches_tracked", layer.training ? 1 : 0, layer.num_batches_tracked.item());
  check_differentiable(c, [&](Args a) {
    if (a.flag("training")) return ds::batch_norm_training(a["x"], a["weight"], a["bias"], a.real("eps")).y;
    return ds::batch_norm(a["x"], to_tensor(c["running_mean_before"]), to_tensor(c["running_var_before"]), a["weight"],
                          a["bias"], a.real("eps"));
  });
}

const std::map<std::string, Op> pool_ops = {
    {"adaptive_avg_pool2d", [](Args a) { return ds::adaptive_avg_pool2d(a["x"], pair(a, "output_size", 1)); }},
    {"avg_pool2d", [](Args a) { return ds::avg_pool2d(a["x"], options(a)); }},
    {"max_pool2d", [](Args a) { return ds::max_pool2d(a["x"], options(a)); }},
};

}  // namespace

void run_pool(Case& c) {
  const std::string op = c.text("op");
  if (op == "batch_norm1d") return run_batch_norm<ds::BatchNorm1d>(c);
  if (op == "batch_norm2d") return run_batch_norm<ds::BatchNorm2d>(c);
  check_differentiable(c, find_runner(pool_ops, "op", op));
}

}  // namespace golden
