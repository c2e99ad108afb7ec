// Pruning to a cost: as few weights go as reach it, by count, bytes, time and a cost of one's own.
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/prune/target.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

/// 2 channels of 6 x 6, a convolution to 3 of 4 x 4, 48 → 5.
struct TargetNet {
  MaskedConv2d conv;
  MaskedLinearLayer last;
  explicit TargetNet(Rng& rng) : conv(2, 3, 3, {}, rng), last(48, 5, rng) {}
  Var operator()(const Var& x) const { return last(flatten(relu(conv(x)), 1)); }
  static auto fields(auto& m) { return std::tuple{Field{"conv", m.conv}, Field{"last", m.last}}; }
};
const Shape target_shape{1, 2, 6, 6};

double target_adds(const TargetNet& net) { return double(16 * net.conv.mask().nnz() + net.last.mask().nnz()); }

}  // namespace

TEST_CASE("costs count what is there") {
  Rng rng(1);
  TargetNet net(rng);
  const auto adds = multiply_adds_of(target_shape);
  const auto bytes = stored_bytes();
  REQUIRE(adds(net) == 16 * 54 + 240);
  REQUIRE(bytes(net) == 4 * (54 + 3 + 240 + 5 + (54 + 4) + (240 + 6)));
  prune_network_by_saliency(net, remaining(100));
  REQUIRE(adds(net) == target_adds(net));
  REQUIRE(adds(pack(net)) == target_adds(net));
  REQUIRE(bytes(net) == 4 * (2 * 100 + 8 + 4 + 6));
  REQUIRE(bytes(pack(net)) == bytes(net));
  REQUIRE(net.conv.packed() == false);
  const auto time = milliseconds_of(Tensor::ones(target_shape), 3);
  REQUIRE(time(net) > 0);
  const MaskedDeepFFN ffn(4, 2, {3}, {}, rng);
  REQUIRE(milliseconds_of(Tensor::ones({3, 4}), 2)(ffn) > 0);
  require_error([&] { time(ffn); }, {"sparse_linear"});  // it does not run at all
  require_error([] { milliseconds_of(Tensor::ones({1, 2}), 0); }, {"milliseconds_of", "0"});
  require_error([] { multiply_adds_of({}); }, {"multiply_adds_of", "example"});
}

TEST_CASE("no fewer weights would do") {
  Rng rng(2);
  for (int trial = 0; trial < 12; ++trial) {
    TargetNet start(rng);
    if (trial % 2) start = pack(start);
    const std::int64_t all = get_network_weight_count(start);
    const double target = trial == 0 ? target_adds(start) - 1 : double(rng.bits() % 1100);
    TargetNet model = start;
    const PruneReport report = prune_to(model, target, multiply_adds_of(target_shape));
    REQUIRE(report.before() == all);
    REQUIRE(report.after() == get_network_weight_count(model));
    REQUIRE(target_adds(model) <= target);
    TargetNet same = start;
    prune_network_by_saliency(same, remaining(report.after()));
    REQUIRE(same.conv.mask() == model.conv.mask());
    REQUIRE(same.last.mask() == model.last.mask());
    TargetNet more = start;  // one weight more is too much
    prune_network_by_saliency(more, remaining(report.after() + 1));
    REQUIRE(target_adds(more) > target);
  }
}

TEST_CASE("what costs no more already stays as it is, and so does what cannot cost so little") {
  Rng rng(3);
  TargetNet model(rng);
  REQUIRE(prune_to(model, 1104, multiply_adds_of(target_shape)).after() == 294);
  REQUIRE(prune_to(model, 1e9, milliseconds_of(Tensor::ones(target_shape), 1)).after() == 294);
  require_error([&] { prune_to(model, -1, multiply_adds_of(target_shape)); },
                {"prune_to", "cannot be reached", "-1", "least possible 0"});
  require_error([&] { prune_to(model, 71, stored_bytes()); }, {"71", "least possible 72"});
  require_error([&] { prune_to(model, 0, milliseconds_of(Tensor::ones(target_shape), 1)); }, {"cannot be reached"});
  require_error([&] { prune_to(model, 47, multiply_adds_of(target_shape), {.keep_per_output = 1}); },
                {"least possible 53"});  // 3 of the convolution at 16 places, 5
  require_error([&] { prune_to(model, std::nan(""), stored_bytes()); }, {"target", "nan"});
  require_error([&] { prune_to(model, 1, [](const TargetNet&) { return std::nan(""); }); }, {"cost is not a number"});
  require_error([&] { prune_to(model, 1, [](const TargetNet&) -> double { fail("my cost: no (1)"); }); }, {"my cost"});
  REQUIRE(get_network_weight_count(model) == 294);
}

TEST_CASE("a cost of one's own, floors and blocks") {
  Rng rng(4);
  TargetNet model(rng), floored = model, blocks = model;
  const auto rows = [](const TargetNet& net) { return net.last.mask().nnz(); };
  prune_to(model, 17, rows);
  REQUIRE(model.last.mask().nnz() == 17);
  prune_to(floored, 53, multiply_adds_of(target_shape), {.keep_per_output = 1});
  REQUIRE(target_adds(floored) == 53);
  prune_to(blocks, 30, rows, {.block = {5, 4}});
  REQUIRE(blocks.last.mask().nnz() == 20);
  for (std::int64_t c = 0; c < 48; ++c)
    for (std::int64_t r = 0; r < 5; ++r)
      REQUIRE(blocks.last.mask().contains(r, c) == blocks.last.mask().contains(0, c / 4 * 4));
}
