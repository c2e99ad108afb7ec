// Inference gives what the model gives, for any number of samples, and knows what it cannot do.
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/inference.hpp>

#include <sstream>

#include "support/cases.hpp"

using namespace deepstruct;

namespace {

constexpr std::int64_t batches[] = {0, 1, 2, 15, 16, 17, 64, 65, 128, 300};

/// Outputs agree to a few roundings of their size.
void require_same(const Tensor& got, const Tensor& want) {
  REQUIRE(got.shape() == want.shape());
  const std::vector<float> all = want.to_vector();
  got.for_each([&](std::int64_t i, float x) {
    const float w = all[static_cast<std::size_t>(i)];
    if (std::abs(x - w) > 1e-5f * (1 + std::abs(w))) FAIL("element " << i << ": " << x << " instead of " << w);
  });
}

template <class M>
void require_same_outputs(const M& model, const Shape& sample) {
  no_grad guard;
  Rng rng(5);
  const Inference inference(model, Tensor::normal(with_extent(sample, 0, 3), 0, 1, rng));
  for (std::int64_t b : batches) {
    INFO("batch " << b);
    const Var x(Tensor::normal(with_extent(sample, 0, b), 0, 1, rng));
    require_same(inference(x).value(), Var(model(x)).value());
  }
}

/// A module without parameters.
template <class F>
struct Computes {
  F f;
  Var operator()(const Var& x) const { return f(x); }
  static auto fields(auto&) { return std::tuple{}; }
};
template <class F>
Computes(F) -> Computes<F>;

void thin_out(MaskedDeepFFN& model, double density, Rng& rng) {
  each<MaskedLinearLayer>(model, [&](MaskedLinearLayer& layer) {
    layer.set_mask(Mask::random(layer.out_features(), layer.in_features(), density, rng));
  });
}

std::string text_of(const Inference& inference) {
  std::ostringstream out;
  inference.write(out);
  return out.str();
}

}  // namespace

TEST_CASE("inference answers like the model: storage, layer norm, thick and thin, every instruction set") {
  test::on_every_isa([] {
    for (bool norm : {false, true})
      for (storage store : {storage::full, storage::packed})
        for (double density : {1.0, 0.8, 0.2, 0.02}) {
          INFO("layer norm " << norm << ", packed " << (store == storage::packed) << ", density " << density);
          Rng rng(1);
          MaskedDeepFFN model(40, 5, {33, 20, 18}, {.use_layer_norm = norm}, rng);
          thin_out(model, density, rng);
          if (store == storage::packed) model = pack(model);
          require_same_outputs(model, {1, 40});
        }
  });
}

TEST_CASE("inference takes inputs of higher rank, soft and learnable masks") {
  Rng rng(2);
  MaskedDeepFFN images(Shape{3, 4, 2}, 5, {16}, {}, rng);
  require_same_outputs(images, {1, 3, 4, 2});

  MaskedLinearLayer soft(12, 9, rng);
  soft.set_soft_mask(Tensor::uniform({9, 12}, 0, 2, rng));
  require_same_outputs(soft, {1, 12});
  const MaskedLinearLayer learnable(12, 9, {.learnable_mask = true}, rng);
  require_same_outputs(learnable, {1, 12});
}

TEST_CASE("inference takes functions of the library and values that are used twice") {
  Rng rng(3);
  const Var bias(Tensor::normal({6}, 0, 1, rng));
  require_same_outputs(Computes{[&](const Var& x) {
                         const Var h = x + bias, a = relu(h), b = tanh(h) * 0.5f + sigmoid(a);
                         const Var both = cat({a, b, maximum(h, x)}, 1);
                         return log_softmax(gelu(both) / (abs(both) + 1.0f), 1);
                       }},
                       {1, 6});
}

TEST_CASE("bias, ReLU and the parts of layer norm join what stands before them") {
  Rng rng(4);
  MaskedDeepFFN model(40, 5, {33, 20}, {.use_layer_norm = true}, rng);
  thin_out(model, 0.3, rng);
  REQUIRE(text_of(Inference(model, Tensor::zeros({1, 40}))) ==
          "1 = sparse_linear(0) + bias, relu -> 33\n"
          "2 = sparse_linear(1) + bias -> 20\n"
          "3 = layer_norm(2, constant, constant)\n"
          "4 = relu(3)\n"
          "5 = sparse_linear(4) + bias -> 5\n");
}

TEST_CASE("inference is a snapshot") {
  Rng rng(6);
  MaskedDeepFFN model(8, 3, {9}, {}, rng);
  const Tensor x = Tensor::normal({4, 8}, 0, 1, rng);
  const Inference inference(model, x);
  const Tensor before = model(x).value();
  each_param(model, [](Param& p) { p.mutable_value() = Tensor::zeros(p.shape()); });
  require_same(inference(x).value(), before);
}

TEST_CASE("what is not finite reaches the neurons that see it and no other") {
  Rng rng(7);
  MaskedLinearLayer layer(64, 48, rng);
  layer.set_mask(Mask::random(48, 64, 0.3, rng));
  layer.pack();
  const Inference inference(layer, Tensor::zeros({1, 64}));
  for (std::int64_t b : {1, 20}) {
    Tensor x = Tensor::normal({b, 64}, 0, 1, rng);
    x(0, 17) = std::numeric_limits<float>::quiet_NaN();
    const Tensor y = inference(x).value();
    for (std::int64_t r = 0; r < 48; ++r) REQUIRE(std::isnan(y(0, r)) == layer.mask().contains(r, 17));
  }
}

TEST_CASE("tiles of samples are the same for any number of threads") {
  Rng rng(8);
  MaskedDeepFFN model(50, 7, {40, 30}, {}, rng);
  thin_out(model, 0.2, rng);
  const Inference inference(model, Tensor::zeros({1, 50}));
  const Tensor x = Tensor::normal({1000, 50}, 0, 1, rng);
  test::same_for_all_threads([&] { return std::vector<Tensor>{inference(x).value()}; });
}

TEST_CASE("inference says what it cannot do") {
  Rng rng(9);
  MaskedDeepFFN model(8, 3, {9}, {}, rng);
  const Inference inference(model, Tensor::zeros({2, 8}));
  test::require_error([&] { inference(Tensor::zeros({2, 7})); }, {"Inference", "[2, 7]", "[2, 8]"});
  test::require_error([&] { inference(Tensor::zeros({8})); }, {"Inference", "[8]"});
  test::require_error([&] { Inference(model, Tensor::zeros({0, 8})); }, {"Inference", "must have a sample"});
  test::require_error([] { Inference(std::vector<Step>{}); }, {"Inference"});

  const auto refuses = [](auto f, const char* why) {
    test::require_error([&] { Inference(Computes{f}, Tensor::zeros({2, 8})); }, {"Inference", why});
  };
  refuses([](const Var& x) { return cumsum(x, 1); }, "cumsum");
  refuses([](const Var& x) { return x - mean(x, 0); }, "per sample");
  test::require_error(
      [] {
        Inference(Computes{[](const Var& x) { return x - sum_to(x, {1, 8}); }}, Tensor::zeros({1, 8}));
      },
      {"Inference", "per sample"});
  refuses([](const Var&) { return relu(Var(Tensor::ones({2, 3}))); }, "does not depend");
}
