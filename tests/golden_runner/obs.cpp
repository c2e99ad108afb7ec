// pruning: optimal brain surgeon of one layer (Q24: the original prunes the whole layer where the number is 0, and for
// every bucket).
#include "families.hpp"

#include "deepstruct/prune/obs_layerwise.hpp"

namespace golden {

namespace {

/// The rows of all files, in the order in which they were read.
ds::Tensor obs_inputs(Case& c) {
  std::vector<double> rows;
  std::int64_t count = 0, width = 0;
  for (const Json& k : c["file_order_used"]) {
    const Values part(c["layer_inputs"].at(k.get<std::size_t>()));
    rows.insert(rows.end(), part.data.begin(), part.data.end());
    count += part.shape[0];
    width = part.shape[1];
  }
  const std::vector<float> values(rows.begin(), rows.end());
  return ds::Tensor::from({count, width}, values);
}

void close_matrix(Case& c, const std::string& what, const Json& expected, const Eigen::MatrixXd& got) {
  const Values want(expected);
  const double rtol = 1e-6;
  c.expect(want.shape == ds::Shape{got.rows(), got.cols()}, what + ": another shape");
  if (!c.mismatches().empty()) return;
  for (Eigen::Index i = 0; i < got.rows(); ++i)
    for (Eigen::Index j = 0; j < got.cols(); ++j)
      c.close(what + " (" + std::to_string(i) + ", " + std::to_string(j) + ")",
              want.data[static_cast<std::size_t>(i * got.cols() + j)], got(i, j), {rtol, 1e-9});
}

/// How many edges go, with the rule of the original put right: as many whole ones as the budget has room for.
std::size_t obs_count(const std::string& strategy, double value, std::vector<double> sensitivities) {
  if (strategy == "PERCENTAGE")
    return static_cast<std::size_t>(value * static_cast<double>(sensitivities.size()) / 100);
  if (strategy == "ABSOLUTE") return static_cast<std::size_t>(value);
  std::sort(sensitivities.begin(), sensitivities.end());
  double sum = 0;
  std::size_t n = 0;
  while (n < sensitivities.size() && (sum += sensitivities[n]) <= value) ++n;
  return n;
}

ds::Budget obs_budget(const std::string& strategy, double value) {
  if (strategy == "PERCENTAGE") return ds::percentage(value);
  if (strategy == "ABSOLUTE") return ds::absolute(static_cast<std::int64_t>(value));
  if (strategy == "BUCKET") return ds::bucket(value);
  throw NoRunner{"no runner for strategy " + strategy};
}

}  // namespace

void run_obs_layerwise(Case& c) {
  const ds::Tensor weight = to_tensor(c["weight"]);
  const ds::Mask mask = to_mask(c["mask_before"]);
  const Eigen::MatrixXd inverse = ds::inverse_input_hessian(obs_inputs(c));
  close_matrix(c, "hessian_inverse", c["hessian_inverse"], inverse);
  close_matrix(c, "hessian_inverse_closed_form", c["hessian_inverse_closed_form"], inverse);

  for (const Json& cut : c["edge_cut"]) {
    const auto strategy = cut.at("strategy").get<std::string>();
    const double value = to_number(cut.at("value"));
    const std::string how = strategy + " " + std::to_string(value) + " ";
    const ds::EdgeCut got = ds::edge_cut(weight, mask, inverse, obs_budget(strategy, value));
    const Values sensitivity(cut.at("sensitivity"));
    std::vector<double> of_edges;
    mask.for_each([&](std::int32_t e, std::int64_t i, std::int64_t j) {
      of_edges.push_back(sensitivity.data[static_cast<std::size_t>(i * mask.cols() + j)]);
      c.close(how + "sensitivity", of_edges.back(), got.sensitivity.at(static_cast<std::size_t>(e)), {1e-6, 1e-12});
    });
    const std::size_t goes = obs_count(strategy, value, of_edges);
    c.equal(how + "remaining", static_cast<double>(of_edges.size() - goes), static_cast<double>(got.mask.nnz()));

    // What the original leaves when it takes that many edges; where it does not, a cut of the case that does.
    const Json* same = nullptr;
    for (const Json& other : c["edge_cut"])
      if (other.at("error").is_null() &&
          to_number(other.at("remaining")) == static_cast<double>(of_edges.size() - goes))
        same = &other;
    if (goes == 0) {
      c.equal(how + "mask", mask, got.mask);
      c.close(how + "weight", Values(ds::Tensor(weight)), Values(got.weight), exact);
    } else if (same) {
      c.equal(how + "mask", same->at("mask_after"), got.mask);
      c.close(how + "weight", Values(same->at("weight_after")), Values(got.weight), {1e-4, 1e-5});
    }
  }
}

}  // namespace golden
