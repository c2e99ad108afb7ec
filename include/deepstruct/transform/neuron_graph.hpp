// Neurons → LayeredGraph: the vertices, edges and attributes that transform/neurons.hpp describes.
#pragma once

#include "neurons.hpp"

namespace deepstruct::detail {

/// Between two vertices there is one edge. Where several branches of a neuron read the same source, all but the first
/// read it through a neuron that passes it on; layers behind the source move up where there is no room for it.
inline void add_relays(Neurons& neurons) {
  struct Twice {
    std::size_t block, edge;
    std::int32_t source, before, layer;  // branches of the target that read it before; the layer of the target
  };
  struct Seen {
    std::int32_t target = -1, before = 0;
    std::int64_t row = -1;
  };
  std::vector<Twice> twice;
  std::vector<Seen> seen(static_cast<std::size_t>(neurons.count));
  for (std::size_t n = 0; n < neurons.blocks.size(); ++n) {
    const NeuronBlock& b = neurons.blocks[n];
    if (b.dead || b.single()) continue;
    for (std::int64_t k = 0; k < b.count(); ++k)
      for (std::int64_t r = b.row_of(k); r < b.row_of(k + 1); ++r)
        for (std::int32_t e = b.edge_start[r]; e < b.edge_start[r + 1]; ++e) {
          const auto target = static_cast<std::int32_t>(b.first + k);
          Seen& last = seen[b.source[e]];
          if (last.target != target)
            last = {target, 0, r};
          else if (last.row != r)
            last = {target, last.before + 1, r};
          if (last.before > 0) twice.push_back({n, static_cast<std::size_t>(e), b.source[e], last.before, b.layer[k]});
        }
  }
  if (twice.empty()) return;
  std::vector<std::int32_t> crowded;  // layers behind which one must be inserted
  for (const Twice& t : twice)
    if (const std::int32_t l = neurons.layer_of(t.source); t.layer == l + 1) crowded.push_back(l);
  std::sort(crowded.begin(), crowded.end());
  crowded.erase(std::unique(crowded.begin(), crowded.end()), crowded.end());
  for (NeuronBlock& b : neurons.blocks)
    for (std::int32_t& l : b.layer)
      l += static_cast<std::int32_t>(std::lower_bound(crowded.begin(), crowded.end(), l) - crowded.begin());
  NeuronBlock relay;
  relay.name = relay.operation = "relay";
  std::map<std::pair<std::int32_t, std::int32_t>, std::int32_t> of;  // relays of a source, one for each branch more
  for (const Twice& t : twice) {
    const auto [at, fresh] =
        of.try_emplace({t.source, t.before}, neurons.count + static_cast<std::int32_t>(relay.count()));
    if (fresh) {
      relay.layer.push_back(neurons.layer_of(t.source) + 1);
      relay.add(t.source, 1);
      relay.close_row();
    }
    neurons.blocks[t.block].source[t.edge] = at->second;
  }
  relay.channels = relay.count();
  neurons.append(std::move(relay));
}

/// Writes what is known of every branch as attributes of the vertices: a float (or text) where a vertex has one branch,
/// a text of all of them under the plural where it has several.
class BranchAttributes {
 public:
  BranchAttributes(AttributeTable& table, const std::vector<std::int32_t>& vertex) : table_(table), vertex_(vertex) {}

  template <class T, class Text>
  void write(const NeuronBlock& b, const std::string& singular, const std::string& plural, T&& value_of, Text&& text) {
    for (std::int64_t k = 0; k < b.count(); ++k) {
      const std::int64_t place = vertex_[b.first + k], row = b.row_of(k), end = b.row_of(k + 1);
      if (end - row == 1) {
        if (const auto value = value_of(row)) table_.set(singular, place, *value);
        continue;
      }
      std::string all;
      for (std::int64_t r = row; r < end; ++r) {
        const auto value = value_of(r);
        all += (r > row ? " " : "") + (value ? text(*value) : std::string("-"));
      }
      if (all.find_first_not_of("- ") != std::string::npos) table_.set(plural, place, all);
    }
  }

 private:
  AttributeTable& table_;
  const std::vector<std::int32_t>& vertex_;
};

/// The graph of all living neurons, layer by layer.
inline LayeredGraph neuron_graph(Neurons neurons, bool weights = true, bool positions = true) {
  add_relays(neurons);
  const auto all = static_cast<std::size_t>(neurons.count);
  // Neurons in order of their layers, and as they were made within them.
  std::int32_t layers = 0;
  for (const NeuronBlock& b : neurons.blocks)
    for (const std::int32_t l : b.layer) layers = std::max(layers, b.dead ? 0 : l + 1);
  std::vector<std::int32_t> next(static_cast<std::size_t>(layers) + 1, 0), vertex(all, -1);
  for (const NeuronBlock& b : neurons.blocks)
    for (const std::int32_t l : b.layer) next[l + 1] += !b.dead;
  std::partial_sum(next.begin(), next.end(), next.begin());
  std::vector<std::int32_t> layer(static_cast<std::size_t>(next.back()));
  for (const NeuronBlock& b : neurons.blocks)
    for (std::int64_t k = 0; k < b.count() && !b.dead; ++k) {
      vertex[b.first + k] = next[b.layer[k]]++;
      layer[vertex[b.first + k]] = b.layer[k];
    }

  // Edges in the order of the sums; repeated ones of a branch become one.
  std::size_t most = 0;
  std::map<std::string, std::vector<float>> slots;
  bool branches = false;
  for (const NeuronBlock& b : neurons.blocks) {
    if (b.dead) continue;
    most += b.source.size();
    branches |= !b.single();
    for (const auto& [name, values] : b.weight_slots) slots[name];
  }
  check(most < static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()), "to_graph: too many edges (", most,
        ")");
  std::vector<Edge> edges(most);
  std::vector<float> weight(weights ? most : 0);
  std::vector<std::int64_t> position(positions ? most : 0), branch(branches ? most : 0);
  for (auto& [name, values] : slots) values.resize(most);
  std::int32_t at = 0;
  std::vector<std::int32_t> edge_of(all, -1);  // the last edge from every neuron
  for (const NeuronBlock& b : neurons.blocks) {
    if (b.dead) continue;
    std::vector<std::pair<std::vector<float>*, const std::vector<float>*>> moved;
    for (auto& [name, values] : slots) {
      const auto found = b.weight_slots.find(name);
      if (found != b.weight_slots.end()) moved.emplace_back(&values, &found->second);
    }
    for (std::int64_t k = 0; k < b.count(); ++k) {
      const std::int32_t begin = at, to = vertex[b.first + k];
      const bool single = b.row_of(k + 1) - b.row_of(k) == 1;
      for (std::int64_t r = b.row_of(k); r < b.row_of(k + 1); ++r) {
        const std::int32_t row_begin = at;
        if (single) {  // sources that ascend, as nearly always, do not repeat
          std::int32_t before = -1;
          bool ascends = true;
          for (std::int32_t e = b.edge_start[r]; e < b.edge_start[r + 1]; ++e, ++at) {
            const std::int32_t from = vertex[b.source[e]];
            ascends &= from > before;
            before = from;
            edges[at] = {from, to};
          }
          if (ascends) {
            if (weights)
              std::copy(b.weight.begin() + b.edge_start[r], b.weight.begin() + b.edge_start[r + 1],
                        weight.begin() + row_begin);
            if (positions) std::iota(position.begin() + row_begin, position.begin() + at, 0);
            for (const auto& [values, from] : moved)
              std::copy(from->begin() + b.edge_start[r], from->begin() + b.edge_start[r + 1],
                        values->begin() + row_begin);
            continue;
          }
          at = row_begin;
        }
        for (std::int32_t e = b.edge_start[r]; e < b.edge_start[r + 1]; ++e) {
          std::int32_t& known = edge_of[b.source[e]];
          if (known >= begin) {
            if (weights && !b.maximum) weight[known] += b.weight[e];
            continue;
          }
          known = at;
          edges[at] = {vertex[b.source[e]], to};
          if (weights) weight[at] = b.weight[e];
          if (positions) position[at] = at - row_begin;
          if (branches) branch[at] = r - b.row_of(k);
          for (const auto& [values, from] : moved) (*values)[at] = (*from)[e];
          ++at;
        }
      }
    }
  }
  edges.resize(static_cast<std::size_t>(at));
  if (weights) weight.resize(edges.size());
  if (positions) position.resize(edges.size());
  if (branches) branch.resize(edges.size());
  for (auto& [name, values] : slots) values.resize(edges.size());
  Graph g(static_cast<std::int64_t>(layer.size()), std::move(edges), true);
  check(g.edge_count() == at, "to_graph: edges repeat (", g.edge_count(), " of ", at, ")");
  AttributeTable& on_edges = g.edge_attributes();
  if (weights) on_edges.set_column("weight", std::move(weight));
  if (positions) on_edges.set_column("position", std::move(position));
  if (branches) on_edges.set_column("branch", std::move(branch));
  for (auto& [name, values] : slots) on_edges.set_column("weight." + name, std::move(values));

  AttributeTable& on_vertices = g.vertex_attributes();
  std::vector<std::string> role(layer.size(), "hidden");
  for (std::int64_t k = 0; k < neurons.blocks[0].count(); ++k) role[vertex[k]] = "input";
  for (const std::int32_t v : neurons.outputs) role[vertex[v]] = "output";
  on_vertices.set_column("role", std::move(role));
  // Channels and layers are numbered by the vertices that come first.
  std::vector<std::int64_t> of_channel(layer.size(), -1), of_layer(layer.size(), -1);
  std::vector<std::pair<std::size_t, std::int64_t>> member(layer.size());
  for (std::size_t n = 0; n < neurons.blocks.size(); ++n) {
    const NeuronBlock& b = neurons.blocks[n];
    for (std::int64_t k = 0; k < b.count() && !b.dead; ++k) member[vertex[b.first + k]] = {n, k};
  }
  std::map<std::pair<std::size_t, std::int32_t>, std::int64_t> layer_number;
  std::int64_t channel_count = 0;
  std::vector<std::vector<std::int64_t>> channel_number(neurons.blocks.size());
  for (std::size_t v = 0; v < member.size(); ++v) {
    const auto [n, k] = member[v];
    const NeuronBlock& b = neurons.blocks[n];
    of_layer[v] = layer_number.try_emplace({n, layer[v]}, static_cast<std::int64_t>(layer_number.size())).first->second;
    auto& numbers = channel_number[n];
    if (numbers.empty()) numbers.assign(static_cast<std::size_t>(std::max<std::int64_t>(1, b.channels)), -1);
    std::int64_t& number = numbers[k / std::max<std::int64_t>(1, b.count() / std::max<std::int64_t>(1, b.channels))];
    if (number < 0) number = channel_count++;
    of_channel[v] = number;
  }
  on_vertices.set_column("of_channel", std::move(of_channel));
  on_vertices.set_column("of_layer", std::move(of_layer));
  std::vector<std::string> module, operation;
  for (const auto& [n, k] : member) {
    module.push_back(neurons.blocks[n].name);
    operation.push_back(neurons.blocks[n].operation);
  }
  on_vertices.set_column("module", std::move(module));
  on_vertices.set_column("operation", std::move(operation));

  BranchAttributes write(on_vertices, vertex);
  std::int32_t group = 0;
  for (const NeuronBlock& b : neurons.blocks) {
    if (b.dead) continue;
    if (!b.bias.empty()) {
      const auto value = [&](const std::vector<float>& values) {
        return [&](std::int64_t r) { return b.has_bias(r) ? std::optional(values[r]) : std::nullopt; };
      };
      write.write(b, "bias", "biases", value(b.bias), shortest);
      for (const auto& [name, values] : b.bias_slots)
        write.write(b, "bias." + name, "biases." + name, value(values), shortest);
    }
    if (!b.activation.empty())
      write.write(
          b, "activation", "activations",
          [&](std::int64_t r) {
            return b.activation[r] ? std::optional(neurons.activations[b.activation[r]]) : std::nullopt;
          },
          [](const std::string& name) { return name; });
    std::int32_t groups = 0;
    for (std::int64_t k = 0; k < b.count(); ++k) {
      const std::int64_t v = vertex[b.first + k];
      if (b.maximum) on_vertices.set("aggregate", v, "max");
      if (b.norm.empty()) continue;
      on_vertices.set("norm", v, b.norm);
      on_vertices.set("norm_group", v, std::int64_t{group} + b.norm_group[k]);
      groups = std::max(groups, b.norm_group[k] + 1);
      const auto number = [&](const char* name, const std::vector<float>& values) {
        if (!values.empty()) on_vertices.set(name, v, values[k]);
      };
      if (b.norm == "layer" || b.norm == "batch") on_vertices.set("norm_eps", v, b.norm_eps);
      number("norm_weight", b.norm_weight);
      number("norm_bias", b.norm_bias);
      number("norm_mean", b.norm_mean);
      number("norm_variance", b.norm_variance);
      for (const auto& [name, values] : b.norm_slots) number(name.c_str(), values);
    }
    group += groups;
  }
  return LayeredGraph::with_layers(std::move(g), std::move(layer));
}

}  // namespace deepstruct::detail
