// Spectral gap of the normalised Laplacian, by Lanczos iteration. The only graph header that needs Eigen.
#pragma once

#include <Eigen/Eigenvalues>

#include "paths.hpp"

namespace deepstruct {

/// How far spectral_gap() goes.
struct LanczosOptions {
  std::int64_t basis = 32;  ///< vectors kept, 8·basis·V bytes
  double tolerance = 1e-9;  ///< estimated error of λ₂: r or r²/(λ₃ − λ₂), the less, with r = ‖Lx − λ₂x‖
  std::int64_t products = 100'000;  ///< products with the matrix before it gives up
};

namespace detail {

using Vectors = std::vector<std::vector<double>>;

/// x −= Σ_i (v_i·x)·v_i twice ("twice is enough", Parlett 1998); returns the coefficients taken away. Every one is a
/// plain sum over all vertices, so that threads do not change it.
inline std::vector<double> orthogonalise(std::vector<double>& x, const Vectors& v) {
  std::vector<double> taken(v.size(), 0), part(v.size());
  for (int pass = 0; pass < 2; ++pass) {
    parallel_for(static_cast<std::int64_t>(v.size()),
                 [&](std::int64_t i) { part[i] = std::inner_product(x.begin(), x.end(), v[i].begin(), 0.0); });
    parallel_blocks(static_cast<std::int64_t>(x.size()), 4096, [&](std::int64_t first, std::int64_t last) {
      for (std::size_t i = 0; i < v.size(); ++i)
        for (std::int64_t k = first; k < last; ++k) x[k] -= part[i] * v[i][k];
    });
    for (std::size_t i = 0; i < v.size(); ++i) taken[i] += part[i];
  }
  return taken;
}

/// Divides x by its norm and returns that; a norm of next to nothing leaves x alone.
inline double normalise(std::vector<double>& x) {
  const double norm = std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
  if (norm > 1e-12)
    for (double& value : x) value /= norm;
  return norm;
}

/// Vectors 1, 2, … become v_{1 + j} = Σ_i v_{1 + i}·s(i, j), as many as s has columns; the rest goes.
inline void combine(Vectors& v, const Eigen::MatrixXd& s) {
  const auto rows = static_cast<std::size_t>(s.rows()), columns = static_cast<std::size_t>(s.cols());
  parallel_blocks(static_cast<std::int64_t>(v[0].size()), 1024, [&](std::int64_t first, std::int64_t last) {
    const auto length = static_cast<std::size_t>(last - first);
    std::vector<double> block(columns * length, 0);
    for (std::size_t j = 0; j < columns; ++j)
      for (std::size_t i = 0; i < rows; ++i)
        for (std::size_t k = 0; k < length; ++k)
          block[j * length + k] += s(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) * v[1 + i][first + k];
    for (std::size_t j = 0; j < columns; ++j) std::copy_n(block.data() + j * length, length, v[1 + j].begin() + first);
  });
  v.resize(1 + columns);
}

}  // namespace detail

/// Second smallest eigenvalue λ₂ of the normalised Laplacian L = I − D^−½·A·D^−½, in [0, 2]; 0 if the graph is not
/// connected (an isolated vertex has a zero row, as in NetworkX). The greater, the better connected and the faster
/// random walks mix (Chung, "Spectral graph theory", 1997).
///
/// Lanczos on 2I − L beside its known first eigenvector D^½·1, with full reorthogonalisation, restarted with the better
/// half of its Ritz vectors (Wu and Simon, "Thick-restart Lanczos method", SIAM J. Matrix Anal. 2000). A product costs
/// O(E + basis·V), threaded; the number of products grows with 1/√(λ₃ − λ₂). The start is always the same. Exact to the
/// tolerance, not to the bit across compilers. Throws on a directed graph, fewer than two vertices, options out of
/// range, and if the products do not suffice.
inline double spectral_gap(const Graph& g, const LanczosOptions& options = {}) {
  const std::int64_t n = g.vertex_count();
  check(!g.directed(), "spectral_gap: needs an undirected graph (directed, ", n, " vertices)");
  check(n >= 2, "spectral_gap: needs two vertices (", n, ")");
  check(options.basis >= 4 && options.basis <= 4096, "spectral_gap: needs a basis of 4 to 4096 (", options.basis, ")");
  check(options.tolerance > 0, "spectral_gap: needs a tolerance above 0 (", options.tolerance, ")");
  if (!is_connected(g)) return 0;

  const Adjacency a = neighbours(g);
  detail::Vectors v(1, std::vector<double>(static_cast<std::size_t>(n)));  // v[0]: the known eigenvector
  std::vector<double> scale(v[0]), next(v[0]), image(v[0]);
  const Draw draw{0x6c616e637a6f73, 0};
  for (std::int64_t k = 0; k < n; ++k) {
    v[0][k] = std::sqrt(static_cast<double>(a.degree(static_cast<Vertex>(k))));
    scale[k] = 1 / v[0][k];
    next[k] = double{draw.uniform(static_cast<std::uint64_t>(k))} - 0.5;
  }
  detail::normalise(v[0]);
  detail::orthogonalise(next, v);
  detail::normalise(next);

  const auto size = static_cast<Eigen::Index>(std::min(options.basis, n - 1));
  Eigen::MatrixXd projected = Eigen::MatrixXd::Zero(size, size);  // Vᵀ(2I − L)V; Ritz values as its diagonal at first
  Eigen::Index kept = 0;
  for (std::int64_t products = 0;;) {
    double norm = 1;
    while (kept < size && norm > 1e-12) {
      v.push_back(next);
      parallel_blocks(n, 1024, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t k = first; k < last; ++k) {
          double sum = 0;
          for (const Vertex w : a.of(static_cast<Vertex>(k))) sum += scale[w] * next[w];
          image[k] = next[k] + scale[k] * sum;
        }
      });
      ++products;
      const std::vector<double> taken = detail::orthogonalise(image, v);
      for (Eigen::Index i = 0; i <= kept; ++i)
        projected(i, kept) = projected(kept, i) = taken[static_cast<std::size_t>(i) + 1];
      ++kept;
      norm = detail::normalise(image);
      std::swap(next, image);
    }
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> ritz(projected.topLeftCorner(kept, kept));  // ascending
    const double first = ritz.eigenvalues()(kept - 1), second = kept > 1 ? ritz.eigenvalues()(kept - 2) : 0;
    const double residual = norm * std::fabs(ritz.eigenvectors()(kept - 1, kept - 1));
    const double error = first - second > residual ? residual * residual / (first - second) : residual;
    if (error <= options.tolerance || norm <= 1e-12) return std::max(0.0, 2 - first);
    check(products < options.products, "spectral_gap: did not converge (error ", error, " after ", products,
          " products)");
    const Eigen::Index left = kept / 2;
    detail::combine(v, ritz.eigenvectors().rightCols(left));
    projected.setZero();
    projected.diagonal().head(left) = ritz.eigenvalues().tail(left);
    kept = left;
  }
}

}  // namespace deepstruct
