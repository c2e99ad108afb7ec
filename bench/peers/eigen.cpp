#include "eigen.hpp"

#include <Eigen/Sparse>

namespace bench {

using Dense = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct EigenSparse::Data {
  Eigen::SparseMatrix<float, Eigen::RowMajor> w;
  Dense x, y, dy, dx;
  Eigen::VectorXf dw;
};

EigenSparse::EigenSparse(std::int64_t out, std::int64_t in, std::span<const std::int32_t> start,
                         std::span<const std::int32_t> col, const float* values, std::int64_t batch, const float* x,
                         const float* dy)
    : data_(std::make_unique<Data>()) {
  const auto nnz = static_cast<std::int64_t>(col.size());
  data_->w =
      Eigen::Map<const Eigen::SparseMatrix<float, Eigen::RowMajor>>(out, in, nnz, start.data(), col.data(), values);
  data_->x = Eigen::Map<const Dense>(x, in, batch);
  data_->dy = Eigen::Map<const Dense>(dy, out, batch);
  data_->y.resize(out, batch);
  data_->dx.resize(in, batch);
  data_->dw.resize(nnz);
}
EigenSparse::~EigenSparse() = default;

void EigenSparse::forward() { data_->y.noalias() = data_->w * data_->x; }
void EigenSparse::backward() {
  Data& d = *data_;
  d.dx.noalias() = d.w.transpose() * d.dy;
  const auto* start = d.w.outerIndexPtr();
  const auto* col = d.w.innerIndexPtr();
  for (Eigen::Index r = 0; r < d.w.rows(); ++r)
    for (auto e = start[r]; e < start[r + 1]; ++e) d.dw[e] = d.dy.row(r).dot(d.x.row(col[e]));
}
float EigenSparse::y(std::int64_t b, std::int64_t r) const { return data_->y(r, b); }
float EigenSparse::dx(std::int64_t b, std::int64_t c) const { return data_->dx(c, b); }
float EigenSparse::dw(std::int64_t edge) const { return data_->dw[edge]; }

struct EigenDense::Data {
  Dense w, x, y, dy, dx, dw;
};

EigenDense::EigenDense(std::int64_t out, std::int64_t in, const float* w, std::int64_t batch, const float* x,
                       const float* dy)
    : data_(std::make_unique<Data>()) {
  data_->w = Eigen::Map<const Dense>(w, out, in);
  data_->x = Eigen::Map<const Dense>(x, in, batch);
  data_->dy = Eigen::Map<const Dense>(dy, out, batch);
  data_->y.resize(out, batch);
  data_->dx.resize(in, batch);
  data_->dw.resize(out, in);
}
EigenDense::~EigenDense() = default;

void EigenDense::forward() { data_->y.noalias() = data_->w * data_->x; }
void EigenDense::backward() {
  Data& d = *data_;
  d.dx.noalias() = d.w.transpose() * d.dy;
  d.dw.noalias() = d.dy * d.x.transpose();
}
float EigenDense::y(std::int64_t b, std::int64_t r) const { return data_->y(r, b); }
float EigenDense::dx(std::int64_t b, std::int64_t c) const { return data_->dx(c, b); }

}  // namespace bench
