// What ops compute where no gradient tells: values of the ops that move elements, ends of ranges, ties, and errors.
#include <deepstruct/ops/loss.hpp>

#include "support/cases.hpp"
#include "support/reference.hpp"

using namespace deepstruct;
using test::require_error;
namespace reference = test::reference;

namespace {

const float inf = std::numeric_limits<float>::infinity();

Tensor counting(const Shape& s) {
  Tensor t = Tensor::empty(s);
  t.for_each([](std::int64_t i, float& x) { x = static_cast<float>(i); });
  return t;
}
using Floats = std::vector<float>;
Floats values(const Var& x) { return x.value().to_vector(); }

}  // namespace

TEST_CASE("ops that move elements put them where NumPy does") {
  test::Poison poison;
  const Var x = counting({2, 3});
  REQUIRE(reshape(x, {3, -1}).value() == Tensor::from({3, 2}, {0, 1, 2, 3, 4, 5}));
  REQUIRE(reshape(x, {3, 2}).value() != x.value());
  REQUIRE(reshape(x, {2, 3}) == x);
  REQUIRE(flatten(counting({2, 3, 2})).shape() == Shape{2, 6});
  REQUIRE(flatten(counting({2, 3, 2}), 0).shape() == Shape{12});
  REQUIRE(unsqueeze(x, -1).shape() == Shape{2, 3, 1});
  REQUIRE(squeeze(unsqueeze(x, 0), 0).value() == x.value());
  REQUIRE(transpose(x).value() == Tensor::from({3, 2}, {0, 3, 1, 4, 2, 5}));
  REQUIRE(permute(counting({2, 3, 4}), {2, 0, 1}).value()(3, 1, 2) == 1 * 12 + 2 * 4 + 3);
  REQUIRE(values(narrow(x, 1, 1, 2)) == Floats{1, 2, 4, 5});
  REQUIRE(values(select(x, 0, -1)) == Floats{3, 4, 5});
  REQUIRE(values(flip(x, {0, 1})) == Floats{5, 4, 3, 2, 1, 0});
  REQUIRE(chunk(counting({5}), 3).back().value() == Tensor::from({1}, {4}));
  REQUIRE(chunk(counting({5}), 3).size() == 3);
  const std::int64_t before[] = {1, 0}, after[] = {0, 2}, twice[] = {2, 2};
  REQUIRE(values(pad(x, before, after, 9)) == Floats{9, 9, 9, 9, 9, 0, 1, 2, 9, 9, 3, 4, 5, 9, 9});
  REQUIRE(values(pad(x, before, after, -inf)) == Floats{-inf, -inf, -inf, -inf, -inf, 0, 1, 2, -inf, -inf, 3, 4, 5, -inf, -inf});
  REQUIRE(values(cat({x, x}, 1)) == Floats{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
  REQUIRE(stack({x, x}, 2).value()(1, 2, 0) == 5);
  REQUIRE(values(repeat(x, twice)) == Floats{0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5});
  REQUIRE(values(tril(counting({3, 3}), -1)) == Floats{0, 0, 0, 3, 0, 0, 6, 7, 0});
  REQUIRE(values(gather(x, Indices::from({2, 2}, {2, 0, 1, 1}), 1)) == Floats{2, 0, 4, 4});
  REQUIRE(values(scatter_add(Tensor::ones({2, 2}), Indices::from({2, 2}, {2, 0, 1, 1}), {2, 3}, 1)) == Floats{1, 0, 1, 0, 2, 0});
  const std::vector<std::int32_t> rows{1, 1, 0};
  REQUIRE(values(index_select(x, 0, rows)) == Floats{3, 4, 5, 3, 4, 5, 0, 1, 2});
  REQUIRE(embedding(x, Indices::from({1, 2}, {1, 0})).value() == Tensor::from({1, 2, 3}, {3, 4, 5, 0, 1, 2}));
  REQUIRE(values(expand(Tensor::from({2, 1}, {1, 2}), {2, 3})) == Floats{1, 1, 1, 2, 2, 2});
  REQUIRE(values(where(Indices::from({2}, {1, 0}), Tensor::ones({2}), Tensor::zeros({2}))) == Floats{1, 0});
  Slice s;
  s.start = {1, 2, 0, 0};
  s.step = {-1, -2, 1, 1};
  s.shape = {2, 2};
  REQUIRE(values(slice(x, s)) == Floats{5, 3, 2, 0});
  REQUIRE(values(place(slice(x, s), {2, 3}, s)) == Floats{0, 0, 2, 3, 0, 5});
}

TEST_CASE("reductions at their ends") {
  const float nan = std::nanf("");
  REQUIRE(sum(Tensor::zeros({0, 3}), 0).value() == Tensor::zeros({3}));
  REQUIRE(sum(Tensor::zeros({0})).item() == 0);
  REQUIRE(std::isnan(mean(Tensor::zeros({0})).item()));
  REQUIRE(logsumexp(Tensor::full({3}, -inf)).item() == -inf);
  REQUIRE(logsumexp(Tensor::from({2}, {inf, 0})).item() == inf);
  REQUIRE(logsumexp(Tensor::from({2}, {1000, 1000})).item() == Approx(1000 + std::log(2.0)));
  REQUIRE(prod(Tensor::zeros({2, 0}), 1).value() == Tensor::ones({2}));
  REQUIRE(std::isnan(amax(Tensor::from({2}, {1, nan})).item()));
  REQUIRE(argmax(Tensor::from({2, 3}, {1, 5, 5, 7, 0, 7}), 1) == Indices::from({2}, {1, 0}));
  REQUIRE(argmin(Tensor::from({2, 3}, {1, 5, 5, 7, 0, 7}), 0) == Indices::from({3}, {0, 1, 0}));
  REQUIRE(argmax(Tensor::from({2, 2}, {1, 5, 9, 7})) == 2);
  REQUIRE(var(Tensor::from({4}, {1, 2, 3, 4})).item() == Approx(5.0 / 3));
  REQUIRE(var(Tensor::from({4}, {1, 2, 3, 4}), {}, false).item() == Approx(1.25));
  REQUIRE(values(cumsum(Tensor::from({2, 2}, {1, 2, 3, 4}), 0)) == Floats{1, 2, 4, 6});
  REQUIRE(sum(counting({2, 3, 4}), Over(pool_vector<int>{0, 2}, true)).shape() == Shape{1, 3, 1});
  STATIC_REQUIRE_FALSE(std::is_constructible_v<Over, int, int>);  // {0, 1} would mean dimension 0, kept
}

TEST_CASE("ties: maximum and amax share, max takes the first") {
  const Var a = variable(Tensor::from({2}, {1, 1})), b = variable(Tensor::from({2}, {1, 0}));
  backward(sum(maximum(a, b)));
  REQUIRE(values(a.grad()) == Floats{0.5f, 1});
  REQUIRE(values(b.grad()) == Floats{0.5f, 0});
  const Var x = variable(Tensor::from({1, 3}, {2, 1, 2}));
  REQUIRE(values(grad(sum(amax(x, 1)), {x})[0]) == Floats{0.5f, 0, 0.5f});
  REQUIRE(values(grad(sum(max(x, 1).values), {x})[0]) == Floats{1, 0, 0});
}

TEST_CASE("what stands behind a mask counts for nothing, whatever it is") {
  test::Poison poison;
  Rng rng(1);
  for (double density : {0.2, 0.8}) {
    const Mask m = Mask::random(9, 7, density, rng);
    Tensor w = Tensor::normal({9, 7}, 0, 1, rng), hidden = w;
    for (std::int64_t r = 0; r < 9; ++r)
      for (std::int64_t c = 0; c < 7; ++c)
        if (!m.contains(r, c)) w(r, c) = 0, hidden(r, c) = std::nanf("");
    const Tensor x = Tensor::normal({17, 7}, 0, 1, rng), bias = Tensor::normal({9}, 0, 1, rng);
    const Var full = variable(hidden);
    const Var y = masked_linear(x, full, m, bias);
    test::require_close(y.value(), reference::linear(x, w, &bias));
    backward(sum(y));
    m.for_each([&](std::int32_t, std::int64_t r, std::int64_t c) { REQUIRE(full.grad()(r, c) != 0); });
    for (std::int64_t r = 0; r < 9; ++r)
      for (std::int64_t c = 0; c < 7; ++c)
        if (!m.contains(r, c)) REQUIRE(full.grad()(r, c) == 0);
  }
}

TEST_CASE("losses at their ends") {
  const Tensor x = Tensor::from({2, 2}, {100, -100, -100, 100});
  const std::vector<std::int32_t> right{0, 1}, wrong{1, 0}, ignored{-100, 0};
  REQUIRE(cross_entropy(x, right).item() == 0);
  REQUIRE(cross_entropy(x, wrong).item() == 200);
  REQUIRE(cross_entropy(x, ignored).item() == 200);
  REQUIRE(values(cross_entropy(x, ignored, {.reduction = Reduction::none})) == Floats{0, 200});
  REQUIRE(cross_entropy(x, wrong, {.reduction = Reduction::sum, .ignore_index = 0}).item() == 200);
  REQUIRE(binary_cross_entropy_with_logits(Tensor::from({2}, {200, -200}), Tensor::from({2}, {0, 1})).item() == 200);
  REQUIRE(kl_div(Tensor::from({1, 2}, {-1, -1}), Tensor::from({1, 2}, {0, 1})).item() == 1);
  REQUIRE(smooth_l1_loss(Tensor::from({2}, {1, 3}), Tensor::zeros({2}), Reduction::none, 2).value() == Tensor::from({2}, {0.25f, 2}));
}

TEST_CASE("dropout keeps its share, scales the rest, and repeats its draw") {
  const Tensor x = Tensor::ones({1000, 10});
  const Draw draw{1, 2};
  const Tensor y = dropout(x, 0.3f, draw).value();
  int kept = 0;
  y.for_each([&](std::int64_t, float v) {
    REQUIRE((v == 0 || v == 1 / 0.7f));
    kept += v != 0;
  });
  REQUIRE(std::abs(kept - 7000) < 5 * 46);
  REQUIRE(dropout(x, 0.3f, draw).value() == y);
  REQUIRE(dropout(x, 0, draw).value() == x);
  REQUIRE(dropout(x, 1, draw).value() == Tensor::zeros(x.shape()));
  manual_seed(1);
  const Tensor a = dropout(x, 0.5f).value();
  REQUIRE(dropout(x, 0.5f).value() != a);
  manual_seed(1);
  REQUIRE(dropout(x, 0.5f).value() == a);
}

TEST_CASE("errors name the op, the rule and both shapes") {
  const Var a = Tensor::zeros({2, 3}), b = Tensor::zeros({4, 3}), v = Tensor::zeros({5});
  const Mask m = Mask::ones(4, 3);
  const Indices index = Indices::from({1, 1}, {3});
  const std::vector<std::int32_t> labels{0, 3}, few{0}, negative{0, -1};
  const std::int64_t one[] = {1}, minus[] = {-1, 0}, none[] = {0, 0}, zero[] = {0, 1};
  const std::vector<Var> nothing;
  require_error([&] { add(a, b); }, {"add:", "[2, 3]", "[4, 3]"});
  require_error([&] { (void)(a - b); }, {"sub:", "[2, 3]", "[4, 3]"});
  require_error([&] { mul(a, b); }, {"mul:", "[2, 3]", "[4, 3]"});
  require_error([&] { div(a, v); }, {"div:", "[2, 3]", "[5]"});
  require_error([&] { maximum(a, b); }, {"maximum:", "[2, 3]", "[4, 3]"});
  require_error([&] { minimum(a, b); }, {"minimum:", "[2, 3]", "[4, 3]"});
  require_error([&] { expand(a, {3, 3}); }, {"expand:", "[2, 3]", "[3, 3]"});
  require_error([&] { expand(a, {3}); }, {"expand:", "[2, 3]", "[3]"});
  require_error([&] { sum_to(a, {2, 2}); }, {"sum_to:", "[2, 3]", "[2, 2]"});
  require_error([&] { matmul(a, b); }, {"matmul:", "[2, 3]", "[4, 3]"});
  require_error([&] { matmul(a, v); }, {"matmul:", "[2, 3]", "[5"});
  require_error([&] { matmul(Tensor::scalar(1), v); }, {"matmul:", "[]", "[5]"});
  require_error([&] { matmul(Tensor::zeros({2, 3, 4}), Tensor::zeros({3, 4, 2})); }, {"matmul:", "[2, 3, 4]", "[3, 4, 2]"});
  require_error([&] { linear(v, a); }, {"linear:", "[5]", "3"});
  require_error([&] { linear(a, v); }, {"linear:", "matrix", "[5]"});
  require_error([&] { linear(a, b, v); }, {"linear:", "[5]", "[4, 3]"});
  require_error([&] { linear(Tensor::scalar(1), a); }, {"linear:", "[]"});
  require_error([&] { sparse_linear(a, v, m); }, {"sparse_linear:", "[5]", "12"});
  require_error([&] { sparse_linear(v, Tensor::zeros({12}), m); }, {"sparse_linear:", "[5]", "3"});
  require_error([&] { sparse_linear(a, Tensor::zeros({12}), m, v); }, {"sparse_linear:", "[5]", "[4, 3]"});
  require_error([&] { sparse_linear_dx(a, Tensor::zeros({12}), m); }, {"sparse_linear_dx:", "[2, 3]", "[4, 3]"});
  require_error([&] { sparse_linear_dw(a, a, m); }, {"sparse_linear_dw:", "[2, 3]", "[4, 3]"});
  require_error([&] { masked_linear(a, a, m); }, {"masked_linear:", "[2, 3]", "[4, 3]"});
  require_error([&] { pick_edges(a, m); }, {"pick_edges:", "[2, 3]", "[4, 3]"});
  require_error([&] { place_edges(v, m); }, {"place_edges:", "[5]", "12"});
  require_error([&] { where(Indices::zeros({2, 3}), a, b); }, {"where:", "[2, 3]", "[4, 3]"});
  require_error([&] { clamp(a, 1, 0); }, {"clamp:", "1 > 0"});
  require_error([&] { hardtanh(a, 1, 0); }, {"hardtanh:", "1 > 0"});
  require_error([&] { reshape(a, {4, 2}); }, {"reshape:", "[2, 3]", "[4, 2]"});
  require_error([&] { reshape(a, {4, -1}); }, {"reshape:", "4", "6"});
  require_error([&] { reshape(a, {-1, -1}); }, {"reshape:", "-1"});
  require_error([&] { reshape(a, {-2, 3}); }, {"reshape:", "-2"});
  require_error([&] { reshape(a, {1, 1, 1, 2, 3}); }, {"reshape:", "5"});
  require_error([&] { reshape(a, {std::int64_t{1} << 40, std::int64_t{1} << 40, std::int64_t{1} << 40}); }, {"reshape:", "too many"});
  require_error([&] { unsqueeze(a, 3); }, {"unsqueeze:", "3"});
  require_error([&] { squeeze(a, 2); }, {"squeeze:", "2"});
  require_error([&] { permute(a, {0}); }, {"permute:", "1", "[2, 3]"});
  require_error([&] { permute(a, {1, 1}); }, {"permute:", "twice"});
  require_error([&] { transpose(v); }, {"transpose:", "1"});
  require_error([&] { narrow(a, 1, 2, 2); }, {"narrow:", "2 + 2 of 3"});
  require_error([&] { select(a, 1, 3); }, {"select:", "3 of 3"});
  Slice bad;
  bad.shape = {2, 4};
  require_error([&] { slice(a, bad); }, {"slice:", "0 to 3 of extent 3"});
  require_error([&] { place(Tensor::zeros({2, 4}), {2, 3}, bad); }, {"place:", "0 to 3 of extent 3"});
  bad.shape = {2, 2};
  bad.step = {1, 0, 1, 1};
  require_error([&] { slice(a, bad); }, {"slice:", "steps", "[2, 3]"});
  require_error([&] { slice(v, bad); }, {"slice:", "[2, 2]", "[5]"});
  require_error([&] { chunk(a, 0); }, {"chunk:", "0"});
  require_error([&] { pad(a, one, one); }, {"pad:", "1", "[2, 3]"});
  require_error([&] { pad(a, minus, none); }, {"pad:", "-1"});
  require_error([&] { cat({a, b}, 1); }, {"cat:", "[2, 3]", "[4, 3]"});
  require_error([&] { cat({a, v}, 0); }, {"cat:", "[2, 3]", "[5]"});
  require_error([&] { cat(nothing); }, {"cat:"});
  require_error([&] { repeat(a, one); }, {"repeat:", "1", "[2, 3]"});
  require_error([&] { repeat(a, zero); }, {"repeat:", "0"});
  require_error([&] { tril(v); }, {"tril:", "[5]"});
  require_error([&] { gather(a, index, 1); }, {"gather:", "3 of 3"});
  require_error([&] { gather(a, Indices::from({1, 1}, {-1}), 1); }, {"gather:", "-1 of 3"});
  require_error([&] { gather(a, Indices::zeros({3, 1}), 1); }, {"gather:", "[3, 1]", "[2, 3]"});
  require_error([&] { gather(v, index, 0); }, {"gather:", "[1, 1]", "[5]"});
  require_error([&] { scatter_add(a, index, {2, 3}, 1); }, {"scatter_add:", "[2, 3]", "[1, 1]"});
  require_error([&] { scatter_add(Tensor::zeros({1, 1}), index, {1, 3}, 1); }, {"scatter_add:", "3 of 3"});
  require_error([&] { scatter_add(Tensor::zeros({5, 1}), Indices::zeros({5, 1}), {2, 3}, 1); }, {"scatter_add:", "[5, 1]", "[2, 3]"});
  require_error([&] { scatter_add(Tensor::zeros({1, 1}), index, {5}, 0); }, {"scatter_add:", "[1, 1]", "[5]"});
  require_error([&] { scatter_add(Tensor::zeros({1, 1}), index, {1, 4}, 2); }, {"scatter_add:", "2 of rank 2"});
  require_error([&] { index_select(a, 0, labels); }, {"3 of 2"});
  require_error([&] { embedding(v, index); }, {"embedding:", "[5]"});
  require_error([&] { sum(a, 2); }, {"sum:", "2"});
  require_error([&] { mean(a, -3); }, {"mean:", "-3"});
  require_error([&] { sum(a, Over(pool_vector<int>{0, -2})); }, {"sum:", "twice"});
  require_error([&] { amax(Tensor::zeros({0, 3})); }, {"amax:", "[0, 3]"});
  require_error([&] { amin(a, 2); }, {"amin:", "2"});
  require_error([&] { max(Tensor::zeros({0, 3}), 0); }, {"argmax:", "[0, 3]"});
  require_error([&] { cumsum(a, 2); }, {"cumsum:", "2"});
  require_error([&] { softmax(a, 2); }, {"softmax:", "2"});
  require_error([&] { log_softmax(a, -3); }, {"log_softmax:", "-3"});
  require_error([&] { layer_norm(a, {2}); }, {"layer_norm:", "[2, 3]", "[2]"});
  require_error([&] { layer_norm(a, {1, 2, 3}); }, {"layer_norm:", "[2, 3]", "[1, 2, 3]"});
  require_error([&] { layer_norm(a, {3}, v); }, {"layer_norm:", "[5]", "[3]"});
  require_error([&] { layer_norm(a, {3}, {}, v); }, {"layer_norm:", "[5]", "[3]"});
  require_error([&] { layer_norm(a, {3}, {}, {}, -1); }, {"layer_norm:", "-1"});
  require_error([&] { dropout(a, 1.5f); }, {"dropout:", "1.5"});
  require_error([&] { dropout(a, std::nanf("")); }, {"dropout:", "nan"});
  require_error([&] { mse_loss(a, b); }, {"mse_loss:", "[2, 3]", "[4, 3]"});
  require_error([&] { l1_loss(a, b); }, {"l1_loss:", "[2, 3]", "[4, 3]"});
  require_error([&] { smooth_l1_loss(a, a, Reduction::mean, 0); }, {"smooth_l1_loss:", "0"});
  require_error([&] { binary_cross_entropy_with_logits(a, b); }, {"binary_cross_entropy_with_logits:", "[2, 3]", "[4, 3]"});
  require_error([&] { kl_div(a, b); }, {"kl_div:", "[2, 3]", "[4, 3]"});
  require_error([&] { cross_entropy(v, labels); }, {"cross_entropy:", "[5]"});
  require_error([&] { cross_entropy(a, few); }, {"cross_entropy:", "1 targets", "[2, 3]"});
  require_error([&] { cross_entropy(a, labels); }, {"cross_entropy:", "3 of 3 classes", "sample 1"});
  require_error([&] { cross_entropy(a, negative); }, {"cross_entropy:", "-1 of 3 classes"});
  require_error([&] { cross_entropy(a, std::vector<std::int32_t>{0, 1}, {.weight = v}); }, {"cross_entropy:", "[5]", "3"});
  require_error([&] { cross_entropy(a, std::vector<std::int32_t>{0, 1}, {.label_smoothing = 2}); }, {"cross_entropy:", "2"});
  require_error([&] { cross_entropy(a, Indices::zeros({2, 1})); }, {"cross_entropy:", "[2, 1]"});
}
