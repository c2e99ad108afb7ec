// Files that say which model they hold: save(), load() into a model that is there, load_model() without one.
#pragma once

#include <bit>

#include "model_kinds.hpp"
#include "safetensors.hpp"

namespace deepstruct {

namespace detail {

/// Adds to the arrays of a model how it is built.
template <class M>
void describe(const M& model, StoredTensors& content) {
  if constexpr (DescribedModel<M>) {
    content.metadata[model_key] = ModelFile<M>::kind;
    ModelFile<M>::describe(model, content);
    each<MaskedLinearLayer>(model, [&](const std::string& name, const MaskedLinearLayer& layer) {
      const MaskedLinearOptions& o = layer.options();
      std::vector<std::int32_t> row{static_cast<std::int32_t>(layer.in_features()),
                                    (o.structural ? 1 : 0) | (o.freeze_masked ? 2 : 0) | (o.keep_layer_input ? 4 : 0) |
                                        (o.gradient == MaskGradient::none ? 8 : 0) | (layer.bias ? 16 : 0) |
                                        (o.gradient == MaskGradient::gumbel_softmax ? 32 : 0) |
                                        (o.gradient == MaskGradient::hard_concrete ? 64 : 0) | (o.hard_gate ? 128 : 0)};
      if (row[1] & 96) row.push_back(std::bit_cast<std::int32_t>(o.temperature));
      content.tensors.push_back(stored_values(std::string(structure_prefix) + name, row));
    });
    each<LayerNorm>(model, [&](const std::string& name, const LayerNorm& norm) {
      content.tensors.push_back(stored_values(std::string(structure_prefix) + name, std::vector<float>{norm.eps}));
    });
  } else if constexpr (requires { model.valueless_by_exception(); }) {
    std::visit([&](const auto& one) { describe(one, content); }, model);
  }
}

/// Throws if a file says that it holds a model of another kind or on another graph.
template <class M>
void require_same_structure(const M& model, const StoredTensors& content) {
  StoredTensors own;
  describe(model, own);
  if (!own.metadata.contains(model_key) || !content.metadata.contains(model_key)) return;
  const auto text = [](const StoredTensors& of, const std::string& key) {
    const auto found = of.metadata.find(key);
    return found == of.metadata.end() ? std::string() : found->second;
  };
  check(text(content, model_key) == text(own, model_key), "load: the file holds another kind of model (",
        text(content, model_key), ", not ", text(own, model_key), ")");
  const auto require_in = [](const StoredTensors& all, const StoredTensors& others) {
    for (const StoredTensor& t : all.tensors) {
      if (!t.name.starts_with("structure.graph.")) continue;
      const StoredTensor* other = others.find(t.name);
      check(other && other->bytes == t.bytes, "load: the file holds a model on another graph (", t.name, ")");
    }
  };
  require_in(own, content);
  require_in(content, own);
}

template <class M>
M rebuild(const StoredTensors& content) {
  const ModelReader reader(content);
  M model = ModelFile<M>::rebuild(reader);
  restore_state(model, content);
  if constexpr (requires { ModelFile<M>::verify(model); }) ModelFile<M>::verify(model);
  return model;
}

/// The kinds of models that `load_model<M>` takes: M, or any alternative of a variant.
template <class M>
struct ModelKinds {
  static M make(const std::string& kind, const StoredTensors& content) {
    check(kind == ModelFile<M>::kind, "load_model: another kind of model (", kind, ", not ", ModelFile<M>::kind, ")");
    return rebuild<M>(content);
  }
};
template <class... Ms>
struct ModelKinds<std::variant<Ms...>> {
  static std::variant<Ms...> make(const std::string& kind, const StoredTensors& content) {
    std::optional<std::variant<Ms...>> made;
    ((kind == ModelFile<Ms>::kind ? (made.emplace(rebuild<Ms>(content)), 0) : 0), ...);
    std::string known;
    ((known += std::string(known.empty() ? "" : ", ") + ModelFile<Ms>::kind), ...);
    check(made.has_value(), "load_model: unknown kind of model (", kind, ", known are ", known, ")");
    return *std::move(made);
  }
};

}  // namespace detail

/// What save() writes: stored_state, and for models that a file can describe how they are built.
template <class M>
StoredTensors stored_model(const M& model, const SaveOptions& options = {}) {
  const auto stored = [&](const auto& m) {
    StoredTensors content = stored_state(m, options);
    detail::describe(m, content);
    return content;
  };
  if constexpr (requires { model.valueless_by_exception(); })
    return std::visit([&](const auto& one) { return stored_model(one, options); }, model);
  else if constexpr (requires { ModelFile<M>::canonical(model); })
    return stored(ModelFile<M>::canonical(model));
  else
    return stored(model);
}
/// Writes the model to a safetensors file, whole or not at all. A model of the library, or a variant of them, says in
/// its file how it is built, for load_model.
template <class M>
void save(const M& model, const std::filesystem::path& path, const SaveOptions& options = {}) {
  save_safetensors(stored_model(model, options), path);
}
/// Reads what save() wrote into a model of the same structure, which the file need not describe; returns the metadata.
/// Throws on a missing, damaged or foreign file, one of another kind of model or graph, and leaves the model unchanged
/// then.
template <class M>
std::map<std::string, std::string> load(M& model, const std::filesystem::path& path) {
  const StoredTensors content = load_safetensors(path);
  detail::of_file(path, [&] {
    detail::require_same_structure(model, content);
    restore_state(model, content);
  });
  return content.metadata;
}

/// The model that stored_model or a file describes, without the code that built it: bitwise the same, but for what
/// packed layers keep of the options of full storage (keep_layer_input, freeze_masked). M: a kind of model, or a
/// variant of some.
template <class M = AnyModel>
M model_of(const StoredTensors& content) {
  const auto kind = content.metadata.find(detail::model_key);
  check(kind != content.metadata.end(),
        "load_model: the file does not say which model it holds; build the model and load() into it (",
        content.tensors.size(), " arrays)");
  return detail::ModelKinds<M>::make(kind->second, content);
}
/// Reads a model: std::visit tells what it is, or load_model<MaskedDeepDAN>(path) knows. Throws on a missing, damaged
/// or foreign file, on one that does not describe its model (format deepstruct/1), and on a kind of model that M does
/// not hold.
template <class M = AnyModel>
M load_model(const std::filesystem::path& path) {
  const StoredTensors content = load_safetensors(path);
  return detail::of_file(path, [&] { return model_of<M>(content); });
}

}  // namespace deepstruct
