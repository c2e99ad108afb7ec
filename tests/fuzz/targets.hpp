// What is fuzzed: one function a reader. Any bytes either parse or throw deepstruct::Error; what parses and can be
// written comes back as it was.
#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include <deepstruct/core/tensor.hpp>

namespace fuzz {

using Bytes = std::span<const std::byte>;

/// Each returns, or throws what is a finding.
void csv(Bytes);
void edge_list(Bytes);
void graphml(Bytes);  ///< read_graphml and read_layered_graph
void gzip(Bytes);
void idx(Bytes);
void kernel_table(Bytes);
void model(Bytes);       ///< bytes of a file of a model or checkpoint
void model_edit(Bytes);  ///< files of models with what the bytes say changed in them
void network(Bytes);     ///< GraphML as a network: from_graph, to_graph, compact
void npy(Bytes);
void safetensors(Bytes);

/// Files of small models of every form, which model_edit starts from.
std::vector<std::vector<std::byte>> model_files();

/// A broken promise of a reader.
struct Finding : std::logic_error {
  using std::logic_error::logic_error;
};
inline void require(bool holds, const char* promise) {
  if (!holds) throw Finding(promise);
}

/// What read() returns, or nothing where it throws an Error.
template <class Read>
auto parsed(Read&& read) -> std::optional<decltype(read())> {
  try {
    return read();
  } catch (const deepstruct::Error& error) {
    require(error.what()[0] != '\0', "an Error says nothing");
    return std::nullopt;
  }
}

/// Equal bit by bit, but any not-a-number is any other of its sign.
template <std::floating_point T>
bool same_number(T a, T b) {
  return std::signbit(a) == std::signbit(b) && (a == b || (std::isnan(a) && std::isnan(b)));
}
template <class T>
bool same_elements(const deepstruct::Array<T>& a, const deepstruct::Array<T>& b) {
  if (a.shape() != b.shape()) return false;
  const std::vector<T> x = a.to_vector(), y = b.to_vector();
  for (std::size_t k = 0; k < x.size(); ++k) {
    if constexpr (std::is_floating_point_v<T>) {
      if (!same_number(x[k], y[k])) return false;
    } else {
      if (x[k] != y[k]) return false;
    }
  }
  return true;
}

}  // namespace fuzz
