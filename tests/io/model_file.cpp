// Files of models: every form of a model comes back from its file without the code that built it; the old format still
// loads; damaged, foreign and hostile files are Errors.
#include <deepstruct/io/model_file.hpp>
#include <deepstruct/models/scalable.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/prune/prune.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

struct ModelFileFolder {
  std::filesystem::path path = "model_file_test";
  ModelFileFolder() { std::filesystem::create_directories(path); }
  ~ModelFileFolder() { std::filesystem::remove_all(path); }
};

const std::filesystem::path model_file_data = std::filesystem::path(__FILE__).parent_path() / "data";

/// Three layers of hidden vertices with connections that skip layers, and sinks in all of them.
LayeredGraph model_file_graph(Rng& rng) {
  std::vector<Edge> edges;
  for (Vertex u = 0; u < 30; ++u)
    for (Vertex v = u + 1; v < 30; ++v)
      if (rng.bernoulli(0.12f)) edges.push_back({u, v});
  return LayeredGraph::load_from(Graph(30, std::move(edges), true));
}

template <class M>
void take_steps(M& model, std::int64_t inputs, std::int64_t outputs, int steps = 2) {
  Adam adam;
  Rng rng(11);
  const Tensor x = Tensor::normal({9, inputs}, 0, 1, rng), y = Tensor::normal({9, outputs}, 0, 1, rng);
  for (int k = 0; k < steps; ++k) {
    backward(mse_loss(model(x), y));
    adam.step(model);
  }
}

/// The same answers, state and description, bit by bit; and so after more steps.
template <class M>
void require_same_model(const M& a, const M& b, std::int64_t inputs, std::int64_t outputs) {
  REQUIRE(stored_model(a) == stored_model(b));
  Rng rng(5);
  const Tensor x = Tensor::normal({7, inputs}, 0, 1, rng);
  REQUIRE(test::same_bits(a(x).value(), b(x).value()));
  M c = a, d = b;
  take_steps(c, inputs, outputs);
  take_steps(d, inputs, outputs);
  REQUIRE(stored_model(c) == stored_model(d));
  Rng left(3), right(3);
  reset_parameters(c, left, true);
  reset_parameters(d, right, true);
  REQUIRE(stored_model(c) == stored_model(d));
  REQUIRE(left == right);
}

template <class M>
void require_comes_back(const M& model, std::int64_t inputs, std::int64_t outputs) {
  const ModelFileFolder folder;
  const auto path = folder.path / "model.safetensors";
  const Rng before = default_rng();
  save(model, path);
  const AnyModel any = load_model(path);
  REQUIRE(std::holds_alternative<M>(any));
  require_same_model(std::get<M>(any), model, inputs, outputs);
  require_same_model(load_model<M>(path), model, inputs, outputs);
  REQUIRE(default_rng() == before);
  save(any, folder.path / "again.safetensors");
  REQUIRE(load_safetensors(folder.path / "again.safetensors") == load_safetensors(path));
}

}  // namespace

TEST_CASE("model file: every form of MaskedDeepFFN comes back without the code that built it") {
  for (const bool norm : {false, true})
    for (const storage store : {storage::full, storage::packed})
      for (const int change : {0, 1, 2}) {
        Rng rng(7);
        MaskedDeepFFN model(6, 3, {5, 4, 4}, {.use_layer_norm = norm, .store = store}, rng);
        if (change > 0) {
          take_steps(model, 6, 3);
          model.layer_first.set_mask(Mask::random(5, 6, 0.5, rng));
          std::get<MaskedLinearLayer>(model.layers_hidden[0]).set_mask(Mask::zeros(4, 5));
        }
        if (change > 1) {
          model = store == storage::full ? pack(model) : unpack(model);
          model.layer_out.set_saliency(Tensor::uniform(model.layer_out.weight.shape(), -1, 1, rng));
        }
        INFO(norm << " " << (store == storage::full) << " " << change);
        require_comes_back(model, 6, 3);
      }
}

TEST_CASE("model file: layers with soft, learnable and frozen masks, without bias, and hidden parts by hand") {
  Rng rng(8);
  MaskedDeepFFN model(4, 2, {3, 3}, {.use_layer_norm = true}, rng);
  model.layer_first = MaskedLinearLayer(4, 3, {.bias = false, .freeze_masked = true}, rng);
  model.layer_first.set_mask(Mask::random(3, 4, 0.5, rng));
  model.layers_hidden = {MaskedLinearLayer(3, 3, {.learnable_mask = true}, rng), LayerNorm(3, 0.25f),
                         MaskedLinearLayer(3, 5, {.structural = true}, rng)};
  model.layer_out = MaskedLinearLayer(5, 2, {.keep_layer_input = true}, rng);
  model.layer_out.set_soft_mask(Tensor::uniform({2, 5}, -1, 2, rng));
  require_comes_back(model, 4, 2);
  const MaskedDeepFFN back = model_of<MaskedDeepFFN>(stored_model(model));
  REQUIRE(back.layer_first.options().freeze_masked);
  REQUIRE(back.layer_first.weight.live() != nullptr);
  REQUIRE(back.layer_out.options().keep_layer_input);
  REQUIRE(std::get<LayerNorm>(back.layers_hidden[1]).eps == 0.25f);
  for (const MaskedLinearOptions& drawn :
       {MaskedLinearOptions{.learnable_mask = true, .gradient = MaskGradient::gumbel_softmax, .hard_gate = true},
        MaskedLinearOptions{.learnable_mask = true, .gradient = MaskGradient::hard_concrete, .temperature = 0.3f}}) {
    model.layer_first = MaskedLinearLayer(4, 3, drawn, rng);
    model.layer_first.alphas().set_value(Tensor::normal({3, 4, 2}, 0, 1.5f, rng));
    MaskedDeepFFN read = model_of<MaskedDeepFFN>(stored_model(model));
    REQUIRE(stored_model(read) == stored_model(model));
    set_training(model, false), set_training(read, false);
    const Tensor x = Tensor::normal({5, 4}, 0, 1, rng);
    REQUIRE(test::same_bits(read(x).value(), model(x).value()));
    const MaskedLinearOptions same = read.layer_first.options();
    REQUIRE(same.gradient == drawn.gradient);
    REQUIRE(same.temperature == drawn.temperature);
    REQUIRE(same.hard_gate == drawn.hard_gate);
  }
}

TEST_CASE("model file: every form of MaskedDeepDAN comes back without the code that built it") {
  Rng rng(9);
  const LayeredGraph plain = model_file_graph(rng);
  LayeredGraph chosen = plain;
  for (std::int64_t v = 0; v < 30; ++v)
    chosen.vertex_attributes().set("activation", v, v % 3 == 0 ? "tanh" : v % 3 == 1 ? "sigmoid" : "none");
  const std::int64_t first = plain.first_layer_size(), last = plain.last_layer_size();
  REQUIRE(plain.num_layers() > 3);
  const std::vector<std::pair<const LayeredGraph*, MaskedDeepDANOptions>> forms{
      {&plain, {}},
      {&plain, {.store = storage::full}},
      {&plain, {.use_layer_norm = true}},
      {&plain, {.use_layer_norm = true, .store = storage::full, .all_sinks = true}},
      {&plain, {.all_sinks = true, .degree_aware = true}},
      {&plain, {.joint = true, .all_sinks = true}},
      {&chosen, {.joint = true}},
      {&plain, {.input_wiring = Mask::random(first, 6, 0.4, rng), .output_wiring = Mask::random(3, last, 0.6, rng)}},
      {&plain, {.store = storage::full, .input_wiring = Mask::random(first, 6, 0.4, rng)}}};
  for (std::size_t k = 0; k < forms.size(); ++k)
    for (const int change : {0, 1, 2}) {
      INFO("form " << k << ", change " << change);
      MaskedDeepDAN model(6, 3, *forms[k].first, forms[k].second, rng);
      if (change > 0) {
        take_steps(model, 6, 3);
        for (const detail::LayerPair& p : model.connections())  // all edges between some layers go
          model.set_mask(p.source, p.target,
                         model.mask(p.source, p.target).filter([&](std::int32_t e, std::int64_t, std::int64_t) {
                           return (p.source + p.target) % 3 != 0 && e % 2 == 0;
                         }));
      }
      if (change > 1) {
        if (forms[k].second.joint) continue;
        if (forms[k].second.store == storage::full)
          model.pack();
        else
          model.unpack();
      }
      require_comes_back(model, 6, 3);
      const MaskedDeepDAN back = model_of<MaskedDeepDAN>(stored_model(model));
      REQUIRE(back.generate_structure(true, true) == model.generate_structure(true, true));
      REQUIRE(back.options().input_wiring == model.options().input_wiring);
      REQUIRE(back.options().output_wiring == model.options().output_wiring);
      REQUIRE(back.options().store == model.options().store);
      REQUIRE(back.options().degree_aware == model.options().degree_aware);
      REQUIRE(back.wiring()->output == model.wiring()->output);
      REQUIRE(back.wiring()->activation == model.wiring()->activation);
    }
}

TEST_CASE("model file: networks that lost vertices come back, also those that no graph gives") {
  Rng rng(21);
  const LayeredGraph graph = model_file_graph(rng);
  for (const storage store : {storage::packed, storage::full})
    for (const bool sinks : {false, true})
      for (const int lost : {5, 12, 20}) {
        INFO(sinks << " " << lost);
        MaskedDeepDAN model(
            6, 3, graph,
            {.store = store, .all_sinks = sinks, .input_wiring = Mask::random(graph.first_layer_size(), 6, 0.5, rng)},
            rng);
        std::vector<std::int32_t> stay = rng.permutation(30);
        stay.resize(static_cast<std::size_t>(30 - lost));
        if (std::find(stay.begin(), stay.end(), model.wiring()->output[0]) == stay.end())
          stay.push_back(model.wiring()->output[0]);
        std::sort(stay.begin(), stay.end());
        model.keep(stay);
        require_comes_back(model, 6, 3);
      }
  // A chain's end goes, of two sinks: its vertices before are in the last layer and no outputs.
  MaskedDeepDAN chain(6, 3, LayeredGraph(Graph(5, {{0, 1}, {1, 2}, {2, 3}, {0, 4}}, true)), {.all_sinks = true}, rng);
  for (const detail::LayerPair& p : chain.connections()) chain.mask(p.source, p.target);
  std::vector<std::int32_t> all{0, 1, 2, 3};
  chain.keep(all);
  REQUIRE(chain.wiring()->output.size() == 1);
  REQUIRE(chain.wiring()->output[0] != 3);
  require_comes_back(chain, 6, 3);
  MaskedDeepDAN none(6, 3, graph, {}, rng);
  none.keep({});
  require_comes_back(none, 6, 3);
}

TEST_CASE("model file: smallest models, and models of the scalable families") {
  Rng rng(10);
  require_comes_back(MaskedDeepDAN(3, 2, LayeredGraph(Graph(1, {}, true)), {}, rng), 3, 2);
  require_comes_back(MaskedDeepDAN(3, 2, LayeredGraph(Graph(4, {}, true)), {.store = storage::full}, rng), 3, 2);
  require_comes_back(MaskedDeepFFN(1, 1, {1}, {}, rng), 1, 1);
  require_comes_back(ScalableDeepFFN({0.5, 0.3, 0.2}).build(4, 2, 20, {}, rng), 4, 2);
  const LayeredGraph theme(Graph(4, {{0, 1}, {1, 2}, {0, 3}, {2, 3}}, true));
  require_comes_back(ScalableDAN(theme).build(4, 2, 12, {}, rng), 4, 2);
}

TEST_CASE("model file: format deepstruct/1 still loads") {
  Rng rng(2);
  MaskedDeepFFN ffn(5, 2, {4, 3}, {.use_layer_norm = true}, rng);
  const auto metadata = load(ffn, model_file_data / "format1_ffn.safetensors");
  REQUIRE(metadata.at("note") == "written by version 1 of the format");
  REQUIRE(!ffn.layer_first.mask().contains(1, 2));
  REQUIRE(ffn.layer_first.weight.has_slot("exp_avg_sq"));
  const Tensor y = ffn(Tensor::ones({1, 5})).value();
  REQUIRE(std::abs(y(0, 0) - 0.328594387f) < 1e-5f);
  REQUIRE(std::abs(y(0, 1) - 0.714484751f) < 1e-5f);
  MaskedDeepDAN dan(3, 2, LayeredGraph(Graph(5, {{0, 2}, {1, 2}, {2, 3}, {0, 3}, {3, 4}}, true)), {}, rng);
  load(dan, model_file_data / "format1_dan.safetensors");
  const Tensor z = dan(Tensor::ones({1, 3})).value();
  REQUIRE(std::abs(z(0, 0) + 0.95972836f) < 1e-5f);
  REQUIRE(std::abs(z(0, 1) - 0.478657961f) < 1e-5f);
  test::require_error([] { load_model(model_file_data / "format1_ffn.safetensors"); },
                      {"load_model: the file does not say which model it holds", "format1_ffn"});
}

TEST_CASE("model file: what does not fit is an Error that names both, and nothing changes") {
  const ModelFileFolder folder;
  Rng rng(12);
  MaskedDeepFFN ffn(4, 2, {3}, {}, rng);
  const LayeredGraph a(Graph(4, {{0, 1}, {1, 3}, {0, 2}, {2, 3}}, true)),
      b(Graph(4, {{0, 1}, {0, 2}, {1, 3}, {2, 3}, {0, 3}}, true));
  MaskedDeepDAN dan(4, 2, a, {}, rng);
  const auto ffn_path = folder.path / "ffn.safetensors", dan_path = folder.path / "dan.safetensors";
  save(ffn, ffn_path);
  save(dan, dan_path);
  const auto before = stored_model(ffn);
  test::require_error([&] { load(ffn, dan_path); }, {"another kind of model (MaskedDeepDAN, not MaskedDeepFFN)"});
  test::require_error([&] { load_model<MaskedDeepFFN>(dan_path); }, {"load_model: another kind", "MaskedDeepDAN"});
  MaskedDeepDAN other(4, 2, b, {}, rng);
  test::require_error([&] { load(other, dan_path); }, {"load: the file holds a model on another graph"});
  MaskedDeepFFN wide(5, 2, {3}, {}, rng);
  test::require_error([&] { load(wide, ffn_path); }, {"load: array has another shape", "_layer_first.weight"});
  MaskedDeepFFN deep(4, 2, {3, 3}, {}, rng);
  test::require_error([&] { load(deep, ffn_path); }, {"load: array is missing (_layers_hidden.0.weight)"});
  test::require_error([&] { load_model(folder.path / "none.safetensors"); }, {"no such file"});
  REQUIRE(stored_model(ffn) == before);

  StoredTensors foreign{{stored_tensor("weight", Tensor::ones({2, 2}))}, {}};
  save_safetensors(foreign, folder.path / "foreign.safetensors");
  test::require_error([&] { load_model(folder.path / "foreign.safetensors"); },
                      {"does not say which model it holds", "foreign.safetensors"});
  foreign.metadata["deepstruct.model"] = "Perceptron";
  test::require_error([&] { model_of(foreign); },
                      {"unknown kind of model (Perceptron", "MaskedDeepFFN, MaskedDeepDAN"});
  StoredTensors later = before;
  later.metadata["format"] = "deepstruct/9";
  test::require_error([&] { restore_state(ffn, later); }, {"load: the file is of a later version"});
}

namespace {

/// A model of a user, described by one specialisation.
struct OwnModel {
  MaskedLinearLayer layer;
  LayerNorm norm;
  Tensor scale;  // a buffer
  Mask gate;     // a mask of its own
  OwnModel(std::int64_t in, std::int64_t out) : layer(in, out), norm(out), scale(Tensor::ones({out})), gate() {}
  Var operator()(const Var& x) const { return mul(norm(layer(x)), scale); }
  static auto fields(auto& m) {
    return std::tuple{Field{"layer", m.layer}, Field{"norm", m.norm}, Field{"scale", m.scale}, Field{"gate", m.gate}};
  }
};

}  // namespace

namespace deepstruct {
template <>
struct ModelFile<OwnModel> {
  static constexpr const char* kind = "OwnModel";
  static void describe(const OwnModel& m, StoredTensors& content) {
    content.tensors.push_back(stored_values<std::int32_t>(
        "structure.gate", {static_cast<std::int32_t>(m.gate.rows()), static_cast<std::int32_t>(m.gate.cols())}));
  }
  static OwnModel rebuild(const ModelReader& reader) {
    OwnModel m(0, 0);
    m.layer = reader.masked_linear("layer");
    m.norm = reader.layer_norm("norm");
    m.scale = Tensor::ones({m.layer.out_features()});
    const auto gate = reader.structure("gate");
    m.gate = Mask::ones(gate.at(0), gate.at(1));
    return m;
  }
};
}  // namespace deepstruct

TEST_CASE("model file: a new kind of model needs one specialisation; buffers and masks of its own are state") {
  OwnModel model(5, 4);
  Rng rng(3);
  model.scale = Tensor::uniform({4}, -1, 1, rng);
  model.gate = Mask::random(3, 7, 0.5, rng);
  model.layer.set_mask(Mask::random(4, 5, 0.4, rng));
  const auto content = stored_model(model);
  require_same_model(model_of<OwnModel>(content), model, 5, 4);
  REQUIRE(model_of<OwnModel>(content).gate == model.gate);
  using Mine = std::variant<MaskedDeepFFN, OwnModel>;
  REQUIRE(std::holds_alternative<OwnModel>(model_of<Mine>(content)));
  test::require_error([&] { model_of(content); }, {"unknown kind of model (OwnModel"});
}

TEST_CASE("model file: damaged and hostile descriptions are Errors") {
  Rng rng(13);
  const MaskedDeepDAN dan(6, 3, model_file_graph(rng), {.all_sinks = true}, rng);
  const MaskedDeepDAN joint(6, 3, model_file_graph(rng), {.joint = true}, rng);
  const MaskedDeepFFN ffn(6, 3, {5, 4}, {.use_layer_norm = true, .store = storage::packed}, rng);
  constexpr std::int32_t huge = std::numeric_limits<std::int32_t>::max();
  const auto attack = [&](const StoredTensors& good) {
    for (std::size_t k = 0; k < good.tensors.size(); ++k) {
      StoredTensors bad = good;
      bad.tensors.erase(bad.tensors.begin() + static_cast<std::ptrdiff_t>(k));
      // A mask that is missing is full; everything else must be there.
      if (!good.tensors[k].name.ends_with("_mask") && !good.tensors[k].name.starts_with("saliency"))
        test::error_of([&] { model_of(bad); });
      if (good.tensors[k].type != StoredTensor::Type::i32) continue;
      for (const std::int32_t value : {-1, 1, 3, 1000, huge - 1, huge})
        for (const std::size_t at : {std::size_t{0}, good.tensors[k].bytes.size() / 8}) {
          bad = good;
          if (4 * at >= bad.tensors[k].bytes.size()) continue;
          std::memcpy(bad.tensors[k].bytes.data() + 4 * at, &value, 4);
          try {
            const AnyModel model = model_of(bad);
            std::visit([](const auto& m) { m(Tensor::ones({2, 6})); }, model);
          } catch (const Error&) {
          }
        }
    }
  };
  attack(stored_model(dan));
  attack(stored_model(joint));
  attack(stored_model(ffn));

  StoredTensors bad = stored_model(dan);
  for (StoredTensor& t : bad.tensors)
    if (t.name == "structure.graph.layer") {
      std::vector<std::int32_t> layer = values_of<std::int32_t>(t);
      layer.back() = huge;
      t = stored_values(t.name, layer);
    }
  test::require_error([&] { model_of(bad); }, {"load_model: there is a layer without vertices"});
  bad = stored_model(ffn);
  for (StoredTensor& t : bad.tensors)
    if (t.name == "structure._layer_first") t = stored_values<std::int32_t>(t.name, {huge, 0});
  test::require_error([&] { model_of(bad); }, {"load_model: the model is too large for its file"});
  bad = stored_model(ffn);  // every layer alone would do
  for (StoredTensor& t : bad.tensors)
    if (t.name.starts_with("structure._layer") && t.type == StoredTensor::Type::i32)
      t = stored_values<std::int32_t>(t.name, {1 << 23, 16});
  test::require_error([&] { model_of(bad); }, {"load_model: the model is too large for its file"});
  bad = stored_model(MaskedDeepFFN(6, 3, {5}, {}, rng));  // no neurons with many inputs
  for (StoredTensor& t : bad.tensors) {
    if (t.name == "structure._layer_first") t = stored_values<std::int32_t>(t.name, {huge - 1, 0});
    if (t.name == "_layer_first.weight") t.shape = {0, huge - 1}, t.bytes.clear();
  }
  bad.tensors.push_back({"_layer_first._mask", StoredTensor::Type::boolean, {0, huge - 1}, {}});
  test::require_error([&] { model_of(bad); }, {"load_model: the model is too large for its file"});
  bad = stored_model(joint);
  for (StoredTensor& t : bad.tensors)  // an edge from the vertex's own layer, or a later one
    if (t.name == "layers_hidden.weight.indices")
      t = stored_values(t.name, std::vector<std::int32_t>(t.bytes.size() / 4, 29));
  test::error_of([&] { model_of(bad); });
  bad = stored_model(joint);
  bad.metadata["deepstruct.joint"] = "perhaps";
  test::require_error([&] { model_of(bad); }, {"load_model: option is missing", "joint"});
}

TEST_CASE("A network from a graph comes back from its file, and trains on as before") {
  Rng rng(77);
  MaskedDeepFFN ffn(5, 3, {6, 4}, {.use_layer_norm = true, .store = storage::packed}, rng);
  MaskedDeepDAN dan(5, 3, model_file_graph(rng), {}, rng);
  for (GraphNetwork network : {from_graph(to_graph(ffn)), from_graph(to_graph(dan))}) {
    const Tensor x = Tensor::normal({9, 5}, 0, 1, rng);
    const std::vector<std::int32_t> target{0, 1, 2, 0, 1, 2, 0, 1, 2};
    Adam adam;
    const auto step = [&](GraphNetwork& m) {
      backward(cross_entropy(m(x), target));
      adam.step(m);
    };
    step(network);
    GraphNetwork back = std::get<GraphNetwork>(model_of<>(stored_model(network)));
    REQUIRE(test::same_bits(back(x).value(), network(x).value()));
    Adam before = adam;
    step(network);
    adam = before;
    step(back);
    REQUIRE(test::same_bits(back(x).value(), network(x).value()));
    REQUIRE(back.layers[0].shape->module == network.layers[0].shape->module);
    // Pruned, it may be another list of parts; the file holds what it computes.
    prune_network_by_saliency(network, percentage(60));
    const auto pruned = std::get<GraphNetwork>(model_of<>(stored_model(network)));
    test::require_close(pruned(x).value(), network(x).value(), 1e-5, 1e-6);
  }
  test::require_error([&] { model_of<MaskedDeepFFN>(stored_model(from_graph(to_graph(ffn)))); },
                      {"load_model: another kind of model"});
}
