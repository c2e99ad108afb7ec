// MaskedDeepDAN: one network in three forms, structures of any kind, and what the original's tests ask.
#include <deepstruct/graph/generators.hpp>
#include <deepstruct/graph/labeled_dag.hpp>
#include <deepstruct/graph/random_graphs.hpp>
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/nn/inference.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/prune/prune.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;
using test::same_bits;

namespace {

LayeredGraph dan_world(std::int64_t n, std::uint64_t seed) {
  Rng rng(seed);
  return LayeredGraph::load_from(watts_strogatz_graph(n, 4, 0.5, rng));
}
std::vector<int> dan_targets(std::int64_t n, int classes) {
  std::vector<int> targets;
  for (std::int64_t k = 0; k < n; ++k) targets.push_back(static_cast<int>(k) % classes);
  return targets;
}
double dan_step(MaskedDeepDAN& dan, Adam& adam, const Tensor& x) {
  const Var loss = cross_entropy(dan(x), dan_targets(x.shape()[0], static_cast<int>(dan.layer_out.out_features())));
  backward(loss);
  adam.step(dan);
  return double{loss.item()};
}
/// Parameters and slots by name.
std::map<std::string, Tensor> dan_state(const MaskedDeepDAN& dan) {
  std::map<std::string, Tensor> all;
  each_param(dan, [&](const std::string& name, const Param& p) {
    all[name] = p.value();
    for (const auto& s : p.slots()) all[name + " " + s.name] = s.value;
  });
  return all;
}
/// y of a joint network, vertex by vertex in double, with the ids of the structure.
std::vector<double> dan_naive_joint(const MaskedDeepDAN& dan, const LayeredGraph& g, const Tensor& x,
                                    std::int64_t sample) {
  const std::vector<Vertex>& places = g.index().order;
  std::vector<double> h(places.size());
  const Mask mask = dan.layers_hidden->mask();
  for (std::size_t v = 0; v < places.size(); ++v) {
    const auto row = static_cast<std::int64_t>(v) - dan.layer_size(0);
    double z = 0;
    if (row < 0) {
      z = double{dan.layer_first.bias->value()(static_cast<std::int64_t>(v))};
      for (std::int64_t i = 0; i < x.shape()[1]; ++i)
        z += double{dan.layer_first.weight.value()(static_cast<std::int64_t>(v), i)} * double{x(sample, i)};
    } else {
      z = double{dan.layers_hidden->bias->value()(row)};
      for (const Edge& e : g.graph().edges()) {
        if (e.target != places[v]) continue;
        const auto u = std::find(places.begin(), places.end(), e.source) - places.begin();
        z += double{dan.layers_hidden->weight.value()(mask.edge(row, u))} * h[u];
      }
    }
    h[v] = std::max(z, 0.0);
  }
  std::vector<double> y;
  for (std::int64_t o = 0; o < dan.layer_out.out_features(); ++o) {
    double sum = double{dan.layer_out.bias->value()(o)};
    for (std::size_t k = 0; k < dan.wiring()->output.size(); ++k)
      sum += double{dan.layer_out.weight.value()(o, static_cast<std::int64_t>(k))} * h[dan.wiring()->output[k]];
    y.push_back(sum);
  }
  return y;
}

}  // namespace

TEST_CASE("A MaskedDeepDAN is the same function packed and full, from the same seed, through pack and unpack") {
  for (const std::int64_t n : {1, 2, 7, 40}) {
    const LayeredGraph g = n < 5 ? LayeredGraph::load_from(path_graph(n)) : dan_world(n, 3);
    Rng a(5), b(5);
    MaskedDeepDAN packed({2, 3}, 4, g, {}, a), full({2, 3}, 4, g, {.store = storage::full}, b);
    REQUIRE(packed.layers_hidden);
    REQUIRE(!full.layers_hidden);
    const Tensor x = Tensor::uniform({9, 2, 3}, -1, 1, a);
    require_close(packed(x).value(), full(x).value());
    Adam adam_packed, adam_full;
    for (int k = 0; k < 3; ++k)
      REQUIRE(dan_step(packed, adam_packed, x) == Approx(dan_step(full, adam_full, x)).epsilon(1e-4));
    // Back and forth loses nothing, and slots come along.
    const auto before = dan_state(packed);
    const MaskedDeepDAN there = unpack(packed), back = pack(there);
    REQUIRE(!there.layers_hidden);
    require_close(there(x).value(), packed(x).value());
    const auto after = dan_state(back);
    for (const auto& [name, value] : before) {
      INFO(name);
      if (value.size() == 0) continue;
      REQUIRE(after.contains(name));
      if (name.starts_with("layers_hidden")) REQUIRE(same_bits(after.at(name), value));
    }
    REQUIRE(back.layers_hidden->mask() == packed.layers_hidden->mask());
    if (packed.layers_hidden->weight.size() > 0)
      REQUIRE(back.layers_hidden->weight.has_slot("exp_avg") == packed.layers_hidden->weight.has_slot("exp_avg"));
  }
}

TEST_CASE("Layer norm keeps layers apart, packed as well as full") {
  const LayeredGraph g = dan_world(30, 8);
  Rng a(5), b(5);
  MaskedDeepDAN packed(6, 3, g, {.use_layer_norm = true}, a),
      full(6, 3, g, {.use_layer_norm = true, .store = storage::full}, b);
  REQUIRE(!packed.layers_hidden);
  REQUIRE(packed.layers_main_hidden[0].packed());
  REQUIRE(static_cast<std::int64_t>(packed.layer_normalizations.size()) == packed.num_layers());
  const Tensor x = Tensor::uniform({9, 6}, -1, 1, a);
  require_close(packed(x).value(), full(x).value(), 1e-4, 1e-5);
  require_close(pack(full)(x).value(), full(x).value(), 1e-4, 1e-5);
  require_close(unpack(packed)(x).value(), packed(x).value(), 1e-4, 1e-5);
}

TEST_CASE("A joint network has one sum and one activation a vertex") {
  for (const bool sinks : {false, true}) {
    LayeredGraph g = dan_world(25, 2);
    Rng rng(9);
    const MaskedDeepDAN dan(4, 3, g, {.joint = true, .all_sinks = sinks}, rng);
    REQUIRE(dan.layers_hidden->weight.size() == g.edge_count());
    REQUIRE(dan.layers_hidden->bias->size() == g.vertex_count() - g.first_layer_size());
    const Tensor x = Tensor::uniform({5, 4}, -1, 1, rng);
    const Tensor y = dan(x).value();
    for (std::int64_t s = 0; s < 5; ++s) {
      const std::vector<double> want = dan_naive_joint(dan, g, x, s);
      for (std::int64_t o = 0; o < 3; ++o) REQUIRE(double{y(s, o)} == Approx(want[o]).margin(1e-5));
    }
  }
  require_error([&] { MaskedDeepDAN(4, 3, dan_world(9, 1), {.store = storage::full, .joint = true}); },
                {"MaskedDeepDAN: joint needs packed storage"});
  require_error([&] { unpack(MaskedDeepDAN(4, 3, dan_world(9, 1), {.joint = true})); }, {"unpack: a joint network"});
}

TEST_CASE("Activations of vertices are chosen by an attribute") {
  LayeredGraph g = LayeredGraph::load_from(path_graph(4));
  const std::vector<std::string> names{"relu", "tanh", "sigmoid", "none"};
  g.vertex_attributes().set_column("activation", names);
  const MaskedDeepDAN dan(1, 1, g, {.joint = true});
  const Tensor x = Tensor::from({2, 1}, {1, -2});
  double h = 0;
  const auto w = [](const Param& p, std::int64_t k) { return double{p.value().to_vector()[k]}; };
  for (std::int64_t s = 0; s < 2; ++s) {
    h = std::max(0.0, w(dan.layer_first.weight, 0) * double{x(s, 0)} + w(*dan.layer_first.bias, 0));
    h = std::tanh(w(dan.layers_hidden->weight, 0) * h + w(*dan.layers_hidden->bias, 0));
    h = 1 / (1 + std::exp(-(w(dan.layers_hidden->weight, 1) * h + w(*dan.layers_hidden->bias, 1))));
    h = w(dan.layers_hidden->weight, 2) * h + w(*dan.layers_hidden->bias, 2);
    REQUIRE(double{dan(x).value()(s, 0)} ==
            Approx(w(dan.layer_out.weight, 0) * h + w(*dan.layer_out.bias, 0)).margin(1e-6));
  }
  require_error([&] { MaskedDeepDAN(1, 1, g); },
                {"MaskedDeepDAN: activations other than relu need a joint network", "tanh"});
  g.vertex_attributes().set("activation", 2, std::string("step"));
  require_error([&] { MaskedDeepDAN(1, 1, g, {.joint = true}); },
                {"activations are none, relu, tanh and sigmoid", "step"});
}

TEST_CASE("Every sink feeds the output where that is asked for, in every form") {
  const LayeredGraph tree = LayeredGraph::load_from(balanced_tree(2, 3));
  LayeredGraph ragged = tree;
  ragged.add_edge(3, 7);
  ragged.add_vertex();  // an isolated vertex is a sink of the first layer
  Rng a(1), b(1);
  const MaskedDeepDAN packed(3, 2, ragged, {.all_sinks = true}, a),
      full(3, 2, ragged, {.store = storage::full, .all_sinks = true}, b);
  REQUIRE(packed.layer_out.in_features() == 9);
  const Tensor x = Tensor::uniform({4, 3}, -1, 1, a);
  require_close(packed(x).value(), full(x).value());
  REQUIRE(MaskedDeepDAN(3, 2, ragged).layer_out.in_features() == 8);
}

TEST_CASE("Masks of a pair of layers can be read and set in every form") {
  LayeredGraph g;
  g.add_edges_from({{0, 2}, {1, 2}, {1, 3}, {2, 4}, {0, 4}});
  for (const storage store : {storage::packed, storage::full}) {
    MaskedDeepDAN dan(2, 1, g, {.store = store});
    REQUIRE(dan.num_layers() == 3);
    REQUIRE(dan.mask(0, 1) == Mask::from_edges(2, 2, {{0, 0}, {0, 1}, {1, 1}}));
    REQUIRE(dan.mask(0, 2) == Mask::from_edges(1, 2, {{0, 0}}));
    const Mask next = Mask::from_edges(2, 2, {{0, 1}, {1, 0}});
    dan.set_mask(0, 1, next);
    REQUIRE(dan.mask(0, 1) == next);
    REQUIRE(dan.mask(0, 2) == Mask::from_edges(1, 2, {{0, 0}}));
    require_close(pack(dan)(Tensor::ones({2, 2})).value(), unpack(dan)(Tensor::ones({2, 2})).value());
    require_error([&] { dan.set_mask(0, 1, Mask::ones(1, 2)); }, {"set_mask: mask and layers differ in shape"});
    require_error([&] { dan.mask(0, 3); }, {"MaskedDeepDAN: no such layer (3 of 3)"});
    require_error([&] { dan.mask(1, 0); }, {"no connection between the layers (1 and 0)"});
  }
}

TEST_CASE("Pruning reaches the edges of every form, and the structure tells what is left") {
  const LayeredGraph g = dan_world(60, 4);
  for (const MaskedDeepDANOptions& options :
       {MaskedDeepDANOptions{}, {.store = storage::full}, {.joint = true}, {.use_layer_norm = true}}) {
    Rng rng(3);
    MaskedDeepDAN dan(5, 3, g, options, rng);
    const auto hidden = [&] { return dan.generate_structure().edge_count(); };
    REQUIRE(hidden() == g.edge_count());
    const std::int64_t all = get_network_weight_count(dan);
    REQUIRE(all == g.edge_count() + dan.layer_first.mask().nnz() + dan.layer_out.mask().nnz());
    prune_network_by_saliency(dan, percentage(50));
    REQUIRE(get_network_weight_count(dan) == Approx(0.5 * static_cast<double>(all)).margin(2));
    REQUIRE(hidden() < g.edge_count());
    const Tensor x = Tensor::uniform({8, 5}, -1, 1, rng);
    Adam adam;
    dan_step(dan, adam, x);
    dan_step(dan, adam, x);
    REQUIRE(get_network_weight_count(dan) == Approx(0.5 * static_cast<double>(all)).margin(2));
    if (!options.joint) require_close(pack(dan)(x).value(), unpack(dan)(x).value(), 1e-4, 1e-5);
    reset_parameters(dan, rng, true);
    REQUIRE(get_network_weight_count(dan) == Approx(0.5 * static_cast<double>(all)).margin(2));
  }
}

TEST_CASE("Reset, a network is as from the constructor") {
  const LayeredGraph g = dan_world(60, 4);
  for (const MaskedDeepDANOptions& options : {MaskedDeepDANOptions{.joint = true, .degree_aware = true},
                                              {.degree_aware = true},
                                              {},
                                              {.use_layer_norm = true, .degree_aware = true},
                                              {.store = storage::full, .degree_aware = true}}) {
    Rng rng(3);
    const MaskedDeepDAN fresh(5, 3, g, options, rng);
    MaskedDeepDAN dan = fresh;
    const Tensor x = Tensor::uniform({8, 5}, -1, 1, rng);
    Adam adam;
    for (int k = 0; k < 3; ++k) dan_step(dan, adam, x);
    reset_parameters(dan, rng, true);
    const auto old = maskable_layers(fresh);
    const auto now = maskable_layers(std::as_const(dan));
    REQUIRE(old.size() == now.size());
    for (std::size_t k = 0; k < now.size(); ++k) {
      const MaskedLinearLayer &a = *old[k].second, &b = *now[k].second;
      INFO(now[k].first);
      REQUIRE(a.mask() == b.mask());
      REQUIRE(b.weight.slots().empty());
      if (a.weight.size() < 40 || !now[k].first.starts_with("layers_")) continue;
      const auto most = [](const MaskedLinearLayer& layer) {
        return double{amax(abs(Var(layer.effective_weight()))).item()};
      };
      REQUIRE(most(b) == Approx(most(a)).epsilon(0.3));
      if (options.degree_aware) REQUIRE(amax(abs(Var(b.bias->value()))).item() == 0);
    }
    MaskedDeepDAN once_more = dan;
    reset_parameters(once_more, rng);
    if (options.store == storage::packed) REQUIRE(once_more.generate_structure() == fresh.generate_structure());
  }
}

TEST_CASE("Activations survive the way to a structure and back") {
  LayeredGraph g = dan_world(30, 4);
  g.vertex_attributes().set_column("activation", std::vector<std::string>(30, "tanh"));
  const MaskedDeepDAN dan(3, 2, g, {.joint = true});
  const MaskedDeepDAN again(3, 2, dan.generate_structure(), {.joint = true});
  REQUIRE(again.wiring()->activation == dan.wiring()->activation);
  REQUIRE(again.wiring()->activation.size() == 30u - static_cast<std::size_t>(g.first_layer_size()));
}

TEST_CASE("A network on a graph, made ready to answer, says the same") {
  const LayeredGraph g = dan_world(60, 4);
  for (const MaskedDeepDANOptions& options : {MaskedDeepDANOptions{},
                                              {.store = storage::full},
                                              {.joint = true},
                                              {.joint = true, .all_sinks = true},
                                              {.store = storage::full, .all_sinks = true}}) {
    Rng rng(3);
    const MaskedDeepDAN dan(5, 3, g, options, rng);
    for (const std::int64_t samples : {1, 20}) {
      const Tensor x = Tensor::uniform({samples, 5}, -1, 1, rng);
      no_grad guard;
      require_close(Inference(dan, x)(x).value(), dan(x).value(), 1e-4, 1e-5);
    }
  }
}

TEST_CASE("Wiring by a mask") {
  const LayeredGraph g = LayeredGraph::load_from(complete_multipartite_graph(std::vector<std::int64_t>{3, 4}));
  const Mask in = Mask::from_edges(3, 5, {{0, 0}, {0, 4}, {1, 1}, {2, 3}}),
             out = Mask::from_edges(2, 4, {{0, 0}, {1, 3}});
  for (const storage store : {storage::packed, storage::full}) {
    MaskedDeepDAN dan(5, 2, g, {.store = store, .input_wiring = in, .output_wiring = out});
    REQUIRE(dan.layer_first.mask() == in);
    REQUIRE(dan.layer_out.mask() == out);
    REQUIRE(dan.layer_first.packed() == (store == storage::packed));
    REQUIRE(dan(Tensor::ones({3, 5})).shape() == Shape{3, 2});
    REQUIRE(dan.generate_structure(true, true).edge_count() == 4 + 12 + 2);
  }
  require_error([&] { MaskedDeepDAN(4, 2, g, {.input_wiring = in}); },
                {"MaskedDeepDAN: wiring and network differ in shape", "[3, 5]", "[3, 4]"});
  require_error([&] { MaskedDeepDAN(5, 2, g, {.output_wiring = in}); },
                {"MaskedDeepDAN: wiring and network differ in shape"});
}

TEST_CASE("Degree-aware values keep the scale of a signal through many layers") {
  Rng rng(2);
  const LayeredGraph g = LayeredGraph::load_from(layered_random_dag(std::vector<std::int64_t>(30, 40), 0.2, 0, rng));
  const auto spread = [&](bool degree_aware) {
    const MaskedDeepDAN dan(20, 10, g, {.joint = true, .degree_aware = degree_aware}, rng);
    const Tensor x = Tensor::normal({64, 20}, 0, 1, rng), y = dan(x).value();
    double across = 0;
    for (std::int64_t o = 0; o < 10; ++o)
      for (std::int64_t s = 1; s < 64; ++s) across += std::abs(double{y(s, o)} - double{y(0, o)});
    return across;
  };
  const double aware = spread(true), plain = spread(false);
  REQUIRE(aware > 1e3 * plain);  // with two edges a vertex, U(±1/√2) leaves a sixth of the variance in every layer
}

TEST_CASE("Structures that are none are refused") {
  LayeredGraph loop;
  loop.add_edges_from({{1, 1}, {1, 2}});
  require_error([&] { MaskedDeepDAN(2, 2, loop); }, {"MaskedDeepDAN: a vertex cannot feed itself (1)"});
  LayeredGraph cycle;
  cycle.add_edges_from({{7, 8}, {8, 7}});
  require_error([&] { MaskedDeepDAN(2, 2, cycle); }, {"LayeredGraph: the graph has a cycle (7 -> 8 -> 7)"});
  require_error([&] { MaskedDeepDAN(2, 2, LayeredGraph()); },
                {"MaskedDeepDAN: the structure needs at least one vertex (0)"});
}

TEST_CASE("A copy of a network is a value, and training it is the same for any number of threads", "[threads]") {
  const LayeredGraph g = dan_world(120, 6);
  for (const bool joint : {false, true}) {
    Rng rng(2);
    const MaskedDeepDAN start(30, 5, g, {.joint = joint}, rng);
    const Tensor x = Tensor::uniform({200, 30}, -1, 1, rng);
    std::vector<Tensor> ends;
    for (const int threads : {1, 2, 3}) {
      const test::Threads set(threads);
      MaskedDeepDAN dan = start;
      Adam adam;
      for (int k = 0; k < 3; ++k) dan_step(dan, adam, x);
      ends.push_back(dan.layers_hidden->weight.value());
    }
    REQUIRE(same_bits(ends[0], ends[1]));
    REQUIRE(same_bits(ends[0], ends[2]));
    REQUIRE(!same_bits(ends[0], start.layers_hidden->weight.value()));
  }
}

// The original's tests, by name.
TEST_CASE("test_MaskedDeepDAN: feed, random structures, structures with inputs and outputs") {
  Rng rng(200);
  const LayeredGraph g = LayeredGraph::load_from(watts_strogatz_graph(200, 3, 0.8, rng));
  MaskedDeepDAN dan({105, 13}, 10, g, {}, rng);
  Adam adam{.lr = 0.01};
  const Tensor x = Tensor::uniform({7, 105, 13}, 0, 1, rng);
  const double first = dan_step(dan, adam, x);
  double last = 0;
  for (int k = 0; k < 30; ++k) last = dan_step(dan, adam, x);
  REQUIRE(last < first);
  const LayeredGraph structure = dan.generate_structure();
  const LayeredGraph again = MaskedDeepDAN(784, 10, structure).generate_structure();
  REQUIRE(again == structure);
  REQUIRE(structure.vertex_count() == g.vertex_count());
  REQUIRE(structure.edge_count() == g.edge_count());
  for (const auto& [a, b] : {std::pair{true, false}, {false, true}, {true, true}}) {
    const LayeredGraph more = dan.generate_structure(a, b);
    REQUIRE(more.vertex_count() == 200 + (a ? 105 * 13 : 0) + (b ? 10 : 0));
    REQUIRE(MaskedDeepDAN(3, 2, more)(Tensor::ones({2, 3})).shape() == Shape{2, 2});
  }
}

TEST_CASE("test_MaskedDeepDAN: apply_mask, get_structure, dev, layer norm") {
  Rng rng(3);
  MaskedDeepDAN dan(784, 10, LayeredGraph::load_from(watts_strogatz_graph(200, 3, 0.8, rng)), {.store = storage::full},
                    rng);
  const MaskedDeepDAN before = dan;
  apply_mask(dan);
  bool changed = false;
  const auto old = maskable_layers(before);
  const auto now = maskable_layers(dan);
  for (std::size_t k = 0; k < old.size(); ++k)
    changed |= !same_bits(old[k].second->weight.value(), now[k].second->weight.value());
  REQUIRE(changed);

  const auto blocks = [](const std::vector<std::int64_t>& sizes, const std::vector<std::pair<int, int>>& pairs) {
    LayeredGraph g;
    std::vector<std::int64_t> start;
    for (const std::int64_t n : sizes) start.push_back(g.add_vertices(n));
    for (const auto& [s, t] : pairs)
      for (std::int64_t a = 0; a < sizes[s]; ++a)
        for (std::int64_t b = 0; b < sizes[t]; ++b) g.add_edge(start[s] + a, start[t] + b);
    return g;
  };
  const LayeredGraph small =
      blocks({8, 8, 2, 2, 2, 2, 10}, {{0, 2}, {0, 3}, {0, 5}, {1, 3}, {1, 4}, {1, 6}, {2, 5}, {3, 5}, {3, 6}, {4, 6}});
  const MaskedDeepDAN of_blocks(20, 10, small);
  REQUIRE(of_blocks.layer_size(0) == 16);
  REQUIRE(of_blocks.layer_size(1) == 6);
  REQUIRE(of_blocks.layer_size(2) == 12);
  REQUIRE(MaskedDeepDAN(20, 10, of_blocks.generate_structure()).num_layers() == 3);
  REQUIRE(MaskedDeepDAN(
              20, 10,
              blocks({50, 50, 30, 30, 30, 20, 20}, {{0, 2}, {0, 3}, {1, 3}, {1, 4}, {2, 5}, {3, 5}, {3, 6}, {4, 6}}))
              .num_layers() == 3);

  const MaskedDeepDAN narrow({28, 28}, 10, LayeredGraph::load_from(newman_watts_strogatz_graph(100, 4, 0.5, rng)),
                             {.use_layer_norm = true}, rng);
  REQUIRE(narrow(Tensor::ones({10, 28, 28})).shape() == Shape{10, 10});
  REQUIRE(narrow.num_layers() == 100);

  LabeledDAG labeled;
  labeled.add_vertices(3, 3);
  labeled.add_vertices(2, 4);
  REQUIRE(MaskedDeepDAN(4, 2, labeled.layered(), {.use_layer_norm = true}).num_layers() == 2);
}
