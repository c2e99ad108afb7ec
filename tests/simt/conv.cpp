// Convolution against naive sums in double: dense and sparse kernels, groups, paddings, strides, dilations, transposed,
// with samples in the lanes or whole rows of pixels, as the ops call them.
#include <algorithm>
#include <array>

#include <deepstruct/kernels/conv_plan.hpp>

#include "cases.hpp"

using namespace deepstruct;

namespace {

using kernels::ConvPlan;
using kernels::ConvSizes;
using runtime::Buffer;
using test::DeviceMatrix;
using test::Exact;
using test::Matrix;

ConvSizes conv_sizes(std::int64_t samples, std::int64_t in, std::int64_t out, std::int64_t groups,
                     std::array<std::int64_t, 2> size, std::array<std::int64_t, 2> kernel,
                     std::array<std::int64_t, 2> stride = {1, 1}, std::array<std::int64_t, 2> padding = {},
                     std::array<std::int64_t, 2> dilation = {1, 1}) {
  ConvSizes s{samples, in, out, groups, size, kernel, {}, stride, padding, dilation};
  for (std::size_t k = 0; k < 2; ++k)
    s.result[k] = (size[k] + 2 * padding[k] - dilation[k] * (kernel[k] - 1) - 1) / stride[k] + 1;
  return s;
}
std::int64_t kernel_of(const ConvSizes& s) { return s.kernel[0] * s.kernel[1]; }

/// Calls f(o, column of the weight, pixel of y, channel of x, pixel of x) for every product of a convolution.
template <class F>
void for_products(const ConvSizes& s, F&& f) {
  const std::int64_t depth = s.in / s.groups, rows = s.out / s.groups;
  for (std::int64_t o = 0; o < s.out; ++o)
    for (std::int64_t c = 0; c < depth; ++c)
      for (std::int64_t i = 0; i < s.kernel[0]; ++i)
        for (std::int64_t j = 0; j < s.kernel[1]; ++j)
          for (std::int64_t p = 0; p < s.result[0]; ++p)
            for (std::int64_t q = 0; q < s.result[1]; ++q) {
              const std::int64_t h = p * s.stride[0] + i * s.dilation[0] - s.padding[0],
                                 w = q * s.stride[1] + j * s.dilation[1] - s.padding[1];
              if (h >= 0 && h < s.size[0] && w >= 0 && w < s.size[1])
                f(o, (c * s.kernel[0] + i) * s.kernel[1] + j, p * s.result[1] + q, o / rows * depth + c,
                  h * s.size[1] + w);
            }
}

/// Images on the device, [samples, channels·height·width], as the kernels see them; merged: rows of pixels as lanes.
template <class T>
kernels::conv_image<T> conv_image_of(const DeviceMatrix& m, std::int64_t channels, std::array<std::int64_t, 2> size,
                                     bool merged) {
  const std::int64_t ld = m.ld, b = m.samples, h = size[0], w = size[1];
  if (merged) return {m.data.data(), b * w, channels, h, 1, h * w * ld, w * ld, w * ld, false};
  return {m.data.data(), b, channels, h, w, h * w * ld, w * ld, ld, b >= kernels::conv_lanes};
}

struct ConvStorage {
  Buffer<float> data;
  kernels::conv_blocks view;
  explicit ConvStorage(kernels::conv_blocks v)
      : data(static_cast<std::size_t>(v.blocks * v.channels * v.height * v.width * kernels::conv_lanes)), view(v) {
    view.data = data.data();
  }
};
ConvStorage conv_blocks_of(const DeviceMatrix& m, std::int64_t channels, std::array<std::int64_t, 2> size,
                           const ConvPlan& plan, std::int64_t pixels) {
  auto image = conv_image_of<const float>(m, channels, size, false);
  if (plan.unfolded()) image.lanes = m.samples * pixels;
  ConvStorage s(plan.blocks(image.lanes));
  if (plan.unfolded())
    kernels::conv_unfold(cuda{}, image, plan.top(), plan.columns(), s.view);
  else
    kernels::conv_pack(cuda{}, image, plan.top(), plan.left(), s.view);
  return s;
}

/// A convolution: sizes, and a mask [out, in/groups·kernel] where sparse.
struct Conv {
  ConvSizes sizes;
  const test::Pattern* mask = nullptr;
  std::int64_t ldw = leading_stride(sizes.out);

  ConvPlan plan(bool transposed) const {
    if (!mask) return {sizes, transposed, nullptr, ldw};
    const csr_view edges = transposed ? mask->by_column() : mask->by_row();
    return {sizes, transposed, &edges, 0};
  }
  /// Storage of the weight: [in/groups, kernel] columns of `out`, or a value per edge.
  std::size_t weights() const {
    return static_cast<std::size_t>(mask ? mask->nnz() : ldw * (sizes.in / sizes.groups) * kernel_of(sizes));
  }
  /// Where (o, column) is in there; −1 where there is no edge.
  std::int64_t place(std::int64_t o, std::int64_t column) const {
    if (!mask) return column * ldw + o;
    for (std::int32_t e = mask->start[static_cast<std::size_t>(o)]; e < mask->start[static_cast<std::size_t>(o) + 1];
         ++e)
      if (mask->col[static_cast<std::size_t>(e)] == column) return e;
    return -1;
  }
  Matrix apply(bool transposed, const Matrix& source, const std::vector<float>& weight, const float* bias) const {
    const ConvSizes& s = sizes;
    const ConvPlan p = plan(transposed);
    const auto of = transposed ? s.result : s.size, to = transposed ? s.size : s.result;
    const std::int64_t channels = transposed ? s.in : s.out, rows = s.out / s.groups, depth = s.in / s.groups;
    const DeviceMatrix in(source), out(s.samples, channels * to[0] * to[1]);
    const ConvStorage blocks = conv_blocks_of(in, transposed ? s.out : s.in, of, p, to[1]);
    const Buffer<float> w{std::span<const float>(weight)};
    for (const auto& phase : p.phases()) {
      auto image = conv_image_of<float>(out, channels, to, p.unfolded());
      image.data += phase.first[0] * image.row + phase.first[1] * image.pixel;
      image.height = phase.count[0], image.width = phase.count[1];
      image.row *= phase.step[0], image.pixel *= phase.step[1];
      const Buffer<kernels::conv_tap> taps{std::span<const kernels::conv_tap>(phase.taps.data(), phase.taps.size())};
      const Buffer<std::int32_t> start{std::span<const std::int32_t>(phase.start.data(), phase.start.size())};
      if (mask)
        kernels::conv_sparse(cuda{}, p.walk(blocks.view), start.data(), taps.data(), 0, phase.most, w.data(), bias,
                             image);
      else
        kernels::conv_dense(cuda{}, p.walk(blocks.view), s.groups, transposed ? rows : depth, taps.data(), phase.most,
                            w.data(), transposed ? kernel_of(s) * ldw : 1, rows, bias, image);
    }
    return out.to_host();
  }
  /// dw; dy comes from blocks as they are for dx, with their frame, where the ops share them.
  std::vector<float> gradient(const Matrix& dy, const Matrix& x) const {
    const ConvSizes& s = sizes;
    const ConvPlan p = plan(false), other = plan(true);
    const DeviceMatrix in(x), up(dy);
    const ConvStorage from = conv_blocks_of(in, s.in, s.size, p, s.result[1]);
    const auto image = conv_image_of<const float>(up, s.out, s.result, p.unfolded());
    const bool shared = !p.unfolded() && !other.unfolded() && s.samples != 16;
    const ConvStorage blocks =
        shared ? conv_blocks_of(up, s.out, s.result, other, s.size[1])
               : ConvStorage({nullptr, (image.lanes + 15) / 16, image.channels, image.height, image.width});
    if (!shared) kernels::conv_pack(cuda{}, image, 0, 0, blocks.view);
    const std::int64_t row = blocks.view.width * kernels::conv_lanes, channel = blocks.view.height * row;
    kernels::conv_walk g{blocks.view.data, blocks.view.channels * channel, channel, row, kernels::conv_lanes};
    if (shared) g.data += other.top() * row + other.left() * kernels::conv_lanes;
    const auto& phase = p.phases().front();
    const Buffer<kernels::conv_tap> taps{std::span<const kernels::conv_tap>(phase.taps.data(), phase.taps.size())};
    const Buffer<std::int32_t> start{std::span<const std::int32_t>(phase.start.data(), phase.start.size())};
    const Buffer<float> dw(weights());
    const Buffer<double> sums(weights());
    if (mask)
      kernels::conv_sparse_dw(cuda{}, p.walk(from.view), g, image, start.data(), taps.data(), sums.data(), dw.data());
    else
      kernels::conv_dense_dw(cuda{}, p.walk(from.view), g, image, s.groups, s.in / s.groups, taps.data(), phase.most,
                             sums.data(), dw.data());
    return dw.to_host();
  }
};

void expect_conv(float got, const Exact& want, const char* what, const ConvSizes& s, std::int64_t at, std::int64_t b) {
  const bool same = std::isfinite(want.value)
                        ? want.close(double{got})
                        : std::isnan(want.value) == std::isnan(got) && (std::isnan(got) || double{got} == want.value);
  check(same, what, ": got ", got, ", want ", want.value, " at ", at, ", sample ", b, " (", s.samples, " samples, ",
        s.in, " to ", s.out, " channels in ", s.groups, " groups, images ", s.size[0], " x ", s.size[1], ", kernel ",
        s.kernel[0], " x ", s.kernel[1], ")");
}

/// y, dx and dw of a convolution; with `hard`, one number of x is infinite, and one of dy unless it meets the zeros
/// around x.
void expect_convolution(const Conv& conv, bool biased, bool hard, Rng& rng) {
  const ConvSizes& s = conv.sizes;
  const std::int64_t in = s.size[0] * s.size[1], out = s.result[0] * s.result[1], samples = s.samples;
  Matrix x = Matrix::normal(samples, s.in * in, rng), dy = Matrix::normal(samples, s.out * out, rng);
  if (hard) {
    x(samples / 2, x.features / 2) = std::numeric_limits<float>::infinity();
    if (s.padding == std::array<std::int64_t, 2>{})
      dy(samples - 1, dy.features / 3) = std::numeric_limits<float>::infinity();
  }
  std::vector<float> w = test::normal(static_cast<std::int64_t>(conv.weights()), rng);
  if (!conv.mask)
    for (std::size_t i = 0; i < w.size(); ++i)
      if (static_cast<std::int64_t>(i) % conv.ldw >= s.out) w[i] = std::numeric_limits<float>::quiet_NaN();
  const auto add = test::normal(s.out, rng);
  const Buffer<float> bias{std::span<const float>(add)};

  std::vector<Exact> y(static_cast<std::size_t>(samples * s.out * out)),
      dx(static_cast<std::size_t>(samples * s.in * in)), dw(w.size());
  for (std::size_t i = 0; biased && i < y.size(); ++i)
    y[i].add(double{add[i / static_cast<std::size_t>(samples * out)]});
  for_products(s, [&](std::int64_t o, std::int64_t column, std::int64_t to, std::int64_t c, std::int64_t from) {
    const std::int64_t k = conv.place(o, column);
    if (k < 0) return;
    const double weight = double{w[static_cast<std::size_t>(k)]};
    for (std::int64_t b = 0; b < samples; ++b) {
      const double v = double{x(b, c * in + from)}, g = double{dy(b, o * out + to)};
      y[static_cast<std::size_t>((o * out + to) * samples + b)].add(weight * v);
      dx[static_cast<std::size_t>((c * in + from) * samples + b)].add(weight * g);
      dw[static_cast<std::size_t>(k)].add(v * g);
    }
  });
  const Matrix got = conv.apply(false, x, w, biased ? bias.data() : nullptr), back = conv.apply(true, dy, w, nullptr);
  for (std::int64_t f = 0; f < got.features; ++f)
    for (std::int64_t b = 0; b < samples; ++b)
      expect_conv(got(b, f), y[static_cast<std::size_t>(f * samples + b)], conv.mask ? "conv_sparse" : "conv_dense", s,
                  f, b);
  for (std::int64_t f = 0; f < back.features; ++f)
    for (std::int64_t b = 0; b < samples; ++b)
      expect_conv(back(b, f), dx[static_cast<std::size_t>(f * samples + b)],
                  conv.mask ? "conv_sparse, transposed" : "conv_dense, transposed", s, f, b);
  const auto gradient = conv.gradient(dy, x);
  for (std::size_t k = 0; k < gradient.size(); ++k)
    if (conv.mask || static_cast<std::int64_t>(k) % conv.ldw < s.out)
      expect_conv(gradient[k], dw[k], conv.mask ? "conv_sparse_dw" : "conv_dense_dw", s, static_cast<std::int64_t>(k),
                  0);
}

void for_conv_cases(const std::function<void(const ConvSizes&, std::uint64_t)>& f) {
  std::uint64_t number = 0;
  f(conv_sizes(40, 1, 2, 1, {7, 8}, {2, 2}), ++number);   // more lines than a block takes at once
  f(conv_sizes(3, 140, 3, 1, {1, 1}, {1, 1}), ++number);  // many taps
  for (const std::int64_t b : {1, 2, 5, 8, 9, 16, 17, 33, 40}) {
    const std::vector<ConvSizes> all{
        conv_sizes(b, 2, 3, 1, {5, 6}, {3, 3}, {1, 1}, {1, 1}),
        conv_sizes(b, 4, 6, 2, {7, 5}, {3, 2}, {2, 1}, {1, 0}, {1, 2}),
        conv_sizes(b, 5, 5, 5, {6, 4}, {3, 3}, {1, 2}, {1, 1}),  // a channel each
        conv_sizes(b, 3, 33, 1, {4, 3}, {2, 2}),
        conv_sizes(b, 12, 70, 1, {3, 2}, {1, 1}),
        conv_sizes(b, 30, 16, 2, {4, 1}, {2, 1}, {1, 1}, {1, 0}),  // one column
        conv_sizes(b, 2, 7, 1, {8, 7}, {2, 2}, {3, 3}),            // pixels that nothing reads
        conv_sizes(b, 1, 11, 1, {9, 9}, {3, 5}, {2, 2}, {4, 3}, {2, 1}),
        conv_sizes(b, 1, 1, 1, {1, 1}, {1, 1}),
    };
    for (const ConvSizes& s : all)
      if (test::tried(++number)) f(s, number);
  }
}
/// Edges by chance; the second output has none, the last one all.
test::Pattern conv_mask(const ConvSizes& s, std::uint64_t seed) {
  const Draw draw = Rng(seed).draw();
  const std::int64_t cols = s.in / s.groups * kernel_of(s);
  return {s.out, cols, [&](auto r, auto c) {
            return r != 1 && (r + 1 == s.out || draw.uniform(static_cast<std::uint64_t>(r * cols + c)) < 0.3f);
          }};
}

const test::Register dense("conv: dense, transposed and its weights' gradient", [] {
  for_conv_cases([](const ConvSizes& s, std::uint64_t number) {
    Rng rng(number);
    expect_convolution(Conv{s}, number % 2 == 0, number % 3 == 0, rng);
  });
});

const test::Register sparse("conv: sparse, transposed and its edges' gradient", [] {
  for_conv_cases([](const ConvSizes& s, std::uint64_t number) {
    Rng rng(number);
    const test::Pattern mask = conv_mask(s, number);
    expect_convolution(Conv{s, &mask}, number % 2 == 1, number % 3 == 1, rng);
  });
});

const test::Register packing("conv: images in blocks", [] {
  std::uint64_t number = 0;
  for (const std::int64_t samples : {1, 5, 16, 33})
    for (const auto& [height, width, top, left] :
         {std::array<std::int64_t, 4>{7, 9, 1, 2}, {3, 2, 0, 0}, {6, 3, 2, 5}, {1, 1, 0, 0}}) {
      if (!test::tried(number++) && number > 1) continue;
      const std::int64_t channels = 3, h = 4, w = 5;
      Rng rng(number);
      const Matrix x = Matrix::normal(samples, channels * h * w, rng);
      const DeviceMatrix in(x);
      const ConvStorage to({nullptr, (samples + 15) / 16, channels, height, width});
      kernels::conv_pack(cuda{}, conv_image_of<const float>(in, channels, {h, w}, false), top, left, to.view);
      const auto got = to.data.to_host();
      std::size_t at = 0;
      for (std::int64_t n = 0; n < to.view.blocks; ++n)
        for (std::int64_t c = 0; c < channels; ++c)
          for (std::int64_t i = 0; i < height; ++i)
            for (std::int64_t j = 0; j < width; ++j)
              for (std::int64_t l = 0; l < kernels::conv_lanes; ++l, ++at) {
                const std::int64_t p = i - top, q = j - left, b = n * kernels::conv_lanes + l;
                const bool inside = b < samples && p >= 0 && p < h && q >= 0 && q < w;
                const float want = inside ? x(b, (c * h + p) * w + q) : 0.0f;
                check(got[at] == want, "conv_pack: got ", got[at], ", want ", want, " at ", at);
              }
    }
});

const test::Register shares("conv: sparse rows by shares of their taps", [] {
  const ConvSizes s = conv_sizes(17, 4, 5, 1, {3, 4}, {2, 2});
  const test::Pattern mask = conv_mask(s, 3);
  const Conv conv{s, &mask};
  Rng rng(3);
  const Matrix x = Matrix::normal(17, 4 * 12, rng);
  const auto w = test::normal(mask.nnz(), rng);
  const Matrix whole = conv.apply(false, x, w, nullptr);
  const ConvPlan p = conv.plan(false);
  const auto& phase = p.phases().front();
  const DeviceMatrix in(x), out(17, whole.features);
  const ConvStorage blocks = conv_blocks_of(in, 4, s.size, p, s.result[1]);
  const Buffer<kernels::conv_tap> taps{std::span<const kernels::conv_tap>(phase.taps.data(), phase.taps.size())};
  const Buffer<std::int32_t> start{std::span<const std::int32_t>(phase.start.data(), phase.start.size())};
  const Buffer<float> values{std::span<const float>(w)};
  std::vector<double> sum(whole.data.size());
  for (std::int64_t first = 0; first < phase.most; first += 3) {
    kernels::conv_sparse(cuda{}, p.walk(blocks.view), start.data(), taps.data(), first, 3, values.data(), nullptr,
                         conv_image_of<float>(out, 5, s.result, false));
    const Matrix part = out.to_host();
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += double{part.data[i]};
  }
  for (std::int64_t f = 0; f < whole.features; ++f)
    for (std::int64_t b = 0; b < 17; ++b)
      check(std::fabs(sum[static_cast<std::size_t>(f * whole.ld + b)] - double{whole(b, f)}) <= 1e-5,
            "conv_sparse: shares give ", sum[static_cast<std::size_t>(f * whole.ld + b)], ", want ", whole(b, f));
});

const test::Register long_sums("conv: gradients over many pixels, and the same bits again", [] {
  for (const std::int64_t out : {2, 9, 18}) {  // a kernel each
    const ConvSizes s = conv_sizes(9, 1, out, 1, {10, 15}, {1, 2}, {1, 1}, {0, 1});
    const Conv conv{s};
    Matrix x(9, 10 * 15), dy(9, out * 10 * 16);
    for (float& v : x.data) v = 1;
    for (float& v : dy.data) v = 1;
    for (std::int64_t f = 0; f < dy.features; f += 10 * 16) dy(0, f + 1) = 0x1p24f;  // ones beside it count in double
    const auto dw = conv.gradient(dy, x);
    const double want = 0x1p24 + 9 * 10 * 15 - 1;
    for (std::int64_t o = 0; o < out; ++o)
      for (std::int64_t k = 0; k < 2; ++k)
        check(std::fabs(double{dw[static_cast<std::size_t>(k * conv.ldw + o)]} - want) <= 9 * 64, "conv_dense_dw: got ",
              dw[static_cast<std::size_t>(k * conv.ldw + o)], ", want ", want, " of ", out, " channels");
    Rng rng(static_cast<std::uint64_t>(out));
    const Matrix a = Matrix::normal(9, x.features, rng), b = Matrix::normal(9, dy.features, rng);
    const auto once = conv.gradient(b, a), again = conv.gradient(b, a);
    for (std::int64_t k = 0; k < 2 * conv.ldw; ++k)
      if (k % conv.ldw < out)
        check(once[static_cast<std::size_t>(k)] == again[static_cast<std::size_t>(k)],
              "conv_dense_dw: not the same again");
  }
});

const test::Register empty("conv: nothing to do", [] {
  Rng rng(1);
  for (const ConvSizes& s : {conv_sizes(0, 2, 12, 1, {3, 3}, {2, 2}), conv_sizes(3, 0, 4, 1, {3, 3}, {2, 2}),
                             conv_sizes(20, 0, 40, 1, {3, 3}, {2, 2}), conv_sizes(17, 3, 0, 1, {3, 3}, {2, 2})}) {
    expect_convolution(Conv{s}, true, false, rng);
    const test::Pattern none(s.out, s.in * 4, [](auto, auto) { return false; });
    expect_convolution(Conv{s, &none}, true, false, rng);
  }
});

}  // namespace
