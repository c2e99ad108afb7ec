// AttributeTable: named typed values of the vertices or edges of a graph.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "../core/error.hpp"

namespace deepstruct {

/// Named columns of typed values, one place per vertex (or edge) of a graph; a place may be empty.
///
/// The types are those of GraphML: bool, std::int64_t, float, double, std::string. A column has one type for life.
class AttributeTable {
 public:
  /// A value of any of the types.
  using Value = std::variant<bool, std::int64_t, float, double, std::string>;

  /// Number of places of every column.
  std::int64_t size() const { return size_; }
  /// Column names, in the order in which they came.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const Column& c : columns_) all.push_back(c.name);
    return all;
  }
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// True if the column exists and holds T.
  template <class T>
  bool holds(std::string_view name) const {
    const Column* c = find(name);
    return c && std::holds_alternative<Values<T>>(c->values);
  }

  /// The value at a place, or nothing if the place is empty or there is no such column; throws on another type.
  template <class T>
  std::optional<T> get(std::string_view name, std::int64_t place) const {
    check_place(name, place);
    const Column* c = find(name);
    if (!c || !c->present(place)) return std::nullopt;
    return static_cast<T>(typed<T>(*c)[place]);
  }
  /// The value at a place whatever its type, or nothing.
  std::optional<Value> value(std::string_view name, std::int64_t place) const {
    check_place(name, place);
    const Column* c = find(name);
    if (!c || !c->present(place)) return std::nullopt;
    return std::visit(
        [&](const auto& values) -> Value {
          using T = Stored<std::remove_cvref_t<decltype(values[0])>>;
          return static_cast<T>(values[place]);
        },
        c->values);
  }
  /// Sets the value at a place; the first value makes the column. Throws if the column has another type.
  template <class T>
  void set(std::string_view name, std::int64_t place, T value) {
    check_place(name, place);
    Column& c = column_of<T>(name);
    std::get<Values<T>>(c.values)[place] = std::move(value);
    if (!c.filled.empty()) c.filled[place] = 1;
  }
  void set_value(std::string_view name, std::int64_t place, const Value& value) {
    std::visit([&](const auto& v) { set(name, place, v); }, value);
  }
  /// A whole column, replacing one of that name; needs one value per place.
  template <class T>
  void set_column(std::string_view name, std::vector<T> values) {
    check(static_cast<std::int64_t>(values.size()) == size_, "AttributeTable: needs one value per place (", name, ": ",
          values.size(), " for ", size_, ")");
    erase(name);
    columns_.push_back({std::string(name), Values<T>(values.begin(), values.end()), {}});
  }
  /// The values of a column without empty places; throws if it has some, or another type, or does not exist.
  template <class T>
  std::span<const std::conditional_t<std::is_same_v<T, bool>, char, T>> column(std::string_view name) const {
    const Column* c = find(name);
    check(c != nullptr, "AttributeTable: no such attribute (", name, ")");
    check(std::find(c->filled.begin(), c->filled.end(), 0) == c->filled.end(),
          "AttributeTable: the attribute is missing in some places (", name, ")");
    return typed<T>(*c);
  }
  void erase(std::string_view name) {
    std::erase_if(columns_, [&](const Column& c) { return c.name == name; });
  }

  /// More places, empty at first, or fewer.
  void resize(std::int64_t size) {
    check(size >= 0, "AttributeTable: needs 0 places or more (", size, ")");
    for (Column& c : columns_) {
      if (size > size_ && c.filled.empty()) c.filled.assign(static_cast<std::size_t>(size_), 1);
      if (size > size_ || !c.filled.empty()) c.filled.resize(static_cast<std::size_t>(size), 0);
      std::visit([&](auto& values) { values.resize(static_cast<std::size_t>(size)); }, c.values);
    }
    size_ = size;
  }
  /// Place k becomes what place kept[k] was: selects, drops and reorders.
  void keep(std::span<const std::int32_t> kept) {
    for (const std::int32_t k : kept) check_place("keep", k);
    for (Column& c : columns_) {
      std::visit(
          [&](auto& values) {
            std::remove_reference_t<decltype(values)> moved;
            moved.reserve(kept.size());
            for (const std::int32_t k : kept) moved.push_back(values[k]);
            values = std::move(moved);
          },
          c.values);
      if (!c.filled.empty()) {
        std::vector<char> moved;
        for (const std::int32_t k : kept) moved.push_back(c.filled[k]);
        c.filled = std::move(moved);
      }
    }
    size_ = static_cast<std::int64_t>(kept.size());
  }
  /// Where `from` has a value, place `to` takes it: what a merged edge inherits.
  void copy_place(std::int64_t from, std::int64_t to) {
    check_place("copy_place", from);
    check_place("copy_place", to);
    for (Column& c : columns_) {
      if (!c.present(from)) continue;
      std::visit([&](auto& v) { v[to] = v[from]; }, c.values);
      if (!c.filled.empty()) c.filled[to] = 1;
    }
  }

  /// The same columns with equal values; order of columns does not matter.
  friend bool operator==(const AttributeTable& a, const AttributeTable& b) {
    if (a.size_ != b.size_ || a.columns_.size() != b.columns_.size()) return false;
    return std::all_of(a.columns_.begin(), a.columns_.end(), [&](const Column& c) {
      if (!b.contains(c.name)) return false;
      for (std::int64_t k = 0; k < a.size_; ++k)
        if (a.value(c.name, k) != b.value(c.name, k)) return false;
      return true;
    });
  }

 private:
  template <class T>
  using Stored = std::conditional_t<std::is_same_v<T, char>, bool, T>;
  template <class T>
  using Values = std::vector<std::conditional_t<std::is_same_v<T, bool>, char, T>>;  // no std::vector<bool>: spans
  struct Column {
    std::string name;
    std::variant<Values<bool>, Values<std::int64_t>, Values<float>, Values<double>, Values<std::string>> values;
    std::vector<char> filled;  // empty: every place has a value

    bool present(std::int64_t place) const { return filled.empty() || filled[place] != 0; }
  };

  const Column* find(std::string_view name) const {
    for (const Column& c : columns_)
      if (c.name == name) return &c;
    return nullptr;
  }
  template <class T>
  const Values<T>& typed(const Column& c) const {
    const auto* values = std::get_if<Values<T>>(&c.values);
    check(values != nullptr, "AttributeTable: the attribute has another type (", c.name, ")");
    return *values;
  }
  template <class T>
  Column& column_of(std::string_view name) {
    if (Column* c = const_cast<Column*>(find(name))) {
      typed<T>(*c);
      return *c;
    }
    const auto n = static_cast<std::size_t>(size_);
    columns_.push_back({std::string(name), Values<T>(n), std::vector<char>(n, 0)});
    return columns_.back();
  }
  void check_place(std::string_view name, std::int64_t place) const {
    check(place >= 0 && place < size_, "AttributeTable: no such place (", name, ": ", place, " of ", size_, ")");
  }

  std::int64_t size_ = 0;
  std::vector<Column> columns_;
};

}  // namespace deepstruct
