// One convolution of images, forward and backward: 32 -> 32 channels, 3 x 3, images of 16 x 16, batch 64; dense where
// every weight exists, else the values of a mask. Checked against sums in double before it is timed.
#include "bench.hpp"

#include <deepstruct/deepstruct.hpp>
#include <deepstruct/nn/conv.hpp>

using namespace deepstruct;

namespace {

constexpr std::int64_t batch = 64, channels = 32, size = 16, kernel = 3, padding = 1;
constexpr const char* name = "32-32-3x3-16x16";

/// The results of the layer in double.
struct Reference {
  std::vector<double> y, dx, dw;  // as Tensor::to_vector orders them
};
Reference reference(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& dy) {
  Reference r{std::vector<double>(static_cast<std::size_t>(dy.size())),
              std::vector<double>(static_cast<std::size_t>(x.size())),
              std::vector<double>(static_cast<std::size_t>(w.size()))};
  const std::vector<float> xs = x.to_vector(), us = dy.to_vector();
  const auto at = [](std::int64_t b, std::int64_t c, std::int64_t h, std::int64_t v) {
    return static_cast<std::size_t>(((b * channels + c) * size + h) * size + v);
  };
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t o = 0; o < channels; ++o) {
      for (std::int64_t k = 0; k < size * size; ++k) r.y[at(b, o, 0, k)] = double{bias(o)};
      for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t i = 0; i < kernel; ++i)
          for (std::int64_t j = 0; j < kernel; ++j) {
            const double weight = double{w(o, c, i, j)};
            double sum = 0;
            for (std::int64_t p = std::max<std::int64_t>(0, padding - i); p < std::min(size, size + padding - i); ++p)
              for (std::int64_t q = std::max<std::int64_t>(0, padding - j); q < std::min(size, size + padding - j);
                   ++q) {
                const std::size_t from = at(b, c, p + i - padding, q + j - padding), to = at(b, o, p, q);
                r.y[to] += weight * double{xs[from]};
                r.dx[from] += weight * double{us[to]};
                sum += double{us[to]} * double{xs[from]};
              }
            r.dw[static_cast<std::size_t>(((o * channels + c) * kernel + i) * kernel + j)] += sum;
          }
    }
  return r;
}

double error_of(const char* what, const std::vector<double>& want, const Tensor& got) {
  double error = 0, largest = 0;
  got.for_each([&](std::int64_t k, float v) {
    error = std::max(error, std::abs(double{v} - want[static_cast<std::size_t>(k)]));
    largest = std::max(largest, std::abs(want[static_cast<std::size_t>(k)]));
  });
  check(error <= 1e-5 * std::max(1.0, largest), "conv: ", what, " is wrong (error ", error, ", largest ", largest, ")");
  return error;
}

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"density", "threads", "seconds", "json"});
  const auto densities = options.numbers("density", "1,0.1", 0.0, 1.0);
  const auto threads = options.numbers("threads", std::to_string(num_threads()), 1, 1024);
  const double seconds = options.number("seconds", "2", 0.01, 100.0);
  const Conv2dOptions how{.padding = {padding, padding}};
  std::vector<bench::Row> rows;
  for (const double density : densities) {
    Rng rng(1);
    MaskedConv2d layer(channels, channels, kernel, {.conv = how}, rng);
    layer.set_mask(density == 1 ? Mask::ones(channels, channels * kernel * kernel)
                                : Mask::random(channels, channels * kernel * kernel, density, rng));
    const Tensor images = Tensor::normal({batch, channels, size, size}, 0, 1, rng),
                 up = Tensor::normal(images.shape(), 0, 1, rng);
    const Reference want = reference(images, layer.effective_weight(), layer.bias->value(), up);
    if (density < 1) layer.pack();
    const Var x = variable(images);
    const auto step = [&] {
      const Var y = layer(x);
      return std::pair(y, grad(y, {x, layer.weight, *layer.bias}, {.seed = up}));
    };
    const auto [y, d] = step();
    const Tensor dw = density < 1 ? place_edges(d[1], layer.mask()).value() : d[1].value();
    const Tensor some = pick_edges(reshape(dw, layer.mask().shape()), layer.mask()).value();
    std::vector<double> edges;
    layer.mask().for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
      edges.push_back(want.dw[static_cast<std::size_t>(r * layer.mask().cols() + c)]);
    });
    const double error = std::max(
        {error_of("y", want.y, y.value()), error_of("dx", want.dx, d[0].value()), error_of("dw", edges, some)});
    for (const int count : threads) {
      set_num_threads(count);
      bench::Row row;
      row.name = "conv_train";
      row.model = name;
      row.storage = layer.packed() ? "packed" : "full";
      row.batch = batch;
      row.density = density;
      row.threads = count;
      row.max_abs_err = error;
      const double once = bench::microseconds(step);
      row.time = bench::measure(step, std::clamp(static_cast<int>(seconds * 1e6 / once), 3, 300), 0.1);
      rows.push_back(row);
    }
  }
  return bench::report(options, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(argc, argv, "usage: conv [--density 1,0.1] [--threads 1,2] [--seconds 2] [--json FILE]\n", run);
}
