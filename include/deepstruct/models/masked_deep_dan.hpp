// MaskedDeepDAN: a layered directed acyclic graph becomes a trainable network with skip connections.
#pragma once

#include "../nn/layers.hpp"
#include "dan_keep.hpp"
#include "dan_storage.hpp"

namespace deepstruct {

/// A network whose hidden vertices and connections are those of a graph: with h_0 = relu(layer_first(x)), for a vertex
/// v
///   h_v = Σ_source layers relu(Σ_edges w·h_u + b),   y = layer_out(h of the last layer)
/// so every pair of connected layers has weights, a bias and a ReLU of its own, as in Python deepstruct; or where joint
/// h_v = f(Σ_edges w·h_u + b).   x [batch, …] → y [batch, out]
///
/// Packed, the default, all of it is one masked layer `layers_hidden` of branches, rows (vertex, source layer), which
/// runs in one op; full, it is one masked layer per pair of layers, with the parameters of Python deepstruct:
/// layer_first, layers_main_hidden.0, …, layer_normalizations.0, …, layers_skip_hidden.0, …, layer_out. pack() and
/// unpack() convert. Vertices are numbered layer by layer, in the order of structure.index().order. Layer norm works on
/// layers, so it keeps them apart also when packed. layer_first and layer_out keep full storage as long as they are
/// fully connected.
class MaskedDeepDAN {
 public:
  /// From the inputs to the first layer of vertices, and from the last layer (or all sinks) to the outputs; between
  /// them either layers_hidden or the layers by pairs.
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
      : MaskedDeepDAN(size_input.size(), size_output, options, std::make_shared<const Layers>(structure, options),
                      rng) {
    const Mask mask = layers_->branches(structure);
    layers_hidden.emplace(mask, Tensor::zeros({mask.nnz()}), Tensor::zeros({mask.rows()}), true);
    draw_initial_values(rng);
    if (options.store == storage::full || options.use_layer_norm) part(options.store, &rng);
    if (options.use_layer_norm)
      for (std::int64_t l = 0; l < num_layers(); ++l) layer_normalizations.emplace_back(layer_size(l));
  }
  MaskedDeepDAN(std::int64_t size_input, std::int64_t size_output, const LayeredGraph& structure,
                MaskedDeepDANOptions options = {}, Rng& rng = default_rng())
      : MaskedDeepDAN(Shape{size_input}, size_output, structure, options, rng) {}

  /// y of the equations above.   x [batch, …] → [batch, out]
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
      for (const std::int32_t source : layers_->sources[l])
        if (source != l - 1) sum = sum + layers_skip_hidden[skip++](h[source], Activation::relu);
      h.push_back(sum);
    }
    return layer_out(options_.all_sinks ? detail::pick_vertices(cat(h, 1), *layers_->picks) : h.back());
  }

  const MaskedDeepDANOptions& options() const { return options_; }
  /// Number of layers of vertices, without inputs and outputs.
  std::int64_t num_layers() const { return layers_->count(); }
  /// Number of vertices of a layer.
  std::int64_t layer_size(std::int64_t layer) const {
    check(layer >= 0 && layer < num_layers(), "MaskedDeepDAN: no such layer (", layer, " of ", num_layers(), ")");
    return layers_->first[layer + 1] - layers_->first[layer];
  }
  /// Layers that the structure connects, every layer with the one before it too: by target, then source.
  std::vector<detail::LayerPair> connections() const { return layers_->pairs(); }
  /// What layered_dag knows of the network.
  const std::shared_ptr<const DagWiring>& wiring() const { return layers_->wiring; }

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
      if (!before.contains(r, c))
        added.emplace_back(layers_->row_of(pair, r), first(source) + static_cast<std::int32_t>(c));
    });
    layers_hidden->set_mask(layers_hidden->mask().edit(added, removed));
  }

  /// The structure as it is now, after pruning: vertices numbered layer by layer, in the layers that they have, with
  /// their "activation" where they chose one. With `include_input` the inputs are a layer before all others, with
  /// `include_output` the outputs one behind.
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
      for (const std::int32_t s : layers_->sources[t])
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
    for (std::size_t k = 0; k < wiring()->activation.size(); ++k)
      g.vertex_attributes().set(
          "activation", inputs + wiring()->inputs + static_cast<std::int64_t>(k),
          std::string(detail::activation_names[static_cast<std::size_t>(wiring()->activation[k])]));
    return LayeredGraph::with_layers(g, std::move(layer));
  }

  /// The same network with all edges in one CSR, values and optimizer slots moved; with layer norm, with packed layers.
  void pack() {
    if (device_of(*this) != Device::cpu) return on_host(*this, [](MaskedDeepDAN& host) { host.pack(); });
    options_.store = storage::packed;
    for (MaskedLinearLayer* layer : masked_layers()) layer->pack();
    if (layers_hidden || options_.use_layer_norm) return;
    std::vector<MaskedLinearLayer> all;
    for (const Pair& p : layers_->pairs()) all.push_back(*layer_of(p));
    layers_hidden = detail::joined(*layers_, all);
    layers_main_hidden.clear();
    layers_skip_hidden.clear();
  }
  /// The same network with one masked layer per pair of layers in full storage. Throws where joint: its vertices have
  /// no sum per source layer.
  void unpack() {
    check(!options_.joint, "unpack: a joint network has no form by pairs of layers (joint)");
    if (device_of(*this) != Device::cpu) return on_host(*this, [](MaskedDeepDAN& host) { host.unpack(); });
    options_.store = storage::full;
    if (layers_hidden) part(storage::full, nullptr);
    for (MaskedLinearLayer* layer : masked_layers()) layer->unpack();
  }

  /// Adds to the bias of every branch.   by [branches]
  void shift_biases(std::span<const double> by) {
    check(static_cast<std::int64_t>(by.size()) == wiring()->rows(), "shift_biases: needs a number per branch (",
          by.size(), " for ", wiring()->rows(), ")");
    if (layers_hidden) return detail::add_to_bias(*layers_hidden, by);
    const std::vector<Pair> pairs = layers_->pairs();
    layers_->for_each_branch([&](std::size_t number, std::int64_t r, std::int32_t branch) {
      if (by[branch] == 0) return;
      float& b = const_cast<MaskedLinearLayer*>(layer_of(pairs[number]))->bias->mutable_value()(r);
      b = static_cast<float>(double{b} + by[branch]);
    });
  }
  /// The network of some of its vertices, which ascend; edges of others vanish, what stays moves with its slots. Layers
  /// that are empty close up, and pairs of layers without an edge go, unless they are main connections: what their
  /// branches still gave, Σ relu(b), goes into the biases of those that read it. Where layers are kept apart and a
  /// layer cannot close up (with layer norm, or in full storage without a connection across it), its first vertex
  /// stays. Returns the vertices that stay. O(V + E). Throws if vertices stay, but none that feeds the output.
  std::vector<std::int32_t> keep(std::span<const std::int32_t> vertices) {
    detail::check_units("MaskedDeepDAN::keep", vertices, wiring()->vertices);
    const auto cut = cut_to(vertices);
    check(vertices.empty() || !cut.layers->wiring->output.empty(),
          "MaskedDeepDAN::keep: a vertex that feeds the output must stay (0 of ", wiring()->output.size(), ")");
    if (cut.nothing(*layers_)) return cut.vertices;
    move_constants(cut);
    const auto old = layers_;
    if (layers_hidden) {
      detail::keep_branches(*layers_hidden, *old, cut);
    } else {
      std::vector<MaskedLinearLayer> main, skip;
      const std::vector<Pair> pairs = old->pairs(), next = cut.layers->pairs();
      for (std::size_t k = 0; k < next.size(); ++k) {
        auto& layer = const_cast<MaskedLinearLayer&>(*layer_of(pairs[cut.origin[k]]));
        const auto rows = cut.within(*old, static_cast<std::size_t>(next[k].target)),
                   cols = cut.within(*old, static_cast<std::size_t>(next[k].source));
        if (cut.emptied[k])
          layer.rewire(Mask::zeros(static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(cols.size())), {},
                       rows);
        else
          layer.keep(rows, cols);
        (next[k].source + 1 == next[k].target ? main : skip).push_back(std::move(layer));
      }
      layers_main_hidden = std::move(main);
      layers_skip_hidden = std::move(skip);
      std::vector<LayerNorm> norms;
      for (std::size_t l = 0; l < cut.layer.size() && options_.use_layer_norm; ++l) {
        norms.push_back(std::move(layer_normalizations[cut.layer[l]]));
        for (Param* p : {&norms.back().weight, &norms.back().bias}) deepstruct::keep(*p, 0, cut.within(*old, l));
      }
      layer_normalizations = std::move(norms);
    }
    layer_first.keep(cut.within(*old, 0), detail::all_units(layer_first.in_features()));
    std::vector<std::int32_t> read;  // places among the outputs
    for (std::size_t k = 0; k < old->wiring->output.size(); ++k)
      if (cut.place_of(old->wiring->output[k]) >= 0) read.push_back(static_cast<std::int32_t>(k));
    layer_out.keep(detail::all_units(layer_out.out_features()), read);
    layers_ = cut.layers;
    if (options_.input_wiring) options_.input_wiring = layer_first.mask();
    if (options_.output_wiring) options_.output_wiring = layer_out.mask();
    return cut.vertices;
  }

  /// New values of the hidden connections that exist, drawn as at construction: PyTorch's U(±1/√n) with n the size of
  /// the source layer, or where joint the edges of the vertex; degree-aware as the options say. Slots are forgotten.
  void draw_initial_values(Rng& rng = default_rng()) {
    if (device_of(*this) != Device::cpu)
      return on_host(*this, [&](MaskedDeepDAN& host) { host.draw_initial_values(rng); });
    const auto bound = [&](std::int64_t edges, std::int64_t source_size) {
      const std::int64_t n =
          wiring()->joint() || options_.degree_aware ? std::max<std::int64_t>(1, edges) : source_size;
      return std::sqrt((options_.degree_aware ? 6.0f : 1.0f) / static_cast<float>(n));
    };
    DrawInOrder draw(rng.host_draw()), draw_bias(rng.host_draw());
    if (!layers_hidden) return draw_by_pairs(bound, draw, draw_bias);
    const DagWiring& w = *wiring();
    const Mask mask = layers_hidden->mask();
    const auto start = mask.row_start();
    Tensor values = Tensor::empty({mask.nnz()}), bias = Tensor::zeros({mask.rows()});
    std::int64_t k = 0;
    for (std::int64_t t = 1; t < num_layers(); ++t) {
      std::vector<float> by_source;  // bounds that all vertices of the layer have in common
      if (!w.joint() && !options_.degree_aware)
        for (const std::int32_t source : layers_->sources[t]) by_source.push_back(bound(0, layer_size(source)));
      for (std::int32_t v = first(t); v < first(t + 1); ++v, ++k) {
        const std::int64_t row = w.row_of(k), end = w.row_of(k + 1);
        const float own = by_source.empty() ? bound(start[end] - start[row], 0) : 0;
        for (std::int64_t r = row; r < end; ++r) {
          const float most = by_source.empty() ? own : by_source[r - row];
          for (std::int32_t e = start[r]; e < start[r + 1]; ++e)
            values(e) = draw.uniform(static_cast<std::uint64_t>(e), -most, most);
          if (!options_.degree_aware) bias(r) = draw_bias.uniform(static_cast<std::uint64_t>(r), -most, most);
        }
      }
    }
    layers_hidden->weight = Param(std::move(values));
    layers_hidden->bias = Param(std::move(bias));
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
  using Layers = detail::DanLayers;
  using Pair = detail::LayerPair;

  MaskedDeepDAN(std::int64_t size_input, std::int64_t size_output, const MaskedDeepDANOptions& options,
                std::shared_ptr<const Layers> layers, Rng& rng)
      : layer_first(wired(size_input, layers->first[1], options, options.input_wiring, rng)),
        layer_out(wired(static_cast<std::int64_t>(layers->wiring->output.size()), size_output, options,
                        options.output_wiring, rng)),
        options_(options),
        layers_(std::move(layers)) {}

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
    return {*wiring, Tensor::uniform({wiring->nnz()}, -bound, bound, rng), Tensor::uniform({out}, -bound, bound, rng),
            true};
  }

  /// draw_initial_values of layers by pairs; what full storage remembers behind the masks stays.
  void draw_by_pairs(const auto& bound, DrawInOrder& draw, DrawInOrder& draw_bias) {
    std::vector<std::int64_t> edges(static_cast<std::size_t>(wiring()->vertices), 0);
    const std::vector<Pair> pairs = layers_->pairs();
    for (const Pair& p : pairs)
      for_each_edge(p, [&](std::int32_t, std::int32_t r, std::int32_t) { ++edges[first(p.target) + r]; });
    std::uint64_t drawn = 0, drawn_bias = 0;
    for (const Pair& p : pairs) {
      auto& layer = const_cast<MaskedLinearLayer&>(*layer_of(p));
      Tensor w = layer.weight.value(), b = Tensor::zeros({layer_size(p.target)});
      layer.mask().for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
        const float most = bound(edges[first(p.target) + r], layer_size(p.source)),
                    x = draw.uniform(drawn++, -most, most);
        (layer.packed() ? w(e) : w(r, c)) = x;
      });
      for (std::int64_t r = 0; r < b.size() && !options_.degree_aware; ++r) {
        const float most = bound(edges[first(p.target) + r], layer_size(p.source));
        b(r) = draw_bias.uniform(drawn_bias++, -most, most);
      }
      layer.weight = Param(std::move(w));
      layer.bias = Param(std::move(b));
    }
  }

  std::vector<MaskedLinearLayer*> masked_layers() {
    std::vector<MaskedLinearLayer*> all{&layer_first, &layer_out};
    for (MaskedLinearLayer& layer : layers_main_hidden) all.push_back(&layer);
    for (MaskedLinearLayer& layer : layers_skip_hidden) all.push_back(&layer);
    if (layers_hidden) all.push_back(&*layers_hidden);
    return all;
  }
  std::int32_t first(std::int64_t layer) const { return layers_->first[layer]; }
  Pair pair_of(std::int64_t source, std::int64_t target) const {
    layer_size(source);
    layer_size(target);
    const auto& list = layers_->sources[target];
    check(std::find(list.begin(), list.end(), source) != list.end(),
          "MaskedDeepDAN: the structure has no connection between the layers (", source, " and ", target, ")");
    return {static_cast<std::int32_t>(source), static_cast<std::int32_t>(target)};
  }
  /// The masked layer of a pair, null where all are one.
  const MaskedLinearLayer* layer_of(Pair pair) const {
    if (layers_hidden) return nullptr;
    if (pair.source + 1 == pair.target) return &layers_main_hidden[pair.target - 1];
    const auto& list = layers_->sources[pair.target];
    const auto before =
        std::count_if(list.begin(), list.end(), [&](std::int32_t source) { return source < pair.source; });
    return &layers_skip_hidden[layers_->first_skip[pair.target] + before];
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
      const std::int32_t row = layers_->row_of(pair, r);
      for (std::int32_t e = start[row]; e < start[row + 1]; ++e)
        if (col[e] >= first(pair.source) && col[e] < first(pair.source + 1)) f(row, r, col[e] - first(pair.source));
    }
  }

  /// The layers of some vertices.
  detail::DanCut cut_to(std::span<const std::int32_t> vertices) const {
    std::vector<char> used;
    if (layers_hidden) {
      used = detail::used_pairs(*layers_, layers_hidden->mask(), vertices);
    } else {
      const std::vector<std::int32_t> place = detail::places_of(vertices, wiring()->vertices);
      for (const Pair& p : layers_->pairs()) {
        used.push_back(0);
        for_each_edge(p, [&](std::int32_t, std::int32_t r, std::int32_t c) {
          used.back() |= char(place[first(p.target) + r] >= 0 && place[first(p.source) + c] >= 0);
        });
      }
    }
    using Link = detail::DanLink;
    const bool is_packed = options_.store == storage::packed;
    return {*layers_, vertices, used,
            layers_hidden             ? Link::any
            : options_.use_layer_norm ? (is_packed ? Link::unused : Link::none)
                                      : (is_packed ? Link::any : Link::existing)};
  }
  /// What branches without edges gave to vertices, if their pair is to go, into the biases of those who read these.
  void move_constants(const detail::DanCut& cut) {
    if (wiring()->joint()) return;
    const std::vector<Pair> pairs = layers_->pairs();
    const std::vector<std::int32_t> place = detail::places_of(cut.vertices, wiring()->vertices);
    std::vector<double> constant(place.size(), 0);
    bool any = false;
    layers_->for_each_branch([&](std::size_t number, std::int64_t r, std::int32_t branch) {
      const std::int32_t v = first(pairs[number].target) + static_cast<std::int32_t>(r);
      if (!cut.dropped[number] || place[v] < 0) return;
      const float b = layers_hidden ? layers_hidden->bias->value()(branch) : layer_of(pairs[number])->bias->value()(r);
      if (b > 0) constant[v] += double{b}, any = true;
    });
    if (!any) return;
    const std::span<const double> all(constant);
    const auto of_layer = [&](std::int32_t l) {
      return all.subspan(static_cast<std::size_t>(first(l)), static_cast<std::size_t>(first(l + 1) - first(l)));
    };
    if (layers_hidden) detail::add_to_bias(*layers_hidden, detail::times(*layers_hidden, all));
    if (!layers_hidden)
      for (const Pair& p : pairs) {
        auto& layer = const_cast<MaskedLinearLayer&>(*layer_of(p));
        detail::add_to_bias(layer, detail::times(layer, of_layer(p.source)));
      }
    std::vector<double> read;
    for (const std::int32_t v : wiring()->output) read.push_back(constant[v]);
    detail::add_to_bias(layer_out, detail::times(layer_out, read));
  }
  /// Layers by pairs instead of layers_hidden; in full storage, where weights behind the masks are drawn as PyTorch's
  /// if there is an Rng and else are 0.
  void part(storage store, Rng* behind) {
    std::size_t k = 0;
    const std::vector<Pair> pairs = layers_->pairs();
    for (MaskedLinearLayer& layer : detail::by_pairs(*layers_, *layers_hidden, store == storage::packed)) {
      if (store == storage::full) {
        layer.unpack();
        if (behind) {
          Tensor w = default_weight({layer.out_features(), layer.in_features()}, *behind);
          layer.mask().for_each(
              [&](std::int32_t, std::int64_t r, std::int64_t c) { w(r, c) = layer.weight.value()(r, c); });
          layer.weight.set_value(std::move(w));
        }
      }
      (pairs[k].source + 1 == pairs[k].target ? layers_main_hidden : layers_skip_hidden).push_back(std::move(layer));
      ++k;
    }
    layers_hidden.reset();
  }

  MaskedDeepDANOptions options_;
  std::shared_ptr<const Layers> layers_;
};

}  // namespace deepstruct
