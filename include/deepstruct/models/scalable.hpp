// ScalableDeepFFN and ScalableDAN: families of networks of one form in any size.
#pragma once

#include <map>

#include "masked_deep_dan.hpp"
#include "masked_deep_ffn.hpp"

namespace deepstruct {

namespace detail {

inline void check_proportions(const char* op, std::span<const double> proportions, double tolerance) {
  double sum = 0;
  for (const double p : proportions) {
    check(p >= 0, op, ": proportions must not be negative (", p, ")");
    sum += p;
  }
  check(std::fabs(sum - 1) < tolerance, op, ": proportions must sum to 1 (", sum, ")");
}
/// A scale is an integer below 2³¹, so that sizes are exact in double and fit a vertex.
inline void check_scale(const char* op, std::int64_t scale, std::int64_t least) {
  check(scale >= least && scale <= std::numeric_limits<std::int32_t>::max(), op, ": needs a scale of ", least,
        " to 2^31 - 1 (", scale, ")");
}

}  // namespace detail

/// Options of ScalableDeepFFN.
struct ScalableDeepFFNOptions {
  int precision = 2;                        ///< decimals that count of a proportion, 1 … 9
  double entropy_similarity_epsilon = 0.1;  ///< families equal if their divergence is less, in nats
};

/// Feed-forward networks whose hidden layers keep their proportions p_k: at scale s layer k has
///   max(1, ⌊s·round(p_k)⌋) neurons,
/// p_k rounded to `precision` decimals, half to even. So sizes need not sum to s, as in Python deepstruct.
class ScalableDeepFFN {
 public:
  /// One proportion per hidden layer, none negative. Throws unless they sum to 1 within 0.001.
  explicit ScalableDeepFFN(std::vector<double> proportions, ScalableDeepFFNOptions options = {})
      : proportions_(std::move(proportions)), options_(options) {
    check(!proportions_.empty(), "ScalableDeepFFN: needs at least one proportion (0)");
    detail::check_proportions("ScalableDeepFFN", proportions_, 0.001);
    check(options.precision >= 1 && options.precision <= 9, "ScalableDeepFFN: needs a precision of 1 to 9 decimals (",
          options.precision, ")");
    check(options.entropy_similarity_epsilon > 0, "ScalableDeepFFN: needs an epsilon above 0 (",
          options.entropy_similarity_epsilon, ")");
  }

  /// As at construction.
  const ScalableDeepFFNOptions& options() const { return options_; }
  /// The proportions as they count, rounded.
  std::vector<double> proportions() const {
    std::vector<double> rounded = proportions_;
    const auto decimals = static_cast<double>(places());
    for (double& p : rounded) p = std::nearbyint(p * decimals) / decimals;
    return rounded;
  }
  /// The width of every hidden layer at a scale, 0 ≤ scale < 2³¹.
  std::vector<std::int64_t> draw(std::int64_t scale) const {
    detail::check_scale("draw", scale, 0);
    std::vector<std::int64_t> sizes;
    for (const double p : proportions())
      sizes.push_back(static_cast<std::int64_t>(std::max(1.0, static_cast<double>(scale) * p)));
    return sizes;
  }
  /// A new network of this scale, 0 < scale < 2³¹; the rest as for MaskedDeepFFN.
  MaskedDeepFFN build(const Shape& size_input, std::int64_t size_output, std::int64_t scale,
                      MaskedDeepFFNOptions options = {}, Rng& rng = default_rng()) const {
    detail::check_scale("build", scale, 1);
    return {size_input, size_output, draw(scale), options, rng};
  }
  MaskedDeepFFN build(std::int64_t size_input, std::int64_t size_output, std::int64_t scale,
                      MaskedDeepFFNOptions options = {}, Rng& rng = default_rng()) const {
    return build(Shape{size_input}, size_output, scale, options, rng);
  }

  /// KL(p‖q) = Σ_k p_k·ln(p_k / q_k), p the proportions of this family and q those of the other (not rounded), the
  /// shorter list filled up with zeros. In nats; ∞ if q has a zero where p has none. Not symmetric.
  double entropy_similarity(const ScalableDeepFFN& other) const {
    double divergence = 0;
    for (std::size_t k = 0; k < proportions_.size(); ++k) {
      const double p = proportions_[k], q = k < other.proportions_.size() ? other.proportions_[k] : 0;
      if (p == 0) continue;
      if (q == 0) return std::numeric_limits<double>::infinity();
      divergence = std::fma(p, detail::exact_log(p) - detail::exact_log(q), divergence);
    }
    return divergence;
  }
  /// True if a.entropy_similarity(b) is below the epsilon of a, as in Python deepstruct; b == a may differ.
  friend bool operator==(const ScalableDeepFFN& a, const ScalableDeepFFN& b) {
    return a.entropy_similarity(b) < a.options_.entropy_similarity_epsilon;
  }

  /// The widths at scale 10^precision: "[50, 30, 20]".
  void write(std::ostream& out) const {
    const char* before = "[";
    for (const std::int64_t size : draw(places())) out << std::exchange(before, ", ") << size;
    out << ']';
  }
  /// What write() writes.
  std::string str() const {
    std::ostringstream out;
    write(out);
    return out.str();
  }

 private:
  /// 10^precision.
  std::int64_t places() const {
    std::int64_t power = 1;
    for (int k = 0; k < options_.precision; ++k) power *= 10;
    return power;
  }

  std::vector<double> proportions_;
  ScalableDeepFFNOptions options_;
};

/// Random proportions of the vertices, in node order: Dirichlet(100, …, 100), so all near 1/n, with variance
/// (n − 1)/(n²·(100·n + 1)), and with sum 1.
///
/// p_v = g_v / Σ g, g_v of the gamma distribution of shape 100, a sum of 100 exponential variables −ln u (Devroye,
/// "Non-Uniform Random Variate Generation", 1986, ch. XI.4). One draw, O(V), threaded. Throws if there is no vertex.
inline std::vector<double> uniform_proportions(const LayeredGraph& theme, Rng& rng = default_rng()) {
  check(theme.vertex_count() > 0, "uniform_proportions: needs at least one vertex (0)");
  std::vector<double> p(static_cast<std::size_t>(theme.vertex_count()), 0);
  const Draw draw = rng.draw();
  parallel_blocks(theme.vertex_count(), 256, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t v = first; v < last; ++v)
      for (std::int64_t k = 100 * v; k < 100 * (v + 1); ++k)
        p[v] -= detail::exact_log((static_cast<double>(draw.word(static_cast<std::uint64_t>(k))) + 0.5) * 0x1p-32);
  });
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& share : p) share /= sum;
  return p;
}

/// Proportions by the ids of the vertices, as Python deepstruct takes them, in node order. Throws unless every vertex
/// has one, and no other id.
inline std::vector<double> proportions_by_id(const LayeredGraph& theme, const std::map<std::int64_t, double>& by_id) {
  check(static_cast<std::int64_t>(by_id.size()) == theme.vertex_count(),
        "proportions_by_id: needs one proportion per vertex (", by_id.size(), " for ", theme.vertex_count(), ")");
  std::vector<double> p(by_id.size());
  for (const auto& [id, share] : by_id) p[theme.place(id)] = share;
  return p;
}

/// What becomes of a vertex of the theme whose proportion rounds to no vertex at all.
enum class EmptyBlock {
  error,     ///< throws: the network would lose a layer, or what connects two
  keep_one,  ///< it becomes one vertex
  drop       ///< it goes with its edges, and layers without a vertex close up, as in Python deepstruct
};

/// Networks on one theme: at scale s every vertex v of the theme grows into a block of
///   n_v = round(s·p_v) vertices, half to even,
/// and every edge u → v into all n_u·n_v edges between the blocks. Σ n_v need not be s.
class ScalableDAN {
 public:
  /// A grown theme.
  struct Grown {
    LayeredGraph graph;                                ///< ids 0, 1, …, block by block in the order of layers
    std::vector<std::vector<Vertex>> correspondences;  ///< of every vertex of the theme, in node order: its block
  };

  /// One proportion per vertex, in node order, none negative; without any, all are the same. See also
  /// uniform_proportions and proportions_by_id. Throws unless they sum to 1 within 1e-5, and on a theme without
  /// vertices or with a cycle or self loop.
  explicit ScalableDAN(LayeredGraph theme, std::vector<double> proportions = {}, EmptyBlock empty = EmptyBlock::error)
      : theme_(std::move(theme)), proportions_(std::move(proportions)), empty_(empty) {
    const auto n = theme_.vertex_count();
    check(n > 0, "ScalableDAN: the theme needs at least one vertex (0)");
    if (proportions_.empty()) proportions_.assign(static_cast<std::size_t>(n), 1 / static_cast<double>(n));
    check(static_cast<std::int64_t>(proportions_.size()) == n, "ScalableDAN: needs one proportion per vertex (",
          proportions_.size(), " for ", n, ")");
    detail::check_proportions("ScalableDAN", proportions_, 1e-5 + 1e-8);
    theme_.index();  // throws on a cycle
    for (const Edge& e : theme_.graph().edges())
      check(e.source != e.target, "ScalableDAN: the theme has a self loop (", theme_.id(e.source), ")");
  }

  /// The theme.
  const LayeredGraph& structure() const { return theme_; }
  /// Of every vertex, in node order.
  std::span<const double> proportions() const { return proportions_; }

  /// The theme at a scale, 0 < scale < 2³¹. Vertices have the attributes of those they grew from; where the theme's
  /// layers were given, so are these. O(V + E) of theme and result. Throws on a block without vertices unless the
  /// family allows it, and on 2³¹ vertices or edges.
  Grown grow(std::int64_t scale) const {
    detail::check_scale("grow", scale, 1);
    const LayerIndex& index = theme_.index();
    std::vector<std::int64_t> size(proportions_.size());
    std::int64_t vertices = 0, edges = 0;
    for (std::size_t v = 0; v < size.size(); ++v) {
      size[v] = static_cast<std::int64_t>(std::nearbyint(static_cast<double>(scale) * proportions_[v]));
      if (size[v] == 0 && empty_ == EmptyBlock::keep_one) size[v] = 1;
      check(size[v] > 0 || empty_ == EmptyBlock::drop, "grow: a vertex of the theme gets no vertex (",
            theme_.id(static_cast<Vertex>(v)), " with proportion ", proportions_[v], " at scale ", scale, ")");
      vertices += size[v];
    }
    check(vertices < limit, "grow: too many vertices (", vertices, ")");
    for (const Edge& e : theme_.graph().edges())
      check((edges += size[e.source] * size[e.target]) < limit, "grow: too many edges (", edges, ")");

    Grown grown;
    grown.correspondences.resize(size.size());
    std::vector<std::int32_t> origin, layer;
    std::vector<Edge> all;
    all.reserve(static_cast<std::size_t>(edges));
    const Adjacency before = predecessors(theme_.graph());
    std::int32_t last_layer = -1, layers = 0;
    for (const Vertex v : index.order) {
      std::vector<Vertex>& block = grown.correspondences[v];
      if (size[v] == 0) continue;
      if (index.layer[v] != std::exchange(last_layer, index.layer[v])) ++layers;
      block.resize(static_cast<std::size_t>(size[v]));
      std::iota(block.begin(), block.end(), static_cast<Vertex>(origin.size()));
      origin.insert(origin.end(), block.size(), v);
      layer.insert(layer.end(), block.size(), layers - 1);
      for (const Vertex u : before.of(v))
        for (const Vertex source : grown.correspondences[u])
          for (const Vertex target : block) all.push_back({source, target});
    }
    Graph g(vertices, std::move(all), true);
    g.vertex_attributes() = theme_.vertex_attributes();
    g.vertex_attributes().keep(origin);
    grown.graph = theme_.has_given_layers() ? LayeredGraph::with_layers(g, std::move(layer)) : LayeredGraph(g);
    return grown;
  }

  /// A new network of this scale, 0 < scale < 2³¹; with layer norm unless options are given that do not ask for it. To
  /// keep the graph, grow it and call model().
  MaskedDeepDAN build(const Shape& size_input, std::int64_t size_output, std::int64_t scale,
                      MaskedDeepDANOptions options = {.use_layer_norm = true}, Rng& rng = default_rng()) const {
    return model(size_input, size_output, grow(scale).graph, std::move(options), rng);
  }
  MaskedDeepDAN build(std::int64_t size_input, std::int64_t size_output, std::int64_t scale,
                      MaskedDeepDANOptions options = {.use_layer_norm = true}, Rng& rng = default_rng()) const {
    return build(Shape{size_input}, size_output, scale, std::move(options), rng);
  }
  /// The network of a graph, as build makes it.
  static MaskedDeepDAN model(const Shape& size_input, std::int64_t size_output, const LayeredGraph& structure,
                             MaskedDeepDANOptions options = {.use_layer_norm = true}, Rng& rng = default_rng()) {
    return {size_input, size_output, structure, std::move(options), rng};
  }
  static MaskedDeepDAN model(std::int64_t size_input, std::int64_t size_output, const LayeredGraph& structure,
                             MaskedDeepDANOptions options = {.use_layer_norm = true}, Rng& rng = default_rng()) {
    return model(Shape{size_input}, size_output, structure, std::move(options), rng);
  }

 private:
  static constexpr std::int64_t limit = std::numeric_limits<std::int32_t>::max();

  LayeredGraph theme_;
  std::vector<double> proportions_;
  EmptyBlock empty_;
};

}  // namespace deepstruct
