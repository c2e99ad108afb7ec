// Neurons: what a network computes, vertex by vertex, on the way between a trace and a graph.
#pragma once

#include <array>
#include <charconv>
#include <map>
#include <string>

#include "../core/buffer.hpp"
#include "../graph/layered_graph.hpp"

namespace deepstruct {

/// The graph of a network at the order of neurons: every vertex is a neuron, every edge a weight.
///
/// A vertex computes  h = Σ_branches f(N(Σ_edges w·h_source + b))  with one branch unless the network sums activations,
/// as MaskedDeepDAN does, one branch per source layer. Vertices are numbered layer by layer as the network computes
/// them, the inputs first. Attributes, absent where they say nothing:
///
/// | vertex attribute | type | what it is |
/// |---|---|---|
/// | role | text | input, hidden or output |
/// | activation | text | f of its branch: relu, leaky_relu(0.01), …; absent: none |
/// | bias | float | b of its branch; absent: there is none to train |
/// | activations, biases | text | the same of all branches, in order, where there are several |
/// | aggregate | text | max: the greatest h_source instead of a sum; the weights of its edges are 1 |
/// | norm | text | N of the first branch: layer, batch, softmax or log_softmax |
/// | norm_group | int | neurons that are normalised together |
/// | norm_weight, norm_bias, norm_mean, norm_variance, norm_eps | float | N(z) = (z − mean)/√(variance + eps)·weight +
/// bias | | of_channel, of_layer | int | its vertex in the graphs of the next orders (transform/orders.hpp) | | module,
/// operation | text | what it came from, such as _layers_hidden.0 and sparse_linear |
///
/// | edge attribute | type | what it is |
/// |---|---|---|
/// | weight | float | w |
/// | position | int | its place in the sum of its branch: sums are bitwise what they were |
/// | branch | int | number of its branch; absent: 0 |
///
/// What optimizers remember stands beside it: weight.<slot>, bias.<slot>, biases.<slot>, norm_weight.<slot>,
/// norm_bias.<slot>.
namespace detail {

/// The shortest text that is read back as the same float.
inline std::string shortest(float x) {
  std::array<char, 32> text;
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), x).ptr};
}

/// Neurons that one op makes, with their branches.
struct NeuronBlock {
  std::string name, operation;              // the module, such as "_layers_hidden.0", and the op
  std::int32_t first = 0;                   // number of the first neuron, counted over all blocks as they are made
  std::int64_t channels = 0;                // neuron k belongs to channel k / (count/channels)
  std::vector<std::int32_t> layer;          // of every neuron
  bool maximum = false;                     // the greatest instead of the sum
  std::vector<std::int32_t> row_start;      // branches of every neuron: [count + 1]; empty: one each
  std::vector<std::int32_t> edge_start{0};  // edges of every branch: [branches + 1]
  pool_vector<std::int32_t> source;         // of every edge, a neuron
  pool_vector<float> weight;                // of every edge; empty: nobody asks
  std::vector<float> bias;                  // of every branch; empty: none
  std::vector<char> biased;                 // which branches have one, where not all do
  std::vector<std::uint8_t> activation;     // of every branch, a number of Neurons::activations; empty: none
  std::map<std::string, std::vector<float>> weight_slots, bias_slots;  // what optimizers remember
  std::string norm;                                                    // of the first branch
  float norm_eps = 0;
  std::vector<std::int32_t> norm_group;  // of every neuron
  std::vector<float> norm_weight, norm_bias, norm_mean, norm_variance;
  std::map<std::string, std::vector<float>> norm_slots;  // norm_weight.<slot>, norm_bias.<slot>
  bool dead = false;                                     // it has become part of another

  std::int64_t count() const { return static_cast<std::int64_t>(layer.size()); }
  std::int64_t rows() const { return static_cast<std::int64_t>(edge_start.size()) - 1; }
  bool single() const { return row_start.empty(); }
  std::int64_t row_of(std::int64_t k) const { return single() ? k : row_start[k]; }
  bool has_bias(std::int64_t row) const { return !bias.empty() && (biased.empty() || biased[row]); }
  float weight_of(std::int32_t edge) const { return weight.empty() ? 1 : weight[edge]; }
  float bias_of(std::int64_t row) const { return has_bias(row) ? bias[row] : 0; }
  /// Ends a branch.
  void close_row() { edge_start.push_back(static_cast<std::int32_t>(source.size())); }
  void add(std::int32_t from, float w) {
    check(source.size() < static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
          "to_graph: too many edges (", source.size(), ")");
    source.push_back(from);
    weight.push_back(w);
  }
  /// One branch each, of which nothing is applied yet.
  bool open() const { return single() && activation.empty() && !maximum; }
};

/// All blocks of a network, in the order in which it computes them; the first are the inputs.
struct Neurons {
  std::vector<NeuronBlock> blocks;
  std::vector<std::string> activations{"none"};
  std::vector<std::int32_t> outputs;  // neurons whose values are the result, in order
  std::int32_t count = 0;

  std::uint8_t activation(const std::string& name) {
    const auto found = std::find(activations.begin(), activations.end(), name);
    if (found == activations.end()) {
      check(activations.size() < 255, "to_graph: more than 255 different activations (", name, ")");
      activations.push_back(name);
      return static_cast<std::uint8_t>(activations.size() - 1);
    }
    return static_cast<std::uint8_t>(found - activations.begin());
  }
  NeuronBlock& append(NeuronBlock block) {
    check(block.count() < std::numeric_limits<std::int32_t>::max() - count, "to_graph: too many neurons (", count,
          " and ", block.count(), " more)");
    block.first = count;
    count += static_cast<std::int32_t>(block.count());
    blocks.push_back(std::move(block));
    return blocks.back();
  }
  /// The layer of every neuron.
  std::int32_t layer_of(std::int32_t v) const {
    const auto after = std::upper_bound(blocks.begin(), blocks.end(), v,
                                        [](std::int32_t x, const NeuronBlock& b) { return x < b.first; });
    const NeuronBlock& b = *(after - 1);
    return b.layer[v - b.first];
  }
};

/// A branch of `from` behind the last one of `to`, without closing it; slots that `to` has and `from` lacks are 0.
inline void copy_edges(NeuronBlock& to, const NeuronBlock& from, std::int64_t row) {
  for (std::int32_t e = from.edge_start[row]; e < from.edge_start[row + 1]; ++e) {
    to.add(from.source[e], from.weight_of(e));
    for (auto& [name, values] : to.weight_slots) {
      const auto found = from.weight_slots.find(name);
      values.push_back(found == from.weight_slots.end() ? 0 : found->second[e]);
    }
  }
}

/// Neurons of which each sums the branches of one of `a` and one of `b`, in that order. Where neither applies anything
/// to its sum, it is one branch.
inline NeuronBlock sum_branches(NeuronBlock a, const NeuronBlock& b) {
  NeuronBlock sum;
  for (const NeuronBlock* from : {static_cast<const NeuronBlock*>(&a), &b}) {
    for (const auto& [name, values] : from->weight_slots) sum.weight_slots[name];
    for (const auto& [name, values] : from->bias_slots) sum.bias_slots[name];
  }
  const bool one = a.open() && b.open() && a.norm.empty() && b.norm.empty();
  const auto close = [&](float bias, bool biased, const NeuronBlock& from, std::int64_t row) {
    sum.close_row();
    sum.bias.push_back(bias);
    sum.biased.push_back(biased);
    for (auto& [name, values] : sum.bias_slots) {
      const auto found = from.bias_slots.find(name);
      values.push_back(!from.has_bias(row) || found == from.bias_slots.end() ? 0 : found->second[row]);
    }
    if (!one) sum.activation.push_back(from.activation.empty() ? 0 : from.activation[row]);
  };
  for (std::int64_t k = 0; k < a.count(); ++k) {
    if (one) {
      copy_edges(sum, a, k);
      copy_edges(sum, b, k);
      close(a.bias_of(k) + b.bias_of(k), a.has_bias(k) || b.has_bias(k), a.has_bias(k) ? a : b, k);
    } else {
      if (k == 0) sum.row_start.push_back(0);
      for (const NeuronBlock* from : {static_cast<const NeuronBlock*>(&a), &b})
        for (std::int64_t r = from->row_of(k); r < from->row_of(k + 1); ++r) {
          copy_edges(sum, *from, r);
          close(from->bias_of(r), from->has_bias(r), *from, r);
        }
      sum.row_start.push_back(static_cast<std::int32_t>(sum.rows()));
    }
    a.layer[k] = std::max(a.layer[k], b.layer[k]);
  }
  a.row_start = std::move(sum.row_start);
  a.edge_start = std::move(sum.edge_start);
  a.source = std::move(sum.source);
  a.weight = std::move(sum.weight);
  a.bias = std::move(sum.bias);
  a.biased = std::move(sum.biased);
  a.activation = std::move(sum.activation);
  a.weight_slots = std::move(sum.weight_slots);
  a.bias_slots = std::move(sum.bias_slots);
  return a;
}

}  // namespace detail

}  // namespace deepstruct
