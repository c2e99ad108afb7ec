// The state_dict of PyTorch, both ways: files of the real torch give its outputs here; exports have its names and
// layout. The case [exchange] writes those that torch_exchange.py checks.
#include <deepstruct/io/checkpoint.hpp>
#include <deepstruct/io/state_dict.hpp>
#include <deepstruct/nn/batch_norm.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/nn/pool.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/train/optimizer.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

const std::filesystem::path state_dict_data = std::filesystem::path(__FILE__).parent_path() / "data";

/// A file of torch_exchange.py: a state_dict, an input, and what PyTorch makes of it.
struct TorchFile {
  StoredTensors state;
  Tensor x, y;

  explicit TorchFile(const std::string& name) {
    state = load_safetensors(state_dict_data / ("torch_" + name + ".safetensors"));
    x = taken("exchange.input");
    y = taken("exchange.output");
  }
  Tensor taken(const std::string& name) {
    const StoredTensor* t = state.find(name);
    REQUIRE(t != nullptr);
    const Tensor value = tensor_of(*t);
    std::erase_if(state.tensors, [&](const StoredTensor& other) { return other.name == name; });
    return value;
  }
};

template <class M>
void require_outputs(const M& model, const Tensor& x, const Tensor& y) {
  const Tensor got = model(x).value();
  REQUIRE(got.shape() == y.shape());
  y.for_each([&](std::int64_t i, float want) {
    const float have = got.to_vector()[static_cast<std::size_t>(i)];
    INFO("element " << i << ": " << have << ", PyTorch " << want);
    REQUIRE(std::abs(have - want) <= 1e-5f * (1 + std::abs(want)));
  });
}

/// The same arrays under the same names; order does not matter.
void require_same_arrays(StoredTensors a, StoredTensors b) {
  const auto by_name = [](const StoredTensor& s, const StoredTensor& t) { return s.name < t.name; };
  std::sort(a.tensors.begin(), a.tensors.end(), by_name);
  std::sort(b.tensors.begin(), b.tensors.end(), by_name);
  REQUIRE(a.tensors.size() == b.tensors.size());
  for (std::size_t k = 0; k < a.tensors.size(); ++k) {
    INFO(a.tensors[k].name << " and " << b.tensors[k].name);
    REQUIRE(a.tensors[k] == b.tensors[k]);
  }
}

LayeredGraph torch_graph() {  // EDGES of torch_exchange.py
  return LayeredGraph::load_from(
      Graph(8, {{0, 2}, {1, 2}, {1, 3}, {0, 4}, {2, 4}, {3, 5}, {0, 5}, {4, 6}, {1, 6}, {5, 7}, {4, 7}, {3, 7}}, true));
}

auto torch_plain(Rng& rng) {
  return Sequential{Linear(5, 7, rng), ReLU(), Linear(7, 4, rng), Tanh(), Linear(4, 2, {.bias = false}, rng)};
}
auto torch_batch_norm(Rng& rng) {
  Sequential net{Linear(5, 6, rng), BatchNorm1d(6), ReLU(), Linear(6, 3, rng)};
  set_training(net, false);
  return net;
}

auto torch_conv(Rng& rng, storage store = storage::full) {
  Sequential net{MaskedConv2d(2, 4, 3, {.conv = {.padding = {1, 1}}, .store = store}, rng),
                 BatchNorm2d(4),
                 ReLU(),
                 MaxPool2d(2),
                 Conv2d(4, 6, {3, 2}, {.stride = {1, 2}}, false, rng),
                 BatchNorm2d(6),
                 ReLU(),
                 Flatten(),
                 Linear(12, 3, rng)};
  set_training(net, false);
  return net;
}

}  // namespace

TEST_CASE("state_dict: plain modules compute what PyTorch computes, from F32, F64, F16 and BF16") {
  Rng rng(1);
  for (const char* name : {"plain", "plain_f64", "plain_f16", "plain_bf16"}) {
    INFO(name);
    TorchFile file(name);
    auto net = torch_plain(rng);
    const ImportReport report = import_state_dict(net, file.state);
    require_outputs(net, file.x, file.y);
    REQUIRE(report.converted.size() == (name == std::string("plain") ? 0u : 5u));
    if (name == std::string("plain"))
      require_same_arrays(export_state_dict(net), file.state);
    else
      REQUIRE(report.str().find("converted: 0.weight (") == 0);
  }
}

TEST_CASE("state_dict: batch norm with running statistics; num_batches_tracked is optional") {
  Rng rng(1);
  TorchFile file("batch_norm");
  auto net = torch_batch_norm(rng);
  REQUIRE(import_state_dict(net, file.state).str().empty());
  require_outputs(net, file.x, file.y);
  require_same_arrays(export_state_dict(net), file.state);
  file.taken("1.num_batches_tracked");
  auto again = torch_batch_norm(rng);
  REQUIRE(import_state_dict(again, file.state).str().empty());
  require_outputs(again, file.x, file.y);
  file.taken("1.running_var");
  test::require_error([&] { import_state_dict(again, file.state); }, {"missing: 1.running_var)"});
}

TEST_CASE("state_dict: convolutions with masks and batch norm, full and packed; checkpoints of them") {
  Rng rng(1);
  TorchFile file("conv");
  for (const storage store : {storage::full, storage::packed}) {
    auto net = torch_conv(rng, store);
    REQUIRE(import_state_dict(net, file.state).str().empty());
    REQUIRE(std::get<0>(net.modules).packed() == (store == storage::packed));
    require_outputs(net, file.x, file.y);
    if (store == storage::full) require_same_arrays(export_state_dict(net), file.state);
    auto back = torch_conv(rng);
    import_state_dict(back, export_state_dict(net));
    require_outputs(back, file.x, file.y);

    // The same through a checkpoint, with slots and a saliency, into a network of either storage.
    set_training(net, true);
    Adam adam;
    for (int k = 0; k < 2; ++k) {
      backward(mse_loss(net(file.x), file.y));
      adam.step(net);
    }
    auto& layer = std::get<0>(net.modules);
    layer.set_saliency(Tensor::uniform(layer.weight.shape(), -1, 1, rng));
    const StoredTensors state = stored_state(net);
    for (const storage other : {storage::full, storage::packed}) {
      auto loaded = torch_conv(rng, other);
      restore_state(loaded, state);
      REQUIRE(stored_state(loaded) == state);
      set_training(loaded, true);
      REQUIRE(test::same_bits(loaded(file.x).value(), net(file.x).value()));
    }
  }
}

TEST_CASE("state_dict: masked feed-forward networks, full and packed") {
  Rng rng(1);
  TorchFile file("ffn");
  for (const storage store : {storage::full, storage::packed}) {
    MaskedDeepFFN net(5, 3, {6, 5, 4}, {.use_layer_norm = true, .store = store}, rng);
    REQUIRE(import_state_dict(net, file.state).str().empty());
    REQUIRE(net.layer_first.packed() == (store == storage::packed));
    REQUIRE(!net.layer_first.mask().is_full());
    require_outputs(net, file.x, file.y);
    MaskedDeepFFN back(5, 3, {6, 5, 4}, {.use_layer_norm = true}, rng);
    import_state_dict(back, export_state_dict(net, {.masks = ExportOptions::Masks::all}));
    require_outputs(back, file.x, file.y);
  }
  MaskedDeepFFN full(5, 3, {6, 5, 4}, {.use_layer_norm = true}, rng);
  import_state_dict(full, file.state);
  require_same_arrays(export_state_dict(full, {.masks = ExportOptions::Masks::all}), file.state);
  const StoredTensors none = export_state_dict(full, {.masks = ExportOptions::Masks::none});
  REQUIRE(none.find("_layer_first._mask") == nullptr);
  REQUIRE(tensor_of(*none.find("_layer_first.weight")) == full.layer_first.effective_weight());
  REQUIRE(export_state_dict(MaskedDeepFFN(5, 3, {6}, {}, rng)).tensors.size() == 4);

  TorchFile unmasked("ffn_unmasked");
  MaskedDeepFFN dense(5, 3, {6, 5}, {.use_layer_norm = true}, rng);
  dense.layer_first.set_mask(Mask::zeros(6, 5));
  MaskedDeepFFN kept = dense;
  import_state_dict(dense, unmasked.state);
  require_outputs(dense, unmasked.x, unmasked.y);
  import_state_dict(kept, unmasked.state, {.keep_masks = true});
  REQUIRE(kept.layer_first.mask().nnz() == 0);
}

TEST_CASE("state_dict: networks on graphs, packed and full, with layer norm") {
  Rng rng(1);
  for (const bool norm : {false, true})
    for (const storage store : {storage::packed, storage::full}) {
      INFO(norm << " " << (store == storage::full));
      TorchFile file(norm ? "dan_norm" : "dan");
      MaskedDeepDAN net(5, 3, torch_graph(), {.use_layer_norm = norm, .store = store}, rng);
      const auto names = state_names(net);
      REQUIRE(import_state_dict(net, file.state).str().empty());
      require_outputs(net, file.x, file.y);
      REQUIRE(state_names(net) == names);
      REQUIRE(net.options().store == store);
      REQUIRE(net.layers_hidden.has_value() == (store == storage::packed && !norm));
      if (store == storage::full)
        require_same_arrays(export_state_dict(net, {.masks = ExportOptions::Masks::all}), file.state);
      MaskedDeepDAN back(5, 3, torch_graph(), {.use_layer_norm = norm, .store = store}, rng);
      import_state_dict(back, export_state_dict(net));
      require_outputs(back, file.x, file.y);
    }
  // layer_first is full and fully connected in the packed network, and stays full.
  MaskedDeepDAN net(5, 3, torch_graph(), {}, rng), other(5, 3, torch_graph(), {}, rng);
  import_state_dict(other, export_state_dict(net));
  REQUIRE(!other.layer_first.packed());
  REQUIRE(other.layers_hidden->weight.value() == net.layers_hidden->weight.value());
  MaskedDeepDAN joint(5, 3, torch_graph(), {.joint = true}, rng);
  test::require_error([&] { export_state_dict(joint); }, {"joint"});
}

TEST_CASE("state_dict: soft and learnable masks are exchanged") {
  Rng rng(3);
  Sequential net{MaskedLinearLayer(4, 3, {.learnable_mask = true}, rng), MaskedLinearLayer(3, 2, rng)};
  std::get<0>(net.modules).set_edge(1, 2, false);
  std::get<1>(net.modules).set_soft_mask(Tensor::uniform({2, 3}, -1, 1, rng));
  const StoredTensors state = export_state_dict(net);
  REQUIRE(state.find("0._mask")->shape == std::vector<std::int64_t>{3, 4, 2});
  REQUIRE(state.find("1._mask")->type == StoredTensor::Type::f32);
  Sequential back{MaskedLinearLayer(4, 3, {.learnable_mask = true}, rng), MaskedLinearLayer(3, 2, rng)};
  import_state_dict(back, state);
  const Tensor x = Tensor::uniform({5, 4}, -1, 1, rng);
  REQUIRE(test::same_bits(back(x).value(), net(x).value()));
  // Python deepstruct's alphas are multiplied in where masks are not wanted.
  Sequential plain{Linear(4, 3, rng), Linear(3, 2, rng)};
  import_state_dict(plain, export_state_dict(net, {.masks = ExportOptions::Masks::none}));
  require_outputs(plain, x, net(x).value());
}

TEST_CASE("state_dict: names that differ are listed, wrong shapes refused, nothing changes") {
  Rng rng(4);
  MaskedDeepFFN net(5, 3, {6}, {}, rng);
  const StoredTensors before = stored_state(net);
  StoredTensors state = export_state_dict(MaskedDeepFFN(5, 3, {6}, {}, rng));
  state.tensors[0].name = "elsewhere.weight";
  state.tensors.push_back(stored_tensor("more", Tensor::ones({1})));
  test::require_error([&] { import_state_dict(net, state); },
                      {"import_state_dict: names of the model and the state_dict differ",
                       "missing: _layer_first.weight; unexpected: elsewhere.weight, more"});
  REQUIRE(stored_state(net) == before);
  const Tensor weight = net.layer_first.weight.value();
  const ImportReport report = import_state_dict(net, state, {.strict = false});
  REQUIRE(report.missing == std::vector<std::string>{"_layer_first.weight"});
  REQUIRE(report.unexpected == std::vector<std::string>{"elsewhere.weight", "more"});
  REQUIRE(net.layer_first.weight.value() == weight);
  REQUIRE(tensor_of(*state.find("_layer_out.weight")) == net.layer_out.weight.value());

  StoredTensors wide = export_state_dict(MaskedDeepFFN(5, 3, {7}, {}, rng));
  test::require_error([&] { import_state_dict(net, wide, {.strict = false}); },
                      {"import_state_dict: array has another shape (_layer_first.weight"});
  StoredTensors many;
  for (int k = 0; k < 30; ++k) many.tensors.push_back(stored_tensor("x" + std::to_string(k), Tensor::ones({1})));
  test::require_error([&] { import_state_dict(net, many); }, {"x0, x1, x10", "and 10 more"});
}

TEST_CASE("state_dict: files for torch_exchange.py check are written", "[exchange]") {
  const std::filesystem::path folder = "exchange";
  std::filesystem::create_directories(folder);
  Rng rng(5);
  const auto write = [&](const char* name, const auto& net, StoredTensors state, const Shape& shape = {4, 5}) {
    const Tensor x = Tensor::normal(shape, 0, 2, rng);
    state.tensors.push_back(stored_tensor("exchange.input", x));
    state.tensors.push_back(stored_tensor("exchange.output", net(x).value()));
    save_safetensors(state, folder / (std::string(name) + ".safetensors"));
    require_same_arrays(load_safetensors(folder / (std::string(name) + ".safetensors")), state);
  };
  using Masks = ExportOptions::Masks;
  const auto plain = torch_plain(rng);
  write("plain", plain, export_state_dict(plain));
  auto norm = torch_batch_norm(rng);
  set_training(norm, true);
  for (int k = 0; k < 5; ++k) norm(Tensor::normal({8, 5}, 1, 2, rng));
  set_training(norm, false);
  write("batch_norm", norm, export_state_dict(norm));
  MaskedDeepFFN ffn(5, 3, {6, 5, 4}, {.use_layer_norm = true}, rng);
  ffn.layer_first.set_mask(Mask::random(6, 5, 0.5, rng));
  std::get<MaskedLinearLayer>(ffn.layers_hidden[0]).set_mask(Mask::random(5, 6, 0.5, rng));
  write("ffn_full", ffn, export_state_dict(ffn, {.masks = Masks::all}));
  write("ffn_packed", pack(ffn), export_state_dict(pack(ffn), {.masks = Masks::all}));
  write("ffn_no_masks", ffn, export_state_dict(ffn, {.masks = Masks::none}));
  MaskedDeepDAN dan(5, 3, torch_graph(), {}, rng);
  each_param(dan, [&](Param& p) { p.set_value(Tensor::uniform(p.shape(), -1, 1, rng)); });
  write("dan_packed", dan, export_state_dict(dan, {.masks = Masks::all}));
  const MaskedDeepDAN dan_norm(5, 3, torch_graph(), {.use_layer_norm = true}, rng);
  write("dan_norm", dan_norm, export_state_dict(dan_norm, {.masks = Masks::all}));
  auto images = torch_conv(rng, storage::packed);
  std::get<0>(images.modules).set_mask(Mask::random(4, 18, 0.5, rng));
  StoredTensors conv = export_state_dict(images);
  write("conv", images, conv, {2, 2, 6, 8});
  MaskedDeepFFN packed(5, 3, {6, 5}, {.store = storage::packed}, rng);
  packed.layer_first.set_mask(Mask::random(6, 5, 0.5, rng));
  const Adam adam;
  write("checkpoint", packed, stored_checkpoint(packed, Field{"optimizer", adam}));
}
