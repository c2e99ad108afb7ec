// transform: LinearLayerFunctor, Conv2dLayerFunctor, GraphTransform. Where the original is wrong (masks overwritten,
// axes swapped, skip layers and pooling refused) the graph must be the true one.
#include "graph.hpp"
#include "families.hpp"

#include "deepstruct/models/masked_deep_dan.hpp"
#include "deepstruct/models/masked_deep_ffn.hpp"
#include "deepstruct/nn/batch_norm.hpp"
#include "deepstruct/nn/conv.hpp"
#include "deepstruct/nn/pool.hpp"
#include "deepstruct/transform/graph_transform.hpp"

namespace golden {

namespace {

using EdgeList = std::vector<ds::LayeredGraph::IdEdge>;

void check_graph(Case& c, const std::string& what, const ds::LayeredGraph& g, const Json& expected) {
  c.equal(what + ": node_count", expected["node_count"].get<double>(), static_cast<double>(g.vertex_count()));
  c.equal(what + ": edge_count", expected["edge_count"].get<double>(), static_cast<double>(g.edge_count()));
  if (expected.contains("layer_sizes")) {
    std::vector<std::int64_t> sizes;
    for (std::int64_t l = 0; l < g.num_layers(); ++l) sizes.push_back(g.layer_size(l));
    c.expect(sizes == expected["layer_sizes"].get<std::vector<std::int64_t>>(), what + ": sizes of layers");
  }
  const char* key = expected.contains("edges_sorted") ? "edges_sorted" : "edges_in_order";
  if (!expected.contains(key) || expected[key].is_null()) return;
  EdgeList own = edges_in_order(g), theirs = to_edges(expected[key]);
  std::sort(own.begin(), own.end());
  std::sort(theirs.begin(), theirs.end());
  c.expect(own == theirs, what + ": edges");
}

ds::Tensor weight_of(const Case& c, const std::string& name) { return to_tensor(c["parameters"].at(name)); }

template <class M>
void load_parameters(Case& c, M& model) {
  std::size_t loaded = 0;
  ds::each_param(model, [&](const std::string& name, ds::Param& p) {
    p.set_value(weight_of(c, name));
    ++loaded;
  });
  c.expect(loaded == c["parameters"].size(), "the model has other parameters than the case");
  ds::each<ds::MaskedLinearLayer>(model, [&](const std::string& name, ds::MaskedLinearLayer& layer) {
    layer.set_mask(to_mask(c["masks_before"].at(name + "._mask")));
  });
}

/// The graph as the original makes it, where it makes one; the model stays as it was.
template <class M>
ds::LayeredGraph transformed(Case& c, M& model) {
  load_parameters(c, model);
  const auto masks = [&] {
    std::vector<ds::Mask> all;
    ds::each<ds::MaskedLinearLayer>(std::as_const(model),
                                    [&](const ds::MaskedLinearLayer& l) { all.push_back(l.mask()); });
    return all;
  };
  const std::vector<ds::Mask> before = masks();
  const Json& thresholds = c["effective_thresholds"];
  const ds::GraphTransform as_original(to_shape(c["random_input_shape"]),
                                       {.threshold = thresholds["Linear"].get<float>(),
                                        .masked_threshold = thresholds["MaskedLinearLayer"].get<float>(),
                                        .recompute_masks = true,
                                        .slots = false});
  ds::LayeredGraph g = as_original.transform(model);
  c.expect(masks() == before, "extraction changed a mask");
  if (c.has("expected") && c.text("id") != "bare_linear") check_graph(c, "graph", g, c["expected"]);
  // By the masks: as many edges as they have.
  const ds::LayeredGraph own = ds::GraphTransform(to_shape(c["random_input_shape"])).transform(model);
  std::int64_t edges = 0;
  for (const ds::Mask& m : before) edges += m.nnz();
  if (!before.empty()) c.equal("edges of the masks", static_cast<double>(edges), static_cast<double>(own.edge_count()));
  return g;
}

/// The structure of a DAN from its masks: widths of layers, and edges between them.
ds::LayeredGraph dan_structure(const Case& c) {
  const Json& masks = c["masks_before"];
  std::vector<ds::Mask> main, skip;
  for (const auto& [name, mask] : masks.items()) {
    if (name.starts_with("layers_main_hidden")) main.push_back(to_mask(mask));
    if (name.starts_with("layers_skip_hidden")) skip.push_back(to_mask(mask));
  }
  std::vector<std::int64_t> first{0, to_mask(masks["layer_first._mask"]).rows()};
  for (const ds::Mask& m : main) first.push_back(first.back() + m.rows());
  const auto size = [&](std::size_t l) { return first[l + 1] - first[l]; };
  ds::Graph g(first.back(), true);
  const auto connect = [&](const ds::Mask& m, std::size_t source, std::size_t target) {
    m.for_each([&](std::int32_t, std::int64_t r, std::int64_t col) {
      g.add_edge(static_cast<ds::Vertex>(first[source] + col), static_cast<ds::Vertex>(first[target] + r));
    });
  };
  for (std::size_t l = 0; l < main.size(); ++l) connect(main[l], l, l + 1);
  std::size_t next = 0;  // skip layers stand by target, then by source
  for (std::size_t target = 2; target + 1 < first.size(); ++target)
    for (std::size_t source = 0; source + 1 < target && next < skip.size(); ++source)
      if (skip[next].shape() == ds::Shape{size(target), size(source)}) connect(skip[next++], source, target);
  ds::check(next == skip.size(), "golden: skip layers do not fit (", next, " of ", skip.size(), ")");
  return ds::LayeredGraph::load_from(g);
}

void run_graph_transform(Case& c) {
  const std::string id = c.text("id");
  const auto rows = [&](const std::string& name) { return weight_of(c, name).shape()[0]; };
  const auto cols = [&](const std::string& name) { return weight_of(c, name).shape()[1]; };
  const auto linear = [&](const std::string& name) { return ds::Linear(cols(name), rows(name)); };
  if (id.starts_with("ffn")) {
    std::vector<std::int64_t> hidden{rows("_layer_first.weight")};
    const bool norm = id == "ffn_ln";
    for (int k = 0; c["parameters"].contains("_layers_hidden." + std::to_string(k) + ".weight"); k += norm ? 3 : 2)
      hidden.push_back(rows("_layers_hidden." + std::to_string(k) + ".weight"));
    ds::MaskedDeepFFN model(cols("_layer_first.weight"), rows("_layer_out.weight"), hidden, {.use_layer_norm = norm});
    const ds::LayeredGraph g = transformed(c, model);
    if (id == "ffn_batch2_error")
      c.equal("the batch adds no vertices", double(g.vertex_count()),
              double(cols("_layer_first.weight") + rows("_layer_first.weight") + rows("_layer_out.weight")));
  } else if (id.starts_with("dan")) {
    const ds::LayeredGraph structure = dan_structure(c);
    ds::MaskedDeepDAN model(cols("layer_first.weight"), rows("layer_out.weight"), structure,
                            {.store = ds::storage::full});
    const ds::LayeredGraph g = transformed(c, model);
    c.equal("vertices of the network", double(g.vertex_count()),
            double(structure.vertex_count() + cols("layer_first.weight") + rows("layer_out.weight")));
  } else if (id == "sequential_linear") {
    ds::Sequential net{linear("0.weight"), ds::ReLU(),    linear("2.weight"),
                       ds::Tanh(),         ds::Dropout(), linear("5.weight")};
    transformed(c, net);
  } else if (id == "sequential_nested") {
    ds::Sequential net{ds::Sequential{linear("0.0.weight"), ds::ReLU()},
                       ds::Sequential{linear("1.0.weight"), ds::Sigmoid(), linear("1.2.weight")}};
    transformed(c, net);
  } else if (id == "bare_linear") {  // the original sees no layer in a module without children
    ds::Linear net = linear("weight");
    const ds::LayeredGraph g = transformed(c, net);
    c.equal("vertices of a linear layer", 5, double(g.vertex_count()));
  } else if (id.starts_with("sequential_conv")) {
    const auto conv = [&](const std::string& name) {
      const ds::Shape s = weight_of(c, name).shape();
      return ds::Conv2d(s[1], s[0], {s[2], s[3]});
    };
    if (id == "sequential_conv") {
      ds::Sequential net{conv("0.weight"), ds::ReLU(), ds::Flatten(), linear("3.weight")};
      transformed(c, net);
    } else if (id == "sequential_conv_conv_bn") {
      ds::Sequential net{conv("0.weight"), ds::BatchNorm2d(2), ds::ReLU(),
                         conv("3.weight"), ds::Flatten(),      linear("5.weight")};
      transformed(c, net);
    } else {  // the original cannot connect what pooling shrinks
      ds::Sequential net{conv("0.weight"), ds::MaxPool2d(2), ds::Flatten(), linear("3.weight")};
      const ds::LayeredGraph g = transformed(c, net);
      const std::int64_t pooled = cols("3.weight"), outputs = rows("3.weight");
      c.equal("vertices with pooling", double(36 + 4 * pooled + pooled + outputs), double(g.vertex_count()));
    }
  } else {
    throw NoRunner{"no runner for transform case " + id};
  }
}

void run_linear_functor(Case& c) {
  const std::int64_t in = c["in_features"], out = c["out_features"];
  std::optional<float> threshold;
  if (c.has("threshold")) threshold = c["threshold"].get<float>();
  if (c.text("module") == "Linear") {
    ds::Linear layer(in, out);
    layer.weight.set_value(to_tensor(c["weight"]));
    const ds::LinearLayerFunctor functor(threshold);
    if (c.has("error")) return c.throws("without a threshold", [&] { functor.transform(layer); });
    return check_graph(c, "graph", functor.transform(layer), c["expected"]);
  }
  ds::MaskedLinearLayer layer(in, out);
  layer.weight.set_value(to_tensor(c["weight"]));
  layer.set_mask(to_mask(c["mask_before"]));
  check_graph(c, "as the original", ds::LinearLayerFunctor(threshold, true).transform(layer), c["expected"]);
  check_graph(c, "by the mask", ds::LinearLayerFunctor().transform(layer), c["expected_without_recompute"]);
  c.equal("mask afterwards", c["mask_before"], layer.mask());
}

void run_conv_functor(Case& c) {
  ds::Conv2dOptions options;
  const auto pair = [](const Json& v) { return std::array<std::int64_t, 2>{v.at(0), v.at(1)}; };
  const auto kernel = pair(c["kernel_size"]);
  options.stride = pair(c["stride"]);
  if (c["extra"].contains("groups")) options.groups = c["extra"]["groups"];
  if (c["extra"].contains("dilation")) options.dilation.fill(c["extra"]["dilation"]);
  options.padding = c["padding"].is_string() ? ds::same_padding(kernel, options.dilation) : pair(c["padding"]);
  const ds::Conv2d layer(c["in_channels"], c["out_channels"], kernel, options);
  const ds::Conv2dLayerFunctor functor(c["input_width"], c["input_height"]);
  if (!c.has("correct")) return c.throws("kernel and image", [&] { functor.transform(layer); });
  check_graph(c, "graph", functor.transform(layer), c["correct"]);
}

}  // namespace

void run_transform(Case& c) {
  static const std::map<std::string, Runner> kinds{
      {"linear", run_linear_functor}, {"conv2d", run_conv_functor}, {"graph_transform", run_graph_transform}};
  find_runner(kinds, "kind", c.text("kind"))(c);
}

}  // namespace golden
