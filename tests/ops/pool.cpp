// Pooling ops against windows walked by their definition, derivatives against differences, traces, errors.
#include <deepstruct/autograd/gradcheck.hpp>
#include <deepstruct/autograd/trace.hpp>
#include <deepstruct/ops/pool.hpp>

#include "support/cases.hpp"
#include "support/device.hpp"
#include "support/reference.hpp"

using namespace deepstruct;

namespace {

enum class Pool { max, average, adaptive };

/// Result k along one extent: where its window begins, and how far it would reach without the image's ends.
struct PoolWindow {
  std::int64_t begin, end;
};
/// By the definition: windows step from −padding on; with ceil_mode one more may hang over the end, if it begins before
/// the padding behind the image.
std::vector<PoolWindow> windows_of(std::int64_t in, const Pool2dOptions& o, std::size_t axis) {
  const std::int64_t pad = o.padding[axis], reach = o.dilation[axis] * (o.kernel[axis] - 1) + 1,
                     stride = o.stride[axis] ? o.stride[axis] : o.kernel[axis];
  std::vector<PoolWindow> all;
  for (std::int64_t from = -pad; from + reach <= in + pad; from += stride) all.push_back({from, from + reach});
  const std::int64_t next = all.empty() ? -pad : all.back().begin + stride;
  const bool inside = all.empty() || all.back().end < in + pad;
  if (o.ceil_mode && inside && next < in && next + reach - (in + pad) < stride) all.push_back({next, next + reach});
  return all;
}

/// y and Σ dy·(share of every place) of a pooling op, in double.
struct PoolReference {
  Shape shape;
  std::vector<test::Exact> y, dx;

  PoolReference(Pool kind, const Tensor& x, const Pool2dOptions& o, const Tensor* dy) {
    const auto rows = windows_of(x.shape()[2], o, 0), cols = windows_of(x.shape()[3], o, 1);
    shape = {x.shape()[0], x.shape()[1], static_cast<std::int64_t>(rows.size()),
             static_cast<std::int64_t>(cols.size())};
    dx.resize(static_cast<std::size_t>(x.size()));
    y = test::reference::each(shape, [&](auto b, auto c, auto i, auto j) {
      const double d = dy ? double{(*dy)(b, c, i, j)} : 0;
      return window(kind, x, o, rows[static_cast<std::size_t>(i)], cols[static_cast<std::size_t>(j)], b, c, d);
    });
  }

 private:
  test::Exact window(Pool kind, const Tensor& x, const Pool2dOptions& o, PoolWindow r, PoolWindow s, std::int64_t b,
                     std::int64_t c, double dy) {
    const std::int64_t h = x.shape()[2], w = x.shape()[3];
    std::vector<std::int64_t> places;
    double area = 0;
    for (std::int64_t p = r.begin; p < r.end; p += o.dilation[0])
      for (std::int64_t q = s.begin; q < s.end; q += o.dilation[1]) {
        const bool inside = p >= 0 && p < h && q >= 0 && q < w;
        if (inside) places.push_back(p * w + q);
        area += inside || (o.count_include_pad && p < h + o.padding[0] && q < w + o.padding[1]);
      }
    const auto at = [&](std::int64_t place) { return double{x(b, c, place / w, place % w)}; };
    const auto slope = [&](std::int64_t place) -> test::Exact& {
      return dx[static_cast<std::size_t>((b * x.shape()[1] + c) * h * w + place)];
    };
    if (kind == Pool::max) {
      std::int64_t best = places.at(0);
      for (std::int64_t place : places)
        if (at(place) > at(best)) best = place;
      slope(best).add(dy);
      return at(best);
    }
    test::Exact sum;
    for (std::int64_t place : places) {
      sum.add(at(place) / area);
      slope(place).add(dy / area);
    }
    return sum;
  }
};

Var pooled(Pool kind, const Var& x, const Pool2dOptions& o) {
  return kind == Pool::max ? max_pool2d(x, o) : avg_pool2d(x, o);
}

/// Every combination of some kernels, strides, paddings and dilations; height and width differ.
std::vector<Pool2dOptions> pool_options(Pool kind) {
  std::vector<Pool2dOptions> all;
  for (std::array<std::int64_t, 2> kernel : {std::array<std::int64_t, 2>{1, 2}, {2, 2}, {3, 2}, {3, 4}})
    for (std::array<std::int64_t, 2> stride : {std::array<std::int64_t, 2>{0, 0}, {1, 1}, {2, 3}})
      for (int padding : {0, 1})
        for (int dilation : {1, 2})
          for (bool ceil : {false, true})
            for (bool count : {true, false}) {
              if (kind == Pool::max ? !count : dilation > 1) continue;
              const std::int64_t pad_h = padding * kernel[0] / 2, pad_w = padding * kernel[1] / 2;
              all.push_back({kernel, stride, {pad_h, pad_w}, {dilation, 1}, ceil, count});
            }
  return all;
}

void require_pool_gradients(const GradcheckFunction& f, const Tensor& x) {
  test::Poison poison;
  const auto first = gradcheck(f, {x}, test::on_device()), second = gradcheck_second(f, {x}, test::on_device(2));
  std::ostringstream text;
  first.write(text);
  second.write(text);
  INFO(text.str());
  REQUIRE(first.ok);
  REQUIRE(second.ok);
}

/// Elements far enough apart that no step of gradcheck changes which is greatest.
Tensor pool_apart(const Shape& shape) {
  Rng rng(9);
  const auto order = rng.permutation(shape.size());
  Tensor t = Tensor::empty(shape);
  t.for_each([&](std::int64_t i, float& x) { x = 0.25f * static_cast<float>(order[i]) - 4; });
  return t;
}

}  // namespace

TEST_CASE("max_pool2d and avg_pool2d are what their windows say, with gradients of both kinds") {
  test::on_every_isa([] {
    Rng rng(1);
    for (Pool kind : {Pool::max, Pool::average})
      for (const Pool2dOptions& o : pool_options(kind))
        for (const Shape& s : {Shape{3, 2, 6, 7}, Shape{17, 1, 5, 4}}) {
          INFO("kernel " << o.kernel[0] << ", " << o.kernel[1] << "; stride " << o.stride[0] << "; padding "
                         << o.padding[0] << "; dilation " << o.dilation[0] << "; ceil " << o.ceil_mode << "; count "
                         << o.count_include_pad << "; x " << s);
          Tensor values = Tensor::normal(s, 0, 2, rng);
          if (kind == Pool::max) values.for_each([](std::int64_t, float& v) { v = std::floor(v); });
          const Shape out = PoolReference(kind, values, o, nullptr).shape;
          const Tensor dy = Tensor::normal(out, 0, 1, rng);
          const PoolReference want(kind, values, o, &dy);
          const Var x = variable(values);
          const Var y = pooled(kind, x, o);
          REQUIRE(y.shape() == out);
          test::require_close(y.value(), want.y);
          for (bool recorded : {false, true})
            test::require_close(grad(y, {x}, {.create_graph = recorded, .seed = dy})[0].value(), want.dx);
        }
  });
}

TEST_CASE("adaptive_avg_pool2d averages from the floor to the ceiling of equal parts") {
  test::on_every_isa([] {
    Rng rng(2);
    for (auto [oh, ow] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {2, 3}, {5, 7}, {6, 2}, {9, 1}}) {
      const Tensor x = Tensor::normal({18, 2, 5, 7}, 0, 1, rng);
      const auto y = adaptive_avg_pool2d(x, {oh, ow}).value();
      test::require_close(
          y, test::reference::each({18, 2, oh, ow}, [&, h = oh, w = ow](auto b, auto c, auto i, auto j) {
            const auto up = [](std::int64_t a, std::int64_t n) { return (a + n - 1) / n; };
            const std::int64_t i0 = i * 5 / h, i1 = up((i + 1) * 5, h), j0 = j * 7 / w, j1 = up((j + 1) * 7, w);
            test::Exact sum;
            for (std::int64_t p = i0; p < i1; ++p)
              for (std::int64_t q = j0; q < j1; ++q)
                sum.add(double{x(b, c, p, q)} / static_cast<double>((i1 - i0) * (j1 - j0)));
            return sum;
          }));
    }
  });
}

TEST_CASE("derivatives of pooling, twice") {
  for (const Shape& s : {Shape{2, 1, 4, 4}, Shape{1, 2, 3, 5}}) {
    const Tensor x = pool_apart(s);
    require_pool_gradients([](auto v) { return square(max_pool2d(v[0])); }, x);
    require_pool_gradients(
        [](auto v) {
          return square(max_pool2d(v[0], {.kernel = {2, 3}, .stride = {1, 1}, .padding = {1, 1}, .dilation = {2, 1}}));
        },
        x);
    require_pool_gradients(
        [](auto v) {
          return square(avg_pool2d(v[0], {.kernel = {3, 2}, .stride = {1, 2}, .padding = {1, 0}}));
        },
        x);
    require_pool_gradients([](auto v) { return square(adaptive_avg_pool2d(v[0], {2, 3})); }, x);
  }
}

TEST_CASE("pooling of empty batches and of images without channels") {
  for (const Shape& s : {Shape{0, 2, 4, 4}, Shape{3, 0, 4, 4}}) {
    const Var x = variable(Tensor::zeros(s));
    const Shape half{s[0], s[1], 2, 2};
    for (const Var& y : {max_pool2d(x), avg_pool2d(x), adaptive_avg_pool2d(x, {2, 2})}) {
      REQUIRE(y.shape() == half);
      for (bool recorded : {false, true})
        REQUIRE(grad(y, {x}, {.create_graph = recorded, .seed = Tensor::zeros(half)})[0].shape() == s);
    }
  }
}

TEST_CASE("traces name pooling ops and their windows") {
  const auto steps = trace_function(
      [](const Var& x) {
        const Var a = max_pool2d(x, {.kernel = {3, 2}, .padding = {1, 0}, .dilation = {2, 1}, .ceil_mode = true});
        return adaptive_avg_pool2d(avg_pool2d(a, {.kernel = {1, 2}, .stride = {1, 1}, .count_include_pad = false}),
                                   {2, 1});
      },
      Tensor::zeros({2, 1, 9, 8}));
  REQUIRE(steps.size() == 4);
  const auto shape = [&](std::size_t k, std::string_view name) {
    for (const Attribute& a : steps[k].attributes)
      if (a.name == name) return std::get<Shape>(a.value);
    FAIL("no attribute " << name);
    return Shape();
  };
  const auto number = [&](std::size_t k, std::string_view name) {
    for (const Attribute& a : steps[k].attributes)
      if (a.name == name) return std::get<std::int64_t>(a.value);
    FAIL("no attribute " << name);
    return std::int64_t{-1};
  };
  REQUIRE(steps[1].op == "max_pool2d");
  REQUIRE(shape(1, "kernel") == Shape{3, 2});
  REQUIRE(shape(1, "stride") == Shape{3, 2});
  REQUIRE(shape(1, "padding") == Shape{1, 0});
  REQUIRE(shape(1, "dilation") == Shape{2, 1});
  REQUIRE(number(1, "ceil_mode") == 1);
  REQUIRE(steps[2].op == "avg_pool2d");
  REQUIRE(shape(2, "kernel") == Shape{1, 2});
  REQUIRE(shape(2, "stride") == Shape{1, 1});
  REQUIRE(shape(2, "padding") == Shape{0, 0});
  REQUIRE(number(2, "ceil_mode") == 0);
  REQUIRE(number(2, "count_include_pad") == 0);
  REQUIRE(steps[3].op == "adaptive_avg_pool2d");
  REQUIRE(shape(3, "output") == Shape{2, 1});
}

TEST_CASE("pooling refuses what has no windows") {
  const Tensor x = Tensor::zeros({2, 1, 5, 4});
  const auto refused = [&](const Pool2dOptions& o, std::initializer_list<const char*> parts) {
    test::require_error([&] { max_pool2d(x, o); }, parts);
  };
  refused({.kernel = {0, 1}}, {"max_pool2d: need 1 <= kernel", "(0)"});
  refused({.kernel = {1, std::int64_t{1} << 40}}, {"max_pool2d: need 1 <= kernel", "(1099511627776)"});
  refused({.stride = {-1, 1}}, {"max_pool2d: need 1 <= stride", "(-1)"});
  refused({.dilation = {1, 0}}, {"max_pool2d: need 1 <= dilation", "(0)"});
  refused({.padding = {2, 0}}, {"max_pool2d: padding must be at most half of the kernel", "(2 and 2)"});
  refused({.padding = {0, -1}}, {"max_pool2d: padding must be at most half of the kernel", "(-1 and 2)"});
  refused({.kernel = {6, 1}}, {"max_pool2d: x is smaller than a window", "(5 with padding 0 and 6)"});
  refused({.kernel = {2, 2}, .dilation = {1, 4}},
          {"max_pool2d: x is smaller than a window", "(4 with padding 0 and 5)"});
  test::require_error(
      [] {
        max_pool2d(Tensor::zeros({1, 1, 1, 4}), {.kernel = {2, 1}, .padding = {1, 0}, .dilation = {2, 1}});
      },
      {"max_pool2d: a window has no place in x", "from -1 with dilation 2, of 1"});
  test::require_error([&] { avg_pool2d(x, {.dilation = {2, 1}}); }, {"avg_pool2d: windows have no dilation", "(2, 1)"});
  test::require_error([&] { avg_pool2d(x, {.kernel = {-3, 1}}); }, {"avg_pool2d: need 1 <= kernel", "(-3)"});
  test::require_error([&] { adaptive_avg_pool2d(x, {2, 0}); }, {"adaptive_avg_pool2d: need 1 <= output", "(0)"});
  test::require_error(
      [] {
        adaptive_avg_pool2d(Tensor::zeros({2, 1, 0, 4}), {1, 1});
      },
      {"adaptive_avg_pool2d: x has no places", "(extent 0)"});
  for (const auto& f : {+[](const Var& v) { return max_pool2d(v); }, +[](const Var& v) { return avg_pool2d(v); },
                        +[](const Var& v) {
                          return adaptive_avg_pool2d(v, {1, 1});
                        }})
    test::require_error([&] { f(Tensor::zeros({1, 4, 4})); }, {"pool2d: x must be [b, c, h, w]", "[1, 4, 4]"});
}
