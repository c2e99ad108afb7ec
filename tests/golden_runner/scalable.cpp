// scalable: ScalableDeepFFN, ScalableDAN and uniform_proportions.
#include "families.hpp"
#include "graph.hpp"

#include "deepstruct/models/scalable.hpp"

namespace golden {

namespace {

using Ids = std::vector<std::int64_t>;

template <class T>
void scalable_same(Case& c, const std::string& what, const Json& expected, const T& got) {
  const Json json = got;
  c.expect(json == expected, what + ": expected " + expected.dump() + ", got " + json.dump());
}

/// Shapes of the parameters are those of the case, and no others.
template <class Model>
void check_parameter_shapes(Case& c, const Json& expected, const Model& model) {
  Json got = Json::object();
  ds::each_param(model, [&](const std::string& name, const ds::Param& p) {
    got[name] = Ids(p.value().shape().extents().begin(), p.value().shape().extents().end());
  });
  scalable_same(c, "parameter shapes", expected, got);
}

void check_draws(Case& c, const std::string& how, const Json& expected, const ds::ScalableDeepFFN& family) {
  scalable_same(c, how + "rounded_proportions", expected.at("rounded_proportions"), family.proportions());
  for (const Json& draw : expected.at("draws"))
    scalable_same(c, how + "draw(" + draw.at(0).dump() + ")", draw.at(1), family.draw(draw.at(0).get<std::int64_t>()));
}

void run_ffn_draw(Case& c) {
  const auto proportions = c["proportions"].get<std::vector<double>>();
  const ds::ScalableDeepFFN family(proportions);
  c.equal("precision", c["precision"].get<double>(), family.options().precision);
  check_draws(c, "", c.data(), family);
  scalable_same(c, "str", c["str"], family.str());
  check_draws(c, "precision 3, ", c["precision3"], ds::ScalableDeepFFN(proportions, {.precision = 3}));
}

/// The original throws here with any NumPy that it allows (np.float is gone); the case has what it meant.
void run_entropy_similarity(Case& c) {
  const ds::ScalableDeepFFN p(c["p"].get<std::vector<double>>()), q(c["q"].get<std::vector<double>>());
  c.equal("entropy_similarity_epsilon", c["entropy_similarity_epsilon"].get<double>(),
          p.options().entropy_similarity_epsilon);
  c.close("entropy_similarity", to_number(c["value"]), p.entropy_similarity(q), {1e-9, 0});
  c.expect((p == q) == c["equal"].get<bool>(), "p == q: expected " + c["equal"].dump());
}

ds::LayeredGraph theme_of(const Json& data) {
  ds::LayeredGraph theme;
  theme.add_nodes_from(data.at("nodes").get<Ids>());
  theme.add_edges_from(to_edges(data.at("edges")));
  return theme;
}

Json vertices_by_layer(const ds::LayeredGraph& graph) {
  Json layers = Json::array();
  for (const std::int64_t l : graph.layers()) layers.push_back(graph.vertices(l));
  return layers;
}
Json layer_sizes_of(const ds::LayeredGraph& graph) {
  Json sizes = Json::array();
  for (const std::int64_t l : graph.layers()) sizes.push_back(graph.layer_size(l));
  return sizes;
}

/// Everything that the original grows. Its ids are floats, here integers.
void check_grown(Case& c, const ds::LayeredGraph& theme, const ds::ScalableDAN::Grown& grown) {
  Json sizes = Json::array(), correspondences = Json::array();
  for (ds::Vertex v = 0; v < theme.vertex_count(); ++v) sizes.push_back({theme.id(v), grown.correspondences[v].size()});
  for (const std::int64_t l : theme.layers())  // listed as they grew
    for (const std::int64_t id : theme.vertices(l))
      correspondences.push_back({id, grown.correspondences[theme.place(id)]});
  scalable_same(c, "sizes_per_vertex", c["sizes_per_vertex"], sizes);
  scalable_same(c, "vertex_correspondences", c["vertex_correspondences"], correspondences);
  scalable_same(c, "node_count", c["node_count"], grown.graph.vertex_count());
  scalable_same(c, "edge_count", c["edge_count"], grown.graph.edge_count());
  scalable_same(c, "num_layers", c["num_layers"], grown.graph.num_layers());
  scalable_same(c, "layer_sizes", c["layer_sizes"], layer_sizes_of(grown.graph));
  scalable_same(c, "vertices_by_layer", c["vertices_by_layer"], vertices_by_layer(grown.graph));
  if (c.has("edges_in_order")) scalable_same(c, "edges_in_order", c["edges_in_order"], edges_in_order(grown.graph));
}

/// The original drops a vertex whose size rounds to 0, and layers collapse. That is an option here; otherwise such a
/// scale is an error, or every vertex of the theme keeps one.
void check_empty_blocks(Case& c, const ds::LayeredGraph& theme, const std::vector<double>& proportions,
                        const ds::ScalableDAN::Grown& dropped) {
  const auto scale = c["scale"].get<std::int64_t>();
  bool empty = false;
  std::vector<double> sizes;  // of the layers, where every vertex keeps one
  for (const std::int64_t l : theme.layers()) sizes.resize(static_cast<std::size_t>(l) + 1, 0);
  for (const Json& entry : c["sizes_per_vertex"]) {
    empty |= entry.at(1) == 0;
    sizes[theme.layer(entry.at(0).get<std::int64_t>())] += std::max(1.0, entry.at(1).get<double>());
  }
  if (empty)
    c.throws("grow of a vertex to none", [&] { ds::ScalableDAN(theme, proportions).grow(scale); });
  else
    c.expect(ds::ScalableDAN(theme, proportions).grow(scale).graph == dropped.graph, "grow: depends on EmptyBlock");
  const auto kept = ds::ScalableDAN(theme, proportions, ds::EmptyBlock::keep_one).grow(scale);
  scalable_same(c, "layer sizes where every vertex keeps one", Json(sizes), layer_sizes_of(kept.graph));
}

void run_dan_grow(Case& c) {
  c.expect(!c.has("error"), "no case has an error");
  const ds::LayeredGraph theme = theme_of(c.data());
  scalable_same(c, "theme_layers", c["theme_layers"], vertices_by_layer(theme));
  std::map<std::int64_t, double> by_id;
  for (const Json& entry : c["proportions"]) by_id[entry.at(0).get<std::int64_t>()] = entry.at(1).get<double>();
  const auto proportions = ds::proportions_by_id(theme, by_id);
  const ds::ScalableDAN family(theme, proportions, ds::EmptyBlock::drop);
  const auto scale = c["scale"].get<std::int64_t>();
  const auto grown = family.grow(scale);
  check_grown(c, theme, grown);
  check_empty_blocks(c, theme, proportions, grown);
  // The original adds the vertices of a second grow to those of the first unless reset() or build() came between
  // (second_grow_without_reset); here growing leaves no trace.
  check_grown(c, theme, family.grow(scale));
  if (!c.has("build_6_3_parameter_shapes")) return;
  check_parameter_shapes(c, c["build_6_3_parameter_shapes"],
                         family.build(6, 3, scale, {.use_layer_norm = true, .store = ds::storage::full}));
}

void run_scalable_behaviour(Case& c) {
  const ds::LayeredGraph chain = theme_of(Json{{"nodes", {0, 1}}, {"edges", {{0, 1}}}});
  const std::map<std::string, std::function<Json()>> known = {
      {"ffn_sum_not_one",
       [] {
         return ds::ScalableDeepFFN({0.5, 0.3}).draw(10);
       }},
      {"ffn_sum_almost",
       [] {
         return ds::ScalableDeepFFN({0.5, 0.4995}).draw(10);
       }},
      {"ffn_empty", [] { return ds::ScalableDeepFFN({}).draw(10); }},
      {"ffn_draw_list",
       [] {
         return ds::ScalableDeepFFN({0.5, 0.5}).draw(9);
       }},
      {"ffn_draw_zero_scale",
       [] {
         return ds::ScalableDeepFFN({0.5, 0.5}).draw(0);
       }},
      {"ffn_build",
       [&] {
         check_parameter_shapes(c, c["result"], ds::ScalableDeepFFN({0.5, 0.3, 0.2}).build({2, 3}, 4, 20));
         return c["result"];
       }},
      {"ffn_build_scale0",
       [] {
         ds::ScalableDeepFFN({1.0}).build(2, 1, 0);
         return Json();
       }},
      {"dan_proportions_wrong_count",
       [&] {
         return Json(ds::proportions_by_id(chain, std::map<std::int64_t, double>{{0, 1.0}}));
       }},
      {"dan_proportions_wrong_sum",
       [&] {
         return layer_sizes_of(ds::ScalableDAN(chain, {0.5, 0.4}).grow(10).graph);
       }},
      {"dan_empty_structure", [] { return layer_sizes_of(ds::ScalableDAN(ds::LayeredGraph()).grow(10).graph); }},
      {"dan_grow_0", [&] { return layer_sizes_of(ds::ScalableDAN(chain).grow(0).graph); }},
  };
  const auto& behaviour = find_runner(known, "behaviour", c.text("id"));
  if (c.has("error"))
    c.throws(c.text("description"), behaviour);
  else
    scalable_same(c, c.text("description"), c["result"], behaviour());
}

/// Moments of the samples; the bounds are six standard errors of them, about.
void run_proportion_statistics(Case& c) {
  if (c.text("id") != "uniform_proportions") throw NoRunner{"no runner for statistics " + c.text("id")};
  const auto n = c["n_vertices"].get<std::int64_t>(), samples = c["samples"].get<std::int64_t>();
  ds::LayeredGraph theme;
  theme.add_vertices(n);
  ds::Rng rng(1);
  std::vector<double> sum(static_cast<std::size_t>(n), 0), squares(sum);
  const double mean = c["mean_per_vertex_theory"].get<double>(),
               variance = c["variance_per_vertex_theory"].get<double>();
  for (std::int64_t k = 0; k < samples; ++k) {
    const std::vector<double> p = ds::uniform_proportions(theme, rng);
    c.close("sum of proportions", 1, std::accumulate(p.begin(), p.end(), 0.0), {0, 1e-12});
    for (std::size_t v = 0; v < p.size(); ++v) {
      sum[v] += p[v];
      squares[v] += (p[v] - mean) * (p[v] - mean);
    }
  }
  const auto count = static_cast<double>(samples);
  for (std::size_t v = 0; v < sum.size(); ++v) {
    c.close("mean", mean, sum[v] / count, {0, 6 * std::sqrt(variance / count)});
    c.close("variance", variance, squares[v] / count, {6 * std::sqrt(2 / count), 0});
  }
}

}  // namespace

void run_scalable(Case& c) {
  const std::map<std::string, Runner> kinds = {{"ffn_draw", run_ffn_draw},
                                               {"ffn_entropy_similarity", run_entropy_similarity},
                                               {"dan_grow", run_dan_grow},
                                               {"behaviour", run_scalable_behaviour},
                                               {"statistics", run_proportion_statistics}};
  find_runner(kinds, "kind", c.text("kind"))(c);
}

}  // namespace golden
