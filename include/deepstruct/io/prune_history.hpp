// PruneHistory as arrays of a safetensors file and back.
#pragma once

#include "../prune/history.hpp"
#include "stored_tensor.hpp"

namespace deepstruct {

namespace detail {

/// Texts one after the other, and where each ends.
inline void store_texts(StoredTensors& content, const std::string& name, const std::vector<std::string>& texts) {
  std::vector<std::uint8_t> bytes;
  std::vector<std::int64_t> ends;
  for (const std::string& t : texts) {
    bytes.insert(bytes.end(), t.begin(), t.end());
    ends.push_back(static_cast<std::int64_t>(bytes.size()));
  }
  content.tensors.push_back(stored_values(name, bytes));
  content.tensors.push_back(stored_values(name + ".ends", ends));
}

/// Parts of an array that end where others say.
class StoredParts {
 public:
  StoredParts(std::vector<std::uint8_t> bytes, std::vector<std::int64_t> ends, const std::string& name)
      : bytes_(std::move(bytes)), ends_(std::move(ends)) {
    const std::int64_t last = ends_.empty() ? 0 : ends_.back();
    check(std::is_sorted(ends_.begin(), ends_.end()) && (ends_.empty() || ends_.front() >= 0) &&
              last == static_cast<std::int64_t>(bytes_.size()),
          "restored_history: ends do not divide an array (", name, ": ", last, " of ", bytes_.size(), ")");
  }
  std::size_t size() const { return ends_.size(); }
  std::span<const std::uint8_t> operator[](std::size_t k) const {
    const auto begin = static_cast<std::size_t>(k == 0 ? 0 : ends_[k - 1]);
    return std::span(bytes_).subspan(begin, static_cast<std::size_t>(ends_[k]) - begin);
  }
  std::string text(std::size_t k) const { return {(*this)[k].begin(), (*this)[k].end()}; }

 private:
  std::vector<std::uint8_t> bytes_;
  std::vector<std::int64_t> ends_;
};

}  // namespace detail

/// The history as arrays, all named history.…: layers and labels as text (UTF-8 bytes and their ends), shapes [layers,
/// 2], full [layers], and changes, the bytes of PruneHistory::Step layer by layer and step by step with their ends
/// [steps·layers]; times [steps] if any step has one. save_safetensors writes them.
inline StoredTensors stored_history(const PruneHistory& history) {
  StoredTensors content;
  content.metadata["deepstruct.history"] = "1";
  std::vector<std::string> names, labels;
  std::vector<std::int64_t> shapes, ends;
  std::vector<std::uint8_t> full, changes;
  for (const PruneHistory::Layer& l : history.layers()) {
    names.push_back(l.name);
    shapes.insert(shapes.end(), {l.rows, l.cols});
    full.push_back(l.full);
  }
  for (const PruneHistory::Step& s : history.steps()) {
    labels.push_back(s.label);
    for (const auto& bytes : s.changes) {
      changes.insert(changes.end(), bytes.begin(), bytes.end());
      ends.push_back(static_cast<std::int64_t>(changes.size()));
    }
  }
  const auto layers = static_cast<std::int64_t>(names.size());
  detail::store_texts(content, "history.layers", names);
  detail::store_texts(content, "history.labels", labels);
  auto& out = content.tensors;
  out.push_back(stored_values<std::int64_t, std::int64_t>("history.shapes", {layers, 2}, shapes));
  out.push_back(stored_values<bool, std::uint8_t>("history.full", {layers}, full));
  out.push_back(stored_values("history.changes", changes));
  out.push_back(stored_values("history.changes.ends", ends));
  std::vector<std::int64_t> times;
  for (const PruneHistory::Step& s : history.steps()) times.push_back(s.time);
  if (std::any_of(times.begin(), times.end(), [](std::int64_t t) { return t >= 0; }))
    out.push_back(stored_values("history.times", times));
  return content;
}

/// The history that was stored; other arrays are left alone. Throws on an array that is missing or does not fit the
/// others, on a later version, and as PruneHistory does; memory is a small multiple of the arrays.
inline PruneHistory restored_history(const StoredTensors& content) {
  const auto version = content.metadata.find("deepstruct.history");
  check(version != content.metadata.end(), "restored_history: holds no history (", content.tensors.size(), " arrays)");
  check(version->second == "1", "restored_history: is of a later version of the library (", version->second, ")");
  const auto read = [&]<class T>(std::type_identity<T>, const std::string& name) {
    const StoredTensor* t = content.find(name);
    check(t != nullptr, "restored_history: array is missing (", name, ")");
    return values_of<T>(*t);
  };
  const auto parts = [&](const std::string& name) {
    return detail::StoredParts(read(std::type_identity<std::uint8_t>(), name),
                               read(std::type_identity<std::int64_t>(), name + ".ends"), name);
  };
  const detail::StoredParts names = parts("history.layers"), labels = parts("history.labels"),
                            changes = parts("history.changes");
  const auto shapes = read(std::type_identity<std::int64_t>(), "history.shapes");
  const auto full = read(std::type_identity<std::uint8_t>(), "history.full");
  std::vector<std::int64_t> times(labels.size(), -1);  // files of steps without times have no such array
  if (content.find("history.times")) times = read(std::type_identity<std::int64_t>(), "history.times");
  check(times.size() == labels.size(), "restored_history: needs a time per step (", times.size(), " for ",
        labels.size(), ")");
  check(shapes.size() == 2 * names.size() && full.size() == names.size() &&
            changes.size() == names.size() * labels.size(),
        "restored_history: arrays do not fit each other (", names.size(), " layers, ", labels.size(), " steps, ",
        shapes.size(), " extents, ", full.size(), " flags, ", changes.size(), " changes)");
  std::vector<PruneHistory::Layer> layers;
  for (std::size_t l = 0; l < names.size(); ++l) {
    check(full[l] <= 1, "restored_history: a flag is neither 0 nor 1 (", int{full[l]}, ")");
    layers.push_back({names.text(l), shapes[2 * l], shapes[2 * l + 1], full[l] == 1});
  }
  std::vector<PruneHistory::Step> steps;
  for (std::size_t k = 0; k < labels.size(); ++k) {
    PruneHistory::Step step{labels.text(k), {}, times[k]};
    for (std::size_t l = 0; l < layers.size(); ++l) {
      const auto bytes = changes[k * layers.size() + l];
      step.changes.emplace_back(bytes.begin(), bytes.end());
    }
    steps.push_back(std::move(step));
  }
  return PruneHistory(std::move(layers), std::move(steps));
}

}  // namespace deepstruct
