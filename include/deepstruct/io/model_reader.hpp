// What a file says about how its model is built, and how a kind of model says it.
#pragma once

#include <bit>

#include "../nn/layers.hpp"
#include "stored_state.hpp"

namespace deepstruct {

/// What a file says about how its model is built: options in the metadata, structure in arrays; read by
/// ModelFile::rebuild.
class ModelReader {
 public:
  explicit ModelReader(const StoredTensors& content) : metadata_(content.metadata) {
    for (const StoredTensor& t : content.tensors) {
      arrays_.emplace(t.name, &t);
      bytes_ += t.bytes.size();
    }
  }

  /// Is there an array of this name?
  bool contains(const std::string& name) const { return arrays_.contains(name); }
  /// The array of this name. Throws if there is none.
  const StoredTensor& array(const std::string& name) const {
    const auto found = arrays_.find(name);
    check(found != arrays_.end(), "load_model: array is missing (", name, ")");
    return *found->second;
  }
  /// The integers of structure.<name>.
  std::vector<std::int32_t> structure(const std::string& name) const {
    return values_of<std::int32_t>(array(std::string(detail::structure_prefix) + name));
  }
  /// An option of the model, "true" or "false".
  bool option(const std::string& name) const {
    const auto found = metadata_.find("deepstruct." + name);
    check(found != metadata_.end() && (found->second == "true" || found->second == "false"),
          "load_model: option is missing or neither true nor false (", name, ")");
    return found->second == "true";
  }
  /// Throws unless the file has about as many bytes as were asked for so far: what is made before its values are read
  /// must not be larger, all of it together.
  void require_bytes(std::uint64_t bytes) const {
    required_ += bytes;
    check(required_ <= bytes_ + (std::uint64_t{1} << 26), "load_model: the model is too large for its file (",
          required_, " for ", bytes_, " bytes)");
  }

  /// The masked layer of this name, without its values: structure.<name> is its number of inputs and the sum of 1
  /// structural, 2 freeze_masked, 4 keep_layer_input, 8 Gradient::none, 16 bias, 32 gumbel_softmax, 64 hard_concrete,
  /// 128 hard_gate; with 32 or 64 also the bits of the temperature.
  MaskedLinearLayer masked_linear(const std::string& name) const {
    const auto row = structure(name);
    check(row.size() == (row.size() > 1 && (row[1] & 96) ? 3 : 2) && row[0] >= 0 && row[1] >= 0,
          "load_model: a layer is not described by two numbers, or three where gates are drawn (", name, ")");
    const std::string weight = detail::dotted(name, "weight"), mask = detail::dotted(name, "_mask");
    const std::int64_t in = row[0];
    const std::int32_t bits = row[1];
    const bool structural = (bits & 1) != 0;
    require_bytes(4 * static_cast<std::uint64_t>(in));
    if (contains(weight + ".indptr")) {
      const auto rows = static_cast<std::int64_t>(array(weight + ".indptr").bytes.size() / sizeof(std::int32_t)) - 1;
      check(rows >= 0, "load_model: row starts are not those of a CSR matrix (", name, ")");
      std::optional<Tensor> bias;
      if (bits & 16) bias = Tensor::zeros({rows});
      return {Mask::from_edges(rows, in, {}), Tensor::zeros({0}), std::move(bias), structural};
    }
    const StoredTensor& w = array(weight);
    check(w.shape.size() == 2 && w.shape[1] == in, "load_model: a weight has another shape than its layer (", name,
          ")");
    MaskedLinearOptions options{.bias = (bits & 16) != 0,
                                .keep_layer_input = (bits & 4) != 0,
                                .freeze_masked = (bits & 2) != 0,
                                .structural = structural,
                                .learnable_mask = contains(mask) && array(mask).shape.size() == 3};
    if (bits & 8) options.gradient = MaskGradient::none;
    if (bits & 32) options.gradient = MaskGradient::gumbel_softmax;
    if (bits & 64) options.gradient = MaskGradient::hard_concrete;
    if (bits & 96) options.temperature = std::bit_cast<float>(row[2]);
    options.hard_gate = (bits & 128) != 0;
    Rng unused;
    return {in, w.shape[0], options, unused};
  }
  /// The layer norm of this name, without its values.
  LayerNorm layer_norm(const std::string& name) const {
    const auto eps = values_of<float>(array(std::string(detail::structure_prefix) + name));
    check(eps.size() == 1, "load_model: a layer norm is not described by one number (", name, ")");
    return LayerNorm(Shape(array(detail::dotted(name, "weight")).shape), eps[0]);
  }

 private:
  const std::map<std::string, std::string>& metadata_;
  std::map<std::string, const StoredTensor*> arrays_;
  std::uint64_t bytes_ = 0;
  mutable std::uint64_t required_ = 0;
};

/// How a file describes a model and the model is built again; a kind of model needs one specialisation with
///   static constexpr const char* kind = "MaskedDeepFFN";           its name in files
///   static void describe(const M& model, StoredTensors& content);  adds structure.… and options "deepstruct.…"
///   static M rebuild(const ModelReader& reader);                   the model, values and masks come later
///   static void verify(const M& model);                            if there is need: throws on a model that cannot be
/// Masked layers and layer norms are described by save() itself and made by the reader.
template <class M>
struct ModelFile;

/// A model that a file can describe.
template <class M>
concept DescribedModel = requires {
  ModelFile<M>::kind;
};

}  // namespace deepstruct
