// PruneHistory: every recorded step comes back bit for bit, forwards and backwards.
#include <deepstruct/graph/random_dags.hpp>
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/prune/history.hpp>
#include <deepstruct/prune/prune.hpp>

#include <set>
#include <sstream>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

std::vector<Mask> history_masks(const auto& model) {
  std::vector<Mask> all;
  each_masked(model, [&](const std::string&, const auto& layer) { all.push_back(layer.mask()); });
  return all;
}
std::vector<Tensor> history_params(const auto& model) {
  std::vector<Tensor> all;
  each_param(model, [&](const Param& p) { all.push_back(p.value()); });
  return all;
}
void history_require_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t k = 0; k < a.size(); ++k) REQUIRE(same_bits(a[k], b[k]));
}
/// Other masks: every edge goes with probability `go`, every absent one comes with probability `come`.
template <class M>
void history_change(M& model, double go, double come, Rng& rng) {
  each_masked(model, [&](const std::string&, auto& layer) {
    const Mask m = layer.mask();
    layer.set_mask(Mask::where(m.rows(), m.cols(), [&](std::int64_t r, std::int64_t c) {
      const double x = rng.uniform();
      return m.contains(r, c) ? x >= go : x < come;
    }));
  });
}
std::string history_text(const PruneHistory& h) {
  std::ostringstream out;
  h.write(out);
  return out.str();
}
MaskDiff history_naive(const std::vector<Mask>& a, const std::vector<Mask>& b) {
  MaskDiff d;
  for (std::size_t l = 0; l < a.size(); ++l)
    for (std::int64_t r = 0; r < a[l].rows(); ++r)
      for (std::int64_t c = 0; c < a[l].cols(); ++c) {
        const bool before = a[l].contains(r, c), after = b[l].contains(r, c);
        d.kept += before && after;
        d.removed += before && !after;
        d.added += !before && after;
      }
  return d;
}

/// Records random steps of a model, then goes to any step in any order.
template <class M>
void history_check(const M& original, double come, Rng& rng) {
  M model = original;
  PruneHistory history;
  std::vector<std::vector<Mask>> masks;
  std::vector<M> models;
  std::int64_t changes = 0;
  for (int k = 0; k < 6; ++k) {
    if (k > 0 && k != 3) history_change(model, 0.2, come, rng);  // nothing happens in step 3
    history.record(model, "step " + std::to_string(k));
    masks.push_back(history_masks(model));
    models.push_back(model);
    if (k > 0) {
      const MaskDiff d = history_naive(masks[k - 1], masks[k]);
      changes += d.added + d.removed;
    }
  }
  REQUIRE(history.size() == 6);
  REQUIRE(history.label(4) == "step 4");
  const PruneHistory copy = history;
  for (const std::int64_t k : {5, 0, 3, 1, 4, 2, 2}) {
    INFO("step " << k);
    history.replay(model, k);
    REQUIRE(history_masks(model) == masks[k]);
    M fresh = original;
    copy.replay(fresh, k);
    REQUIRE(history_masks(fresh) == masks[k]);
    if (come == 0) history_require_same(history_params(fresh), history_params(models[k]));
    std::vector<std::int64_t> edges;
    for (const Mask& m : masks[k]) edges.push_back(m.nnz());
    REQUIRE(history.edges(k) == edges);
    for (std::int64_t l = 0; l < 6; ++l) REQUIRE(history.overlap(k, l) == history_naive(masks[k], masks[l]));
  }
  REQUIRE(history == copy);
  std::int64_t first = 0;  // step 0 is told against full or empty masks
  for (const Mask& m : masks[0]) first += std::min(m.nnz(), m.rows() * m.cols() - m.nnz());
  REQUIRE(history.bytes() <= static_cast<std::size_t>(2 * (changes + first)));
  REQUIRE(history.bytes() >= static_cast<std::size_t>(changes + first));

  // What a file keeps is all there is; recording goes on from it.
  PruneHistory from_parts(history.layers(), history.steps());
  REQUIRE(from_parts == history);
  for (std::int64_t k = 0; k < 6; ++k) REQUIRE(from_parts.edges(k) == history.edges(k));
  history.replay(model, 5);
  history_change(model, 0.3, come, rng);
  history.record(model);
  from_parts.record(model);
  REQUIRE(from_parts == history);
  REQUIRE_FALSE(history == copy);
  REQUIRE(copy.size() == 6);
  M last = original;
  from_parts.replay(last, 6);
  REQUIRE(history_masks(last) == history_masks(model));
}

using HistoryConv = Sequential<MaskedConv2d, ReLU, Flatten, MaskedLinearLayer>;

}  // namespace

TEST_CASE("steps of feed-forward networks come back, of full and packed ones, pruned and grown") {
  Rng rng(3);
  for (storage store : {storage::full, storage::packed})
    for (const double come : {0.0, 0.2}) {
      history_check(MaskedDeepFFN(7, 3, {9, 6}, {.store = store}, rng), come, rng);
      MaskedDeepFFN thin(20, 4, {15}, {.store = store}, rng);  // step 0 is no full network
      history_change(thin, 0.8, 0, rng);
      history_check(thin, come, rng);
    }
}

TEST_CASE("steps of DANs come back, as one layer of branches and by pairs, and of convolutions") {
  Rng rng(5);
  const LayeredGraph g(random_dag(20, 0.3, rng));
  for (const double come : {0.0, 0.1}) {
    const MaskedDeepDAN joint(5, 2, g, {.joint = true}, rng), parts(5, 2, g, {.store = storage::full}, rng);
    history_check(joint, come, rng);
    history_check(parts, come, rng);
    for (storage store : {storage::full, storage::packed})
      history_check(HistoryConv(MaskedConv2d(4, 6, {3, 2}, {.conv = {.groups = 2}, .store = store}, rng), ReLU(),
                                Flatten(), MaskedLinearLayer(24, 3, {.store = store}, rng)),
                    come, rng);
  }
  // Edges of a structure go; only places of its rows and columns may come, so nothing is grown here.
  const MaskedDeepDAN dan(5, 2, g, {}, rng);
  REQUIRE(history_masks(dan).size() == 3);
  history_check(dan, 0, rng);
}

TEST_CASE("full storage remembers weights when a step is gone back to, packed storage does not") {
  Rng rng(7);
  for (storage store : {storage::full, storage::packed}) {
    const MaskedDeepFFN original(8, 3, {10}, {.store = store}, rng);
    MaskedDeepFFN model = original;
    PruneHistory history;
    history.record(model, "dense");
    for (int k = 0; k < 3; ++k) {
      magnitude_class_blinded(model, percentage(30));
      history.record(model, "pruned");
    }
    MaskedDeepFFN back = model;
    history.replay(back, 0);
    REQUIRE(history_masks(back) == history_masks(original));
    if (store == storage::full) {
      history_require_same(history_params(back), history_params(original));
    } else {
      std::int64_t lost = 0;
      back.layer_first.weight.value().for_each([&](std::int64_t, float w) { lost += w == 0; });
      REQUIRE(lost == original.layer_first.mask().nnz() - model.layer_first.mask().nnz());
    }
    MaskedDeepFFN forwards = original;
    history.replay(forwards, 3);
    history_require_same(history_params(forwards), history_params(model));
  }
}

TEST_CASE("a history does not mind packing; layers whose mask stays are not touched") {
  Rng rng(9);
  MaskedDeepFFN model(6, 2, {5, 4}, {}, rng);
  PruneHistory history;
  history.record(model);
  history_change(model, 0.4, 0, rng);
  model = pack(model);
  history.record(model);
  MaskedDeepFFN full = unpack(model);
  history.replay(full, 0);
  REQUIRE(get_network_weight_count(full) == 6 * 5 + 5 * 4 + 4 * 2);

  MaskedLinearLayer soft(3, 2, {}, rng), learned(3, 2, {.learnable_mask = true}, rng);
  const Tensor factors = Tensor::from({2, 3}, {0.5f, 1, 0, 1, 2, 1});
  soft.set_soft_mask(factors);
  const Mask edges = soft.mask();
  PruneHistory of_soft, of_learned;
  of_soft.record(soft);
  of_soft.replay(soft, 0);
  REQUIRE(soft.weight_count() == 5.5);  // still soft
  of_learned.record(learned);
  learned.set_mask(edges);
  of_learned.record(learned);
  of_learned.replay(learned, 0);
  REQUIRE(learned.learnable());
  REQUIRE(learned.mask() == Mask::ones(2, 3));
  of_learned.replay(learned, 1);
  REQUIRE(learned.mask() == edges);
}

TEST_CASE("the table has a line per step and a column per layer") {
  Rng rng(1);
  MaskedDeepFFN model(4, 1, {2}, {}, rng);
  PruneHistory history;
  REQUIRE(history_text(history) == "step  label  all\n");
  history.record(model, "dense");
  model.layer_first.set_mask(Mask::from_edges(2, 4, {{0, 0}, {1, 1}, {1, 3}}));
  history.record(model, "first");
  model.layer_out.set_mask(Mask::zeros(1, 2));
  for (int k = 0; k < 9; ++k) history.record(model);
  const std::string text = history_text(history);
  REQUIRE(
      text.starts_with("step  label  _layer_first  _layer_out    all\n"
                       "   0  dense          0.00        0.00   0.00\n"
                       "   1  first         62.50        0.00  50.00\n"
                       "   2                62.50      100.00  70.00\n"));
  REQUIRE(std::count(text.begin(), text.end(), '\n') == 12);
  MaskedLinearLayer none(0, 3, rng);
  PruneHistory empty;
  empty.record(none);
  REQUIRE(history_text(empty) == "step  label  (model)   all\n   0            0.00  0.00\n");
}

TEST_CASE("a history tells when an edge went, and what was done then") {
  Rng rng(2);
  MaskedDeepFFN model(4, 1, {2}, {}, rng);
  PruneHistory history;
  const Mask without = Mask::from_edges(2, 4, {{0, 0}, {0, 1}, {0, 2}, {0, 3}, {1, 1}, {1, 2}, {1, 3}});
  const Mask corner = Mask::from_edges(2, 4, {{0, 0}, {0, 1}});
  model.layer_first.set_mask(without);  // step 0 lacks an edge
  history.record(model, "start", 0);
  model.layer_first.set_mask(corner);
  history.record(model, "magnitude", 1000);
  history.record(model, "nothing");
  model.layer_first.set_mask(without);
  history.record(model, "grown", 3000);
  using Steps = std::vector<std::int64_t>;
  REQUIRE(history.changes_of(0, 0, 0) == Steps{});
  REQUIRE(history.changes_of(0, 1, 0) == Steps{0});
  REQUIRE(history.changes_of(0, 1, 3) == Steps{1, 3});
  REQUIRE(history.changes_of(1, 0, 1) == Steps{});
  REQUIRE(history.time(1) == 1000);
  REQUIRE(history.time(2) == -1);
  REQUIRE(history_text(history) ==
          "step  label      time  _layer_first  _layer_out    all\n"
          "   0  start         0         12.50        0.00  10.00\n"
          "   1  magnitude  1000         75.00        0.00  60.00\n"
          "   2  nothing                 75.00        0.00  60.00\n"
          "   3  grown      3000         12.50        0.00  10.00\n");
  PruneHistory untimed(history.layers(), history.steps());
  REQUIRE(untimed == history);
  auto steps = history.steps();
  steps[1].time = 999;
  REQUIRE_FALSE(PruneHistory(history.layers(), steps) == history);
  require_error([&] { history.time(4); }, {"time: no such step (4 of 4)"});
  require_error([&] { history.changes_of(2, 0, 0); }, {"changes_of: no such layer (2 of 2)"});
  require_error([&] { history.changes_of(-1, 0, 0); }, {"changes_of: no such layer (-1 of 2)"});
  require_error([&] { history.changes_of(0, 2, 0); }, {"changes_of: no such place (2, 0 of [2, 4])"});
  require_error([&] { history.changes_of(0, 0, -1); }, {"changes_of: no such place (0, -1 of [2, 4])"});
}

TEST_CASE("a history refuses other models and steps, and changes nothing then") {
  Rng rng(1);
  MaskedDeepFFN model(4, 2, {3, 3}, {}, rng), other(4, 2, {3, 4}, {}, rng), deeper(4, 2, {3, 3, 3}, {}, rng);
  PruneHistory history;
  require_error([&] { history.replay(model, 0); }, {"replay: no such step (0 of 0)"});
  const Linear dense(2, 2, rng);
  require_error([&] { history.record(dense); }, {"record: the model has no masked layers"});
  REQUIRE(history.empty());
  history.record(model);
  history_change(model, 0.5, 0, rng);
  history.record(model);
  const PruneHistory before = history;
  require_error([&] { history.record(other); }, {"record: the model has other masked layers (_layers_hidden.0 [4, 3]"});
  require_error([&] { history.record(deeper); }, {"record: the model has other masked layers (4 for 3)"});
  REQUIRE(history == before);
  const auto masks = history_masks(other);
  require_error([&] { history.replay(other, 1); }, {"replay: the model has other masked layers"});
  REQUIRE(history_masks(other) == masks);
  for (const std::int64_t k : {-1, 2}) {
    const auto now = history_masks(model);
    require_error([&] { history.replay(model, k); }, {"replay: no such step"});
    REQUIRE(history_masks(model) == now);
    require_error([&] { history.overlap(0, k); }, {"overlap: no such step"});
    require_error([&] { history.overlap(k, 0); }, {"overlap: no such step"});
    require_error([&] { history.label(k); }, {"label: no such step"});
    require_error([&] { history.edges(k); }, {"edges: no such step"});
  }
}

TEST_CASE("packed positions come back; damaged ones are refused") {
  for (const std::vector<std::int64_t>& all : {std::vector<std::int64_t>{},
                                               {0},
                                               {127},
                                               {128},
                                               {0, 1, 2},
                                               {5, 133, 134, 70000, 1 << 30, std::int64_t{1} << 61}}) {
    const auto bytes = detail::packed_positions(all);
    std::vector<std::int64_t> back;
    detail::each_position(bytes, std::int64_t{1} << 62, [&](std::int64_t p) { back.push_back(p); });
    REQUIRE(back == all);
    if (all.empty()) continue;
    const auto ignore = [](std::int64_t) {};
    detail::each_position(bytes, all.back() + 1, ignore);
    require_error([&] { detail::each_position(bytes, all.back(), ignore); },
                  {"PruneHistory: a change is outside its layer"});
  }
  using Bytes = std::vector<std::uint8_t>;
  for (const Bytes& bytes :
       {Bytes{128}, Bytes{0, 255}, Bytes(10, 255), Bytes{128, 128, 128, 128, 128, 128, 128, 128, 128, 1}})
    require_error([&] { detail::each_position(bytes, std::int64_t{1} << 62, [](std::int64_t) {}); },
                  {"PruneHistory: changes are damaged"});
  require_error(
      [] {
        PruneHistory({{"a", 2, 3, true}}, {{"", {{6}}}});
      },
      {"PruneHistory: a change is outside its layer"});
  require_error(
      [] {
        PruneHistory({{"a", 2, 3, true}}, {{"", {}}});
      },
      {"PruneHistory: a step needs changes of every layer"});
  require_error([] { PruneHistory({}, {{"", {}}}); }, {"PruneHistory: steps need a masked layer"});
  const std::int64_t most = std::numeric_limits<std::int32_t>::max();
  require_error([&] { PruneHistory({{"a", -1, 3, true}}, {}); }, {"PruneHistory: no mask has this shape"});
  require_error([&] { PruneHistory({{"a", 1, most, false}}, {}); }, {"PruneHistory: no mask has this shape"});
  require_error([&] { PruneHistory({{"a", most - 1, 2, true}}, {}); }, {"PruneHistory: no mask has this shape"});
  REQUIRE(PruneHistory({{"a", most - 1, most - 1, false}}, {{"", {{3}}}}).edges(0) == std::vector<std::int64_t>{1});
}
