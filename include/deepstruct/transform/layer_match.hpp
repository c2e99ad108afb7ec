// Neurons in layers and what they read; which neurons of two networks are the same.
#pragma once

#include <array>
#include <cmath>
#include <map>

#include "../graph/layered_graph.hpp"
#include "mask_diff.hpp"

namespace deepstruct {

namespace detail {

/// Neurons numbered layer by layer, with the numbers of those they read, ascending.
struct LayeredInputs {
  std::vector<std::int32_t> first;  // of every layer, and the end: [layers + 1]
  std::vector<std::int64_t> start;  // of every neuron, and the end: [neurons + 1]
  std::vector<std::int32_t> source;

  std::int64_t layers() const { return static_cast<std::int64_t>(first.size()) - 1; }
  std::int64_t size() const { return static_cast<std::int64_t>(start.size()) - 1; }
  std::int32_t width(std::int64_t l) const { return first[l + 1] - first[l]; }
  std::span<const std::int32_t> of(std::int64_t v) const {
    return std::span(source).subspan(static_cast<std::size_t>(start[v]),
                                     static_cast<std::size_t>(start[v + 1] - start[v]));
  }
  /// The same edges the other way round.
  LayeredInputs reversed() const {
    LayeredInputs r{first, std::vector<std::int64_t>(start.size(), 0), std::vector<std::int32_t>(source.size())};
    for (const std::int32_t u : source) ++r.start[u + std::size_t{1}];
    std::partial_sum(r.start.begin(), r.start.end(), r.start.begin());
    std::vector<std::int64_t> next(r.start.begin(), r.start.end() - 1);
    for (std::int64_t v = 0; v < size(); ++v)
      for (const std::int32_t u : of(v)) r.source[next[u]++] = static_cast<std::int32_t>(v);
    return r;
  }
};

inline LayeredInputs layered_inputs(const LayeredGraph& g) {
  const LayerIndex& index = g.index();
  LayeredInputs readers{index.start, {0}, {}};
  const Adjacency after = successors(g.graph());
  for (const Vertex v : index.order) {
    for (const Vertex w : after.of(v))
      if (w != v) readers.source.push_back(index.start[index.layer[w]] + index.place[w]);
    readers.start.push_back(static_cast<std::int64_t>(readers.source.size()));
  }
  return readers.reversed();
}
inline LayeredInputs layered_inputs(std::span<const Mask> masks) {
  LayeredInputs all{{0}, {0}, {}};
  const auto add = [&](std::int64_t width) {
    check(width < std::numeric_limits<std::int32_t>::max() - all.first.back(), "topology_distance: too many neurons (",
          all.first.back(), " and ", width, " more)");
    all.first.push_back(all.first.back() + static_cast<std::int32_t>(width));
  };
  for (std::size_t k = 0; k < masks.size(); ++k) {
    const Mask& m = masks[k];
    if (k == 0) {
      add(m.cols());
      all.start.resize(static_cast<std::size_t>(m.cols()) + 1, 0);
    }
    check(k == 0 || m.cols() == masks[k - 1].rows(), "topology_distance: a mask does not read the one before it (",
          masks[k > 0 ? k - 1 : 0].shape(), ", then ", m.shape(), ")");
    const std::int32_t from = all.first[k];
    add(m.rows());
    std::int64_t row = 0;
    const auto close = [&](std::int64_t end) {
      for (; row < end; ++row) all.start.push_back(static_cast<std::int64_t>(all.source.size()));
    };
    m.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
      close(r);
      all.source.push_back(from + static_cast<std::int32_t>(c));
    });
    close(m.rows());
  }
  return all;
}

/// Colours of the neurons of a and b on one scale.
using NeuronColours = std::array<std::vector<std::int32_t>, 2>;

/// Colours round by round: in round r equal only where what is up to r edges away looks the same, forwards and
/// backwards (colour refinement: Weisfeiler and Leman, "A reduction of a graph to a canonical form", 1968).
///
/// They decide which of several neurons with equal inputs is which. At most 2·layers rounds of O((V + E) log(V + E)).
inline std::vector<NeuronColours> neuron_colours(const LayeredInputs& a, const LayeredInputs& b, bool fixed_outputs) {
  const std::array<const LayeredInputs*, 2> inputs{&a, &b};
  const std::array<LayeredInputs, 2> outputs{a.reversed(), b.reversed()};
  std::vector<NeuronColours> rounds;
  std::size_t colours = 0;
  for (std::int64_t round = 0; round <= 2 * a.layers(); ++round) {
    std::map<std::vector<std::int32_t>, std::int32_t> known;
    NeuronColours next;
    for (std::size_t k = 0; k < 2; ++k)
      for (std::int64_t l = 0; l < inputs[k]->layers(); ++l)
        for (std::int32_t v = inputs[k]->first[l]; v < inputs[k]->first[l + 1]; ++v) {
          std::vector<std::int32_t> looks;
          if (round == 0) {
            const bool fixed = l == 0 || (fixed_outputs && l + 1 == inputs[k]->layers());
            looks = {static_cast<std::int32_t>(l), fixed ? v - inputs[k]->first[l] : -1};
          } else {
            const std::vector<std::int32_t>& before = rounds.back()[k];
            looks = {before[v], -1};
            for (const LayeredInputs* around : {inputs[k], &outputs[k]}) {
              const auto begin = static_cast<std::ptrdiff_t>(looks.size());
              for (const std::int32_t u : around->of(v)) looks.push_back(before[u]);
              std::sort(looks.begin() + begin, looks.end());
              looks.push_back(-1);
            }
          }
          next[k].push_back(known.try_emplace(std::move(looks), static_cast<std::int32_t>(known.size())).first->second);
        }
    if (round > 0 && known.size() == colours) break;  // nothing was told apart that was not before
    colours = known.size();
    rounds.push_back(std::move(next));
  }
  return rounds;
}

/// Matches the neurons of one layer of b with those of a, whose sources were matched before.
class LayerMatch {
 public:
  /// `number`: of every neuron of b before this layer the one of a it was taken for, −1 without.
  LayerMatch(const LayeredInputs& a, const LayeredInputs& b, std::int64_t l, std::span<const std::int32_t> number)
      : a_(a), b_(b), l_(l), matched_(static_cast<std::size_t>(a.width(l)), -1) {
    free_.assign(static_cast<std::size_t>(b.width(l)), 1);
    common_.assign(free_.size(), 0);
    for (std::int32_t j = 0; j < b.width(l); ++j)
      for (const std::int32_t u : b.of(b.first[l] + j))
        if (number[u] >= 0) readers_.emplace_back(number[u], j);
    std::sort(readers_.begin(), readers_.end());
    std::map<std::vector<std::int32_t>, std::int32_t> known;
    const auto set_of = [&](std::vector<std::int32_t> sources) {
      std::sort(sources.begin(), sources.end());
      return known.try_emplace(std::move(sources), static_cast<std::int32_t>(known.size())).first->second;
    };
    for (std::int32_t v = a.first[l]; v < a.first[l + 1]; ++v)
      set_[0].push_back(set_of({a.of(v).begin(), a.of(v).end()}));
    for (std::int32_t v = b.first[l]; v < b.first[l + 1]; ++v) {
      std::vector<std::int32_t> sources;
      for (const std::int32_t u : b.of(v)) sources.push_back(number[u]);
      set_[1].push_back(set_of(std::move(sources)));
    }
  }
  /// Neuron i of a takes neuron i of b.
  void same_places() {
    for (std::int32_t i = 0; i < a_.width(l_); ++i) {
      count_common(i);
      take(i, i);
    }
  }
  /// Every free neuron of a, in order, takes the first free one of b with the same inputs and the same colour.
  void equals(const NeuronColours& colour) {
    std::map<std::pair<std::int32_t, std::int32_t>, std::vector<std::int32_t>> left;
    for (std::int32_t j = b_.width(l_); j-- > 0;)
      if (free_[j]) left[{set_[1][j], colour[1][b_.first[l_] + j]}].push_back(j);
    for (std::int32_t i = 0; i < a_.width(l_); ++i) {
      if (matched_[i] >= 0) continue;
      const auto found = left.find({set_[0][i], colour[0][a_.first[l_] + i]});
      if (found == left.end() || found->second.empty()) continue;
      matched_[i] = found->second.back();  // at distance 0
      free_[matched_[i]] = 0;
      found->second.pop_back();
    }
  }
  /// Every free neuron of a, in order, takes the nearest free one of b, of equals the first.
  void nearest() {
    for (std::int32_t i = 0; i < a_.width(l_); ++i) {
      if (matched_[i] >= 0) continue;
      count_common(i);
      std::int32_t best = -1;
      for (std::int32_t j = 0; j < b_.width(l_); ++j)
        if (free_[j] && (best < 0 || between(i, j) < between(i, best))) best = j;
      if (best >= 0) take(i, best);
    }
  }
  /// Place in b of every neuron of a, −1 while it has none.
  const std::vector<std::int32_t>& matched() const { return matched_; }
  /// (Σ distances of matched neurons + neurons left over) / the greater number of neurons.
  double distance() const {
    const std::int32_t n = a_.width(l_), m = b_.width(l_);
    return n == 0 && m == 0 ? 0 : (sum_ + std::abs(n - m)) / std::max(n, m);
  }

 private:
  /// |I_i ∩ I_j| for all j.
  void count_common(std::int32_t i) {
    std::fill(common_.begin(), common_.end(), 0);
    for (const std::int32_t u : a_.of(a_.first[l_] + i))
      for (auto r = std::lower_bound(readers_.begin(), readers_.end(), std::pair{u, std::int32_t{-1}});
           r != readers_.end() && r->first == u; ++r)
        ++common_[r->second];
  }
  /// |I_i Δ I_j| / |I_i ∪ I_j|, 0 if neither has an input.
  double between(std::int32_t i, std::int32_t j) const {
    const std::size_t both = a_.of(a_.first[l_] + i).size() + b_.of(b_.first[l_] + j).size();
    const std::size_t common = static_cast<std::size_t>(common_[j]), all = both - common;
    return all == 0 ? 0 : static_cast<double>(all - common) / static_cast<double>(all);
  }
  void take(std::int32_t i, std::int32_t j) {
    matched_[i] = j;
    free_[j] = 0;
    sum_ += between(i, j);
  }

  const LayeredInputs &a_, &b_;
  std::int64_t l_;
  std::vector<std::int32_t> matched_, common_;
  std::vector<char> free_;
  std::array<std::vector<std::int32_t>, 2> set_;                // equal where the inputs are, b's as they were matched
  std::vector<std::pair<std::int32_t, std::int32_t>> readers_;  // number of a source, place of its reader in b
  double sum_ = 0;
};

}  // namespace detail

}  // namespace deepstruct
