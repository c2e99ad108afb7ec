// Launchers of pooling.
#include "pool.cuh"

#include <algorithm>

#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

/// Whether four samples of a column can be read at once.
template <class T>
bool by_fours(matrix_view<T> m) {
  return aligned(m.data) && m.ld % 4 == 0 && m.rows >= 4;
}
/// Blocks of 256 threads for a result, N samples of a column to a thread.
template <class T>
unsigned blocks_for(matrix_view<T> to, bool fours) {
  const std::int64_t each = fours ? 4 : 1, items = (to.rows + each - 1) / each * to.cols;
  return static_cast<unsigned>(std::min<std::int64_t>((items + 255) / 256, 132 * 64));
}

}  // namespace

void max_pool(cuda gpu, matrix_view<const float> x, pool_windows rows, pool_windows cols, matrix_view<float> y,
              std::int32_t* index) {
  const bool fours = by_fours(x) && by_fours(y) && aligned(index);
  runtime::launch("max_pool", fours ? &device::max_pool<4> : &device::max_pool<1>, blocks_for(y, fours), 256, 0,
                  gpu.stream, x, rows, cols, y, index);
}

void max_pool_dx(cuda gpu, matrix_view<const float> dy, const std::int32_t* index, pool_windows rows, pool_windows cols,
                 matrix_view<float> dx) {
  const bool fours = by_fours(dy) && by_fours(dx) && aligned(index);
  runtime::launch("max_pool_dx", fours ? &device::max_pool_dx<4> : &device::max_pool_dx<1>, blocks_for(dx, fours), 256,
                  0, gpu.stream, dy, index, rows, cols, dx);
}

void avg_pool(cuda gpu, matrix_view<const float> x, pool_windows rows, pool_windows cols, matrix_view<float> y) {
  constexpr std::int64_t many = 132 * 2048;  // threads that fill a GPU
  const std::int64_t outputs = y.rows * y.cols;
  if (outputs < many && rows.in * cols.in >= 32 * rows.out * cols.out) {
    const bool few = y.rows <= 8;
    const std::int64_t samples = few ? 8 : 32, blocks = (y.rows + samples - 1) / samples * y.cols;
    runtime::launch("avg_pool", few ? &device::avg_pool_large<8> : &device::avg_pool_large<32>,
                    static_cast<unsigned>(blocks), 256, 256 * sizeof(double), gpu.stream, x, rows, cols, y);
    return;
  }
  const bool fours = by_fours(x) && by_fours(y);
  runtime::launch("avg_pool", fours ? &device::avg_pool<4> : &device::avg_pool<1>, blocks_for(y, fours), 256, 0,
                  gpu.stream, x, rows, cols, y);
}

void avg_pool_dx(cuda gpu, matrix_view<const float> dy, pool_windows rows, pool_windows cols, matrix_view<float> dx) {
  const bool fours = by_fours(dy) && by_fours(dx);
  runtime::launch("avg_pool_dx", fours ? &device::avg_pool_dx<4> : &device::avg_pool_dx<1>, blocks_for(dx, fours), 256,
                  0, gpu.stream, dy, rows, cols, dx);
}

}  // namespace deepstruct::kernels
