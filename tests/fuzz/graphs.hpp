// Graphs that are the same to every bit that files keep.
#pragma once

#include <string>
#include <variant>

#include <deepstruct/graph/graph.hpp>

#include "targets.hpp"

namespace fuzz {

inline bool same_value(const deepstruct::AttributeTable::Value& a, const deepstruct::AttributeTable::Value& b) {
  if (a.index() != b.index()) return false;
  if (const float* x = std::get_if<float>(&a)) return same_number(*x, std::get<float>(b));
  if (const double* x = std::get_if<double>(&a)) return same_number(*x, std::get<double>(b));
  return a == b;
}
inline bool same_attributes(const deepstruct::AttributeTable& a, const deepstruct::AttributeTable& b) {
  if (a.size() != b.size() || a.names() != b.names()) return false;
  for (const std::string& name : a.names()) {
    const auto of_type = [&]<class T>(std::type_identity<T>) { return a.holds<T>(name) == b.holds<T>(name); };
    if (!of_type(std::type_identity<bool>()) || !of_type(std::type_identity<std::int64_t>()) ||
        !of_type(std::type_identity<float>()) || !of_type(std::type_identity<double>()))
      return false;
    for (std::int64_t k = 0; k < a.size(); ++k) {
      const auto x = a.value(name, k), y = b.value(name, k);
      if (x.has_value() != y.has_value() || (x && !same_value(*x, *y))) return false;
    }
  }
  return true;
}
inline bool same_graph(const deepstruct::Graph& a, const deepstruct::Graph& b) {
  return a.directed() == b.directed() && std::ranges::equal(a.edges(), b.edges()) &&
         same_attributes(a.vertex_attributes(), b.vertex_attributes()) &&
         same_attributes(a.edge_attributes(), b.edge_attributes());
}

}  // namespace fuzz
