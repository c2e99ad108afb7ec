// Exchange with PyTorch: the state_dict of a model in PyTorch's layout and names, and back.
#pragma once

#include <ostream>

#include "stored_state.hpp"

namespace deepstruct {

/// Options of export_state_dict.
struct ExportOptions {
  enum class Masks {
    where_pruned,  ///< name._mask of the masked layers that lack an edge
    all,           ///< of all masked layers, as Python deepstruct wants them
    none           ///< none: weights are multiplied by their masks, for PyTorch's own modules
  };
  Masks masks = Masks::where_pruned;
};

namespace detail {

inline bool is_batch_count(std::string_view name) {
  constexpr std::string_view count = "num_batches_tracked";
  return name.ends_with(count) && (name.size() == count.size() || name[name.size() - count.size() - 1] == '.');
}

}  // namespace detail

/// The parameters, masks and buffers of a model as PyTorch's load_state_dict takes them: packed layers in full, [out,
/// in] with 0 where no edge is, masks as BOOL of the shape of their weight (soft ones and alphas as F32),
/// num_batches_tracked as I64. Weights that full storage remembers behind a mask go along unless there are to be no
/// masks. O(out · in) of every masked layer; save() writes what is packed as it is. Throws on a joint MaskedDeepDAN,
/// which has no form in PyTorch.
template <class M>
StoredTensors export_state_dict(const M& model, const ExportOptions& options = {}) {
  using Masks = ExportOptions::Masks;
  const M full = unpack(model);
  StoredTensors content;
  auto& out = content.tensors;
  std::map<const void*, Tensor> multiplied;  // weights
  std::map<std::string, Shape> masks;        // of masked layers, with the shapes of their weights
  walk(full, [&](const Path& path, const detail::StatePart auto& part) {
    using T = std::remove_cvref_t<decltype(part)>;
    const std::string name = path.str();
    if constexpr (MaskedLayer<T>) {
      if (options.masks == Masks::none) multiplied.emplace(&part.weight, part.effective_weight());
      masks.emplace(detail::dotted(name, "_mask"), part.weight.shape());
    } else if (options.masks == Masks::none && masks.contains(name)) {
      return;
    } else if constexpr (std::same_as<T, Param>) {
      const auto found = multiplied.find(&part);
      out.push_back(stored_tensor(name, found == multiplied.end() ? part.value() : found->second));
    } else if constexpr (std::same_as<T, Mask>) {
      if (part.is_full() && options.masks != Masks::all) return;
      out.push_back(detail::stored_flags(name, part));
      if (const auto of = masks.find(name); of != masks.end())
        out.back().shape.assign(of->second.extents().begin(), of->second.extents().end());
    } else if (detail::is_batch_count(name) && part.rank() == 0) {
      check(part.item() >= 0 && part.item() <= 0x1p53f, "export_state_dict: not a number of batches (", name, ": ",
            part.item(), ")");
      const auto count = static_cast<std::int64_t>(part.item());
      out.push_back(stored_values<std::int64_t, std::int64_t>(name, {}, std::span(&count, 1)));
    } else {
      out.push_back(stored_tensor(name, part));
    }
  });
  return content;
}

/// Options of import_state_dict.
struct ImportOptions {
  bool strict = true;       ///< names that are missing or left over are an Error
  bool keep_masks = false;  ///< a layer keeps its mask where the state_dict has none, else all edges exist then
};

/// What import_state_dict did not do, or not exactly.
struct ImportReport {
  std::vector<std::string> missing;     ///< parameters and buffers that keep their values
  std::vector<std::string> unexpected;  ///< arrays without a place
  std::vector<std::string> converted;   ///< arrays of other types than F32, which became float32: "name (F16)"

  /// "missing: a, b; unexpected: c; converted: d (F16)", at most 20 names each; nothing if all went well.
  void write(std::ostream& out) const {
    const char* between = "";
    const auto list = [&](const char* what, const std::vector<std::string>& names) {
      if (names.empty()) return;
      out << std::exchange(between, "; ") << what << ": ";
      for (std::size_t k = 0; k < names.size() && k < 20; ++k) out << (k > 0 ? ", " : "") << names[k];
      if (names.size() > 20) out << " and " << names.size() - 20 << " more";
    };
    list("missing", missing);
    list("unexpected", unexpected);
    list("converted", converted);
  }
  /// What write() writes.
  std::string str() const {
    std::ostringstream out;
    write(out);
    return out.str();
  }
};

namespace detail {

/// The mask of a layer from a state_dict, of the shape of the weight: 0 and 1 in any type, else factors of a soft mask.
template <MaskedLayer Layer>
void import_mask(const StoredTensor& t, Layer& layer) {
  const Tensor factors = tensor_like(t, layer.weight.shape(), "import_state_dict");
  if constexpr (std::same_as<Layer, MaskedLinearLayer>) {
    bool hard = true;
    factors.for_each([&](std::int64_t, float x) { hard = hard && (x == 0 || x == 1); });
    if (!hard) return layer.set_soft_mask(factors);
  }
  layer.set_mask(factors);
}

/// The storage that parts of another model of the same structure have, by name.
template <class M>
void take_storage(M& model, const M& like) {
  std::map<std::string, storage> stores;
  walk(like, [&](const Path& path, const auto& part) {
    if constexpr (requires { part.options().store; }) stores.emplace(path.str(), part.options().store);
  });
  walk(model, [&](const Path& path, auto& part) {
    if constexpr (requires {
                    part.options().store;
                    part.pack();
                    part.unpack();
                  }) {
      const auto found = stores.find(path.str());
      if (found != stores.end()) found->second == storage::packed ? part.pack() : part.unpack();
    }
  });
}

}  // namespace detail

/// Takes parameters, masks and buffers of the same names from a PyTorch state_dict, of Python deepstruct or of plain
/// modules; F64, F16 and BF16 become float32. Packed layers take the entries of their mask (in the state_dict, or all)
/// and stay packed. num_batches_tracked may be missing or left over. Slots of optimizers are forgotten. Throws, and
/// leaves the model unchanged, on another shape, and if strict on names that are missing or left over, which it lists.
template <class M>
ImportReport import_state_dict(M& model, const StoredTensors& content, const ImportOptions& options = {}) {
  ImportReport report;
  std::map<std::string, const StoredTensor*> open;
  for (const StoredTensor& t : content.tensors)
    check(open.emplace(t.name, &t).second, "import_state_dict: array is there twice (", t.name, ")");
  const auto take = [&](const std::string& name) -> const StoredTensor* {
    const auto found = open.find(name);
    if (found == open.end()) return nullptr;
    const StoredTensor* t = found->second;
    open.erase(found);
    return t;
  };
  const auto values = [&](const std::string& name, const Shape& shape) -> std::optional<Tensor> {
    const StoredTensor* t = take(name);
    if (t && t->type != StoredTensor::Type::f32 && !detail::is_batch_count(name))
      report.converted.push_back(name + " (" + std::string(detail::type_info(t->type).name) + ")");
    if (t) return detail::tensor_like(*t, shape, "import_state_dict");
    if (!detail::is_batch_count(name)) report.missing.push_back(name);
    return std::nullopt;
  };
  M next = unpack(model);
  to(next, Device::cpu);
  std::set<std::string> masks;  // of masked layers
  walk(next, [&](const Path& path, detail::StatePart auto& part) {
    using T = std::remove_cvref_t<decltype(part)>;
    const std::string name = path.str();
    if constexpr (MaskedLayer<T>) {
      const std::string mask = detail::dotted(name, "_mask");
      if constexpr (std::same_as<T, MaskedLinearLayer>)
        if (part.learnable()) return;  // its alphas are a parameter like any other
      masks.insert(mask);
      if (const StoredTensor* t = take(mask))
        detail::import_mask(*t, part);
      else if (!options.keep_masks && open.contains(detail::dotted(name, "weight")))
        part.set_mask(Mask::ones(part.mask().rows(), part.mask().cols()));
    } else if constexpr (std::same_as<T, Param>) {
      if (auto x = values(name, part.shape())) {
        part.set_value(*std::move(x));
        part.clear_slots();
      }
    } else if (masks.contains(name)) {
      return;
    } else if constexpr (std::same_as<T, Mask>) {
      if (const StoredTensor* t = take(name)) part = detail::mask_of_flags(*t, part.rows(), part.cols());
    } else {
      if (auto x = values(name, part.shape())) part = *std::move(x);
    }
  });
  for (const auto& [name, t] : open)
    if (!detail::is_batch_count(name)) report.unexpected.push_back(name);
  check(!options.strict || (report.missing.empty() && report.unexpected.empty()),
        "import_state_dict: names of the model and the state_dict differ (", report.str(), ")");
  detail::take_storage(next, model);
  to(next, device_of(model));
  model = std::move(next);
  return report;
}

}  // namespace deepstruct
