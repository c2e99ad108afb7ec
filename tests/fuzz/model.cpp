#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include <deepstruct/io/checkpoint.hpp>

#include "targets.hpp"

using namespace deepstruct;

namespace {

LayeredGraph fuzz_graph(bool activations) {
  Graph g(9, {{0, 2}, {1, 2}, {1, 3}, {2, 4}, {3, 5}, {0, 5}, {4, 6}, {5, 6}, {5, 7}, {1, 7}, {3, 8}}, true);
  for (Vertex v = 0; v < 9 && activations; v += 2) g.vertex_attributes().set("activation", v, "tanh");
  return LayeredGraph::load_from(g);
}
MaskedDeepFFN fuzz_network(MaskedDeepFFNOptions options = {}) {
  Rng rng(1);
  return MaskedDeepFFN(4, 2, {3, 2}, options, rng);
}
MaskedDeepDAN fuzz_dan(MaskedDeepDANOptions options = {}) {
  Rng rng(2);
  return MaskedDeepDAN(4, 2, fuzz_graph(options.joint), options, rng);
}

/// A model with what a run of training keeps.
struct FuzzRun {
  MaskedDeepFFN model = fuzz_network();
  Adam optimizer = {};
  ReduceLROnPlateau schedule = {};
  Rng rng = Rng(3);
  DataPosition at = {};
  std::vector<double> losses = {0.5, 0.25};
  std::optional<double> best = 0.25;

  StoredTensors stored() const {
    return stored_checkpoint(model, Field{"optimizer", optimizer}, Field{"schedule", schedule}, Field{"rng", rng},
                             Field{"at", at}, Field{"losses", losses}, Field{"best", best});
  }
  bool restore(const StoredTensors& content) {
    return restore_checkpoint(content, model, Field{"optimizer", optimizer}, Field{"schedule", schedule},
                              Field{"rng", rng}, Field{"at", at}, Field{"losses", losses}, Field{"best", best})
        .same_kernels;
  }
};

/// restore(content) changes all or nothing, and what it restored comes back.
template <class T, class Restore, class Stored>
void fuzz_restore(T value, const StoredTensors& content, Restore&& restore, Stored&& stored) {
  const StoredTensors before = stored(value);
  if (!fuzz::parsed([&] { return restore(value, content), true; })) {
    fuzz::require(stored(value) == before, "model: what could not be read changed the model");
    return;
  }
  const StoredTensors now = stored(value);
  restore(value, now);
  fuzz::require(stored(value) == now, "model: written again, it differs");
}

void fuzz_content(const StoredTensors& content) {
  const auto restore = [](auto& model, const StoredTensors& from) { restore_state(model, from); };
  const auto stored = [](const auto& model) { return stored_state(model); };
  static const MaskedDeepFFN network = fuzz_network(), normed = fuzz_network({.use_layer_norm = true});
  static const MaskedDeepDAN dan = fuzz_dan();
  fuzz_restore(network, content, restore, stored);
  fuzz_restore(normed, content, restore, stored);
  fuzz_restore(dan, content, restore, stored);
  static const FuzzRun training;
  fuzz_restore(
      training, content, [](FuzzRun& run, const StoredTensors& from) { run.restore(from); },
      [](const FuzzRun& run) { return run.stored(); });

  const auto model = fuzz::parsed([&] { return model_of(content); });
  if (!model) return;
  const StoredTensors now = stored_model(*model);
  fuzz::require(stored_model(model_of(now)) == now, "model: described again, it differs");
  std::visit(
      [](const auto& m) {
        const std::int64_t in = [&] {
          if constexpr (requires { m.layer_first; })
            return m.layer_first.in_features();
          else
            return m.inputs();
        }();
        fuzz::parsed([&] { return m(Tensor::ones({2, std::min<std::int64_t>(in, 4096)})); });  // of other layers' sizes
      },
      *model);
}

/// Takes numbers from the front of the bytes, 0 behind their end.
struct FuzzSource {
  fuzz::Bytes bytes;

  bool empty() const { return bytes.empty(); }
  std::uint8_t byte() {
    if (bytes.empty()) return 0;
    const auto value = std::to_integer<std::uint8_t>(bytes.front());
    bytes = bytes.subspan(1);
    return value;
  }
  std::size_t below(std::size_t n) {
    const std::size_t word = byte() | std::size_t{byte()} << 8;
    return n == 0 ? 0 : word % n;
  }
  std::int32_t integer() {
    constexpr auto most = std::numeric_limits<std::int32_t>::max();
    constexpr std::int32_t special[] = {most, most - 1, -1, -most - 1, 1 << 24, 1 << 16, 1000, 255};
    const std::uint8_t choice = byte();
    return choice < 240 ? choice % 20 : special[choice % 8];
  }
};

/// One change that leaves it a file.
void fuzz_edit(FuzzSource& from, StoredTensors& content) {
  if (content.tensors.empty()) return;
  const std::uint8_t what = from.byte();
  StoredTensor& t = content.tensors[from.below(content.tensors.size())];
  const StoredTensor& other = content.tensors[from.below(content.tensors.size())];
  const std::size_t item = detail::type_info(t.type).size;
  switch (what % 10) {
    case 0: {  // one integer
      const std::int32_t value = from.integer();
      const std::size_t at = from.below(t.bytes.size() / 4);
      if (t.bytes.size() >= 4) std::memcpy(t.bytes.data() + 4 * at, &value, 4);
      break;
    }
    case 1:  // one byte
      if (!t.bytes.empty()) t.bytes[from.below(t.bytes.size())] = static_cast<std::byte>(from.byte());
      break;
    case 2: {  // another extent
      if (t.shape.empty()) break;
      t.shape[from.below(t.shape.size())] = from.byte() % 32;
      std::size_t size = item;
      for (const std::int64_t n : t.shape) size *= static_cast<std::size_t>(n);
      if (size > 1 << 14) t.shape = {0}, size = 0;
      t.bytes.resize(size);
      break;
    }
    case 3:
      content.tensors.erase(content.tensors.begin() + (&t - content.tensors.data()));
      break;
    case 4: {  // the name of an array that another model has
      const std::string old = t.name;
      constexpr const char* parts[] = {".values", ".indices", ".indptr", "._mask", ".weight", ".bias", "", "_mask"};
      std::string name = old.substr(0, std::min(old.size(), old.rfind('.'))) + parts[from.byte() % 8];
      if (!content.find(name) && !name.empty()) t.name = name;
      break;
    }
    case 5: {  // another type, or the same bits as another
      const auto type = static_cast<StoredTensor::Type>(from.byte() % detail::stored_types.size());
      if (detail::type_info(type).size == item) t.type = type;
      break;
    }
    case 6: {  // an option
      if (content.metadata.empty()) break;
      auto at = std::next(content.metadata.begin(), static_cast<std::ptrdiff_t>(from.below(content.metadata.size())));
      constexpr const char* texts[] = {"true", "false", "MaskedDeepFFN", "MaskedDeepDAN", "deepstruct/1", "0", "none"};
      at->second = texts[from.byte() % 7];
      break;
    }
    case 7: {  // a list of integers
      std::vector<std::int32_t> values(from.byte() % 32);
      for (std::int32_t& x : values) x = from.integer();
      t = stored_values(t.name, values);
      break;
    }
    case 8: {  // what another array holds
      const std::string name = t.name;
      if (&t != &other) t = other;
      t.name = name;
      break;
    }
    default: {  // no rows, or no columns, but many of the others
      const std::int64_t many = from.integer();
      t.shape = {0, std::max<std::int64_t>(many, 0)};
      t.bytes.clear();
    }
  }
}

const std::vector<StoredTensors>& fuzz_bases() {
  static const std::vector<StoredTensors> all = [] {
    std::vector<StoredTensors> made;
    const auto add = [&](const auto& model) { made.push_back(stored_model(model)); };
    add(fuzz_network());
    add(fuzz_network({.use_layer_norm = true, .store = storage::packed}));
    MaskedDeepFFN layers = fuzz_network();
    Rng rng(4);
    layers.layer_first.set_soft_mask(Tensor::uniform({3, 4}, -1, 1, rng));
    std::get<MaskedLinearLayer>(layers.layers_hidden[0]) = MaskedLinearLayer(3, 2, {.learnable_mask = true}, rng);
    layers.layer_out.set_mask(Mask::from_edges(2, 2, {{0, 1}, {1, 0}}));
    layers.layer_out.set_saliency(Tensor::ones({2, 2}));
    add(layers);
    add(fuzz_dan());
    add(fuzz_dan({.joint = true}));
    add(fuzz_dan({.use_layer_norm = true}));
    add(fuzz_dan({.store = storage::full, .all_sinks = true}));
    add(fuzz_dan({.all_sinks = true, .input_wiring = Mask::from_edges(2, 4, {{0, 1}, {1, 0}, {1, 3}})}));
    MaskedDeepDAN cut = fuzz_dan({.all_sinks = true});
    cut.keep(std::vector<std::int32_t>{0, 1, 3, 4, 6});
    add(cut);
    add(pack(layers));
    made.push_back(FuzzRun().stored());
    return made;
  }();
  return all;
}

}  // namespace

std::vector<std::vector<std::byte>> fuzz::model_files() {
  std::vector<std::vector<std::byte>> files;
  for (const StoredTensors& content : fuzz_bases()) files.push_back(safetensors_bytes(content));
  return files;
}

void fuzz::model(Bytes bytes) {
  if (const auto content = parsed([&] { return parse_safetensors(bytes); })) fuzz_content(*content);
}

void fuzz::model_edit(Bytes bytes) {
  FuzzSource from{bytes};
  StoredTensors content = fuzz_bases()[from.byte() % fuzz_bases().size()];
  for (int k = 0; k < 16 && !from.empty(); ++k) fuzz_edit(from, content);
  if (const auto file = parsed([&] { return safetensors_bytes(content); })) model(*file);
}
