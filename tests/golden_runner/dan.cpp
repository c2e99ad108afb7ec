// models.dan: MaskedDeepDAN, as layers by pairs and with all edges in one CSR.
#include "masked_model.hpp"

#include "deepstruct/models/masked_deep_dan.hpp"

namespace golden {

/// A structure with the layers of the case and their order of vertices, which is that of rows and columns.
ds::LayeredGraph to_layered_graph(const Json& structure) {
  std::map<std::int64_t, ds::Vertex> place;
  std::vector<std::int32_t> layer;
  for (const Json& vertices : structure.at("layers")) {
    for (const Json& v : vertices) place.emplace(v.get<std::int64_t>(), static_cast<ds::Vertex>(place.size()));
    layer.resize(place.size(), layer.empty() ? 0 : layer.back() + 1);
  }
  std::vector<ds::Edge> edges;
  for (const Json& e : structure.at("edges"))
    edges.push_back({place.at(e.at(0).get<std::int64_t>()), place.at(e.at(1).get<std::int64_t>())});
  return ds::LayeredGraph::with_layers(ds::Graph(static_cast<std::int64_t>(layer.size()), edges, true), layer);
}

namespace {

/// Counts and edges of generate_structure; where the original is wrong (with inputs, and for outputs of one layer),
/// what is right: a vertex more per input and output, and their connections.
void check_structures(Case& c, const ds::MaskedDeepDAN& model, const std::string& how) {
  const Json* plain = nullptr;
  for (const Json& want : c["generate_structure"])
    if (!want.at("include_input").get<bool>() && !want.at("include_output").get<bool>()) plain = &want;
  ds::check(plain != nullptr, "golden: no structure without inputs and outputs");
  for (const bool inputs : {false, true})
    for (const bool outputs : {false, true}) {
      const ds::LayeredGraph got = model.generate_structure(inputs, outputs);
      std::vector<std::int64_t> sizes;
      std::int64_t edges = plain->at("edge_count").get<std::int64_t>();
      if (inputs) {
        sizes.push_back(model.layer_first.in_features());
        edges += model.layer_first.mask().nnz();
      }
      for (const Json& layer : c["structure"].at("layers")) sizes.push_back(static_cast<std::int64_t>(layer.size()));
      if (outputs) {
        sizes.push_back(model.layer_out.out_features());
        edges += model.layer_out.mask().nnz();
      }
      std::vector<std::int64_t> got_sizes;
      for (const std::int64_t l : got.layers()) got_sizes.push_back(got.layer_size(l));
      c.expect(got_sizes == sizes, how + "generate_structure: layer sizes differ");
      c.equal(how + "generate_structure edges", static_cast<double>(edges), static_cast<double>(got.edge_count()));
      if (inputs || outputs || plain->at("node_count") == 0) continue;  // of a single layer the original sees nothing
      c.expect(plain->at("layer_sizes") == Json(sizes), how + "generate_structure: the case has other layers");
      if (!plain->contains("edges_sorted")) continue;
      std::vector<ds::Edge> sorted(got.graph().edges().begin(), got.graph().edges().end());
      std::sort(sorted.begin(), sorted.end());
      Json list = Json::array();
      for (const ds::Edge& e : sorted) list.push_back({e.source, e.target});
      c.expect(list == plain->at("edges_sorted"), how + "generate_structure: edges differ");
    }
}

}  // namespace

void run_dan(Case& c) {
  const ds::LayeredGraph structure = to_layered_graph(c["structure"]);
  ds::MaskedDeepDAN model(to_shape(c["size_input"]), c["size_output"].get<std::int64_t>(), structure,
                          {.use_layer_norm = c["use_layer_norm"].get<bool>(), .store = ds::storage::full});
  for (const auto& [name, mask] : masks_of(model))  // those that the structure gives
    if (c["masks"].contains(name)) c.equal("mask of the structure, " + name, c["masks"].at(name), mask);
  load_state(c, model);
  check_model(c, model);
  check_structures(c, model, "");
  check_structures(c, ds::pack(model), "packed ");
  std::size_t skip = 0;
  for (const Json& want : c["skip_layers"]) {
    const auto source = want.at("source_layer").get<std::int64_t>(),
               target = want.at("target_layer").get<std::int64_t>();
    const ds::Mask mask = model.layers_skip_hidden.at(skip++).mask();
    c.equal("skip mask", mask, model.mask(source, target));
    c.equal("packed skip mask", mask, ds::pack(model).mask(source, target));
  }
  c.equal("skip layers", static_cast<double>(skip), static_cast<double>(model.layers_skip_hidden.size()));
}

}  // namespace golden
