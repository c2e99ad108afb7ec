// The kinds of models that a file can describe: MaskedDeepFFN, MaskedDeepDAN, GraphNetwork.
#pragma once

#include <variant>

#include "../models/masked_deep_dan.hpp"
#include "../models/masked_deep_ffn.hpp"
#include "../transform/from_graph.hpp"
#include "layered_graph.hpp"
#include "model_reader.hpp"

namespace deepstruct {

template <>
struct ModelFile<MaskedDeepFFN> {
  static constexpr const char* kind = "MaskedDeepFFN";

  /// structure.parts: of every hidden part 0 masked layer, 1 layer norm, 2 ReLU.
  static void describe(const MaskedDeepFFN& model, StoredTensors& content) {
    std::vector<std::int32_t> parts;
    for (const auto& part : model.layers_hidden) parts.push_back(static_cast<std::int32_t>(part.index()));
    content.tensors.push_back(stored_values("structure.parts", parts));
  }
  static MaskedDeepFFN rebuild(const ModelReader& reader) {
    Rng unused;
    MaskedDeepFFN model(0, 0, {0}, {}, unused);
    model.layer_first = reader.masked_linear("_layer_first");
    for (const std::int32_t part : reader.structure("parts")) {
      const std::string name = "_layers_hidden." + std::to_string(model.layers_hidden.size());
      check(part >= 0 && part <= 2, "load_model: unknown hidden part (", name, ": ", part, ")");
      if (part == 0) model.layers_hidden.emplace_back(reader.masked_linear(name));
      if (part == 1) model.layers_hidden.emplace_back(reader.layer_norm(name));
      if (part == 2) model.layers_hidden.emplace_back(ReLU());
    }
    model.layer_out = reader.masked_linear("_layer_out");
    return model;
  }
};

template <>
struct ModelFile<MaskedDeepDAN> {
  static constexpr const char* kind = "MaskedDeepDAN";

  /// structure.graph.layer: of every vertex; .skips: connected layers (source, target) that are no neighbours; .output:
  /// where all sinks are outputs, these; .activation: of every vertex behind the first layer that need not be ReLU, 0
  /// none, 1 ReLU, 2 tanh, 3 sigmoid. Edges are those of the masks. structure.input_wiring, output_wiring: CSR.
  static void describe(const MaskedDeepDAN& model, StoredTensors& content) {
    const MaskedDeepDANOptions& options = model.options();
    const auto option = [&](const char* name, bool value) {
      content.metadata[std::string("deepstruct.") + name] = value ? "true" : "false";
    };
    option("use_layer_norm", options.use_layer_norm);
    option("packed", options.store == storage::packed);
    option("joint", options.joint);
    option("all_sinks", options.all_sinks);
    option("degree_aware", options.degree_aware);
    const auto add = [&](const char* name, const std::vector<std::int32_t>& values) {
      content.tensors.push_back(stored_values(std::string(detail::structure_prefix) + name, values));
    };
    std::vector<std::int32_t> layer, skips;
    for (std::int64_t l = 0; l < model.num_layers(); ++l)
      layer.insert(layer.end(), static_cast<std::size_t>(model.layer_size(l)), static_cast<std::int32_t>(l));
    for (const detail::LayerPair& p : model.connections())
      if (p.source + 1 != p.target) skips.insert(skips.end(), {p.source, p.target});
    add("graph.layer", layer);
    add("graph.skips", skips);
    if (options.all_sinks) add("graph.output", model.wiring()->output);
    if (const auto& chosen = model.wiring()->activation; !chosen.empty()) {
      std::vector<std::int32_t> activation;
      for (const VertexActivation a : chosen) activation.push_back(static_cast<std::int32_t>(a));
      add("graph.activation", activation);
    }
    const auto wire = [&](const std::string& name, const std::optional<Mask>& m) {
      if (!m || m->is_full()) return;
      add((name + ".indptr").c_str(), {m->row_start().begin(), m->row_start().end()});
      add((name + ".indices").c_str(), {m->col().begin(), m->col().end()});
    };
    wire("input_wiring", options.input_wiring);
    wire("output_wiring", options.output_wiring);
  }

  static MaskedDeepDAN rebuild(const ModelReader& reader) {
    MaskedDeepDANOptions options{.use_layer_norm = reader.option("use_layer_norm"),
                                 .joint = reader.option("joint"),
                                 .all_sinks = reader.option("all_sinks"),
                                 .degree_aware = reader.option("degree_aware")};
    const bool full = !reader.option("packed");
    MaskedLinearLayer layer_first = reader.masked_linear("layer_first"), layer_out = reader.masked_linear("layer_out");
    const auto layer = reader.structure("graph.layer");
    Skeleton made = skeleton(reader, layer, options);
    const auto wire = [&](const std::string& name, std::optional<Mask>& wiring, std::int64_t cols) {
      if (!reader.contains("structure." + name + ".indptr") || layer.empty()) return;
      const auto start = reader.structure(name + ".indptr"), col = reader.structure(name + ".indices");
      check(!start.empty(), "load_model: row starts are not those of a CSR matrix (", name, ")");
      wiring = Mask::from_csr(static_cast<std::int64_t>(start.size()) - 1, cols, start, col);
    };
    wire("input_wiring", options.input_wiring, layer_first.in_features());
    wire("output_wiring", options.output_wiring, layer_out.in_features() + made.auxiliary);

    // Layers and options as they were; all that has values is taken from the file.
    Rng unused;
    MaskedDeepDAN model(options.input_wiring ? layer_first.in_features() : 0,
                        options.output_wiring ? layer_out.out_features() : 0, made.graph, options, unused);
    if (made.auxiliary > 0) model.keep(detail::all_units(static_cast<std::int64_t>(layer.size())));
    model.layers_main_hidden.clear();
    model.layer_normalizations.clear();
    model.layers_skip_hidden.clear();
    model.layers_hidden.reset();
    if (full) {
      model.layer_first = model.layer_out = MaskedLinearLayer(0, 0, unused);
      model.unpack();
    }
    model.layer_first = std::move(layer_first);
    model.layer_out = std::move(layer_out);
    if (!full && !options.use_layer_norm) {
      model.layers_hidden = reader.masked_linear("layers_hidden");
    } else {
      for (const detail::LayerPair& p : model.connections()) {
        auto& layers = p.source + 1 == p.target ? model.layers_main_hidden : model.layers_skip_hidden;
        const char* name = p.source + 1 == p.target ? "layers_main_hidden." : "layers_skip_hidden.";
        layers.push_back(reader.masked_linear(name + std::to_string(layers.size())));
      }
      for (std::int64_t l = 0; l < model.num_layers() && options.use_layer_norm; ++l)
        model.layer_normalizations.push_back(reader.layer_norm("layer_normalizations." + std::to_string(l)));
    }
    return model;
  }

  /// Layers fit each other, and branches have edges from their source layers only.
  static void verify(const MaskedDeepDAN& model) {
    const auto fits = [](const MaskedLinearLayer& layer, std::int64_t in, std::int64_t out, const char* name) {
      check(layer.in_features() == in && layer.out_features() == out,
            "load_model: a layer does not fit the structure (", name, ": ", layer.out_features(), " x ",
            layer.in_features(), " for ", out, " x ", in, ")");
    };
    const DagWiring& w = *model.wiring();
    fits(model.layer_first, model.layer_first.in_features(), model.layer_size(0), "layer_first");
    fits(model.layer_out, static_cast<std::int64_t>(w.output.size()), model.layer_out.out_features(), "layer_out");
    std::size_t main = 0, skip = 0;
    for (const LayerNorm& norm : model.layer_normalizations)
      check(norm.weight.shape() == Shape{model.layer_size(static_cast<std::int64_t>(main++))},
            "load_model: a layer norm does not fit the structure (", norm.weight.shape(), ")");
    main = 0;
    const std::vector<detail::LayerPair> pairs = model.connections();
    if (!model.layers_hidden) {
      for (const detail::LayerPair& p : pairs)
        fits(p.source + 1 == p.target ? model.layers_main_hidden[main++] : model.layers_skip_hidden[skip++],
             model.layer_size(p.source), model.layer_size(p.target), "layers by pairs");
      return;
    }
    const MaskedLinearLayer& hidden = *model.layers_hidden;
    fits(hidden, w.vertices, w.rows(), "layers_hidden");
    check(hidden.packed() && hidden.bias && hidden.bias->shape() == Shape{w.rows()},
          "load_model: layers_hidden must be packed, with biases (", w.rows(), " branches)");
    std::vector<std::int32_t> layer;
    for (std::int64_t l = 0; l < model.num_layers(); ++l)
      layer.insert(layer.end(), static_cast<std::size_t>(model.layer_size(l)), static_cast<std::int32_t>(l));
    const Mask mask = hidden.mask();
    const auto start = mask.row_start(), col = mask.col();
    std::int64_t row = 0;
    std::vector<char> feeds(static_cast<std::size_t>(model.num_layers()), 0);
    for (auto pair = pairs.begin(); pair != pairs.end();) {
      const auto end = std::find_if(pair, pairs.end(), [&](const auto& p) { return p.target != pair->target; });
      for (auto p = pair; p != end; ++p) feeds[p->source] = 1;
      for (std::int64_t r = 0; r < model.layer_size(pair->target); ++r)
        for (auto p = pair; p != (w.joint() ? pair + 1 : end); ++p, ++row)
          for (std::int32_t e = start[row]; e < start[row + 1]; ++e)
            check(w.joint() ? feeds[layer[col[e]]] != 0 : layer[col[e]] == p->source,
                  "load_model: a branch has an edge from another layer (vertex ", col[e], " in branch ", row, ")");
      for (auto p = pair; p != end; ++p) feeds[p->source] = 0;
      pair = end;
    }
  }

 private:
  struct Skeleton {
    LayeredGraph graph;
    std::int64_t auxiliary = 0;  // vertices at the end that are to go
  };

  /// A graph with the same layers, connections of layers and sinks, and the activations. Networks that lost vertices
  /// may be those of no graph: without any, or with a dead end in the last layer, which an auxiliary vertex reads.
  static Skeleton skeleton(const ModelReader& reader, std::vector<std::int32_t> layer,
                           const MaskedDeepDANOptions& options) {
    const auto skips = reader.structure("graph.skips");
    if (layer.empty()) return {LayeredGraph(Graph(1, {}, true)), 1};
    check(layer.front() == 0 && std::is_sorted(layer.begin(), layer.end()),
          "load_model: vertices do not stand layer by layer (", layer.size(), " vertices)");
    const auto vertices = static_cast<std::int32_t>(layer.size());
    const std::int32_t last = layer.back();
    check(last < vertices, "load_model: there is a layer without vertices (", last, " with ", vertices, " vertices)");
    std::vector<std::int32_t> first(static_cast<std::size_t>(last) + 2, 0);
    for (const std::int32_t l : layer) ++first[l + 1];
    std::partial_sum(first.begin(), first.end(), first.begin());

    std::vector<char> is_output(layer.size(), 0);
    std::vector<Edge> edges;
    if (options.all_sinks) {
      for (const std::int32_t v : reader.structure("graph.output")) {
        check(v >= 0 && v < vertices, "load_model: an output is no vertex (", v, " of ", vertices, ")");
        is_output[v] = 1;
      }
      for (std::int32_t v = 0; v < vertices; ++v)
        if (!is_output[v]) edges.push_back({v, first[layer[v] + 1]});
      if (std::find(is_output.begin() + first[last], is_output.end(), 0) != is_output.end()) layer.push_back(last + 1);
    }
    std::uint64_t branches = layer.size();
    check(skips.size() % 2 == 0, "load_model: connections of layers are pairs (", skips.size(), " numbers)");
    for (std::size_t k = 0; k < skips.size(); k += 2) {
      const std::int32_t s = skips[k], t = skips[k + 1];
      check(s >= 0 && s < t && t - s > 1 && t <= last, "load_model: no such connection of layers (", s, ", ", t, ")");
      const auto source = std::find(is_output.begin() + first[s], is_output.begin() + first[s + 1], 0);
      check(source != is_output.begin() + first[s + 1], "load_model: a connection starts at outputs only (", s, ", ", t,
            ")");
      edges.push_back({static_cast<Vertex>(source - is_output.begin()), first[t]});
      branches += static_cast<std::uint64_t>(first[t + 1] - first[t]);
    }
    if (!options.joint) reader.require_bytes(4 * branches);
    Graph g(static_cast<std::int64_t>(layer.size()), std::move(edges), true);
    if (reader.contains("structure.graph.activation")) {
      const auto activation = reader.structure("graph.activation");
      check(static_cast<std::int64_t>(activation.size()) == vertices - first[1],
            "load_model: needs an activation for every vertex behind the first layer (", activation.size(), " for ",
            vertices - first[1], ")");
      for (std::size_t k = 0; k < activation.size(); ++k) {
        check(activation[k] >= 0 && activation[k] < static_cast<std::int32_t>(detail::activation_names.size()),
              "load_model: unknown activation (", activation[k], ")");
        g.vertex_attributes().set("activation", first[1] + static_cast<std::int64_t>(k),
                                  std::string(detail::activation_names[activation[k]]));
      }
    }
    const auto auxiliary = static_cast<std::int64_t>(layer.size()) - vertices;
    return {LayeredGraph::with_layers(g, std::move(layer)), auxiliary};
  }
};

template <>
struct ModelFile<GraphNetwork> {
  static constexpr const char* kind = "GraphNetwork";

  /// The network that its graph gives, which is what a file can hold: pruning may have left parts that see more than
  /// they read.
  static GraphNetwork canonical(const GraphNetwork& model) { return from_graph(to_graph(model)); }
  /// structure.network: its graph as GraphML.
  static void describe(const GraphNetwork& model, StoredTensors& content) {
    const std::string text = write_graphml(to_graph(model, Shape{1, model.inputs()}, {.slots = false}));
    content.tensors.push_back(stored_values("structure.network", std::vector<std::uint8_t>(text.begin(), text.end())));
  }
  static GraphNetwork rebuild(const ModelReader& reader) {
    const auto bytes = values_of<std::uint8_t>(reader.array("structure.network"));
    return from_graph(read_layered_graph(std::string(bytes.begin(), bytes.end())));
  }
};

/// One of the models of the library.
using AnyModel = std::variant<MaskedDeepFFN, MaskedDeepDAN, GraphNetwork>;

}  // namespace deepstruct
