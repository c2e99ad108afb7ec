// Convolution, dense and sparse, with its gradients, against sums in double: every instruction set, shapes at random
// and at the edges, storage poisoned. Kernels run as the ops call them, through the plans that tell them what to read.
#include <deepstruct/ops/conv.hpp>

#include "support/cases.hpp"
#include "support/reference.hpp"

using namespace deepstruct;
namespace reference = test::reference;

namespace {

struct ConvCase {
  std::int64_t batch, in, out, h, w;
  std::array<std::int64_t, 2> kernel;
  Conv2dOptions how;
};

std::ostream& operator<<(std::ostream& text, const ConvCase& c) {
  return text << "batch " << c.batch << ", " << c.in << " -> " << c.out << ", " << c.h << " x " << c.w << ", kernel "
              << c.kernel[0] << " x " << c.kernel[1] << ", stride " << c.how.stride[0] << " x " << c.how.stride[1]
              << ", padding " << c.how.padding[0] << " x " << c.how.padding[1] << ", dilation " << c.how.dilation[0]
              << " x " << c.how.dilation[1] << ", groups " << c.how.groups;
}

/// Calls f(b, o, p, q, c, i, j, h, w) for every term y[b, o, p, q] += weight[o, c, i, j]·x[b, g·in/groups + c, h, w];
/// the channel of x is passed as c.
template <class F>
void conv_terms(const ConvCase& c, const Shape& y, F&& f) {
  const std::int64_t depth = c.in / c.how.groups, rows = c.out / c.how.groups;
  for (std::int64_t b = 0; b < c.batch; ++b)
    for (std::int64_t o = 0; o < c.out; ++o)
      for (std::int64_t p = 0; p < y[2]; ++p)
        for (std::int64_t q = 0; q < y[3]; ++q)
          for (std::int64_t k = 0; k < depth; ++k)
            for (std::int64_t i = 0; i < c.kernel[0]; ++i)
              for (std::int64_t j = 0; j < c.kernel[1]; ++j) {
                const std::int64_t h = p * c.how.stride[0] + i * c.how.dilation[0] - c.how.padding[0],
                                   w = q * c.how.stride[1] + j * c.how.dilation[1] - c.how.padding[1];
                if (h >= 0 && h < c.h && w >= 0 && w < c.w) f(b, o, p, q, o / rows * depth + k, k, i, j, h, w);
              }
}

std::size_t conv_at(const Shape& s, std::int64_t i0, std::int64_t i1, std::int64_t i2, std::int64_t i3) {
  return static_cast<std::size_t>(((i0 * s[1] + i1) * s[2] + i2) * s[3] + i3);
}

struct ConvReference {
  reference::Result y, dx, dw;
};
ConvReference conv_reference(const ConvCase& c, const Tensor& x, const Tensor& w, const Tensor* bias, const Tensor& dy,
                             const Mask& mask) {
  ConvReference r{reference::Result(static_cast<std::size_t>(dy.size())),
                  reference::Result(static_cast<std::size_t>(x.size())),
                  reference::Result(static_cast<std::size_t>(w.size()))};
  if (bias) r.y = reference::each(dy.shape(), [&](auto, std::int64_t o, auto, auto) { return double{(*bias)(o)}; });
  conv_terms(c, dy.shape(), [&](auto b, auto o, auto p, auto q, auto from, auto k, auto i, auto j, auto h, auto v) {
    if (!mask.contains(o, (k * c.kernel[0] + i) * c.kernel[1] + j)) return;
    const double value = double{x(b, from, h, v)}, weight = double{w(o, k, i, j)}, up = double{dy(b, o, p, q)};
    r.y[conv_at(dy.shape(), b, o, p, q)].add(value * weight);
    r.dx[conv_at(x.shape(), b, from, h, v)].add(up * weight);
    r.dw[conv_at(w.shape(), o, k, i, j)].add(up * value);
  });
  return r;
}
reference::Result conv_of_edges(const reference::Result& dense, const Mask& mask) {
  reference::Result some;
  mask.for_each([&](auto, std::int64_t r, std::int64_t c) {
    some.push_back(dense[static_cast<std::size_t>(r * mask.cols() + c)]);
  });
  return some;
}

Shape conv_weight_of(const ConvCase& c) { return {c.out, c.in / c.how.groups, c.kernel[0], c.kernel[1]}; }
Shape conv_mask_of(const ConvCase& c) { return {c.out, c.in / c.how.groups * c.kernel[0] * c.kernel[1]}; }

/// Forward and gradients, one by one and both at once, dense and with each of the masks.
void require_conv(const ConvCase& c, Rng& rng, const std::vector<Mask>& masks) {
  INFO(c);
  no_grad guard;
  const Tensor x = Tensor::normal({c.batch, c.in, c.h, c.w}, 0, 1, rng),
               w = Tensor::normal(conv_weight_of(c), 0, 1, rng), bias = Tensor::normal({c.out}, 0, 1, rng);
  const Tensor y = conv2d(x, w, bias, c.how).value();
  const Tensor dy = Tensor::normal(y.shape(), 0, 1, rng);
  const auto s = detail::conv_sizes("conv2d", x.shape(), w.shape(), c.how);
  const auto require_both = [&](const Mask* mask, const Tensor& weight, const ConvReference& want,
                                const reference::Result& dw) {
    Var both[2];
    detail::ConvWeight{s, mask}.backward(dy, x, weight, both);
    test::require_close(both[0].value(), want.dx);
    test::require_close(both[1].value(), dw);
  };
  {
    const Mask all = Mask::ones(conv_mask_of(c)[0], conv_mask_of(c)[1]);
    const ConvReference want = conv_reference(c, x, w, &bias, dy, all);
    test::require_close(y, want.y);
    test::require_close(conv2d_dx(dy, w, x.shape(), c.how).value(), want.dx);
    test::require_close(conv2d_dw(dy, x, w.shape(), c.how).value(), want.dw);
    require_both(nullptr, w, want, want.dw);
  }
  for (const Mask& mask : masks) {
    INFO("edges " << mask.nnz() << " of " << mask.shape());
    const Tensor values = pick_edges(reshape(w, mask.shape()), mask).value();
    const ConvReference want = conv_reference(c, x, w, nullptr, dy, mask);
    const reference::Result dw = conv_of_edges(want.dw, mask);
    test::require_close(sparse_conv2d(x, values, mask, c.kernel, {}, c.how).value(), want.y);
    test::require_close(sparse_conv2d_dx(dy, values, mask, c.kernel, x.shape(), c.how).value(), want.dx);
    test::require_close(sparse_conv2d_dw(dy, x, mask, c.kernel, c.how).value(), dw);
    require_both(&mask, values, want, dw);
  }
}

}  // namespace

TEST_CASE("convolution is right for every batch") {
  test::on_every_isa([] {
    Rng rng(1);
    for (std::int64_t batch : {0, 1, 2, 7, 8, 9, 15, 16, 17, 33}) {
      const ConvCase c{batch, 3, 7, 5, 6, {3, 3}, {{1, 1}, {1, 1}}};
      require_conv(c, rng, {Mask::random(conv_mask_of(c)[0], conv_mask_of(c)[1], 0.3, rng)});
      const ConvCase strided{batch, 2, 5, 6, 9, {3, 2}, {{2, 3}, {1, 0}}};
      require_conv(strided, rng, {Mask::random(conv_mask_of(strided)[0], conv_mask_of(strided)[1], 0.5, rng)});
    }
  });
}

TEST_CASE("convolution is right for every kernel, stride, padding, dilation and group") {
  test::on_every_isa([] {
    Rng rng(2);
    const ConvCase cases[] = {
        {18, 5, 13, 4, 19, {1, 1}, {}},                         // points
        {3, 4, 6, 5, 4, {1, 1}, {{2, 2}}},                      // points, some pixels unread
        {5, 3, 4, 6, 5, {6, 5}, {}},                            // as large as the images
        {17, 2, 3, 3, 2, {5, 6}, {{1, 1}, {1, 2}}},             // larger than the images, not than the padded ones
        {4, 3, 2, 9, 9, {2, 2}, {{3, 4}}},                      // pixels between the kernels are unread
        {17, 3, 2, 9, 11, {2, 3}, {{5, 3}, {2, 1}}},            // stride larger than the kernel, with padding
        {16, 3, 5, 8, 7, {3, 3}, {{1, 1}, {2, 2}, {2, 2}}},     // dilated
        {6, 2, 3, 11, 10, {3, 2}, {{3, 2}, {1, 3}, {2, 4}}},    // everything at once
        {20, 2, 3, 11, 10, {3, 2}, {{4, 2}, {3, 1}, {2, 4}}},   // a factor in common
        {16, 6, 6, 5, 5, {3, 3}, {{1, 1}, {1, 1}, {1, 1}, 6}},  // one input per output
        {5, 4, 8, 5, 4, {3, 2}, {{2, 1}, {1, 1}, {1, 1}, 4}},   // two outputs per input
        {33, 6, 9, 4, 5, {2, 3}, {{1, 2}, {0, 2}, {1, 1}, 3}},  // groups of three
        {2, 1, 1, 1, 1, {1, 1}, {{1, 1}, {3, 4}}},              // padding larger than the kernel
        {16, 1, 2, 2, 2, {2, 2}, {{2, 1}, {4, 5}}},             // outputs that see nothing but zeros
        {17, 0, 3, 4, 4, {3, 3}, {}},                           // no inputs
        {17, 3, 0, 4, 4, {3, 3}, {}},                           // no outputs
        {1, 2, 2, 1, 37, {1, 5}, {{1, 1}, {0, 2}}},             // one row
        {1, 2, 2, 37, 1, {5, 1}, {{1, 1}, {2, 0}}},             // one column
        {16, 2, 100, 2, 6, {1, 2}, {}},                         // more outputs than a part has
    };
    for (const ConvCase& c : cases) require_conv(c, rng, test::masks(conv_mask_of(c)[0], conv_mask_of(c)[1]));
  });
}

TEST_CASE("convolution is right for shapes at random") {
  test::on_every_isa([] {
    Rng rng(3);
    DrawInOrder draw(rng.draw());
    std::uint64_t used = 0;
    const auto one_of = [&](std::initializer_list<std::int64_t> some) {
      return some
          .begin()[static_cast<std::size_t>(draw.uniform(used++, 0, 1) * static_cast<float>(some.size()) * 0.999f)];
    };
    for (int k = 0; k < 40; ++k) {
      const std::int64_t groups = one_of({1, 1, 2, 3});
      ConvCase c{one_of({1, 4, 9, 16, 21}),
                 groups * one_of({1, 2, 3}),
                 groups * one_of({1, 2, 5}),
                 one_of({1, 4, 7}),
                 one_of({1, 5, 8, 18}),
                 {one_of({1, 2, 3}), one_of({1, 2, 3})},
                 {}};
      c.how = {{one_of({1, 1, 2, 3}), one_of({1, 1, 2, 3})}, {0, 0}, {one_of({1, 1, 2}), one_of({1, 1, 2, 3})}, groups};
      for (int a = 0; a < 2; ++a) {
        const std::int64_t reach = c.how.dilation[a] * (c.kernel[a] - 1) + 1, size = a == 0 ? c.h : c.w;
        c.how.padding[a] = std::max<std::int64_t>(one_of({0, 1, 2}), (reach - size + 1) / 2);
      }
      require_conv(c, rng, {Mask::random(conv_mask_of(c)[0], conv_mask_of(c)[1], 0.4, rng)});
    }
  });
}

TEST_CASE("sums of a convolution with many terms are taken in parts") {
  test::on_every_isa([] {
    Rng rng(4);
    const ConvCase deep{3, 470, 2, 3, 3, {3, 3}, {}};  // 4230 terms forward
    require_conv(deep, rng, {Mask::ones(2, 4230)});
    const ConvCase wide{2, 1, 460, 3, 4, {3, 3}, {{1, 1}, {1, 1}}};  // 4140 terms of dx
    require_conv(wide, rng, {Mask::ones(460, 9)});
    const ConvCase large{18, 1, 1, 3, 300, {1, 1}, {}};  // 16200 terms of dw, rows longer than a part
    require_conv(large, rng, {Mask::ones(1, 1)});
  });
}

TEST_CASE("padding lanes may hold anything") {
  no_grad guard;
  Rng rng(5);
  Tensor x = Tensor::normal({17, 2, 4, 5}, 0, 1, rng), dy = Tensor::normal({17, 3, 4, 5}, 0, 1, rng);
  const Tensor w = Tensor::normal({3, 2, 3, 3}, 0, 1, rng);
  const Conv2dOptions how{{1, 1}, {1, 1}};
  const auto all = [&] {
    return std::vector<Tensor>{conv2d(x, w, {}, how).value(), conv2d_dx(dy, w, x.shape(), how).value(),
                               conv2d_dw(dy, x, w.shape(), how).value()};
  };
  const auto before = all();
  for (Tensor* t : {&x, &dy})
    for (std::int64_t r = 0; r < t->shape().rows(); ++r)
      std::fill(t->data() + r * t->ld() + 17, t->data() + (r + 1) * t->ld(), std::numeric_limits<float>::quiet_NaN());
  const auto after = all();
  for (std::size_t k = 0; k < before.size(); ++k) REQUIRE(test::same_bits(before[k], after[k]));
}

TEST_CASE("convolutions do not depend on the number of threads", "[threads]") {
  test::same_for_all_threads([] {
    no_grad guard;
    Rng rng(6);
    std::vector<Tensor> all;
    for (std::int64_t batch : {3, 40}) {
      const Tensor x = Tensor::normal({batch, 10, 17, 13}, 0, 1, rng), w = Tensor::normal({14, 5, 3, 3}, 0, 1, rng);
      const Conv2dOptions how{{2, 1}, {1, 1}, {1, 1}, 2};
      const Tensor y = conv2d(x, w, {}, how).value(), dy = Tensor::normal(y.shape(), 0, 1, rng);
      const Mask m = Mask::random(14, 45, 0.3, rng);
      const Tensor values = Tensor::normal({m.nnz()}, 0, 1, rng);
      all.push_back(y);
      all.push_back(conv2d_dx(dy, w, x.shape(), how).value());
      all.push_back(conv2d_dw(dy, x, w.shape(), how).value());
      all.push_back(sparse_conv2d(x, values, m, {3, 3}, {}, how).value());
      all.push_back(sparse_conv2d_dx(dy, values, m, {3, 3}, x.shape(), how).value());
      all.push_back(sparse_conv2d_dw(dy, x, m, {3, 3}, how).value());
    }
    return all;
  });
}
