// MaskedDeepDAN: a layered directed acyclic graph becomes a trainable network with skip connections.
#pragma once

#include "../graph/layered_graph.hpp"
#include "../nn/layers.hpp"
#include "../nn/masked_linear.hpp"
#include "../ops/dag.hpp"

namespace deepstruct {

/// Options of MaskedDeepDAN.
struct MaskedDeepDANOptions {
  bool use_layer_norm = false;      ///< of what the layer before gives, as in the original; keeps layers apart
  storage store = storage::packed;  ///< packed: all edges in one CSR; full: a masked layer per pair of layers
  bool joint = false;               ///< packed: one sum, bias and activation a vertex instead of one per source layer
  bool all_sinks = false;           ///< every vertex without an outgoing edge feeds the output, not the last layer
  bool degree_aware = false;        ///< weights U(±√(6/d)), d the edges into a vertex, and no bias (He et al. 2015)
  std::optional<Mask> input_wiring = {};   ///< [first layer, inputs]; full by default
  std::optional<Mask> output_wiring = {};  ///< [outputs, last layer or sinks]; full by default
};

/// A network whose hidden vertices and connections are those of a graph: with h_0 = relu(layer_first(x)), for a vertex
/// v
///   h_v = Σ_source layers relu(Σ_edges w·h_u + b),   y = layer_out(h of the last layer)
/// so every pair of connected layers has weights, a bias and a ReLU of its own, as in Python deepstruct; or where joint
/// h_v = f(Σ_edges w·h_u + b).   x [batch, …] → y [batch, out]
///
/// Packed, the default, all of it is one masked layer `layers_hidden` of branches, rows (vertex, source layer), which
/// runs in one op; full, it is one masked layer per pair of layers, with the parameters of Python deepstruct:
/// layer_first, layers_main_hidden.0, …, layer_normalizations.0, …, layers_skip_hidden.0, …, layer_out. pack() and
/// unpack() convert. Layer norm works on layers, so it keeps them apart also when packed. layer_first and layer_out
/// keep full storage as long as they are fully connected.
class MaskedDeepDAN {
 public:
  MaskedLinearLayer layer_first;
  std::vector<MaskedLinearLayer> layers_main_hidden;
  std::vector<LayerNorm> layer_normalizations;
  std::vector<MaskedLinearLayer> layers_skip_hidden;
  std::optional<MaskedLinearLayer> layers_hidden;  // packed
  MaskedLinearLayer layer_out;

  /// Inputs of any shape are flattened. Throws on a structure without vertices or with a cycle or self loop, and on
  /// wiring of another shape. Vertex attributes "activation" (none, relu, tanh, sigmoid) count where joint; the first
  /// layer is always ReLU.
  MaskedDeepDAN(const Shape& size_input, std::int64_t size_output, const LayeredGraph& structure,
                MaskedDeepDANOptions options = {}, Rng& rng = default_rng())
      : MaskedDeepDAN(size_input.size(), size_output, options, std::make_shared<const Structure>(structure, options),
                      rng) {
    build(structure, rng);
  }
  MaskedDeepDAN(std::int64_t size_input, std::int64_t size_output, const LayeredGraph& structure,
                MaskedDeepDANOptions options = {}, Rng& rng = default_rng())
      : MaskedDeepDAN(Shape{size_input}, size_output, structure, options, rng) {}

  Var operator()(const Var& x) const {
    const Var first = layer_first(flatten(x, 1), Activation::relu);
    if (layers_hidden)
      return layer_out(
          layered_dag(first, layers_hidden->weight, *layers_hidden->bias, layers_hidden->mask(), wiring()));
    Vars h{first};
    std::size_t skip = 0;
    for (std::int64_t l = 1; l < num_layers(); ++l) {
      const MaskedLinearLayer& main = layers_main_hidden[l - 1];
      Var sum = layer_normalizations.empty() ? main(h.back(), Activation::relu)
                                             : relu(layer_normalizations[l](main(h.back())));
      for (const std::int32_t source : structure_->sources[l])
        if (source != l - 1) sum = sum + layers_skip_hidden[skip++](h[source], Activation::relu);
      h.push_back(sum);
    }
    return layer_out(options_.all_sinks ? index_select(cat(h, 1), 1, wiring()->output) : h.back());
  }

  const MaskedDeepDANOptions& options() const { return options_; }
  std::int64_t num_layers() const { return static_cast<std::int64_t>(structure_->first.size()) - 1; }
  std::int64_t layer_size(std::int64_t layer) const {
    check(layer >= 0 && layer < num_layers(), "MaskedDeepDAN: no such layer (", layer, " of ", num_layers(), ")");
    return structure_->first[layer + 1] - structure_->first[layer];
  }
  /// Vertices are numbered layer by layer; this is the place that each had in the graph the network was made of.
  std::span<const Vertex> places() const { return structure_->place; }
  /// What layered_dag knows of the network.
  const std::shared_ptr<const DagWiring>& wiring() const { return structure_->wiring; }

  /// The connections between two layers.   → [target layer, source layer]
  Mask mask(std::int64_t source, std::int64_t target) const {
    const Pair pair = pair_of(source, target);
    if (const MaskedLinearLayer* layer = layer_of(pair)) return layer->mask();
    std::vector<Mask::Edge> edges;
    for_each_edge(pair, [&](std::int32_t, std::int32_t r, std::int32_t c) { edges.emplace_back(r, c); });
    return Mask::from_edges(layer_size(target), layer_size(source), edges);
  }
  /// Sets the connections between two layers that the structure connects; as set_mask of a layer.
  void set_mask(std::int64_t source, std::int64_t target, const Mask& m) {
    const Pair pair = pair_of(source, target);
    check(m.shape() == Shape{layer_size(target), layer_size(source)}, "set_mask: mask and layers differ in shape (",
          m.shape(), " and ", Shape{layer_size(target), layer_size(source)}, ")");
    if (const MaskedLinearLayer* layer = layer_of(pair)) return const_cast<MaskedLinearLayer*>(layer)->set_mask(m);
    std::vector<Mask::Edge> added, removed;
    for_each_edge(pair, [&](std::int32_t row, std::int32_t r, std::int32_t c) {
      if (!m.contains(r, c)) removed.emplace_back(row, first(source) + c);
    });
    const Mask before = mask(source, target);
    m.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
      if (!before.contains(r, c)) added.emplace_back(row_of(pair, r), first(source) + static_cast<std::int32_t>(c));
    });
    layers_hidden->set_mask(layers_hidden->mask().edit(added, removed));
  }

  /// The structure as it is now, after pruning: vertices numbered layer by layer, in the layers that they have. With
  /// `include_input` the inputs are a layer before all others, with `include_output` the outputs one behind.
  LayeredGraph generate_structure(bool include_input = false, bool include_output = false) const {
    const auto vertices = static_cast<std::int32_t>(wiring()->vertices);
    const auto inputs = static_cast<std::int32_t>(include_input ? layer_first.in_features() : 0);
    std::vector<Edge> edges;
    const auto connect = [&](const Mask& m, auto&& target_of, auto&& source_of) {
      m.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
        edges.push_back({static_cast<Vertex>(source_of(c)), static_cast<Vertex>(target_of(r))});
      });
    };
    if (include_input)
      connect(
          layer_first.mask(), [&](std::int64_t r) { return inputs + r; }, [](std::int64_t c) { return c; });
    for (std::int64_t t = 1; t < num_layers(); ++t)
      for (const std::int32_t s : structure_->sources[t])
        for_each_edge({s, static_cast<std::int32_t>(t)}, [&](std::int32_t, std::int32_t r, std::int32_t c) {
          edges.push_back({inputs + first(s) + c, inputs + first(t) + r});
        });
    if (include_output)
      connect(
          layer_out.mask(), [&](std::int64_t r) { return inputs + vertices + r; },
          [&](std::int64_t c) { return inputs + wiring()->output[c]; });
    std::vector<std::int32_t> layer(static_cast<std::size_t>(inputs), 0);
    const std::int32_t shift = inputs > 0 ? 1 : 0;
    for (std::int64_t l = 0; l < num_layers(); ++l)
      layer.insert(layer.end(), static_cast<std::size_t>(layer_size(l)), static_cast<std::int32_t>(l) + shift);
    if (include_output)
      layer.insert(layer.end(), static_cast<std::size_t>(layer_out.out_features()),
                   static_cast<std::int32_t>(num_layers()) + shift);
    Graph g(static_cast<std::int64_t>(layer.size()), std::move(edges), true);
    g.sort_edges();
    return LayeredGraph::with_layers(g, std::move(layer));
  }

  /// The same network with all edges in one CSR, values and optimizer slots moved; with layer norm, with packed layers.
  void pack() {
    options_.store = storage::packed;
    if (layers_hidden || options_.use_layer_norm || num_layers() == 0) return;
    std::vector<std::vector<MaskedLinearLayer>> by_target(static_cast<std::size_t>(num_layers()));
    std::size_t skip = 0;
    for (std::size_t t = 1; t < by_target.size(); ++t)
      for (const std::int32_t s : structure_->sources[t]) {
        by_target[t].push_back(s + 1 == static_cast<std::int32_t>(t) ? layers_main_hidden[t - 1]
                                                                     : layers_skip_hidden[skip++]);
        by_target[t].back().pack();
      }
    join(by_target);
    layers_main_hidden.clear();
    layers_skip_hidden.clear();
  }
  /// The same network with one masked layer per pair of layers in full storage. Throws where joint: its vertices have
  /// no sum per source layer.
  void unpack() {
    check(!options_.joint, "unpack: a joint network has no form by pairs of layers (joint)");
    options_.store = storage::full;
    if (!layers_hidden) return;
    part();
    layers_hidden.reset();
  }

  /// New initial values, drawn as at construction; connections on again as in the layers' reset_parameters.
  friend void reset_parameters(MaskedDeepDAN& m, Rng& rng, bool keep_mask) {
    each<MaskedLinearLayer>(m, [&](MaskedLinearLayer& layer) { layer.reset_parameters(rng, keep_mask); });
    if (m.layers_hidden) m.initialise(rng);
  }

  static auto fields(auto& m) {
    return std::tuple{Field{"layer_first", m.layer_first},
                      Field{"layers_main_hidden", m.layers_main_hidden},
                      Field{"layer_normalizations", m.layer_normalizations},
                      Field{"layers_skip_hidden", m.layers_skip_hidden},
                      Field{"layers_hidden", m.layers_hidden},
                      Field{"layer_out", m.layer_out}};
  }

 private:
  /// A source and a target layer.
  struct Pair {
    std::int32_t source, target;
  };
  /// What never changes: the layers, and which of them are connected.
  struct Structure {
    std::vector<std::int32_t> first;                 // vertex of every layer, and the end
    std::vector<Vertex> place;                       // of every vertex in the graph
    std::vector<std::vector<std::int32_t>> sources;  // of every layer: the layers that feed it, ascending
    std::shared_ptr<const DagWiring> wiring;

    Structure(const LayeredGraph& g, const MaskedDeepDANOptions& options) {
      check(g.vertex_count() > 0, "MaskedDeepDAN: the structure needs at least one vertex (0)");
      check(!(options.joint && (options.use_layer_norm || options.store == storage::full)),
            "MaskedDeepDAN: joint needs packed storage without layer norm (",
            options.use_layer_norm ? "layer norm" : "full storage", ")");
      for (const Edge& e : g.graph().edges())
        check(e.source != e.target, "MaskedDeepDAN: a vertex cannot feed itself (", g.id(e.source), ")");
      const LayerIndex& index = g.index();
      first = index.start;
      place = index.order;
      sources.resize(static_cast<std::size_t>(index.layer_count()));
      for (std::size_t l = 1; l < sources.size(); ++l) sources[l].push_back(static_cast<std::int32_t>(l) - 1);
      for (const LayerConnection& c : index.connections)
        if (c.source_layer + 1 < c.target_layer) sources[c.target_layer].push_back(c.source_layer);
      for (auto& list : sources) std::sort(list.begin(), list.end());

      auto w = std::make_shared<DagWiring>();
      w->inputs = first[1];
      w->vertices = g.vertex_count();
      if (!options.joint) {
        w->row_start.reserve(static_cast<std::size_t>(w->vertices - w->inputs) + 1);
        w->row_start.push_back(0);
        for (std::size_t l = 1; l < sources.size(); ++l)
          for (std::int32_t v = first[l]; v < first[l + 1]; ++v) {
            const std::int64_t rows = w->row_start.back() + static_cast<std::int64_t>(sources[l].size());
            check(rows < std::numeric_limits<std::int32_t>::max(), "MaskedDeepDAN: too many branches (", rows, ")");
            w->row_start.push_back(static_cast<std::int32_t>(rows));
          }
      }
      activations(g, options, *w);
      if (options.all_sinks) {
        std::vector<char> feeds(static_cast<std::size_t>(w->vertices), 0);
        for (const Edge& e : g.graph().edges()) feeds[e.source] = 1;
        for (std::size_t v = 0; v < place.size(); ++v)
          if (!feeds[place[v]]) w->output.push_back(static_cast<std::int32_t>(v));
      } else {
        for (std::int32_t v = first[first.size() - 2]; v < first.back(); ++v) w->output.push_back(v);
      }
      wiring = std::move(w);
    }
    void activations(const LayeredGraph& g, const MaskedDeepDANOptions& options, DagWiring& w) const {
      const AttributeTable& attributes = g.vertex_attributes();
      if (!attributes.contains("activation")) return;
      for (std::int64_t v = w.inputs; v < w.vertices; ++v) {
        const std::string name = attributes.get<std::string>("activation", place[v]).value_or("relu");
        const std::array<std::string_view, 4> known{"none", "relu", "tanh", "sigmoid"};
        const auto found = std::find(known.begin(), known.end(), name);
        check(found != known.end(), "MaskedDeepDAN: activations are none, relu, tanh and sigmoid (", name, ")");
        const auto f = static_cast<Activation>(found - known.begin());
        if (f == Activation::relu && w.activation.empty()) continue;
        check(options.joint, "MaskedDeepDAN: activations other than relu need a joint network (", name, ")");
        w.activation.resize(static_cast<std::size_t>(w.vertices - w.inputs), Activation::relu);
        w.activation[v - w.inputs] = f;
      }
    }
  };

  MaskedDeepDAN(std::int64_t size_input, std::int64_t size_output, const MaskedDeepDANOptions& options,
                std::shared_ptr<const Structure> structure, Rng& rng)
      : layer_first(wired(size_input, structure->first[1], options, options.input_wiring, rng)),
        layer_out(wired(static_cast<std::int64_t>(structure->wiring->output.size()), size_output, options,
                        options.output_wiring, rng)),
        options_(options),
        structure_(std::move(structure)) {}

  static MaskedLinearLayer wired(std::int64_t in, std::int64_t out, const MaskedDeepDANOptions& options,
                                 const std::optional<Mask>& wiring, Rng& rng) {
    const bool part = wiring && !wiring->is_full();
    if (wiring)
      check(wiring->shape() == Shape{out, in}, "MaskedDeepDAN: wiring and network differ in shape (", wiring->shape(),
            " and ", Shape{out, in}, ")");
    if (!part || options.store == storage::full) {
      MaskedLinearLayer layer(in, out, rng);
      if (part) layer.set_mask(*wiring);
      return layer;
    }
    const float bound = in == 0 ? 0 : 1 / std::sqrt(static_cast<float>(in));
    return {*wiring, Tensor::uniform({wiring->nnz()}, -bound, bound, rng), Tensor::uniform({out}, -bound, bound, rng)};
  }

  /// The hidden layers of a graph: its edges as rows of sources, sorted since sources are visited in their order.
  void build(const LayeredGraph& g, Rng& rng) {
    const LayerIndex& index = g.index();
    const std::vector<std::int32_t>& start = structure_->first;
    std::vector<std::int32_t> number(static_cast<std::size_t>(g.vertex_count()));
    for (std::size_t v = 0; v < number.size(); ++v) number[index.order[v]] = static_cast<std::int32_t>(v);
    const Adjacency after = successors(g.graph());
    std::vector<std::int32_t> begin(number.size() + 1, 0), col(g.graph().edges().size());
    for (const Edge& e : g.graph().edges()) ++begin[number[e.target] + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<std::int32_t> next(begin.begin(), begin.end() - 1);
    for (std::size_t u = 0; u < number.size(); ++u)
      for (const Vertex v : after.of(index.order[u])) col[next[number[v]]++] = static_cast<std::int32_t>(u);

    if (options_.store == storage::packed && !options_.use_layer_norm) {
      const DagWiring& w = *wiring();
      std::vector<std::int32_t> rows{0};
      rows.reserve(static_cast<std::size_t>(w.rows()) + 1);
      for (std::int64_t t = 1; t < num_layers(); ++t)
        for (std::int32_t v = start[t]; v < start[t + 1]; ++v) {
          if (w.joint()) {
            rows.push_back(begin[v + 1]);
            continue;
          }
          std::int32_t e = begin[v];
          for (const std::int32_t s : structure_->sources[t]) {
            while (e < begin[v + 1] && col[e] < start[s + 1]) ++e;
            rows.push_back(e);
          }
        }
      const Mask mask = Mask::from_csr(w.rows(), w.vertices, rows, col);
      layers_hidden.emplace(mask, Tensor::zeros({mask.nnz()}), Tensor::zeros({mask.rows()}), true);
      initialise(rng);
      return;
    }
    for (std::int64_t t = 1; t < num_layers(); ++t)
      for (const std::int32_t s : structure_->sources[t]) {
        std::vector<Mask::Edge> edges;
        for (std::int32_t v = first(t); v < first(t + 1); ++v)
          for (std::int32_t e = begin[v]; e < begin[v + 1]; ++e) {
            const std::int32_t u = col[e];
            if (u >= first(s) && u < first(s + 1)) edges.emplace_back(v - first(t), u - first(s));
          }
        MaskedLinearLayer layer(layer_size(s), layer_size(t), {.store = options_.store}, rng);
        layer.set_mask(Mask::from_edges(layer_size(t), layer_size(s), edges));
        if (options_.degree_aware) {
          Tensor w = Tensor::zeros(layer.weight.shape());
          const Draw draw = rng.draw();
          for (std::size_t k = 0; k < edges.size(); ++k) {
            const auto v = static_cast<std::size_t>(first(t) + edges[k].first);
            const float bound = degree_bound(begin[v + 1] - begin[v]), value = draw.uniform(k, -bound, bound);
            if (layer.packed())
              w(static_cast<std::int64_t>(k)) = value;
            else
              w(edges[k].first, edges[k].second) = value;
          }
          layer.weight.set_value(std::move(w));
          layer.bias->set_value(Tensor::zeros({layer_size(t)}));
        }
        (s + 1 == t ? layers_main_hidden : layers_skip_hidden).push_back(std::move(layer));
      }
    if (options_.use_layer_norm)
      for (std::int64_t l = 0; l < num_layers(); ++l) layer_normalizations.emplace_back(layer_size(l));
  }

  static float degree_bound(std::int32_t edges) { return std::sqrt(6 / static_cast<float>(std::max(1, edges))); }
  /// Values of layers_hidden: PyTorch's U(±1/√n) with n the size of the source layer, or where joint the edges of the
  /// vertex; degree-aware as the options say.
  void initialise(Rng& rng) {
    const Mask mask = layers_hidden->mask();
    const DagWiring& w = *wiring();
    const auto start = mask.row_start();
    const Draw draw = rng.draw(), draw_bias = rng.draw();
    Tensor values = Tensor::empty({mask.nnz()}), bias = Tensor::zeros({mask.rows()});
    std::int64_t k = 0;
    for (std::int64_t t = 1; t < num_layers(); ++t)
      for (std::int32_t v = first(t); v < first(t + 1); ++v, ++k) {
        const std::int32_t edges = start[w.row_of(k + 1)] - start[w.row_of(k)];
        for (std::int64_t r = w.row_of(k); r < w.row_of(k + 1); ++r) {
          const std::int64_t n = w.joint() ? std::max(1, edges) : layer_size(structure_->sources[t][r - w.row_of(k)]);
          const float bound = options_.degree_aware ? degree_bound(edges) : 1 / std::sqrt(static_cast<float>(n));
          for (std::int32_t e = start[r]; e < start[r + 1]; ++e)
            values(e) = draw.uniform(static_cast<std::uint64_t>(e), -bound, bound);
          if (!options_.degree_aware) bias(r) = draw_bias.uniform(static_cast<std::uint64_t>(r), -bound, bound);
        }
      }
    layers_hidden->weight.set_value(std::move(values));
    layers_hidden->bias->set_value(std::move(bias));
    layers_hidden->weight.clear_slots();
    layers_hidden->bias->clear_slots();
  }

  std::int32_t first(std::int64_t layer) const { return structure_->first[layer]; }
  Pair pair_of(std::int64_t source, std::int64_t target) const {
    layer_size(source);
    layer_size(target);
    const auto& list = structure_->sources[target];
    check(std::find(list.begin(), list.end(), source) != list.end(),
          "MaskedDeepDAN: the structure has no connection between the layers (", source, " and ", target, ")");
    return {static_cast<std::int32_t>(source), static_cast<std::int32_t>(target)};
  }
  /// The masked layer of a pair, null where all are one.
  const MaskedLinearLayer* layer_of(Pair pair) const {
    if (layers_hidden) return nullptr;
    if (pair.source + 1 == pair.target) return &layers_main_hidden[pair.target - 1];
    std::size_t skip = 0;
    for (std::int32_t t = 1;; ++t)
      for (const std::int32_t s : structure_->sources[t]) {
        if (t == pair.target && s == pair.source) return &layers_skip_hidden[skip];
        skip += s + 1 != t;
      }
  }
  /// The branch of vertex r of a pair's target layer.
  std::int32_t row_of(Pair pair, std::int64_t r) const {
    const DagWiring& w = *wiring();
    const std::int64_t k = first(pair.target) + r - w.inputs;
    const auto& list = structure_->sources[pair.target];
    const auto at = w.joint() ? 0 : std::find(list.begin(), list.end(), pair.source) - list.begin();
    return static_cast<std::int32_t>(w.row_of(k) + at);
  }
  /// Calls f(branch, place in target layer, place in source layer) for the edges of a pair.
  template <class F>
  void for_each_edge(Pair pair, F&& f) const {
    if (const MaskedLinearLayer* layer = layer_of(pair)) {
      layer->mask().for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
        f(-1, static_cast<std::int32_t>(r), static_cast<std::int32_t>(c));
      });
      return;
    }
    const Mask mask = layers_hidden->mask();
    const auto start = mask.row_start(), col = mask.col();
    for (std::int32_t r = 0; r < first(pair.target + 1) - first(pair.target); ++r) {
      const std::int32_t row = row_of(pair, r);
      for (std::int32_t e = start[row]; e < start[row + 1]; ++e)
        if (const std::int32_t u = col[e]; u >= first(pair.source) && u < first(pair.source + 1))
          f(row, r, u - first(pair.source));
    }
  }

  /// Calls f(pair's number, row within it, branch) for all branches in order; `number` counts pairs by target, then
  /// source.
  template <class F>
  void for_each_branch(F&& f) const {
    std::int32_t row = 0;
    std::size_t number = 0;
    for (std::int64_t t = 1; t < num_layers(); ++t) {
      const auto& list = structure_->sources[t];
      for (std::int64_t r = 0; r < layer_size(t); ++r)
        for (std::size_t k = 0; k < list.size(); ++k) f(number + k, r, row++);
      number += list.size();
    }
  }
  /// All packed layers as one. Values and slots of the same name move together.
  void join(const std::vector<std::vector<MaskedLinearLayer>>& by_target) {
    std::vector<const MaskedLinearLayer*> layers;
    std::vector<Mask> masks;
    std::vector<std::int32_t> source;
    for (std::size_t t = 1; t < by_target.size(); ++t)
      for (std::size_t k = 0; k < by_target[t].size(); ++k) {
        layers.push_back(&by_target[t][k]);
        masks.push_back(by_target[t][k].mask());
        source.push_back(first(structure_->sources[t][k]));
      }
    std::vector<std::int32_t> rows{0}, col;
    std::vector<std::pair<std::size_t, std::int32_t>> from;  // layer and edge of every edge
    std::vector<std::pair<std::size_t, std::int64_t>> from_row;
    for_each_branch([&](std::size_t layer, std::int64_t r, std::int32_t) {
      const auto start = masks[layer].row_start();
      for (std::int32_t e = start[r]; e < start[r + 1]; ++e) {
        col.push_back(source[layer] + masks[layer].col()[e]);
        from.emplace_back(layer, e);
      }
      rows.push_back(static_cast<std::int32_t>(col.size()));
      from_row.emplace_back(layer, r);
    });
    const Mask mask = Mask::from_csr(wiring()->rows(), wiring()->vertices, rows, col);
    layers_hidden.emplace(mask, Tensor::zeros({mask.nnz()}), Tensor::zeros({mask.rows()}), true);
    const auto fill = [&](Param& to, const auto& origin, auto&& param_of) {
      const auto copy = [&](Tensor& into, auto&& of) {
        for (std::size_t k = 0; k < origin.size(); ++k)
          if (const Tensor* t = of(param_of(*layers[origin[k].first])))
            into(static_cast<std::int64_t>(k)) = (*t)(origin[k].second);
      };
      copy(to.mutable_value(), [](const Param& p) { return &p.value(); });
      for (const MaskedLinearLayer* layer : layers)
        for (const Param::Slot& s : param_of(*layer).slots()) {
          if (to.has_slot(s.name)) continue;
          copy(to.slot(s.name), [&](const Param& p) -> const Tensor* {
            for (const Param::Slot& own : p.slots())
              if (own.name == s.name) return &own.value;
            return nullptr;
          });
        }
    };
    fill(layers_hidden->weight, from, [](const MaskedLinearLayer& layer) -> const Param& { return layer.weight; });
    fill(*layers_hidden->bias, from_row, [](const MaskedLinearLayer& layer) -> const Param& { return *layer.bias; });
  }
  /// layers_hidden as one layer per pair, in full storage.
  void part() {
    const Mask all = layers_hidden->mask();
    struct Piece {
      std::vector<Mask::Edge> edges;
      std::vector<std::int32_t> edge, row;  // ids within layers_hidden
    };
    std::vector<Piece> pieces;
    std::vector<Pair> pairs;
    for (std::int64_t t = 1; t < num_layers(); ++t)
      for (const std::int32_t s : structure_->sources[t]) pairs.push_back({s, static_cast<std::int32_t>(t)});
    pieces.resize(pairs.size());
    for_each_branch([&](std::size_t number, std::int64_t r, std::int32_t row) {
      Piece& piece = pieces[number];
      piece.row.push_back(row);
      for (std::int32_t e = all.row_start()[row]; e < all.row_start()[row + 1]; ++e) {
        piece.edges.emplace_back(static_cast<std::int32_t>(r), all.col()[e] - first(pairs[number].source));
        piece.edge.push_back(e);
      }
    });
    for (std::size_t k = 0; k < pairs.size(); ++k) {
      const Mask mask = Mask::from_edges(layer_size(pairs[k].target), layer_size(pairs[k].source), pieces[k].edges);
      MaskedLinearLayer layer(mask, Tensor::zeros({mask.nnz()}), Tensor::zeros({mask.rows()}));
      layer.weight = layers_hidden->weight;
      remap(layer.weight, pieces[k].edge);
      layer.bias = *layers_hidden->bias;
      remap(*layer.bias, pieces[k].row);
      layer.unpack();
      (pairs[k].source + 1 == pairs[k].target ? layers_main_hidden : layers_skip_hidden).push_back(std::move(layer));
    }
  }

  MaskedDeepDANOptions options_;
  std::shared_ptr<const Structure> structure_;
};

}  // namespace deepstruct
