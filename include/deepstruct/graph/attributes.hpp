// AttributeTable: named typed values of the vertices or edges of a graph.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <type_traits>
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

  AttributeTable() = default;
  AttributeTable(const AttributeTable&) = default;
  AttributeTable(AttributeTable&& other) noexcept
      : size_(std::exchange(other.size_, 0)), columns_(std::move(other.columns_)) {
    other.columns_.clear();
  }
  AttributeTable& operator=(AttributeTable other) noexcept {
    std::swap(size_, other.size_);
    columns_.swap(other.columns_);
    return *this;
  }

  /// Number of places of every column.
  std::int64_t size() const { return size_; }
  /// Column names, in the order in which they came.
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const Column& c : columns_) all.push_back(c.name);
    return all;
  }
  /// Is there such a column?
  bool contains(std::string_view name) const { return find(name) != nullptr; }
  /// True if the column exists and holds T.
  template <class T>
  bool holds(std::string_view name) const {
    static_assert(type_of<T> >= 0, "bool, std::int64_t, float, double or std::string");
    const Column* c = find(name);
    return c && c->type == type_of<T>;
  }

  /// The value at a place, or nothing if the place is empty or there is no such column; throws on another type.
  template <class T>
  std::optional<T> get(std::string_view name, std::int64_t place) const {
    check_place(name, place);
    const Column* c = find(name);
    if (!c || !c->present(place)) return std::nullopt;
    return static_cast<T>(typed<T>(*c)[place]);
  }
  /// The value at a place whatever its type, or nothing. A template, so that only who asks this way compiles it.
  template <class Any = Value>
  std::optional<Any> value(std::string_view name, std::int64_t place) const {
    check_place(name, place);
    const Column* c = find(name);
    std::optional<Any> found;
    if (c && c->present(place))
      each_type([&](auto type) {
        using T = typename decltype(type)::type;
        if (c->type == type_of<T>) found = static_cast<T>(c->template of<T>()[place]);
      });
    return found;
  }
  /// Sets the value at a place; the first value makes the column. Throws if the column has another type.
  template <class T>
  void set(std::string_view name, std::int64_t place, T value) {
    if constexpr (type_of<T> < 0 && std::is_convertible_v<T, std::string>) return set(name, place, std::string(value));
    if constexpr (type_of<T> < 0 && std::is_integral_v<T>) return set(name, place, static_cast<std::int64_t>(value));
    if constexpr (type_of<T> >= 0) set_typed(name, place, std::move(value));
    static_assert(type_of<T> >= 0 || std::is_convertible_v<T, std::string> || std::is_integral_v<T>,
                  "bool, std::int64_t, float, double or std::string");
  }
  /// Sets the value at a place whatever its type.
  template <class Any = Value>
  void set_value(std::string_view name, std::int64_t place, const Any& value) {
    std::visit([&](const auto& v) { set(name, place, v); }, value);
  }
  /// A whole column, replacing one of that name; needs one value per place.
  template <class T>
  void set_column(std::string_view name, std::vector<T> values) {
    check(static_cast<std::int64_t>(values.size()) == size_, "AttributeTable: needs one value per place (", name, ": ",
          values.size(), " for ", size_, ")");
    erase(name);
    columns_.push_back({.name = std::string(name), .type = type_of<T>});
    if constexpr (std::is_same_v<T, bool>)
      columns_.back().flags.assign(values.begin(), values.end());
    else
      columns_.back().template of<T>() = std::move(values);
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
  /// Drops a column, if there is one of that name.
  void erase(std::string_view name) {
    std::erase_if(columns_, [&](const Column& c) { return c.name == name; });
  }

  /// More places, empty at first, or fewer.
  void resize(std::int64_t size) {
    check(size >= 0, "AttributeTable: needs 0 places or more (", size, ")");
    for (Column& c : columns_) {
      if (size > size_ && c.filled.empty()) c.filled.assign(static_cast<std::size_t>(size_), 1);
      if (size > size_ || !c.filled.empty()) c.filled.resize(static_cast<std::size_t>(size), 0);
      each_type([&](auto type) {
        using T = typename decltype(type)::type;
        if (c.type == type_of<T>) c.template of<T>().resize(static_cast<std::size_t>(size));
      });
    }
    size_ = size;
  }
  /// Place k becomes what place kept[k] was: selects, drops and reorders.
  void keep(std::span<const std::int32_t> kept) {
    for (const std::int32_t k : kept) check_place("keep", k);
    for (Column& c : columns_) {
      each_type([&](auto type) {
        using T = typename decltype(type)::type;
        if (c.type == type_of<T>) c.template of<T>() = picked(c.template of<T>(), kept);
      });
      if (!c.filled.empty()) c.filled = picked(c.filled, kept);
    }
    size_ = static_cast<std::int64_t>(kept.size());
  }
  /// The same columns with equal values; order of columns does not matter.
  friend bool operator==(const AttributeTable& a, const AttributeTable& b) {
    if (a.size_ != b.size_ || a.columns_.size() != b.columns_.size()) return false;
    for (const Column& c : a.columns_) {
      const Column* d = b.find(c.name);
      if (!d || c.type != d->type) return false;
      bool equal = true;
      each_type([&](auto type) {
        using T = typename decltype(type)::type;
        if (c.type != type_of<T>) return;
        for (std::int64_t k = 0; k < a.size_ && equal; ++k)
          equal = c.present(k) == d->present(k) && (!c.present(k) || c.template of<T>()[k] == d->template of<T>()[k]);
      });
      if (!equal) return false;
    }
    return true;
  }

 private:
  template <class T>
  using Values = std::vector<std::conditional_t<std::is_same_v<T, bool>, char, T>>;  // no std::vector<bool>: spans
  template <class T>
  static constexpr int type_of = std::is_same_v<T, bool>           ? 0
                                 : std::is_same_v<T, std::int64_t> ? 1
                                 : std::is_same_v<T, float>        ? 2
                                 : std::is_same_v<T, double>       ? 3
                                 : std::is_same_v<T, std::string>  ? 4
                                                                   : -1;
  /// Calls f with each of the types.
  template <class F>
  static void each_type(F&& f) {
    f(std::type_identity<bool>());
    f(std::type_identity<std::int64_t>());
    f(std::type_identity<float>());
    f(std::type_identity<double>());
    f(std::type_identity<std::string>());
  }
  /// Values of one type, in the vector of that type. A variant of vectors would take a tenth of a second of every
  /// compilation.
  struct Column {
    std::string name;
    int type = 0;
    std::vector<char> flags = {};
    std::vector<std::int64_t> integers = {};
    std::vector<float> singles = {};
    std::vector<double> doubles = {};
    std::vector<std::string> texts = {};
    std::vector<char> filled = {};  // empty: every place has a value

    bool present(std::int64_t place) const { return filled.empty() || filled[place] != 0; }
    template <class T>
    Values<T>& of() {
      static_assert(type_of<T> >= 0, "bool, std::int64_t, float, double or std::string");
      if constexpr (type_of<T> == 0) return flags;
      if constexpr (type_of<T> == 1) return integers;
      if constexpr (type_of<T> == 2) return singles;
      if constexpr (type_of<T> == 3) return doubles;
      if constexpr (type_of<T> == 4) return texts;
    }
    template <class T>
    const Values<T>& of() const {
      return const_cast<Column*>(this)->of<T>();
    }
  };
  template <class T>
  static std::vector<T> picked(const std::vector<T>& from, std::span<const std::int32_t> at) {
    std::vector<T> result;
    result.reserve(at.size());
    for (const std::int32_t k : at) result.push_back(from[k]);
    return result;
  }

  template <class T>
  void set_typed(std::string_view name, std::int64_t place, T value) {
    check_place(name, place);
    Column& c = column_of<T>(name);
    c.template of<T>()[place] = std::move(value);
    if (!c.filled.empty()) c.filled[place] = 1;
  }
  const Column* find(std::string_view name) const {
    for (const Column& c : columns_)
      if (c.name == name) return &c;
    return nullptr;
  }
  template <class T>
  const Values<T>& typed(const Column& c) const {
    check(c.type == type_of<T>, "AttributeTable: the attribute has another type (", c.name, ")");
    return c.of<T>();
  }
  template <class T>
  Column& column_of(std::string_view name) {
    if (Column* c = const_cast<Column*>(find(name))) {
      typed<T>(*c);
      return *c;
    }
    const auto n = static_cast<std::size_t>(size_);
    columns_.push_back({.name = std::string(name), .type = type_of<T>, .filled = std::vector<char>(n, 0)});
    columns_.back().template of<T>().resize(n);
    return columns_.back();
  }
  void check_place(std::string_view name, std::int64_t place) const {
    check(place >= 0 && place < size_, "AttributeTable: no such place (", name, ": ", place, " of ", size_, ")");
  }

  std::int64_t size_ = 0;
  std::vector<Column> columns_;
};

}  // namespace deepstruct
