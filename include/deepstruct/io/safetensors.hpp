// Checkpoints: save() and load() of a model in the safetensors format, which Python reads too.
#pragma once

#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "../nn/masked_linear.hpp"
#include "../train/bytes.hpp"
#include "file.hpp"
#include "kernel_table.hpp"

namespace deepstruct {

/// One named array of a safetensors file, row-major.
struct StoredTensor {
  enum class Type { f32, i32, boolean };
  std::string name;
  Type type = Type::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};
/// The content of a safetensors file: arrays in order, and text about them.
struct StoredTensors {
  std::vector<StoredTensor> tensors;
  std::map<std::string, std::string> metadata;
};

namespace detail {

inline constexpr std::array<const char*, 3> stored_names{"F32", "I32", "BOOL"};
inline constexpr std::array<std::size_t, 3> stored_sizes{4, 4, 1};

template <class T>
StoredTensor stored(std::string name, StoredTensor::Type type, std::vector<std::int64_t> shape,
                    std::span<const T> values) {
  StoredTensor t{std::move(name), type, std::move(shape), std::vector<std::byte>(values.size_bytes())};
  if (!values.empty()) std::memcpy(t.bytes.data(), values.data(), values.size_bytes());
  return t;
}
inline StoredTensor stored(std::string name, const Tensor& x) {
  const std::vector<float> values = x.to_vector();
  return stored<float>(std::move(name), StoredTensor::Type::f32,
                       {x.shape().extents().begin(), x.shape().extents().end()}, values);
}

template <class T>
std::vector<T> values_of(const StoredTensor& t, StoredTensor::Type type) {
  check(t.type == type, "load: array has another element type (", t.name, ": ",
        stored_names[static_cast<std::size_t>(t.type)], ")");
  std::vector<T> values(t.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), t.bytes.data(), t.bytes.size());
  return values;
}
inline Tensor tensor_of(const StoredTensor& t) {
  return Tensor::from(Shape(t.shape), values_of<float>(t, StoredTensor::Type::f32));
}

}  // namespace detail

/// The bytes of a safetensors file: 8 bytes of header length, a JSON header, the arrays.
inline std::vector<std::byte> safetensors_bytes(const StoredTensors& content) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!content.metadata.empty()) header["__metadata__"] = content.metadata;
  std::size_t offset = 0;
  for (const StoredTensor& t : content.tensors) {
    header[t.name] = {{"dtype", detail::stored_names[static_cast<std::size_t>(t.type)]},
                      {"shape", t.shape},
                      {"data_offsets", {offset, offset + t.bytes.size()}}};
    offset += t.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::vector<std::byte> bytes(8 + text.size() + offset);
  for (int k = 0; k < 8; ++k) bytes[static_cast<std::size_t>(k)] = static_cast<std::byte>(length >> (8 * k));
  std::memcpy(bytes.data() + 8, text.data(), text.size());
  std::size_t at = 8 + text.size();
  for (const StoredTensor& t : content.tensors) {
    if (!t.bytes.empty()) std::memcpy(bytes.data() + at, t.bytes.data(), t.bytes.size());
    at += t.bytes.size();
  }
  return bytes;
}

/// Reads a safetensors file of F32, I32 and BOOL arrays; throws on anything that is not exactly one, and allocates no
/// more than the bytes hold.
inline StoredTensors parse_safetensors(std::span<const std::byte> bytes) {
  check(bytes.size() >= 8, "safetensors: the file is cut off (", bytes.size(), " bytes)");
  std::uint64_t length = 0;
  for (int k = 0; k < 8; ++k) length |= std::to_integer<std::uint64_t>(bytes[static_cast<std::size_t>(k)]) << (8 * k);
  check(length <= 100'000'000 && length <= bytes.size() - 8,
        "safetensors: the header is longer than the file or 100 MB (", length, " of ", bytes.size() - 8, " bytes)");
  const char* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  const std::span<const std::byte> data = bytes.subspan(8 + length);
  StoredTensors content;
  std::size_t expected = 0;
  try {
    const auto header = nlohmann::ordered_json::parse(text, text + length);
    check(header.is_object(), "safetensors: the header is no JSON object (", header.type_name(), ")");
    std::vector<std::pair<std::size_t, StoredTensor>> found;
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        content.metadata = entry.get<std::map<std::string, std::string>>();
        continue;
      }
      StoredTensor t;
      t.name = name;
      const std::string type = entry.at("dtype").get<std::string>();
      std::size_t k = 0;
      while (k < 3 && type != detail::stored_names[k]) ++k;
      check(k < 3, "safetensors: element type is not F32, I32 or BOOL (", name, ": ", type, ")");
      t.type = static_cast<StoredTensor::Type>(k);
      t.shape = entry.at("shape").get<std::vector<std::int64_t>>();
      std::uint64_t size = detail::stored_sizes[k];
      for (std::int64_t n : t.shape) {
        check(n >= 0 && (n == 0 || size <= data.size() / static_cast<std::uint64_t>(n)),
              "safetensors: an array is larger than the file (", name, ")");
        size *= static_cast<std::uint64_t>(n);
      }
      const auto ends = entry.at("data_offsets").get<std::array<std::uint64_t, 2>>();
      check(ends[0] <= ends[1] && ends[1] <= data.size() && ends[1] - ends[0] == size,
            "safetensors: offsets do not fit the array or the file (", name, ": ", ends[0], " to ", ends[1], " for ",
            size, " of ", data.size(), " bytes)");
      const auto part = data.subspan(ends[0], size);
      t.bytes.assign(part.begin(), part.end());
      found.emplace_back(ends[0], std::move(t));
      expected += size;
      check(expected <= data.size(), "safetensors: arrays overlap (", name, ")");
    }
    for (auto& [at, t] : found) content.tensors.push_back(std::move(t));
  } catch (const nlohmann::json::exception& e) {
    fail("safetensors: the header is damaged (", e.what(), ")");
  }
  check(expected == data.size(), "safetensors: arrays do not fill the file (", expected, " of ", data.size(),
        " bytes)");
  return content;
}

/// Options of save.
struct SaveOptions {
  bool slots = true;                                 ///< what optimizers remember too, so that training can go on
  std::map<std::string, std::string> metadata = {};  ///< text to keep with the model
};

/// Everything a checkpoint of the model holds. Names are those of a PyTorch state_dict; a packed weight is its CSR
/// matrix name.indptr, name.indices, name.values; a mask that is full everywhere is not stored; slots are
/// optimizer.<name>.<slot>.
template <class M>
StoredTensors stored_state(const M& model, const SaveOptions& options = {}) {
  StoredTensors content;
  content.metadata = options.metadata;
  content.metadata["format"] = "deepstruct/1";
  if (kernel_table() != measured_kernel_table)  // bits of training depend on it
    content.metadata["kernel_table"] = detail::json_of(kernel_table()).dump();
  auto& out = content.tensors;
  std::map<const Param*, Mask> packed;
  std::map<std::string, const MaskedLinearLayer*> layers;
  each<MaskedLinearLayer>(model, [&](const std::string& name, const MaskedLinearLayer& layer) {
    layers.emplace(name.empty() ? "_mask" : name + "._mask", &layer);
    if (layer.packed()) packed.emplace(&layer.weight, layer.mask());
  });
  struct Visitor {
    std::vector<StoredTensor>& out;
    const std::map<const Param*, Mask>& packed;
    const std::map<std::string, const MaskedLinearLayer*>& layers;
    bool slots;
    void operator()(const Path& path, const Param& p) const {
      const std::string name = path.str();
      const auto found = packed.find(&p);
      if (found != packed.end()) {
        const Mask& m = found->second;
        out.push_back(detail::stored(name + ".indptr", StoredTensor::Type::i32, {m.rows() + 1}, m.row_start()));
        out.push_back(detail::stored(name + ".indices", StoredTensor::Type::i32, {m.nnz()}, m.col()));
        out.push_back(detail::stored(name + ".values", p.value()));
      } else {
        out.push_back(detail::stored(name, p.value()));
      }
      if (slots)
        for (const Param::Slot& s : p.slots())
          out.push_back(detail::stored("optimizer." + name + "." + s.name, s.value));
    }
    void operator()(const Path& path, const Mask& m) const {
      const auto layer = layers.find(path.str());
      if (m.is_full() || (layer != layers.end() && layer->second->packed())) return;
      std::vector<std::uint8_t> flags(static_cast<std::size_t>(m.rows() * m.cols()));
      m.for_each(
          [&](std::int32_t, std::int64_t r, std::int64_t c) { flags[static_cast<std::size_t>(r * m.cols() + c)] = 1; });
      out.push_back(detail::stored<std::uint8_t>(path.str(), StoredTensor::Type::boolean, {m.rows(), m.cols()}, flags));
    }
    void operator()(const Path& path, const Tensor& t) const { out.push_back(detail::stored(path.str(), t)); }
  };
  walk(model, Visitor{out, packed, layers, options.slots});
  return content;
}

/// Fills a model of the same structure; masked layers take the storage that was saved. Throws, and leaves the model
/// unchanged, unless every array the model needs is there in its shape and nothing is left over.
template <class M>
void restore_state(M& model, const StoredTensors& content) {
  std::map<std::string, const StoredTensor*> open;
  for (const StoredTensor& t : content.tensors)
    check(open.emplace(t.name, &t).second, "load: array is there twice (", t.name, ")");
  const auto take = [&](const std::string& name) -> const StoredTensor& {
    const auto found = open.find(name);
    check(found != open.end(), "load: array is missing (", name, ")");
    const StoredTensor& t = *found->second;
    open.erase(found);
    return t;
  };
  M next = model;
  std::map<const Param*, char> done;
  each<MaskedLinearLayer>(next, [&](const std::string& own, MaskedLinearLayer& layer) {
    const std::string name = own.empty() ? "" : own + ".";
    if (open.contains(name + "weight.indptr")) {
      check(!layer.learnable(), "load: a packed layer cannot become learnable (", own, ")");
      const auto start = detail::values_of<std::int32_t>(take(name + "weight.indptr"), StoredTensor::Type::i32);
      const auto col = detail::values_of<std::int32_t>(take(name + "weight.indices"), StoredTensor::Type::i32);
      layer.pack();
      layer.set_mask(Mask::from_csr(layer.out_features(), layer.in_features(), start, col));
      layer.weight = Param(Tensor::zeros(layer.weight.shape()));
      layer.weight.set_value(detail::tensor_of(take(name + "weight.values")));
    } else {
      layer.unpack();
      layer.weight.set_value(detail::tensor_of(take(name + "weight")));
      layer.weight.clear_slots();
      if (layer.learnable()) return;  // its alphas are a parameter like any other
      if (!open.contains(name + "_mask")) {
        layer.set_mask(Mask::ones(layer.out_features(), layer.in_features()));
      } else if (const StoredTensor& t = take(name + "_mask"); t.type == StoredTensor::Type::f32) {
        layer.set_soft_mask(detail::tensor_of(t));
      } else {
        check(t.shape == std::vector<std::int64_t>{layer.out_features(), layer.in_features()},
              "load: mask has another shape (", t.name, ")");
        const auto flags = detail::values_of<std::uint8_t>(t, StoredTensor::Type::boolean);
        for (std::uint8_t f : flags)
          check(f <= 1, "load: a mask entry is neither 0 nor 1 (", t.name, ": ", int{f}, ")");
        layer.set_mask(Mask::where(layer.out_features(), layer.in_features(), [&](std::int64_t r, std::int64_t c) {
          return flags[static_cast<std::size_t>(r * layer.in_features() + c)] != 0;
        }));
      }
    }
  });
  each<MaskedLinearLayer>(next, [&](MaskedLinearLayer& layer) { done.emplace(&layer.weight, 1); });
  each_param(next, [&](const std::string& name, Param& p) {
    if (!done.contains(&p)) {
      p.set_value(detail::tensor_of(take(name)));
      p.clear_slots();
    }
    const std::string prefix = "optimizer." + name + ".";
    for (auto it = open.lower_bound(prefix); it != open.end() && it->first.starts_with(prefix);) {
      Tensor value = detail::tensor_of(*it->second);
      const std::string slot = it->first.substr(prefix.size());
      check(value.shape() == p.shape(), "load: optimizer state has another shape than its parameter (", it->first, ": ",
            value.shape(), " and ", p.shape(), ")");
      p.slot(slot) = std::move(value);
      it = open.erase(it);
    }
  });
  check(open.empty(), "load: the model has no place for an array (", open.empty() ? "" : open.begin()->first, ")");
  model = std::move(next);
}

/// Writes the model to a safetensors file, whole or not at all.
template <class M>
void save(const M& model, const std::filesystem::path& path, const SaveOptions& options = {}) {
  write_whole_file(path, safetensors_bytes(stored_state(model, options)));
}
/// Reads what save() wrote into a model of the same structure; returns the metadata. Throws on a missing, damaged or
/// foreign file and leaves the model unchanged then.
template <class M>
std::map<std::string, std::string> load(M& model, const std::filesystem::path& path) {
  const StoredTensors content = parse_safetensors(read_plain_file(path));
  restore_state(model, content);
  return content.metadata;
}

}  // namespace deepstruct
