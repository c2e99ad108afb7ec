// Batch norm as an op: the same values from its parts, derivatives of all inputs twice, traces, errors.
#include <deepstruct/autograd/gradcheck.hpp>
#include <deepstruct/autograd/trace.hpp>
#include <deepstruct/ops/batch_norm.hpp>

#include "support/cases.hpp"
#include "support/device.hpp"

using namespace deepstruct;

namespace {

using Inputs5 = std::span<const Var>;

/// x of every rank that batch norm takes, with several batch sizes.
const std::vector<Shape> batch_norm_shapes{{4, 3},       {17, 2},       {2, 3, 4},   {65, 2, 1},
                                           {1, 2, 3, 2}, {16, 2, 1, 3}, {3, 1, 2, 5}};

void require_batch_norm_gradients(const GradcheckFunction& f, const std::vector<Tensor>& inputs) {
  test::Poison poison;
  const auto first = gradcheck(f, inputs, test::on_device()), second = gradcheck_second(f, inputs, test::on_device(2));
  std::ostringstream text;
  first.write(text);
  second.write(text);
  INFO(text.str());
  CHECK(first.ok);
  CHECK(second.ok);
}

/// The channels' values as they broadcast to x.
Var across(const Var& v, const Shape& x) {
  std::vector<std::int64_t> extents(static_cast<std::size_t>(x.rank()), 1);
  extents[1] = x[1];
  return reshape(v, extents);
}
Over all_but_channels(const Shape& x) {
  Over over;
  for (int k = 0; k < x.rank(); ++k)
    if (k != 1) over.dims.push_back(k);
  return over;
}

}  // namespace

TEST_CASE("batch norm is what mean, var and arithmetic make of it") {
  test::on_every_isa([] {
    Rng rng(1);
    for (const Shape& s : batch_norm_shapes) {
      INFO("shape " << s);
      const Tensor x = Tensor::normal(s, 1, 2, rng), w = Tensor::normal({s[1]}, 1, 1, rng),
                   b = Tensor::normal({s[1]}, 0, 1, rng);
      const Var m = mean(x, all_but_channels(s)), v = var(x, all_but_channels(s), false);
      const auto by_parts = [&](const Var& average, const Var& variance) {
        const Var normal = (Var(x) - across(average, s)) / sqrt(across(variance, s) + 0.1f);
        return (normal * across(w, s) + across(b, s)).value();
      };
      const BatchNormed now = batch_norm_training(x, w, b, 0.1f);
      test::require_close(now.mean, m.value());
      test::require_close(now.variance, v.value(), 1e-5, 1e-5);
      test::require_close(now.y.value(), by_parts(m, v), 1e-4, 1e-4);
      const Tensor given = Tensor::uniform({s[1]}, 0.5f, 2, rng);
      test::require_close(batch_norm(x, b, given, w, b, 0.1f).value(), by_parts(b, given), 1e-4, 1e-4);
      test::require_close(batch_norm(x, m, v, w, b, 0.1f).value(), now.y.value(), 1e-6, 1e-6);
    }
  });
}

TEST_CASE("derivatives of batch norm by every input, twice") {
  using test::beside;
  Rng rng(2);
  for (const Shape& s : batch_norm_shapes) {
    INFO("shape " << s);
    const Tensor x = Tensor::normal(s, 1, 2, rng), w = Tensor::normal({s[1]}, 1, 1, rng),
                 b = Tensor::normal({s[1]}, 0, 1, rng), v = Tensor::uniform({s[1]}, 0.5f, 2, rng);
    require_batch_norm_gradients([](Inputs5 i) { return square(batch_norm_training(i[0], i[1], i[2], 0.1f).y); },
                                 {x, w, b});
    require_batch_norm_gradients([](Inputs5 i) { return square(batch_norm_training(i[0], {}, {}, 0.1f).y); }, {x});
    require_batch_norm_gradients([](Inputs5 i) { return square(batch_norm(i[0], i[3], i[4], i[1], i[2], 0.1f)); },
                                 {x, w, b, b, v});
    require_batch_norm_gradients(
        [&](Inputs5 i) { return square(batch_norm(i[0], beside(b, i[0]), beside(v, i[0]), i[1], i[2], 0.1f)); },
        {x, w, b});
    require_batch_norm_gradients(
        [&](Inputs5 i) {
          return square(batch_norm(beside(x, i[0]), beside(b, i[0]), beside(v, i[0]), i[0], i[1], 0.1f));
        },
        {w, b});
  }
}

TEST_CASE("fused and recorded gradients of batch norm agree") {
  test::on_every_isa([] {
    Rng rng(3);
    const Shape s{50, 4, 5, 3};
    const Tensor dy = Tensor::normal(s, 0, 1, rng);
    for (bool training : {true, false}) {
      const Vars in{variable(Tensor::normal(s, 0, 1, rng)), variable(Tensor::normal({4}, 1, 1, rng)),
                    variable(Tensor::normal({4}, 0, 1, rng))};
      const Tensor mean = Tensor::normal({4}, 0, 1, rng), variance = Tensor::uniform({4}, 0.5f, 2, rng);
      const Var y =
          training ? batch_norm_training(in[0], in[1], in[2]).y : batch_norm(in[0], mean, variance, in[1], in[2]);
      const Vars fused = grad(y, in, {.seed = dy}), recorded = grad(y, in, {.create_graph = true, .seed = dy});
      for (std::size_t k = 0; k < 3; ++k) {
        INFO("training " << training << ", input " << k);
        test::require_close(fused[k].value(), recorded[k].value(), 1e-4, 1e-4);
      }
    }
  });
}

TEST_CASE("a trace holds batch norm as one node with all its inputs") {
  for (bool affine : {false, true}) {
    const Var w = affine ? Var(Tensor::full({3}, 2)) : Var(), b = affine ? Var(Tensor::full({3}, -1)) : Var();
    const Tensor mean = Tensor::full({3}, 4), variance = Tensor::full({3}, 9);
    const auto steps = trace_function([&](const Var& x) { return batch_norm(x, mean, variance, w, b, 0.5f); },
                                      Tensor::zeros({2, 3, 2, 2}));
    REQUIRE(steps.size() == 6);
    REQUIRE(steps[0].name == "input");
    REQUIRE(steps[5].op == "batch_norm");
    REQUIRE(steps[5].inputs == std::vector<int>{0, 1, 2, 3, 4});
    REQUIRE(steps[1].value.value() == Tensor::full({3}, affine ? 2.0f : 1.0f));
    REQUIRE(steps[2].value.value() == Tensor::full({3}, affine ? -1.0f : 0.0f));
    REQUIRE(steps[3].value.value() == mean);
    REQUIRE(steps[4].value.value() == variance);
    REQUIRE(steps[5].attributes.size() == 1);
    REQUIRE(steps[5].attributes[0].name == "eps");
    REQUIRE(std::get<double>(steps[5].attributes[0].value) == 0.5);
    const auto training =
        trace_function([&](const Var& x) { return batch_norm_training(x, w, b).y; }, Tensor::zeros({2, 3}));
    REQUIRE(training.back().op == "batch_norm_training");
    REQUIRE(training.back().inputs.size() == 3);
  }
}

TEST_CASE("batch norm of nothing, and what it refuses") {
  const Tensor one = Tensor::ones({3});
  for (const Shape& s : {Shape{0, 3}, Shape{2, 3, 0}, Shape{0, 3, 2, 2}}) {
    const Vars in{variable(Tensor::zeros(s)), variable(one), variable(one)};
    const Var y = batch_norm(in[0], one, one, in[1], in[2]);
    REQUIRE(y.shape() == s);
    for (bool recorded : {false, true}) {
      const Vars d = grad(y, in, {.create_graph = recorded, .seed = Tensor::zeros(s)});
      REQUIRE(d[0].shape() == s);
      REQUIRE(d[1].value() == Tensor::zeros({3}));
      REQUIRE(d[2].value() == Tensor::zeros({3}));
    }
    test::require_error([&] { batch_norm_training(in[0]); },
                        {"batch_norm_training: a channel needs more than one number", "(0 in"});
  }
  test::require_error(
      [] {
        batch_norm_training(Tensor::zeros({1, 3}));
      },
      {"batch_norm_training: a channel needs more than one number", "(1 in [1, 3])"});
  test::require_error([] { batch_norm_training(Tensor::zeros({6})); }, {"batch_norm_training: x must be", "[6]"});
  const Tensor x = Tensor::zeros({4, 3});
  test::require_error([&] { batch_norm_training(x, Tensor::ones({4})); },
                      {"batch_norm_training: weight must have one value per channel", "[4] and [4, 3]"});
  test::require_error([&] { batch_norm_training(x, {}, {}, -1); }, {"batch_norm_training: eps", "(-1)"});
  test::require_error([&] { batch_norm_training(x, {}, {}, std::nanf("")); }, {"batch_norm_training: eps"});
  test::require_error([&] { batch_norm(x, {}, one); }, {"batch_norm: needs a mean and a variance", "[4, 3]"});
  test::require_error([&] { batch_norm(x, Tensor::ones({1}), one); }, {"batch_norm: mean must have", "[1] and [4, 3]"});
  test::require_error([&] { batch_norm(x, one, Tensor::ones({3, 1})); }, {"batch_norm: variance must have", "[3, 1]"});
  test::require_error([&] { batch_norm(x, one, one, {}, Tensor::ones({2})); }, {"batch_norm: bias must have", "[2]"});
}
