// Training checkpoints: model, optimizer, schedule, generators and place in the data in one file, so that a run that
// goes on is bitwise the run that never stopped.
#pragma once

#include "../train/data.hpp"
#include "training_parts.hpp"

namespace deepstruct {

/// Where a run stands in its data: kept in a checkpoint, for_each_batch goes on with the next batch.
struct DataPosition {
  std::int64_t epoch = 0;  ///< epochs finished
  std::int64_t batch = 0;  ///< batches done of the epoch after these
  Rng order = Rng();       ///< the generator as it was before that epoch's shuffle

  static auto fields(auto& p) {
    return std::tuple{Field{"epoch", p.epoch}, Field{"batch", p.batch}, Field{"order", p.order}};
  }
};

/// Calls step(batch) for every batch of an epoch that is still to come, in the random order of batches(data,
/// batch_size, rng), and ends the epoch. A checkpoint that `step` saves counts its own batch as done. Where step
/// returns false the rest is left for later; returns whether the epoch ended.
template <class Y, class F>
bool for_each_batch(const BasicDataset<Y>& data, std::int64_t batch_size, Rng& rng, DataPosition& at, F&& step) {
  if (at.batch == 0) at.order = rng;
  Rng order = at.order;
  auto epoch = batches(data, batch_size, order);
  check(at.batch >= 0 && at.batch <= epoch.size(), "for_each_batch: the epoch has not so many batches (", at.batch,
        " of ", epoch.size(), ")");
  std::int64_t k = 0;
  for (auto& batch : epoch) {
    if (k == 0 && at.batch == 0) rng = order;  // past the shuffle
    if (k++ < at.batch) continue;
    ++at.batch;
    if constexpr (std::is_same_v<decltype(step(batch)), bool>) {
      if (!step(batch)) return false;
    } else {
      step(batch);
    }
  }
  if (k == 0) rng = order;
  ++at.epoch;
  at.batch = 0;
  return true;
}

/// What load_checkpoint found.
struct Resumption {
  bool same_kernels = true;                     ///< instruction set and kernel table are those of the run, without
                                                ///< which its next steps differ in rounding
  std::map<std::string, std::string> metadata;  ///< all of the file's
};

namespace detail {

/// What rounding depends on: FNV-1a of the kernel table, and the instruction set.
inline std::string kernels_in_use() {
  std::uint64_t hash = 14695981039346656037u;
  for (const auto& row : kernel_table().sparse_up_to)
    for (const float density : row) hash = (hash ^ std::bit_cast<std::uint32_t>(density)) * 1099511628211u;
  return std::string(simd::name(simd::active())) + " " + std::to_string(hash);
}

}  // namespace detail

/// A model's state with the parts of its training run, each under its name:
///   save_checkpoint(path, model, Field{"optimizer", adam}, Field{"schedule", cosine}, Field{"rng", rng},
///                   Field{"position", at});
/// Parts are numbers, bool, text, enums, optionals and vectors of them, Tensor, Rng, the optimizers and schedules of
/// the library, and structs of such parts with fields() as modules have them. The slots of optimizers are state of the
/// model. This thread's default_rng() is kept too, for dropout. The file is one that load() and load_model() take.
template <class M, class... Parts>
StoredTensors stored_checkpoint(const M& model, Field<Parts>... parts) {
  StoredTensors content = stored_model(model);
  content.metadata[detail::training_key] = detail::kernels_in_use();
  for (const StoredTensor& t : content.tensors)
    check(!t.name.starts_with(detail::training_prefix), "save_checkpoint: the model has a part of a reserved name (",
          t.name, ")");
  detail::PartWriter out{content};
  out("default_rng", default_rng());
  (out(parts.name, parts.value), ...);
  return content;
}
/// Takes everything from stored_checkpoint: the model of the same structure, parts of the same names and types, the
/// default generator. Throws, and changes nothing, unless all of it is there and nothing is left over.
template <class M, class... Parts>
Resumption restore_checkpoint(const StoredTensors& content, M& model, Field<Parts>... parts) {
  const auto kernels = content.metadata.find(detail::training_key);
  check(kernels != content.metadata.end(), "load_checkpoint: the file holds no training run (", content.tensors.size(),
        " arrays)");
  detail::require_same_structure(model, content);
  M next = model;
  restore_state(next, content);
  detail::PartReader in(content);
  Rng next_rng;
  std::tuple<Parts...> values{parts.value...};
  in("default_rng", next_rng);
  std::apply([&](Parts&... value) { (in(parts.name, value), ...); }, values);
  in.require_none();
  model = std::move(next);
  default_rng() = next_rng;
  std::apply([&](Parts&... value) { ((parts.value = std::move(value)), ...); }, values);
  return {kernels->second == detail::kernels_in_use(), content.metadata};
}

/// stored_checkpoint as a file, written whole or not at all: see write_whole_file.
template <class M, class... Parts>
void save_checkpoint(const std::filesystem::path& path, const M& model, Field<Parts>... parts) {
  save_safetensors(stored_checkpoint(model, parts...), path);
}
/// Goes on with a run: restore_checkpoint from a file. Throws also on a missing, damaged or foreign one. The model must
/// have the structure of the saved one, but masks and storage may differ; load_model<M>(path) makes it anew.
template <class M, class... Parts>
Resumption load_checkpoint(const std::filesystem::path& path, M& model, Field<Parts>... parts) {
  const StoredTensors content = load_safetensors(path);
  return detail::of_file(path, [&] { return restore_checkpoint(content, model, parts...); });
}

}  // namespace deepstruct
