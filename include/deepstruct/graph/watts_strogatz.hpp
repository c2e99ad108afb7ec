// Small worlds: rings of neighbours with some edges moved or added at random (Watts & Strogatz, "Collective dynamics of
// 'small-world' networks", 1998; Newman & Watts, "Renormalization group analysis of the small-world network model",
// 1999).
#pragma once

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "components.hpp"
#include "sampling.hpp"

namespace deepstruct {

namespace detail {

/// A ring of n vertices, each joined to the ⌊k/2⌋ nearest on both sides, while its edges are moved and others join it.
///
/// An edge of the ring is known by its number, (j − 1)·n + u for u – u + j, so only edges that are added need a set.
class Ring {
 public:
  Ring(std::int64_t n, std::int64_t k, double p)
      : n_(n),
        half_(k / 2),
        degree_(static_cast<std::size_t>(n), static_cast<std::int32_t>(2 * half_)),
        gone_(static_cast<std::size_t>(n * half_), 0),
        present_(static_cast<std::int64_t>(p * static_cast<double>(n * half_))) {}

  std::int64_t half() const { return half_; }

  /// A new edge from u to a vertex uniform among those that are not yet its neighbours; false if there is none.
  bool connect(std::int64_t u, WordReader& words) {
    if (degree_[static_cast<std::size_t>(u)] >= n_ - 1) return false;
    std::int64_t w = words.below(n_);
    while (w == u || contains(u, w)) w = words.below(n_);
    added_.push_back(make_edge(u, w));
    present_.insert(u, w);
    ++degree_[static_cast<std::size_t>(u)];
    ++degree_[static_cast<std::size_t>(w)];
    return true;
  }
  /// Removes the edge u – u + j of the ring.
  void remove(std::int64_t u, std::int64_t j) {
    gone_[number(u, j)] = 1;
    --degree_[static_cast<std::size_t>(u)];
    --degree_[static_cast<std::size_t>(around(u, j))];
  }
  /// What is left of the ring, then the others as they came, which is the order in which NetworkX inserts them.
  Graph graph() const {
    std::vector<Edge> edges;
    edges.reserve(gone_.size() + added_.size());
    for (std::int64_t j = 1; j <= half_; ++j)
      for (std::int64_t u = 0; u < n_; ++u)
        if (!gone_[number(u, j)]) edges.push_back(make_edge(u, around(u, j)));
    edges.insert(edges.end(), added_.begin(), added_.end());
    Graph g(n_, std::move(edges));
    g.sort_edges();
    return g;
  }

 private:
  std::int64_t around(std::int64_t u, std::int64_t j) const { return u + j < n_ ? u + j : u + j - n_; }
  std::size_t number(std::int64_t u, std::int64_t j) const { return static_cast<std::size_t>((j - 1) * n_ + u); }
  bool contains(std::int64_t u, std::int64_t w) const {
    const std::int64_t ahead = w > u ? w - u : w - u + n_, behind = n_ - ahead;
    if (ahead <= half_ && !gone_[number(u, ahead)]) return true;
    if (behind <= half_ && !gone_[number(w, behind)]) return true;
    return present_.contains(u, w);
  }

  std::int64_t n_, half_;
  std::vector<std::int32_t> degree_;
  std::vector<char> gone_;   // edges of the ring
  EdgeSet present_;          // the added ones, to look them up
  std::vector<Edge> added_;  // and in order
};

inline void check_ring(const char* op, std::int64_t n, std::int64_t k, double p) {
  check_vertex_count(op, n);
  check(k >= 0 && k <= n, op, ": needs 0 <= k <= n (", k, " and ", n, ")");
  check_probability(op, p);
  check_edge_count(op, k == n ? pair_count(n) : n * (k / 2));
}

}  // namespace detail

/// Watts–Strogatz graph: a ring of n vertices, each joined to its k nearest (odd k: k − 1), of whose edges each is
/// moved with probability p.
///
/// For j = 1 … k/2 and every vertex u in turn, u – u + j becomes u – w, w uniform among the vertices that u is not yet
/// joined to; it stays if there is none. So there are n·⌊k/2⌋ edges. As in NetworkX k = n is the complete graph; unlike
/// there k < 2 gives n vertices without edges. A layered network made of it (edges from earlier to later vertices) can
/// be deep and narrow: small p leaves most of the path 0 – 1 – … – (n − 1). O(n·k) expected unless nearly all are
/// joined. Throws if n < 0, k < 0, k > n or p is outside [0, 1].
inline Graph watts_strogatz_graph(std::int64_t n, std::int64_t k, double p, Rng& rng = default_rng()) {
  detail::check_ring("watts_strogatz_graph", n, k, p);
  detail::WordReader words(rng.draw());
  if (k == n) return complete_graph(n);
  detail::Ring ring(n, k, p);
  for (std::int64_t j = 1; j <= ring.half(); ++j)
    for (std::int64_t u = 0; u < n; ++u)
      if (words.uniform() < p && ring.connect(u, words)) ring.remove(u, j);
  return ring.graph();
}

/// Newman–Watts–Strogatz graph: a ring of n vertices, each joined to its k nearest (odd k: k − 1), where each edge u –
/// v adds an edge u – w with probability p.
///
/// u is the earlier vertex of the edge, w uniform among the vertices that u is not yet joined to; nothing is added if
/// there is none. The ring stays whole, and with it the path 0 – 1 – … – (n − 1): made a network with edges from
/// earlier to later vertices, the graph is n layers of one neuron. k = n is the complete graph. O(n·k) expected unless
/// nearly all are joined. Throws if n < 0, k < 0, k > n or p is outside [0, 1].
inline Graph newman_watts_strogatz_graph(std::int64_t n, std::int64_t k, double p, Rng& rng = default_rng()) {
  detail::check_ring("newman_watts_strogatz_graph", n, k, p);
  detail::WordReader words(rng.draw());
  if (k == n) return complete_graph(n);
  detail::Ring ring(n, k, p);
  const Graph edges_of_ring = ring.graph();
  for (const Edge& e : edges_of_ring.edges())
    if (words.uniform() < p) ring.connect(e.source, words);
  return ring.graph();
}

/// The first connected one of up to `tries` Watts–Strogatz graphs; one draw each.
///
/// Graphs of 0 or 1 vertices count as connected. Throws if none was connected, as for k < 2, if tries < 1, and as
/// watts_strogatz_graph.
inline Graph connected_watts_strogatz_graph(std::int64_t n, std::int64_t k, double p, std::int64_t tries = 100,
                                            Rng& rng = default_rng()) {
  detail::check_ring("connected_watts_strogatz_graph", n, k, p);
  check(tries >= 1, "connected_watts_strogatz_graph: needs tries >= 1 (", tries, ")");
  check(k >= 2 || n <= 1, "connected_watts_strogatz_graph: cannot be connected with k < 2 (", n, " and ", k, ")");
  for (std::int64_t t = 0; t < tries; ++t) {
    Graph g = watts_strogatz_graph(n, k, p, rng);
    if (connected_components(g).count <= 1) return g;
  }
  fail("connected_watts_strogatz_graph: no connected graph found (", n, ", ", k, ", ", p, " in ", tries, " tries)");
}

}  // namespace deepstruct
