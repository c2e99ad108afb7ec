// The state of a model as arrays and back: parameters, masks, buffers, saliencies, optimizer slots.
#pragma once

#include <concepts>
#include <set>

#include "../nn/masked_linear.hpp"
#include "kernel_table.hpp"
#include "stored_tensor.hpp"

namespace deepstruct {

/// Options of save.
struct SaveOptions {
  bool slots = true;                                 ///< what optimizers remember too, so that training can go on
  std::map<std::string, std::string> metadata = {};  ///< text to keep with the model
};

namespace detail {

/// What has a name in a checkpoint.
template <class T>
concept StatePart = MaskedLayer<T> || std::same_as<T, Param> || std::same_as<T, Mask> || std::same_as<T, Tensor>;

/// Version of the format of checkpoints; 1 had no description of the model.
inline constexpr int checkpoint_format = 2;

/// Arrays that are no state of a model but say how it is built, or belong to a training run, and the metadata that say
/// that they are there.
inline constexpr std::string_view structure_prefix = "structure.", training_prefix = "training.";
inline constexpr const char *model_key = "deepstruct.model", *training_key = "deepstruct.training";

/// The name of a part of a part.
inline std::string dotted(const std::string& name, std::string_view part) {
  return name.empty() ? std::string(part) : name + "." + std::string(part);
}

inline StoredTensor stored_flags(std::string name, const Mask& m) {
  std::vector<std::uint8_t> flags(static_cast<std::size_t>(m.rows() * m.cols()));
  m.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { flags[r * m.cols() + c] = 1; });
  return stored_values<bool, std::uint8_t>(std::move(name), {m.rows(), m.cols()}, flags);
}
inline Mask mask_of_flags(const StoredTensor& t, std::int64_t rows, std::int64_t cols) {
  check(t.shape == std::vector<std::int64_t>{rows, cols}, "load: mask has another shape (", t.name, ", model ",
        Shape{rows, cols}, ")");
  const auto flags = values_of<std::uint8_t>(t);
  for (const std::uint8_t f : flags)
    check(f <= 1, "load: a mask entry is neither 0 nor 1 (", t.name, ": ", int{f}, ")");
  return Mask::where(rows, cols, [&](std::int64_t r, std::int64_t c) { return flags[r * cols + c] != 0; });
}
/// A tensor of the shape that the model has in its place.
inline Tensor tensor_like(const StoredTensor& t, const Shape& shape, const char* op = "load") {
  Tensor x = tensor_of(t);
  check(x.shape() == shape, op, ": array has another shape (", t.name, ": ", x.shape(), ", model ", shape, ")");
  return x;
}

/// The state of a masked layer but its bias and slots: a packed weight is its CSR matrix; a full mask goes without
/// saying.
template <MaskedLayer Layer>
void store_layer(const std::string& name, const Layer& layer, std::vector<StoredTensor>& out) {
  const std::string weight = dotted(name, "weight");
  if (layer.packed()) {
    const Mask m = layer.mask();
    out.push_back(stored_values<std::int32_t, std::int32_t>(weight + ".indptr", {m.rows() + 1}, m.row_start()));
    out.push_back(stored_values<std::int32_t, std::int32_t>(weight + ".indices", {m.nnz()}, m.col()));
    out.push_back(stored_tensor(weight + ".values", layer.weight.value()));
  } else {
    out.push_back(stored_tensor(weight, layer.weight.value()));
  }
  if (layer.has_saliency()) out.push_back(stored_tensor("saliency." + weight, layer.saliency()));
}

/// Arrays that wait to be taken by the parts of a model.
class OpenArrays {
 public:
  explicit OpenArrays(const StoredTensors& content) {
    const auto version = content.metadata.find("format");
    if (version != content.metadata.end() && version->second.starts_with("deepstruct/"))
      check(version->second == "deepstruct/1" || version->second == "deepstruct/2",
            "load: the file is of a later version of the library (", version->second, ")");
    const bool structure = content.metadata.contains(model_key), training = content.metadata.contains(training_key);
    for (const StoredTensor& t : content.tensors) {
      if ((structure && t.name.starts_with(structure_prefix)) || (training && t.name.starts_with(training_prefix)))
        continue;
      check(arrays_.emplace(t.name, &t).second, "load: array is there twice (", t.name, ")");
    }
  }
  bool contains(const std::string& name) const { return arrays_.contains(name); }
  const StoredTensor& take(const std::string& name) {
    const auto found = arrays_.find(name);
    check(found != arrays_.end(), "load: array is missing (", name, ")");
    const StoredTensor& t = *found->second;
    arrays_.erase(found);
    return t;
  }
  /// Takes the arrays "prefix…" without another point and calls f(rest of the name, array), in the order of the file.
  template <class F>
  void take_all(const std::string& prefix, F&& f) {
    std::vector<const StoredTensor*> found;
    for (auto it = arrays_.lower_bound(prefix); it != arrays_.end() && it->first.starts_with(prefix);) {
      const bool deeper = it->first.find('.', prefix.size()) != std::string::npos;
      if (!deeper) found.push_back(it->second);
      it = deeper ? std::next(it) : arrays_.erase(it);
    }
    std::sort(found.begin(), found.end());
    for (const StoredTensor* t : found) f(t->name.substr(prefix.size()), *t);
  }
  void require_none() const {
    check(arrays_.empty(), "load: the model has no place for an array (", arrays_.empty() ? "" : arrays_.begin()->first,
          ")");
  }

 private:
  std::map<std::string, const StoredTensor*> arrays_;
};

/// The mask of a layer in full storage: none stored means that every edge exists.
template <MaskedLayer Layer>
void restore_mask(const std::string& name, Layer& layer, OpenArrays& open) {
  const std::int64_t rows = layer.mask().rows(), cols = layer.mask().cols();
  if (!open.contains(name)) return layer.set_mask(Mask::ones(rows, cols));
  const StoredTensor& t = open.take(name);
  if constexpr (std::same_as<Layer, MaskedLinearLayer>)
    if (t.type == StoredTensor::Type::f32) return layer.set_soft_mask(tensor_like(t, {rows, cols}));
  layer.set_mask(mask_of_flags(t, rows, cols));
}

/// A masked layer takes the storage, weight, mask and saliency that were stored.
template <MaskedLayer Layer>
void restore_layer(const std::string& name, Layer& layer, OpenArrays& open) {
  constexpr bool linear = std::same_as<Layer, MaskedLinearLayer>;
  const std::string weight = dotted(name, "weight"), mask = dotted(name, "_mask");
  bool learnable = false;
  if constexpr (linear) learnable = layer.learnable();
  if (open.contains(weight + ".indptr")) {
    check(!learnable, "load: a packed layer cannot become learnable (", name, ")");
    const auto start = values_of<std::int32_t>(open.take(weight + ".indptr"));
    const auto col = values_of<std::int32_t>(open.take(weight + ".indices"));
    layer.pack();
    const Mask before = layer.mask();
    layer.set_mask(Mask::from_csr(before.rows(), before.cols(), start, col));
    layer.weight = Param(tensor_like(open.take(weight + ".values"), layer.weight.shape()));
  } else {
    layer.unpack();
    layer.weight.set_value(tensor_like(open.take(weight), layer.weight.shape()));
    layer.weight.clear_slots();
    if (!learnable) restore_mask(mask, layer, open);  // alphas are a parameter like any other
  }
  layer.clear_saliency();
  if (open.contains("saliency." + weight))
    layer.set_saliency(tensor_like(open.take("saliency." + weight), layer.weight.shape()));
}

}  // namespace detail

/// Everything a checkpoint holds of a model's state. Names are those of a PyTorch state_dict; a packed weight is its
/// CSR matrix name.indptr, name.indices, name.values; a mask that is full everywhere is not stored; slots are
/// optimizer.<name>.<slot>, saliencies that were set saliency.<name>.
template <class M>
StoredTensors stored_state(const M& model, const SaveOptions& options = {}) {
  StoredTensors content;
  content.metadata = options.metadata;
  content.metadata["format"] = "deepstruct/" + std::to_string(detail::checkpoint_format);
  if (kernel_table() != measured_kernel_table)  // bits of training depend on it
    content.metadata["kernel_table"] = detail::json_of(kernel_table()).dump();
  auto& out = content.tensors;
  std::set<const void*> weights;       // of masked layers
  std::set<std::string> packed_masks;  // go with the CSR matrix
  walk(model, [&](const Path& path, const detail::StatePart auto& part) {
    using T = std::remove_cvref_t<decltype(part)>;
    const std::string name = path.str();
    if constexpr (MaskedLayer<T>) {
      detail::store_layer(name, part, out);
      weights.insert(&part.weight);
      if (part.packed()) packed_masks.insert(detail::dotted(name, "_mask"));
    } else if constexpr (std::same_as<T, Param>) {
      if (!weights.contains(&part)) out.push_back(stored_tensor(name, part.value()));
      if (options.slots)
        for (const Param::Slot& s : part.slots())
          out.push_back(stored_tensor("optimizer." + detail::dotted(name, s.name), s.value));
    } else if constexpr (std::same_as<T, Mask>) {
      if (!part.is_full() && !packed_masks.contains(name)) out.push_back(detail::stored_flags(name, part));
    } else {
      out.push_back(stored_tensor(name, part));
    }
  });
  return content;
}

/// Fills a model of the same structure; masked layers take the storage that was saved. Throws, and leaves the model
/// unchanged, unless every array the model needs is there in its shape and nothing is left over.
template <class M>
void restore_state(M& model, const StoredTensors& content) {
  detail::OpenArrays open(content);
  M next = model;
  to(next, Device::cpu);
  std::set<const void*> weights;
  std::set<std::string> masks;  // of masked layers
  walk(next, [&](const Path& path, detail::StatePart auto& part) {
    using T = std::remove_cvref_t<decltype(part)>;
    const std::string name = path.str();
    if constexpr (MaskedLayer<T>) {
      detail::restore_layer(name, part, open);
      weights.insert(&part.weight);
      masks.insert(detail::dotted(name, "_mask"));
    } else if constexpr (std::same_as<T, Param>) {
      if (!weights.contains(&part)) {
        part.set_value(detail::tensor_like(open.take(name), part.shape()));
        part.clear_slots();
      }
      open.take_all("optimizer." + detail::dotted(name, ""), [&](const std::string& slot, const StoredTensor& t) {
        part.slot(slot) = detail::tensor_like(t, part.shape());
      });
    } else if constexpr (std::same_as<T, Mask>) {
      if (!masks.contains(name))
        part = open.contains(name) ? detail::mask_of_flags(open.take(name), part.rows(), part.cols())
                                   : Mask::ones(part.rows(), part.cols());
    } else if (!masks.contains(name)) {
      part = detail::tensor_like(open.take(name), part.shape());
    }
  });
  open.require_none();
  to(next, device_of(model));
  model = std::move(next);
}

}  // namespace deepstruct
