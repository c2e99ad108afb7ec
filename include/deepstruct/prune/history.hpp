// PruneHistory: which edges went and came at every step of pruning, so that any step can be gone back to.
#pragma once

#include <array>
#include <charconv>
#include <ostream>

#include "../nn/masked_linear.hpp"
#include "../transform/mask_diff.hpp"
#include "packed_positions.hpp"

namespace deepstruct {

/// The masks of a model after every step of pruning (or growing), told by what changed: step 0 against masks in which
/// every edge exists, or none, whichever is nearer, every other against the one before it.
///
/// Takes about a byte or two an edge that changed, besides the masks of the last step, which it shares with the model.
/// Masked layers are linear ones and convolutions at any depth; a packed MaskedDeepDAN has one for all its hidden
/// edges.
class PruneHistory {
 public:
  /// A masked layer: rows are outputs, columns inputs as in its mask.
  struct Layer {
    std::string name;
    std::int64_t rows = 0, cols = 0;
    bool full = true;  ///< step 0 is told by what a full mask has too much, else by its edges
    friend bool operator==(const Layer&, const Layer&) = default;
  };
  /// What a step did: per layer the places row·cols + column whose edges came or went, as packed bytes.
  struct Step {
    std::string label;
    std::vector<std::vector<std::uint8_t>> changes;
    std::int64_t time = -1;  ///< round or training step, −1 where nobody told
    friend bool operator==(const Step&, const Step&) = default;
  };

  /// No step yet.
  PruneHistory() = default;
  /// From layers and steps, as a file has them. Throws unless every step has changes for every layer that lie within
  /// it. O(changes log changes); allocates nothing in the size of masks.
  PruneHistory(std::vector<Layer> layers, std::vector<Step> steps)
      : layers_(std::move(layers)), steps_(std::move(steps)) {
    for (const Layer& l : layers_) {
      constexpr std::int64_t limit = std::numeric_limits<std::int32_t>::max();
      check(l.rows >= 0 && l.cols >= 0 && l.rows < limit && l.cols < limit && (!l.full || l.rows * l.cols < limit),
            "PruneHistory: no mask has this shape (", l.name, ": ", l.rows, ", ", l.cols, l.full ? ", full)" : ")");
    }
    check(!layers_.empty() || steps_.empty(), "PruneHistory: steps need a masked layer (", steps_.size(), " steps)");
    for (const Step& s : steps_)
      check(s.changes.size() == layers_.size(), "PruneHistory: a step needs changes of every layer (", s.changes.size(),
            " for ", layers_.size(), ")");
    for (std::size_t l = 0; l < layers_.size(); ++l) count_edges(l);
  }

  /// The masks of the model as they are now become the next step; the first call, before anything is pruned, makes step
  /// 0. The label says what was done, the time when: a round or a training step. O(weights of the masks). Throws, and
  /// records nothing, if the model has no masked layer or others than before.
  template <class M>
  void record(const M& model, std::string label = {}, std::int64_t time = -1) {
    std::vector<std::pair<std::string, Mask>> now;
    each_masked(model, [&](const std::string& name, const auto& layer) { now.emplace_back(name, layer.mask()); });
    add(now, std::move(label), time);
  }

  /// Number of recorded steps.
  std::int64_t size() const { return static_cast<std::int64_t>(steps_.size()); }
  /// True before the first step.
  bool empty() const { return steps_.empty(); }
  /// The masked layers, in the order of the fields; none before the first step.
  const std::vector<Layer>& layers() const { return layers_; }
  /// All steps, as a file keeps them.
  const std::vector<Step>& steps() const { return steps_; }
  /// What step k was called. Throws on an unknown step, as all that ask for one.
  const std::string& label(std::int64_t k) const { return steps_[at("label", k)].label; }
  /// The round or training step at which step k was recorded, −1 if nobody told.
  std::int64_t time(std::int64_t k) const { return steps_[at("time", k)].time; }
  /// The steps at which edge (row, col) of a masked layer, by its place in layers(), went or came, ascending: an edge
  /// of a network that is only pruned went at the first and only one, for the reason that its label gives. Step 0 is
  /// among them if that is where the edge differs from layers()[layer].full. O(changes of the layer).
  std::vector<std::int64_t> changes_of(std::int64_t layer, std::int64_t row, std::int64_t col) const {
    check(layer >= 0 && layer < static_cast<std::int64_t>(layers_.size()), "changes_of: no such layer (", layer, " of ",
          layers_.size(), ")");
    const auto l = static_cast<std::size_t>(layer);
    check(row >= 0 && row < layers_[l].rows && col >= 0 && col < layers_[l].cols, "changes_of: no such place (", row,
          ", ", col, " of [", layers_[l].rows, ", ", layers_[l].cols, "])");
    std::vector<std::int64_t> at;
    for (std::size_t k = 0; k < steps_.size(); ++k)
      detail::each_position(steps_[k].changes[l], entries_of(l), [&](std::int64_t p) {
        if (p == row * layers_[l].cols + col) at.push_back(static_cast<std::int64_t>(k));
      });
    return at;
  }
  /// Number of edges of every masked layer after step k.
  std::vector<std::int64_t> edges(std::int64_t k) const {
    at("edges", k);
    std::vector<std::int64_t> all;
    for (const auto& of_layer : edges_) all.push_back(of_layer[k]);
    return all;
  }
  /// Bytes of all recorded changes.
  std::size_t bytes() const {
    std::size_t n = 0;
    for (const Step& s : steps_)
      for (const auto& c : s.changes) n += c.size();
    return n;
  }
  /// Edges that the masks after step l have more and less than those after step k, all layers together; jaccard() and
  /// overlap() of it tell how alike they are. O(changes between them), sorted.
  MaskDiff overlap(std::int64_t k, std::int64_t l) const {
    const std::size_t from = std::min(at("overlap", k), at("overlap", l)),
                      to = std::max(at("overlap", k), at("overlap", l));
    MaskDiff d;
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      const auto differ = static_cast<std::int64_t>(changed(layer, from + 1, to + 1).size());
      const std::int64_t before = edges_[layer][k], after = edges_[layer][l];
      const std::int64_t kept = (before + after - differ) / 2;  // |A| + |B| = 2·|A ∩ B| + |A Δ B|
      d += {.added = after - kept, .removed = before - kept, .kept = kept};
    }
    return d;
  }

  /// Sets the masks of a model of the same structure to what they were after step k, forwards or backwards.
  ///
  /// As set_mask: full storage remembers the weights of edges that come back; in packed storage they come back as 0, so
  /// there go forwards from a copy of the original model. A layer whose mask is already the one of the step is not
  /// touched; a soft one that changes becomes hard. O(weights of the masks + changes log changes). Throws, and leaves
  /// the model unchanged, on an unknown step and unless the masked layers have the recorded names and shapes.
  template <class M>
  void replay(M& model, std::int64_t k) const {
    const std::size_t step = at("replay", k);
    std::vector<std::pair<std::string, Mask>> was;
    each_masked(model, [&](const std::string& name, const auto& layer) { was.emplace_back(name, layer.mask()); });
    check_structure("replay", was);
    std::vector<Mask> next;
    for (std::size_t l = 0; l < layers_.size(); ++l) next.push_back(mask(l, step));
    std::size_t l = 0;
    each_masked(model, [&](const std::string&, auto& layer) {
      if (was[l].second != next[l]) layer.set_mask(next[l]);
      ++l;
    });
  }

  /// A table of sparsities, 1 − edges / entries in per cent: a line per step, a column per masked layer and one for
  /// all; and one for times where there are any.
  void write(std::ostream& out) const {
    std::vector<std::vector<std::string>> table{{"step", "label"}};
    const bool timed = std::any_of(steps_.begin(), steps_.end(), [](const Step& s) { return s.time >= 0; });
    if (timed) table[0].push_back("time");
    for (const Layer& l : layers_) table[0].push_back(l.name.empty() ? "(model)" : l.name);
    table[0].push_back("all");
    for (std::size_t k = 0; k < steps_.size(); ++k) {
      table.push_back({std::to_string(k), steps_[k].label});
      if (timed) table.back().push_back(steps_[k].time < 0 ? "" : std::to_string(steps_[k].time));
      double all_edges = 0, all_entries = 0;
      for (std::size_t l = 0; l < layers_.size(); ++l) {
        const double edges = static_cast<double>(edges_[l][k]), entries = static_cast<double>(entries_of(l));
        table.back().push_back(per_cent(edges, entries));
        all_edges += edges;
        all_entries += entries;
      }
      table.back().push_back(per_cent(all_edges, all_entries));
    }
    for (const auto& line : table) {
      for (std::size_t c = 0; c < line.size(); ++c) {
        std::size_t width = 0;
        for (const auto& other : table) width = std::max(width, other[c].size());
        const std::string space(width - line[c].size(), ' ');
        out << (c > 0 ? "  " : "") << (c == 1 ? line[c] + space : space + line[c]);  // text left, numbers right
      }
      out << "\n";
    }
  }

  /// Equal layers and steps.
  friend bool operator==(const PruneHistory& a, const PruneHistory& b) {
    return a.layers_ == b.layers_ && a.steps_ == b.steps_;
  }

 private:
  using Named = std::vector<std::pair<std::string, Mask>>;

  static std::string per_cent(double edges, double entries) {
    std::array<char, 32> text;
    const double x = entries == 0 ? 0 : 100 * (1 - edges / entries);
    return {text.data(), std::to_chars(text.data(), text.data() + text.size(), x, std::chars_format::fixed, 2).ptr};
  }
  std::size_t at(const char* op, std::int64_t k) const {
    check(k >= 0 && k < size(), op, ": no such step (", k, " of ", size(), ")");
    return static_cast<std::size_t>(k);
  }
  std::int64_t entries_of(std::size_t l) const { return layers_[l].rows * layers_[l].cols; }

  void check_structure(const char* op, const Named& masks) const {
    check(masks.size() == layers_.size(), op, ": the model has other masked layers (", masks.size(), " for ",
          layers_.size(), ")");
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const auto& [name, m] = masks[l];
      check(name == layers_[l].name && m.rows() == layers_[l].rows && m.cols() == layers_[l].cols, op,
            ": the model has other masked layers (", name, " [", m.rows(), ", ", m.cols(), "] for ", layers_[l].name,
            " [", layers_[l].rows, ", ", layers_[l].cols, "])");
    }
  }
  void add(const Named& now, std::string label, std::int64_t time) {
    check(!now.empty(), "record: the model has no masked layers (0)");
    std::vector<Layer> layers = layers_;
    if (empty() && layers.empty()) {
      for (const auto& [name, m] : now)
        layers.push_back(
            {name, m.rows(), m.cols(), m.is_full() || (m.rows() * m.cols() < edge_limit && m.density() > 0.5)});
    } else {
      check_structure("record", now);
    }
    Step step{std::move(label), {}, time};
    std::vector<Mask> next;
    for (std::size_t l = 0; l < now.size(); ++l) {
      const Mask& m = now[l].second;
      const Mask before = !empty()         ? (last_.empty() ? mask(l, steps_.size() - 1) : last_[l])
                          : layers[l].full ? Mask::ones(m.rows(), m.cols())
                                           : Mask::zeros(m.rows(), m.cols());
      std::vector<std::int64_t> differ;
      if (before != m)
        detail::merge_edges(before, m, [&](std::int64_t r, std::int64_t c, std::int32_t a, std::int32_t b) {
          if (a < 0 || b < 0) differ.push_back(r * m.cols() + c);
        });
      step.changes.push_back(detail::packed_positions(differ));
      next.push_back(m);
    }
    std::vector<std::vector<std::int64_t>> edges = edges_;
    edges.resize(now.size());
    for (std::size_t l = 0; l < now.size(); ++l) edges[l].push_back(now[l].second.nnz());
    steps_.push_back(std::move(step));
    layers_.swap(layers);
    edges_.swap(edges);
    last_.swap(next);
  }

  /// Places of a layer that changed an odd number of times in steps from … to − 1, ascending.
  std::vector<std::int64_t> changed(std::size_t l, std::size_t from, std::size_t to) const {
    std::vector<std::int64_t> all;
    for (std::size_t k = from; k < to; ++k)
      detail::each_position(steps_[k].changes[l], entries_of(l), [&](std::int64_t p) { all.push_back(p); });
    if (to > from + 1) std::sort(all.begin(), all.end());
    std::size_t n = 0;
    for (std::size_t k = 0; k < all.size();) {
      std::size_t end = k;
      while (end < all.size() && all[end] == all[k]) ++end;
      if ((end - k) % 2 == 1) all[n++] = all[k];
      k = end;
    }
    all.resize(n);
    return all;
  }
  /// The mask of a layer after step k.
  Mask mask(std::size_t l, std::size_t k) const {
    const auto [name, rows, cols, full] = layers_[l];
    const std::vector<std::int64_t> places = changed(l, 0, k + 1);
    if (full && places.empty()) return Mask::ones(rows, cols);
    std::vector<std::int32_t> start{0}, col;
    col.reserve(static_cast<std::size_t>(edges_[l][k]));
    auto next = places.begin();
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; full && c < cols; ++c) {
        if (next != places.end() && *next == r * cols + c)
          ++next;
        else
          col.push_back(static_cast<std::int32_t>(c));
      }
      for (; !full && next != places.end() && *next < (r + 1) * cols; ++next)
        col.push_back(static_cast<std::int32_t>(*next - r * cols));
      start.push_back(static_cast<std::int32_t>(col.size()));
    }
    return Mask::from_csr(rows, cols, start, col);
  }
  /// Edges of a layer after every step: a place that changes loses its edge and gets it back in turn.
  void count_edges(std::size_t l) {
    std::vector<std::pair<std::int64_t, std::size_t>> all;  // place, step
    for (std::size_t k = 0; k < steps_.size(); ++k)
      detail::each_position(steps_[k].changes[l], entries_of(l), [&](std::int64_t p) { all.emplace_back(p, k); });
    std::sort(all.begin(), all.end());
    std::vector<std::int64_t> count(steps_.size(), 0);
    bool exists = false;
    for (std::size_t k = 0; k < all.size(); ++k) {
      if (k == 0 || all[k].first != all[k - 1].first) exists = layers_[l].full;
      exists = !exists;
      count[all[k].second] += exists ? 1 : -1;
    }
    std::int64_t n = layers_[l].full ? entries_of(l) : 0;
    for (std::int64_t& c : count) {
      c = n += c;
      check(n < edge_limit, "PruneHistory: too many edges (", layers_[l].name, ": ", n, ")");
    }
    edges_.push_back(std::move(count));
  }

  static constexpr std::int64_t edge_limit = std::numeric_limits<std::int32_t>::max();

  std::vector<Layer> layers_;
  std::vector<Step> steps_;
  std::vector<std::vector<std::int64_t>> edges_;  // of every layer after every step
  std::vector<Mask> last_;                        // after the last step; empty if the history is from a file
};

}  // namespace deepstruct
