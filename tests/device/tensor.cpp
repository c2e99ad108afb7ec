// Values on a GPU: moved, copied, compared, never read as if they were on the CPU; what meets must meet on one device.
#include <deepstruct/core/eigen.hpp>
#include <deepstruct/deepstruct.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

static_assert(has_cuda, "these tests are of programs that are built with CUDA");

namespace {

constexpr Device on_gpu = Device::cuda;

Tensor counted(const Shape& shape) {
  Tensor t = Tensor::empty(shape);
  t.for_each([](std::int64_t i, float& x) { x = static_cast<float>(i) - 3; });
  return t;
}

}  // namespace

TEST_CASE("A tensor goes to a GPU and comes back the same") {
  REQUIRE(cuda_available());
  for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{7}, Shape{3, 5}, Shape{33, 2}, Shape{2, 3, 4, 5}}) {
    const Tensor here = counted(shape), there = to(here, on_gpu);
    REQUIRE(there.device() == on_gpu);
    REQUIRE(there.shape() == shape);
    REQUIRE(to(there, Device::cpu) == here);
    REQUIRE(to(there, Device::cpu).device() == Device::cpu);
    REQUIRE(there.to_vector() == here.to_vector());
    REQUIRE(there == here);  // compared on the CPU
    const Tensor copy = there;
    REQUIRE((copy.data() != there.data() || shape.size() == 0));
    REQUIRE(copy == here);
    REQUIRE(Tensor::zeros(shape, on_gpu) == Tensor::zeros(shape));
    REQUIRE(Tensor::full(shape, 2.5f, on_gpu) == Tensor::full(shape, 2.5f));
  }
  REQUIRE(to(Tensor::scalar(4), on_gpu).item() == 4.0f);
  REQUIRE(to(Indices::from({3}, {1, -2, 3}), on_gpu) == Indices::from({3}, {1, -2, 3}));
}

TEST_CASE("Elements on a GPU are not read by accident") {
  Tensor t = to(counted({2, 3}), on_gpu);
  require_error([&] { (void)t(1, 1); }, {"operator(): the elements are on a GPU", "[2, 3]"});
  require_error([&] { (void)t.at(1, 1); }, {"at: the elements are on a GPU"});
  require_error([&] { t.for_each([](std::int64_t, float& x) { x = 0; }); }, {"for_each: the elements are on a GPU"});
  require_error([&] { (void)as_eigen(t); }, {"as_eigen: the elements are on a GPU"});
  double total = 0;
  std::as_const(t).for_each([&](std::int64_t, float x) { total += double{x}; });
  REQUIRE(total == -3);
}

TEST_CASE("What meets in an op must live on one device") {
  const Var a(counted({4, 3})), b(to(counted({4, 3}), on_gpu));
  require_error([&] { add(a, b); }, {"add: values live on different devices (cpu and cuda)"});
  require_error([&] { matmul(b, transpose(a)); }, {"matmul: values live on different devices (cuda and cpu)"});
  require_error([&] { cat({a, b}); }, {"cat: values live on different devices"});
  require_error([&] { linear(b, a); }, {"different devices"});
  Rng rng(1);
  const Mask mask = Mask::random(3, 3, 0.5, rng);
  require_error([&] { sparse_linear(b, Tensor::ones({mask.nnz()}), mask); },
                {"sparse_linear: values live on different devices (cuda and cpu)"});
  // A single number goes to where the others are.
  REQUIRE(mul(b, Tensor::scalar(2)).value() == mul(a, Tensor::scalar(2)).value());
  REQUIRE(sub(Tensor::scalar(2), b).device() == on_gpu);
}

TEST_CASE("A gradient goes the way that its value came") {
  const Var x = variable(counted({5, 2}));
  const Var there = to(x, on_gpu);
  REQUIRE(there.device() == on_gpu);
  backward(sum(square(there)));
  REQUIRE(x.grad().device() == Device::cpu);
  for (std::int64_t i = 0; i < 5; ++i) REQUIRE(x.grad()(i, 1) == 2 * x.value()(i, 1));
  REQUIRE(to(there, on_gpu) == there);  // nothing to do, nothing recorded
}

TEST_CASE("A parameter moves with its gradient and slots") {
  Param p(counted({6}));
  p.slot("exp_avg") = Tensor::ones({6});
  backward(sum(square(p.var())));
  p.move_to(on_gpu);
  REQUIRE(p.device() == on_gpu);
  REQUIRE(p.grad().device() == on_gpu);
  REQUIRE(p.slots()[0].value.device() == on_gpu);
  REQUIRE(p.slot("new").device() == on_gpu);
  const std::vector<std::int32_t> map{5, -1, 0};
  remap(p, map);
  REQUIRE(p.value() == Tensor::from({3}, {2, 0, -3}));
  REQUIRE(p.slot("exp_avg") == Tensor::from({3}, {1, 0, 1}));
  p.set_value(Tensor::ones({3}));
  REQUIRE(p.device() == on_gpu);
}

TEST_CASE("A mask has its edges on the GPU, made once") {
  Rng rng(3);
  const Mask m = Mask::random(9, 11, 0.3, rng), copy = m;
  const csr_view rows = m.csr(on_gpu), columns = m.csc(on_gpu);
  REQUIRE(copy.csr(on_gpu).col == rows.col);
  REQUIRE(rows.edge == nullptr);
  REQUIRE(columns.edge != nullptr);
  REQUIRE(rows.nnz == m.nnz());
  REQUIRE(columns.rows == 11);
}

TEST_CASE("A number with a gradient takes its gradient home, and a seed must be where the value is") {
  const Var x(to(counted({4, 3}), on_gpu)), temperature = variable(Tensor::scalar(2));
  backward(sum(mul(x, temperature)));
  REQUIRE(temperature.grad().device() == Device::cpu);
  REQUIRE(temperature.grad().item() == sum(Var(counted({4, 3}))).item());
  const Var y = relu(variable(to(counted({4, 3}), on_gpu)));
  require_error([&] { grad(y, {y}, {.seed = Var(Tensor::ones({4, 3}))}); }, {"grad: values live on different devices"});
  require_error([&] { mul(x, Tensor::ones({1, 1})); }, {"mul: values live on different devices"});
}

TEST_CASE("Vars move by value, models in place, and neither by accident") {
  Var v(counted({3}));
  const Var there = to(v, on_gpu);  // a handle that may change is not taken for a model
  REQUIRE(there.device() == on_gpu);
  REQUIRE(v.device() == Device::cpu);
  Rng rng(1);
  MaskedDeepFFN model(4, 2, {3}, {}, rng);
  const Tensor before = model.layer_first.weight.value();
  to(model, on_gpu);
  REQUIRE(device_of(model) == on_gpu);
  REQUIRE(device_of(to(model, Device::cpu)) == Device::cpu);
  REQUIRE(model.layer_first.weight.value() == before);
  static_assert(Movable<MaskedDeepFFN> && !Movable<const MaskedDeepFFN> && !Movable<Var>);
}

TEST_CASE("Optimizers notice what was put on another device") {
  Rng rng(1);
  MaskedDeepFFN model(4, 2, {3}, {}, rng);
  to(model, on_gpu);
  Adam adam;
  backward(sum(model(to(Tensor::ones({2, 4}), on_gpu))));
  adam.step(model);
  model.layer_first.weight.slot("exp_avg") = Tensor::zeros(model.layer_first.weight.shape());
  backward(sum(model(to(Tensor::ones({2, 4}), on_gpu))));
  require_error([&] { adam.step(model); }, {"Adam: values live on different devices"});
}

TEST_CASE("Batches that were moved away are made anew, and data sets take values of a GPU") {
  const Tensor x = counted({6, 2});
  const Indices y = Indices::from({6}, {0, 1, 0, 1, 0, 1});
  const Dataset data(to(x, on_gpu), to(y, on_gpu), 2);
  std::int64_t seen = 0;
  for (auto& [bx, by] : batches(data, 2)) {
    REQUIRE(bx.device() == Device::cpu);
    REQUIRE(bx(1, 1) == x(seen + 1, 1));
    bx = to(std::move(bx), on_gpu);
    by = to(std::move(by), on_gpu);
    seen += 2;
  }
  REQUIRE(seen == 6);
}

TEST_CASE("Work in a stream of its own gives what the default stream gives") {
  const Tensor x = counted({8, 8});
  const runtime::Stream stream;
  Tensor y;
  {
    const runtime::StreamGuard guard(stream);
    REQUIRE(runtime::current_stream == stream.get());
    y = matmul(to(x, on_gpu), to(x, on_gpu)).value();
    finish(on_gpu);
  }
  REQUIRE(runtime::current_stream == nullptr);
  REQUIRE(y == matmul(x, x).value());
}
