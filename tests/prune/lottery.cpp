// Lottery tickets: rewinding bit for bit, exact shares per layer, the controls, bad input.
#include <set>

#include <deepstruct/graph/random_dags.hpp>
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/prune/lottery.hpp>
#include <deepstruct/train/loop.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

/// Masked and plain layers, norms, running statistics.
struct LotteryNet {
  MaskedConv2d conv;
  BatchNorm2d norm{3};
  MaskedLinearLayer hidden;
  LayerNorm layer_norm{6};
  Linear out;

  LotteryNet(storage store, Rng& rng)
      : conv(2, 3, 2, {.store = store}, rng), hidden(12, 6, {.store = store}, rng), out(6, 2, rng) {}
  Var operator()(const Var& x) const { return out(layer_norm(relu(hidden(flatten(norm(conv(x)), 1))))); }
  static auto fields(auto& m) {
    return std::tuple{Field{"conv", m.conv}, Field{"norm", m.norm}, Field{"hidden", m.hidden},
                      Field{"layer_norm", m.layer_norm}, Field{"out", m.out}};
  }
};

std::vector<Mask> lottery_masks(const auto& model) {
  std::vector<Mask> all;
  each_masked(model, [&](const auto& layer) { all.push_back(layer.mask()); });
  return all;
}
/// Every masked layer's weights as [out, in].
std::vector<Tensor> lottery_weights(const auto& model) {
  std::vector<Tensor> all;
  each_masked(model,
              [&](const auto& layer) { all.push_back(layer.effective_weight().with_shape(layer.mask().shape())); });
  return all;
}
/// All that is not the weight of a masked layer.
std::vector<Tensor> lottery_others(const auto& model) {
  std::vector<Tensor> all;
  walk(model, [&](const Path& path, const auto& part) {
    using Part = std::remove_cvref_t<decltype(part)>;
    if constexpr (std::is_same_v<Part, Param>) {
      const std::string name = path.str();
      if (name != "conv.weight" && name != "hidden.weight") all.push_back(part.value());
    }
    if constexpr (std::is_same_v<Part, Tensor>) all.push_back(part);
  });
  return all;
}
void lottery_require_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t k = 0; k < a.size(); ++k) REQUIRE(same_bits(a[k], b[k]));
}
template <class M>
void lottery_train(M& model, const Tensor& x, int steps, std::uint64_t seed) {
  Rng rng(seed);
  Adam adam{.lr = 0.05};
  for (int k = 0; k < steps; ++k) {
    const Var y = model(x);
    backward(mean(square(y - Tensor::uniform(y.shape(), -1, 1, rng))));
    adam.step(model);
  }
}
/// The values of a snapshot at the edges of a model, 0 elsewhere: what rewinding means.
void lottery_require_rewound(const auto& model, const auto& snapshot) {
  const auto now = lottery_weights(model), then = lottery_weights(snapshot);
  const auto masks = lottery_masks(model);
  REQUIRE(now.size() == then.size());
  for (std::size_t l = 0; l < now.size(); ++l)
    for (std::int64_t r = 0; r < masks[l].rows(); ++r)
      for (std::int64_t c = 0; c < masks[l].cols(); ++c)
        REQUIRE(now[l](r, c) == (masks[l].contains(r, c) ? then[l](r, c) : 0));
}
void lottery_require_bare(auto& model) {
  each_param(model, [](const Param& p) {
    REQUIRE(p.slots().empty());
    REQUIRE_FALSE(p.has_grad());
  });
  each_masked(model, [](const auto& layer) {  // nothing behind the masks
    if (!layer.packed()) REQUIRE(same_bits(layer.weight.value(), layer.effective_weight()));
  });
}
std::map<std::string, std::int64_t> lottery_counts(const auto& model) {
  std::map<std::string, std::int64_t> all;
  each_masked(model, [&](const std::string& name, const auto& layer) { all[name] = layer.mask().nnz(); });
  return all;
}

}  // namespace

TEST_CASE("rewinding gives edges, biases, norms and running statistics their bits of then") {
  for (storage store : {storage::full, storage::packed})
    for (storage kept : {storage::full, storage::packed})
      for (const bool later : {false, true}) {  // at initialisation, and some steps on
        Rng rng(1);
        LotteryNet model(store, rng);
        const Tensor x = Tensor::uniform({9, 2, 3, 3}, -1, 1, rng);
        if (later) lottery_train(model, x, 2, 7);
        const LotteryNet original = model, snapshot = kept == storage::packed ? pack(model) : unpack(model);
        lottery_train(model, x, 3, 8);
        random_pruning(model, percentage(60), rng, {.exact = true});
        lottery_train(model, x, 2, 9);
        backward(sum(model(x)));  // gradients are waiting
        const auto masks = lottery_masks(model);
        REQUIRE_FALSE(same_bits(model.norm.running_mean, original.norm.running_mean));
        rewind(model, snapshot);
        REQUIRE(lottery_masks(model) == masks);
        REQUIRE(model.hidden.packed() == (store == storage::packed));
        lottery_require_rewound(model, original);
        lottery_require_same(lottery_others(model), lottery_others(original));
        lottery_require_bare(model);
        lottery_train(model, x, 1, 3);
        REQUIRE_FALSE(same_bits(model.out.weight.value(), original.out.weight.value()));  // values, not references
        REQUIRE(same_bits(snapshot.out.weight.value(), original.out.weight.value()));
      }
}

TEST_CASE("networks of graphs are rewound in any storage") {
  Rng rng(2);
  const LayeredGraph g(random_dag(16, 0.4, rng));
  const Tensor x = Tensor::uniform({5, 4}, -1, 1, rng);
  const auto check_dan = [&](MaskedDeepDAN model, const MaskedDeepDAN& snapshot, const MaskedDeepDAN& as_model) {
    lottery_train(model, x, 2, 4);
    random_pruning(model, percentage(50), rng);
    rewind(model, snapshot);
    lottery_require_rewound(model, as_model);
    lottery_require_bare(model);
    MaskedDeepDAN want = as_model;  // the same masks on the network of then
    std::vector<Mask> masks = lottery_masks(model);
    std::size_t k = 0;
    each_masked(want, [&](auto& layer) { layer.set_mask(masks[k++]); });
    REQUIRE(same_bits(model(x).value(), want(x).value()));
  };
  const MaskedDeepDAN packed(4, 2, g, {}, rng), full = unpack(packed), joint(4, 2, g, {.joint = true}, rng);
  const MaskedDeepDAN normed(4, 2, g, {.use_layer_norm = true}, rng), norm_full = unpack(normed);
  check_dan(packed, packed, packed);
  check_dan(packed, full, packed);
  check_dan(full, packed, full);
  check_dan(full, full, full);
  check_dan(joint, joint, joint);
  check_dan(normed, norm_full, normed);
  check_dan(norm_full, normed, norm_full);
  check_dan(pack(joint), joint, pack(joint));  // layers in and out packed too
}

TEST_CASE("pruned biases stay 0 when a ticket is rewound, drawn anew or trained again") {
  for (storage store : {storage::full, storage::packed}) {
    Rng rng(12);
    MaskedDeepFFN snapshot(4, 2, {6}, {.store = store}, rng), model = snapshot;
    const Tensor x = Tensor::uniform({5, 4}, -1, 1, rng);
    lottery_train(model, x, 1, 1);
    prune_biases(model, absolute(3));
    const MaskedDeepFFN pruned = model;
    rewind(model, snapshot);
    MaskedDeepFFN drawn = random_reinit(model, rng);
    for (MaskedDeepFFN* m : {&model, &drawn}) {
      lottery_train(*m, x, 2, 5);
      std::int64_t zeros = 0;
      const auto compare = [&](const Param& now, const Param& before) {
        for (std::int64_t r = 0; r < now.size(); ++r) {
          zeros += now.value()(r) == 0;
          REQUIRE((now.value()(r) == 0) == (before.value()(r) == 0));
        }
      };
      compare(*m->layer_first.bias, *pruned.layer_first.bias);
      compare(*m->layer_out.bias, *pruned.layer_out.bias);
      REQUIRE(zeros == 3);
    }
  }
}

TEST_CASE("a snapshot that does not fit is refused, and the model stays") {
  for (storage store : {storage::full, storage::packed}) {
    Rng rng(3);
    MaskedDeepFFN snapshot(4, 2, {3}, {.store = store}, rng), model = snapshot;
    const MaskedDeepFFN wide(4, 2, {5}, {.store = store}, rng), deep(4, 2, {3, 3}, {.store = store}, rng);
    lottery_train(model, Tensor::ones({2, 4}), 1, 1);
    const MaskedDeepFFN before = model;
    snapshot.layer_out.set_edge(1, 2, false);
    require_error([&] { rewind(model, snapshot); },
                  {"rewind: the snapshot lacks an edge of the model (_layer_out, edge 1 <- 2)"});
    require_error([&] { rewind(model, wide); }, {"rewind: snapshot and model differ in shape (_layer_first.bias"});
    require_error([&] { rewind(model, deep); }, {"rewind: the models have other masked layers (3, first _layer_first"});
    lottery_require_same(lottery_weights(model), lottery_weights(before));
    REQUIRE(same_bits(model.layer_first.bias->value(), before.layer_first.bias->value()));
    REQUIRE_FALSE(model.layer_first.weight.slots().empty());
    model.layer_out.set_edge(1, 2, false);
    rewind(model, snapshot);
    lottery_require_rewound(model, snapshot);
  }
}

TEST_CASE("tickets lose an exact share of every layer, the smallest trained weights, and are rewound") {
  for (storage store : {storage::full, storage::packed}) {
    Rng rng(4);
    const MaskedDeepFFN snapshot(12, 3, {9, 7}, {.store = store}, rng);
    const auto weights = lottery_weights(snapshot);
    std::vector<std::int64_t> counts{108, 63, 21};
    std::vector<Mask> trained_masks = lottery_masks(snapshot), want = trained_masks;
    int calls = 0;
    const auto found =
        lottery_ticket(snapshot,
                       [&](MaskedDeepFFN& m, const PruneRound& round) {
                         REQUIRE(round.round == calls);
                         REQUIRE(round.rounds == 4);
                         REQUIRE(lottery_masks(m) == want);
                         REQUIRE(round.weights == counts[0] + counts[1] + counts[2]);
                         lottery_require_rewound(m, snapshot);
                         lottery_require_bare(m);
                         each_param(m, [&](Param& p) { p.set_value(Tensor::uniform(p.shape(), -1, 1, rng)); });
                         if (round.round < 4) {  // the naive way: sort, and remove the first
                           const auto trained = lottery_weights(m);
                           for (std::size_t l = 0; l < 3; ++l) {
                             std::vector<std::pair<float, std::pair<std::int64_t, std::int64_t>>> all;
                             want[l].for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
                               all.push_back({std::fabs(trained[l](r, c)), {r, c}});
                             });
                             std::sort(all.begin(), all.end());
                             const double rate = l == 2 ? 0.1 : 0.2;
                             all.erase(all.begin(), all.begin() + std::lrint(rate * static_cast<double>(all.size())));
                             std::set<std::pair<std::int64_t, std::int64_t>> stay;
                             for (const auto& [w, place] : all) stay.insert(place);
                             want[l] = Mask::where(want[l].rows(), want[l].cols(), [&](std::int64_t r, std::int64_t c) {
                               return stay.count({r, c}) > 0;
                             });
                             counts[l] = want[l].nnz();
                           }
                         }
                         return 10.0 + calls++;
                       },
                       {.rounds = 4, .rates = {{"_layer_out", 0.1}}});
    REQUIRE(calls == 5);
    REQUIRE(lottery_masks(found.model) == want);
    REQUIRE(lottery_counts(found.model) ==
            std::map<std::string, std::int64_t>{{"_layer_first", 44},      // 108, 86, 69, 55, 44
                                                {"_layers_hidden.0", 26},  // 63, 50, 40, 32, 26
                                                {"_layer_out", 13}});      // 21, 19, 17, 15, 13 (1.5 goes to 2)
    lottery_require_rewound(found.model, snapshot);
    lottery_require_same(weights, lottery_weights(snapshot));
    REQUIRE(found.rounds.weights == 192);
    REQUIRE(found.rounds.rounds.size() == 5);
    REQUIRE_FALSE(found.rounds.stopped);
    for (int k = 0; k < 5; ++k) REQUIRE(found.rounds.rounds[k].metric == 10.0 + k);
    REQUIRE(found.rounds.rounds[0].weights == 192);
    REQUIRE(found.rounds.rounds[0].sparsity == 0);
    REQUIRE(found.rounds.rounds[4].weights == 83);
    REQUIRE(found.rounds.rounds[4].report.before() == 55 + 32 + 15);
    REQUIRE(found.history.size() == 5);
    for (std::int64_t k = 1; k < 5; ++k) {
      REQUIRE(found.history.overlap(k - 1, k).added == 0);
      REQUIRE(found.history.time(k) == k);
      MaskedDeepFFN ticket = snapshot;
      found.history.replay(ticket, k);
      REQUIRE(get_network_weight_count(ticket) == found.rounds.rounds[k].weights);
      lottery_require_rewound(ticket, snapshot);
    }
  }
}

TEST_CASE("a ticket is what training, pruning and rewinding by hand gives") {
  Rng rng(5);
  const MaskedDeepFFN snapshot(6, 2, {8}, {}, rng);
  const Tensor x = Tensor::uniform({10, 6}, -1, 1, rng);
  const auto found =
      lottery_ticket(snapshot, [&](auto& m, const PruneRound& r) { lottery_train(m, x, 3, 20 + r.round); },
                     {.rounds = 3, .rate = 0.25, .global = true});
  MaskedDeepFFN by_hand = snapshot;
  for (std::uint64_t k = 0; k < 3; ++k) {
    lottery_train(by_hand, x, 3, 20 + k);
    magnitude_class_blinded(by_hand, percentage(25), {.exact = true});
    rewind(by_hand, snapshot);
  }
  REQUIRE(get_network_weight_count(found.model) == 27);  // 64, 48, 36, 27
  REQUIRE(lottery_masks(found.model) == lottery_masks(by_hand));
  lottery_require_same(lottery_weights(found.model), lottery_weights(by_hand));
  lottery_require_bare(by_hand);
  REQUIRE(found.rounds.rounds.size() == 4);
  REQUIRE_FALSE(found.rounds.rounds[3].metric.has_value());
  // It goes on from the ticket.
  const auto more = lottery_ticket(found.model, [](auto&, const PruneRound&) {}, {.rounds = 1, .global = true});
  REQUIRE(get_network_weight_count(more.model) == 22);
  REQUIRE(get_network_weight_count(found.model) == 27);
}

TEST_CASE("training whose value nobody asks for is not done for the last ticket") {
  Rng rng(6);
  const MaskedDeepFFN snapshot(6, 2, {8}, {}, rng);
  int calls = 0;
  lottery_ticket(snapshot, [&](auto&, const PruneRound&) { ++calls; }, {.rounds = 3});
  REQUIRE(calls == 3);
  calls = 0;
  const auto none = lottery_ticket(snapshot, [&](auto&, const PruneRound&) { ++calls; }, {.rounds = 0});
  REQUIRE(calls == 0);
  REQUIRE(get_network_weight_count(none.model) == 64);
  std::stop_source source;
  const auto stopped = lottery_ticket(snapshot,
                                      [&](auto&, const PruneRound& round) {
                                        if (round.round == 2) source.request_stop();
                                        return 1;
                                      },
                                      {.rounds = 5, .stop = source.get_token()});
  REQUIRE(stopped.rounds.stopped);
  REQUIRE(stopped.rounds.rounds.size() == 3);
  REQUIRE(stopped.rounds.rounds[1].metric == 1.0);
  REQUIRE_FALSE(stopped.rounds.rounds[2].metric.has_value());
  REQUIRE(stopped.history.size() == 3);
  REQUIRE(get_network_weight_count(stopped.model) == stopped.rounds.rounds[2].weights);
}

TEST_CASE("lotteries refuse what has no meaning") {
  Rng rng(7);
  const MaskedDeepFFN snapshot(6, 2, {8}, {}, rng);
  const auto train = [](auto&, const PruneRound&) {};
  require_error([&] { lottery_ticket(snapshot, train, {.rounds = -1}); }, {"lottery_ticket: the number of rounds"});
  require_error([&] { lottery_ticket(snapshot, train, {.rate = 1.5}); }, {"lottery_ticket: the rate must be a share"});
  require_error(
      [&] {
        lottery_ticket(snapshot, train, {.rates = {{"_layer_out", -1}}});
      },
      {"lottery_ticket: the rate of a layer must be a share"});
  require_error(
      [&] {
        lottery_ticket(snapshot, train, {.rates = {{"out", 0.1}}});
      },
      {"lottery_ticket: no masked layer has this name (out of _layer_first, _layer_out)"});
  require_error(
      [&] {
        lottery_ticket(snapshot, train, {.rates = {{"_layer_out", 0.1}}, .global = true});
      },
      {"lottery_ticket: rates of layers have no meaning where pruning is global"});
  require_error([&] { lottery_ticket(MaskedLinearLayer(2, 2, {.learnable_mask = true}, rng), train); },
                {"lottery_ticket: a learnable mask"});
  require_error([&] { lottery_ticket(Linear(2, 2, rng), train); }, {"lottery_ticket: the model has no masked layers"});
  require_error(
      [&] { lottery_ticket(snapshot, [](auto& m, const PruneRound&) { magnitude_class_blinded(m, percentage(50)); }); },
      {"lottery_ticket: training changed the masks (round 0)"});
}

TEST_CASE("a reinitialised ticket has its masks, and values as a whole layer draws them") {
  for (storage store : {storage::full, storage::packed}) {
    Rng rng(8), a(5), b(5), c(6);
    LotteryNet ticket(store, rng);
    const Tensor x = Tensor::uniform({9, 2, 3, 3}, -1, 1, rng);
    lottery_train(ticket, x, 2, 1);
    random_pruning(ticket, percentage(80), rng, {.exact = true});
    const auto before = lottery_weights(ticket);
    const LotteryNet first = random_reinit(ticket, a), same = random_reinit(ticket, b),
                     other = random_reinit(ticket, c);
    lottery_require_same(before, lottery_weights(ticket));
    REQUIRE(lottery_masks(first) == lottery_masks(ticket));
    lottery_require_same(lottery_weights(first), lottery_weights(same));
    lottery_require_same(lottery_others(first), lottery_others(same));
    lottery_require_bare(first);
    const auto now = lottery_weights(first), third = lottery_weights(other);
    for (std::size_t l = 0; l < now.size(); ++l)
      lottery_masks(ticket)[l].for_each([&](std::int32_t, std::int64_t r, std::int64_t col) {
        REQUIRE(now[l](r, col) != before[l](r, col));
        REQUIRE(now[l](r, col) != third[l](r, col));
      });
    REQUIRE_FALSE(same_bits(first.out.weight.value(), ticket.out.weight.value()));
    REQUIRE(same_bits(first.layer_norm.weight.value(), Tensor::ones({6})));
    REQUIRE(same_bits(first.norm.running_mean, Tensor::zeros({3})));
    REQUIRE(same_bits(first.norm.running_var, Tensor::ones({3})));
    REQUIRE(first.norm.num_batches_tracked.item() == 0);
    Rng again(5);  // full and packed draw the same
    lottery_require_same(lottery_weights(random_reinit(pack(ticket), again)), now);
  }
  // U(±1/√in), however few edges a row has: a sparse row's own bound would be 7 times that.
  Rng rng(9);
  MaskedLinearLayer layer(100, 50, {.store = storage::packed}, rng);
  layer.set_mask(Mask::where(50, 100, [](std::int64_t r, std::int64_t c) { return (r + c) % 50 == 0; }));
  float most = 0;
  random_reinit(layer, rng).weight.value().for_each([&](std::int64_t, float w) {
    most = std::max(most, std::fabs(w));
  });
  REQUIRE(most <= 0.1f);
  REQUIRE(most > 0.09f);
}

TEST_CASE("shuffled masks keep the numbers of edges, and have the snapshot's values where they are") {
  Rng rng(10);
  const LayeredGraph g(random_dag(16, 0.4, rng));
  const auto check_shuffled = [&](const auto& snapshot, auto ticket) {
    random_pruning(ticket, percentage(50), rng, {.exact = true});
    Rng a(3), b(3);
    const auto other = shuffled_masks(ticket, snapshot, a), same = shuffled_masks(ticket, snapshot, b);
    REQUIRE(lottery_counts(other) == lottery_counts(ticket));
    REQUIRE_FALSE(lottery_masks(other) == lottery_masks(ticket));
    REQUIRE(lottery_masks(other) == lottery_masks(same));
    REQUIRE(detail::storage_of(other) == detail::storage_of(ticket));
    lottery_require_rewound(other, detail::in_storage_of("test", snapshot, ticket));
    lottery_require_bare(other);
    const auto edges = lottery_masks(other), whole = lottery_masks(detail::in_storage_of("test", snapshot, ticket));
    for (std::size_t l = 0; l < edges.size(); ++l)
      edges[l].for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { REQUIRE(whole[l].contains(r, c)); });
    return other;
  };
  const MaskedDeepFFN full(6, 3, {8}, {}, rng);
  check_shuffled(full, full);
  check_shuffled(full, pack(full));
  check_shuffled(pack(full), full);
  const MaskedDeepDAN dan(4, 2, g, {}, rng);
  const Tensor x = Tensor::uniform({3, 4}, -1, 1, rng);
  for (const MaskedDeepDAN& other : {check_shuffled(dan, dan), check_shuffled(dan, unpack(dan))}) {
    // Edges of the structure all: it runs, and by pairs as in one.
    test::require_close(other(x).value(), unpack(other)(x).value());
    REQUIRE(get_network_weight_count(random_reinit(other, rng)) == get_network_weight_count(other));
  }
  MaskedDeepFFN less = full;
  less.layer_out.set_mask(Mask::zeros(3, 8));
  require_error([&] { shuffled_masks(full, less, rng); },
                {"shuffled_masks: a layer of the ticket has more edges than the snapshot (_layer_out: 24 and 0)"});
  require_error(
      [&] {
        shuffled_masks(full, MaskedDeepFFN(6, 3, {8, 8}, {}, rng), rng);
      },
      {"shuffled_masks: the models have other masked layers (3"});
}

TEST_CASE("every edge is as likely in a shuffled mask") {
  Rng rng(11);
  const MaskedLinearLayer snapshot(4, 3, {}, rng);
  MaskedLinearLayer ticket = snapshot;
  ticket.set_mask(Mask::from_edges(3, 4, {{0, 0}, {0, 1}, {0, 2}, {0, 3}}));
  std::vector<int> hits(12, 0);
  for (int k = 0; k < 1200; ++k)
    shuffled_masks(ticket, snapshot, rng).mask().for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
      ++hits[static_cast<std::size_t>(r * 4 + c)];
    });
  for (const int h : hits) REQUIRE(std::abs(h - 400) < 82);  // five standard deviations of 16.3
}
