// Launchers of the elementwise kernels.
#include "elementwise.cuh"

#include <algorithm>

#include "runtime.hpp"
#include "sizes.hpp"

namespace deepstruct::kernels {
namespace {

/// Blocks of 256 threads that take `each` elements apiece.
unsigned blocks_for(std::int64_t n, std::int64_t each) {
  const std::int64_t a_block = 256 * each;
  return static_cast<unsigned>(std::min<std::int64_t>((n + a_block - 1) / a_block, 0x7fffffff));
}

/// Whether operand o is read four at a time along the innermost loop, if it is contiguous there.
bool by_fours(const nest<3>& n, int o, const void* p) {
  if (n.stride[o][0] != 1) return true;
  bool whole = aligned(p);
  for (int k = 1; k < 4; ++k) whole &= n.extent[k] == 1 || n.stride[o][k] % 4 == 0;
  return whole;
}

/// The nest in steps of `width` along the innermost loop, with the place there as an operand more.
nest_loops<4> in_steps(const nest<3>& n, std::int64_t width) {
  nest<4> steps;
  for (int k = 0; k < 4; ++k) {
    steps.extent[k] = k == 0 ? (n.extent[0] + width - 1) / width : n.extent[k];
    for (int o = 0; o < 3; ++o) steps.stride[o][k] = n.stride[o][k] * (k == 0 ? width : 1);
  }
  steps.stride[3][0] = width;
  return loops_of(steps);
}

}  // namespace

template <class Op>
void map(cuda gpu, const float* x, float* y, std::int64_t n, float a, float b) {
  const bool four = aligned(x, y);
  runtime::launch("map", four ? &device::map<Op, 4> : &device::map<Op, 1>, blocks_for(n, four ? 4 : 1), 256, 0,
                  gpu.stream, x, y, n, a, b);
}

template <class Op>
void map_grad(cuda gpu, const float* dy, const float* x, const float* y, float* dx, std::int64_t n, float a, float b) {
  const bool four = aligned(dy, x, y, dx);
  runtime::launch("map_grad", four ? &device::map_grad<Op, 4> : &device::map_grad<Op, 1>, blocks_for(n, four ? 4 : 1),
                  256, 0, gpu.stream, dy, x, y, dx, n, a, b);
}

template <class Op>
void zip(cuda gpu, const float* x0, const float* x1, float* y, const nest<3>& n) {
  const bool four = n.extent[0] >= 4 && by_fours(n, 0, y) && by_fours(n, 1, x0) && by_fours(n, 2, x1);
  const nest_loops<4> steps = in_steps(n, four ? 4 : 1);
  runtime::launch("zip", four ? &device::zip<Op, 4> : &device::zip<Op, 1>, blocks_for(steps.n, 1), 256, 0, gpu.stream,
                  x0, x1, y, steps, n.extent[0], n.stride[1][0], n.stride[2][0]);
}

void add_into(cuda gpu, const float* x, float* y, std::int64_t n) {
  nest<3> run;
  run.extent[0] = n;
  for (auto& stride : run.stride) stride[0] = 1;
  zip<fn::add>(gpu, x, y, y, run);
}

void select(cuda gpu, const std::int32_t* condition, const float* x0, const float* x1, float* y, std::int64_t n) {
  const bool four = aligned(condition, x0, x1, y);
  runtime::launch("select", four ? &device::select<4> : &device::select<1>, blocks_for(n, four ? 4 : 1), 256, 0,
                  gpu.stream, condition, x0, x1, y, n);
}

void above(cuda gpu, const float* x, float bound, std::int32_t* flags, std::int64_t n) {
  runtime::launch("above", &device::above, blocks_for(n, 1), 256, 0, gpu.stream, x, bound, flags, n);
}

void dropout(cuda gpu, matrix_view<const float> x, matrix_view<float> y, float p, Draw draw) {
  const std::int64_t fours = (x.cols + 3) / 4 * x.rows;
  runtime::launch("dropout", &device::dropout, blocks_for(fours, 1), 256, 0, gpu.stream, x, y, p, 1.0f / (1.0f - p),
                  runtime::drawn(draw, "dropout"), divisor_of(std::max<std::int64_t>(1, x.rows), fours));
}

void logistic_noise(cuda gpu, matrix_view<const float> x, matrix_view<float> y, float scale, Draw draw) {
  const std::int64_t fours = (x.cols + 3) / 4 * x.rows;
  runtime::launch("logistic_noise", &device::logistic_noise, blocks_for(fours, 1), 256, 0, gpu.stream, x, y, scale,
                  runtime::drawn(draw, "logistic_noise"), divisor_of(std::max<std::int64_t>(1, x.rows), fours));
}

#define DEEPSTRUCT_MAP(op)                                                           \
  template void map<fn::op>(cuda, const float*, float*, std::int64_t, float, float); \
  template void map_grad<fn::op>(cuda, const float*, const float*, const float*, float*, std::int64_t, float, float);
DEEPSTRUCT_MAP(relu)
DEEPSTRUCT_MAP(leaky_relu)
DEEPSTRUCT_MAP(clamp)
DEEPSTRUCT_MAP(hardtanh)
DEEPSTRUCT_MAP(tanh)
DEEPSTRUCT_MAP(sigmoid)
DEEPSTRUCT_MAP(silu)
DEEPSTRUCT_MAP(gelu)
DEEPSTRUCT_MAP(gelu_tanh)
DEEPSTRUCT_MAP(softplus)
DEEPSTRUCT_MAP(logsigmoid)
DEEPSTRUCT_MAP(elu)
DEEPSTRUCT_MAP(softsign)
DEEPSTRUCT_MAP(exp)
DEEPSTRUCT_MAP(log)
DEEPSTRUCT_MAP(log1p)
DEEPSTRUCT_MAP(sqrt)
DEEPSTRUCT_MAP(sin)
DEEPSTRUCT_MAP(cos)
DEEPSTRUCT_MAP(abs)
DEEPSTRUCT_MAP(affine)
DEEPSTRUCT_MAP(pow)
DEEPSTRUCT_MAP(step)
DEEPSTRUCT_MAP(stretched_sigmoid)
#undef DEEPSTRUCT_MAP

template void zip<fn::add>(cuda, const float*, const float*, float*, const nest<3>&);
template void zip<fn::sub>(cuda, const float*, const float*, float*, const nest<3>&);
template void zip<fn::mul>(cuda, const float*, const float*, float*, const nest<3>&);
template void zip<fn::div>(cuda, const float*, const float*, float*, const nest<3>&);
template void zip<fn::maximum>(cuda, const float*, const float*, float*, const nest<3>&);
template void zip<fn::minimum>(cuda, const float*, const float*, float*, const nest<3>&);
template void zip<fn::greater_share>(cuda, const float*, const float*, float*, const nest<3>&);
template void zip<fn::equal>(cuda, const float*, const float*, float*, const nest<3>&);

}  // namespace deepstruct::kernels
