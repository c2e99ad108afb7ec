// Lottery tickets: iterative magnitude pruning with rewinding, and the controls that tell whether a ticket is special.
#pragma once

#include <map>
#include <stop_token>

#include "../nn/batch_norm.hpp"
#include "../nn/conv.hpp"
#include "../nn/layers.hpp"
#include "rewind.hpp"
#include "schedule.hpp"

namespace deepstruct {

/// Options of lottery_ticket.
struct LotteryOptions {
  std::int64_t rounds = 1;                   ///< of pruning
  double rate = 0.2;                         ///< share of every layer's weights that goes per round
  std::map<std::string, double> rates = {};  ///< layers with a rate of their own: half of it the output's in the paper
  bool global = false;                       ///< the share of all weights together instead; no rates of layers then
  std::stop_token stop = {};                 ///< asked after every training, whose network is not used then
};

/// A lottery ticket and how it was found.
template <class M>
struct LotteryTicket {
  M model;               ///< the last ticket: masks found, weights those of the snapshot, not trained
  PruneHistory history;  ///< masks of all tickets; step k is the one after k rounds. replay on a copy of the snapshot
  PruneRounds rounds;    ///< round k: the ticket after k rounds; metric: how its training went
};

namespace detail {

inline void check_lottery_options(const LotteryOptions& options, const std::vector<std::string>& names) {
  constexpr const char* op = "lottery_ticket";
  check(options.rounds >= 0, op, ": the number of rounds must not be negative (", options.rounds, ")");
  check_sparsity(op, "the rate", options.rate);
  check(!options.global || options.rates.empty(), op, ": rates of layers have no meaning where pruning is global (",
        options.rates.size(), ")");
  for (const auto& [name, rate] : options.rates) {
    check_sparsity(op, "the rate of a layer", rate);
    std::string known;
    for (const std::string& n : names) known += (known.empty() ? "" : ", ") + n;
    check(std::find(names.begin(), names.end(), name) != names.end(), op, ": no masked layer has this name (", name,
          " of ", known, ")");
  }
}

/// Removes the share of the smallest weights that options tell.
template <class M>
PruneReport prune_by_rates(M& model, const LotteryOptions& options) {
  const auto gone = [](double rate, std::int64_t n) { return n - weights_left(n, rate); };
  if (options.global)
    return magnitude_class_blinded(model, absolute(gone(options.rate, get_network_weight_count(model))),
                                   {.exact = true});
  set_magnitude_saliency(model);
  PruneReport report;
  for (const PruneLayer& layer : prune_layers(model, "lottery_ticket")) {
    const auto own = options.rates.find(layer.name);
    const std::int64_t n = layer.mask.nnz();
    const std::int64_t left = weights_left(n, own == options.rates.end() ? options.rate : own->second);
    if (left < n) layer.set_mask(most_salient(layer, left));
    report.layers.push_back({layer.name, n, left});
  }
  return report;
}

/// Masks of the masked layers, in order.
template <class M>
std::vector<Mask> all_masks(const M& model) {
  std::vector<Mask> masks;
  each_masked(model, [&](const auto& layer) { masks.push_back(layer.mask()); });
  return masks;
}
template <class M>
void set_all_masks(M& model, const std::vector<Mask>& masks) {
  std::size_t k = 0;
  each_masked(model, [&](auto& layer) { layer.set_mask(masks[k++]); });
}

}  // namespace detail

/// Iterative magnitude pruning with rewinding (Frankle & Carbin 2019): trains a copy of the ticket, removes a share of
/// the smallest trained weights, layer by layer or global, gives what is left its value in the snapshot again, and so
/// on for some rounds; it begins with all edges of the snapshot. Of n weights of a layer rate·n go, rounded half to
/// even.
///
/// The snapshot is the model at initialisation; or after k training steps, which is rewinding to step k (Frankle et al.
/// 2020): train it that long before, and let train go on from there. train(model, round) trains a model in place, which
/// comes without optimizer slots, and must leave its masks alone. If it returns a number, that is the ticket's metric,
/// and the last ticket is trained too; else it is not.
///   auto found = lottery_ticket(model, [&](auto& m, const PruneRound&) {
///     Adam adam;
///     fit(m, adam, train, rng, {.epochs = 10});
///     return evaluate(m, test).accuracy;
///   }, {.rounds = 15, .rates = {{"_layer_out", 0.1}}});
/// The snapshot stays as it is. Throws on rates outside 0 … 1 or of unknown layers, on models without masked layers or
/// with learnable masks, and if training changed masks.
template <class M, class Train>
LotteryTicket<M> lottery_ticket(const M& snapshot, Train&& train, const LotteryOptions& options = {}) {
  constexpr const char* op = "lottery_ticket";
  detail::check_fixed_masks(op, snapshot);
  const auto names = detail::storage_of(snapshot).first;
  detail::check_lottery_options(options, names);
  constexpr bool measured =
      std::is_convertible_v<std::invoke_result_t<std::remove_reference_t<Train>&, M&, const PruneRound&>, double>;
  LotteryTicket<M> found{snapshot, {}, {get_network_weight_count(snapshot)}};
  each_param(found.model, [](Param& p) { p.clear_slots(); });
  forget_pruned(found.model);
  found.history.record(found.model, "whole", 0);
  PruneRound round{0, options.rounds, found.rounds.weights, 0, detail::nothing_pruned(snapshot)};
  for (;; ++round.round) {
    if (round.round == options.rounds && !measured) {
      found.rounds.rounds.push_back(round);
      break;
    }
    M trained = found.model;
    round.metric = detail::number_from(train, trained, std::as_const(round));
    const std::vector<Mask> before = detail::all_masks(std::as_const(found.model));
    const std::vector<Mask> after = detail::all_masks(std::as_const(trained));
    check(before == after, op, ": training changed the masks (round ", round.round, ")");
    found.rounds.stopped = options.stop.stop_requested();
    if (found.rounds.stopped) round.metric.reset();
    found.rounds.rounds.push_back(round);
    if (found.rounds.stopped || round.round == options.rounds) break;
    round.report = detail::prune_by_rates(trained, options);
    detail::set_all_masks(found.model, detail::all_masks(std::as_const(trained)));
    forget_pruned(found.model);
    found.history.record(found.model, "magnitude, rewound", round.round + 1);
    round.weights = round.report.after();
    round.sparsity = detail::sparsity_of(round.weights, found.rounds.weights);
  }
  return found;
}

/// The control of a ticket that keeps its masks (and which biases are pruned): new initial values for all edges, drawn
/// as the layers draw theirs when they are made, for a whole layer's fan-in and not for the edges that are left, as in
/// the paper. Linear and convolution layers without masks are drawn anew too, norms start over; parameters of other
/// modules stay. Slots and gradients are forgotten. O(weights).
template <class M>
M random_reinit(M ticket, Rng& rng = default_rng()) {
  std::vector<std::optional<Mask>> live;  // biases that were not pruned
  each_masked(ticket, [&](const auto& layer) {
    live.push_back(layer.bias && layer.bias->live() ? std::optional(*layer.bias->live()) : std::nullopt);
  });
  reset_parameters(ticket, rng, true);
  std::size_t k = 0;
  each_masked(ticket, [&](auto& layer) {
    if (const auto& own = live[k++]; own && layer.bias) detail::set_live_biases(*layer.bias, *own);
  });
  walk(ticket, [&](const Path&, auto& part) {
    using Part = std::remove_reference_t<decltype(part)>;
    const auto start = [](Param& p, Tensor value) { p = Param(to(std::move(value), p.device())); };
    if constexpr (std::is_same_v<Part, Linear> || std::is_same_v<Part, Conv2d>) {
      start(part.weight, default_weight(part.weight.shape(), rng));
      if (part.bias) start(*part.bias, default_bias(part.weight.shape(), rng));
    } else if constexpr (std::is_same_v<Part, LayerNorm>) {
      start(part.weight, Tensor::ones(part.weight.shape()));
      start(part.bias, Tensor::zeros(part.bias.shape()));
    } else if constexpr (std::is_same_v<Part, BatchNorm1d> || std::is_same_v<Part, BatchNorm2d>) {
      const Shape channels = part.running_mean.shape();
      const Device place = part.running_mean.device();
      if (part.weight) start(*part.weight, Tensor::ones(channels));
      if (part.bias) start(*part.bias, Tensor::zeros(channels));
      part.running_mean = Tensor::zeros(channels, place);
      part.running_var = Tensor::ones(channels, place);
      part.num_batches_tracked = Tensor::zeros({}, place);
    }
  });
  forget_pruned(ticket);
  return ticket;
}

/// The control of a ticket that keeps its weights' values in the snapshot, but not its structure: every masked layer
/// has as many edges as in the ticket, drawn uniformly from those of the snapshot; all values are the snapshot's.
/// Followed by random_reinit it is a random sparse network. O(weights). Throws if a layer of the ticket has more edges
/// than the snapshot, and on other masked layers.
template <class M>
M shuffled_masks(const M& ticket, const M& snapshot, Rng& rng = default_rng()) {
  M other = detail::in_storage_of("shuffled_masks", snapshot, ticket);
  std::vector<std::pair<std::string, std::int64_t>> layers;
  each_masked(ticket,
              [&](const std::string& name, const auto& layer) { layers.emplace_back(name, layer.mask().nnz()); });
  std::vector<Mask> masks;
  for (const Mask& all : detail::all_masks(std::as_const(other))) {
    const auto& [name, edges] = layers[masks.size()];
    check(edges <= all.nnz(), "shuffled_masks: a layer of the ticket has more edges than the snapshot (", name, ": ",
          edges, " and ", all.nnz(), ")");
    std::vector<char> stays(static_cast<std::size_t>(all.nnz()), 0);
    const std::vector<std::int32_t> order = rng.permutation(all.nnz());
    for (std::int64_t k = 0; k < edges; ++k) stays[order[k]] = 1;
    masks.push_back(all.filter([&](std::int32_t e, std::int64_t, std::int64_t) { return stays[e] != 0; }));
  }
  detail::set_all_masks(other, masks);
  forget_pruned(other);
  each_param(other, [](Param& p) { p.clear_slots(); });
  return other;
}

}  // namespace deepstruct
