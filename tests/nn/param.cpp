// Param: deep copies, slots, transform and remap.
#include <deepstruct/nn/param.hpp>
#include <deepstruct/ops/reduce.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

/// A packed parameter with value 1 … 5, gradient 10 … 50 and a slot 100 … 500.
Param packed_param() {
  Param p(Tensor::from({5}, {1, 2, 3, 4, 5}));
  p.slot("moment") = Tensor::from({5}, {100, 200, 300, 400, 500});
  backward(sum(p * Var(Tensor::from({5}, {10, 20, 30, 40, 50}))));
  return p;
}
std::vector<float> values(const Tensor& t) { return t.to_vector(); }

}  // namespace

TEST_CASE("a copied Param owns its value and slots and has no gradient") {
  Param p = packed_param();
  p.set_live(Mask::ones(1, 5));
  Param q = p;
  REQUIRE(q.value() == p.value());
  REQUIRE(q.slots().size() == 1);
  REQUIRE(q.slots()[0].name == "moment");
  REQUIRE(q.slots()[0].value == p.slots()[0].value);
  REQUIRE(q.live() != nullptr);
  REQUIRE(*q.live() == Mask::ones(1, 5));
  REQUIRE(p.has_grad());
  REQUIRE_FALSE(q.has_grad());
  REQUIRE(q.var().wants_grad());
  REQUIRE_FALSE(q.var() == p.var());

  q.mutable_value()(0) = -1;
  q.slot("moment")(0) = -1;
  q.slot("more");
  REQUIRE(p.value()(0) == 1);
  REQUIRE(p.slots()[0].value(0) == 100);
  REQUIRE(p.slots().size() == 1);

  Param r;
  r = q;
  r.mutable_value()(1) = -2;
  REQUIRE(q.value()(1) == 2);
  REQUIRE(r.value()(0) == -1);
}

TEST_CASE("a slot starts as zeros, keeps its place and is found by name") {
  Param p(Tensor::ones({2, 3}));
  REQUIRE_FALSE(p.has_slot("a"));
  REQUIRE(p.slot("a") == Tensor::zeros({2, 3}));
  p.slot("a")(1, 2) = 7;
  p.slot("b")(0, 0) = 8;
  REQUIRE(p.has_slot("a"));
  REQUIRE(p.slot("a")(1, 2) == 7);
  REQUIRE(p.slots().size() == 2);
  p.clear_slots();
  REQUIRE_FALSE(p.has_slot("a"));
  REQUIRE(p.slot("a") == Tensor::zeros({2, 3}));
}

TEST_CASE("set_value keeps shape, gradient, slots and the handle") {
  Param p = packed_param();
  const Var handle = p.var();
  p.set_value(Tensor::full({5}, 9));
  REQUIRE(handle.value() == Tensor::full({5}, 9));
  REQUIRE(values(p.grad()) == std::vector<float>{10, 20, 30, 40, 50});
  REQUIRE(p.slots().size() == 1);
  require_error([&] { p.set_value(Tensor::zeros({4})); }, {"set_value", "[5]", "[4]"});
  REQUIRE(p.value() == Tensor::full({5}, 9));
}

TEST_CASE("transform applies one function to value, slots and gradient") {
  Param p = packed_param();
  const auto doubled = [](const Tensor& t) { return (Var(t) * 2.0f).value(); };
  p.transform(doubled);
  REQUIRE(values(p.value()) == std::vector<float>{2, 4, 6, 8, 10});
  REQUIRE(values(p.grad()) == std::vector<float>{20, 40, 60, 80, 100});
  REQUIRE(values(p.slots()[0].value) == std::vector<float>{200, 400, 600, 800, 1000});
  REQUIRE(p.slots()[0].name == "moment");
  REQUIRE(p.var().wants_grad());

  p.clear_grad();
  p.transform(doubled);
  REQUIRE_FALSE(p.has_grad());
  REQUIRE(p.value()(0) == 4);
}

TEST_CASE("remap moves value, gradient and slots together; a new edge starts at 0") {
  Param p = packed_param();
  const std::vector<std::int32_t> map{4, -1, 0, -1};
  remap(p, map);
  REQUIRE(values(p.value()) == std::vector<float>{5, 0, 1, 0});
  REQUIRE(values(p.grad()) == std::vector<float>{50, 0, 10, 0});
  REQUIRE(values(p.slots()[0].value) == std::vector<float>{500, 0, 100, 0});
  remap(p, {});
  REQUIRE(p.shape() == Shape{0});
  REQUIRE(p.slots()[0].value.shape() == Shape{0});
}

TEST_CASE("a remap that fails changes nothing") {
  Param p = packed_param();
  const Var handle = p.var();
  for (std::int32_t bad : {5, -2})
    require_error(
        [&] {
          remap(p, std::vector<std::int32_t>{0, bad});
        },
        {"remap", "edge outside the parameter", std::to_string(bad).c_str()});
  REQUIRE(p.var() == handle);
  REQUIRE(values(p.value()) == std::vector<float>{1, 2, 3, 4, 5});
  REQUIRE(values(p.slots()[0].value) == std::vector<float>{100, 200, 300, 400, 500});
  Param matrix(Tensor::ones({2, 2}));
  require_error([&] { remap(matrix, std::vector<std::int32_t>{0}); }, {"remap", "packed", "[2, 2]"});
}
