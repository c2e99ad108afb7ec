// What a training step does beside its products, one part at a time: activations, layer norm, loss, dropout,
// optimizers, clipping, batches. Results are checked before anything is timed.
#include <deepstruct/deepstruct.hpp>

#include "bench.hpp"

using namespace deepstruct;

namespace {

constexpr std::int64_t batch = 128, features = 300, inputs = 784, classes = 10;

/// A part's name, its size, and what is timed.
struct Part {
  std::string name;
  std::int64_t in, out;
  std::function<void()> run;
  double error;
};

/// Largest difference of a tensor and what f says of every index.
template <class F>
double error_of(const char* who, const Tensor& t, F&& f) {
  double error = 0;
  for (std::int64_t b = 0; b < t.shape()[0]; ++b)
    for (std::int64_t c = 0; c < t.shape()[1]; ++c)
      error = std::max(error, std::abs(double{t(b, c)} - static_cast<double>(f(b, c))));
  check(error < 1e-4, "step_parts: ", who, " is wrong (error ", error, ")");
  return error;
}

/// y = f(x), forward and with its derivative.
template <class F>
void activation(std::vector<Part>& parts, const std::string& name, F f, double (*truth)(double), const Tensor& values) {
  const Var x = variable(values), seed(Tensor::ones(values.shape()));
  const double error =
      error_of(name.c_str(), f(x).value(), [&](std::int64_t b, std::int64_t c) { return truth(double{values(b, c)}); });
  parts.push_back({name, features, features,
                   [=] {
                     no_grad guard;
                     f(x);
                   },
                   error});
  parts.push_back(
      {name + "_train", features, features, [=] { (void)grad(f(x), std::array{x}, {.seed = seed}); }, error});
}

/// The gradients that a step cleared count again.
void with_gradients(MaskedDeepFFN& model) {
  each_param(model, [](Param& p) { p.var().node()->has_grad = true; });
}

std::vector<Part> make_parts() {
  Rng rng(1);
  std::vector<Part> parts;
  const Tensor values = Tensor::normal({batch, features}, 0, 1, rng);
  const auto at = [&](std::int64_t b, std::int64_t c) { return double{values(b, c)}; };
  activation(
      parts, "relu", [](const Var& x) { return relu(x); }, [](double x) { return std::max(x, 0.0); }, values);
  activation(
      parts, "gelu", [](const Var& x) { return gelu(x); },
      [](double x) { return x / 2 * std::erfc(-x / std::sqrt(2.0)); }, values);
  activation(
      parts, "tanh", [](const Var& x) { return tanh(x); }, [](double x) { return std::tanh(x); }, values);
  activation(
      parts, "sigmoid", [](const Var& x) { return sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); },
      values);

  const Var x = variable(values), seed(Tensor::ones(values.shape()));
  const auto normed = [=] { return layer_norm(x, Shape{features}); };
  const double norm_error = error_of("layer_norm", normed().value(), [&](std::int64_t b, std::int64_t c) {
    double mean = 0, square = 0;
    for (std::int64_t k = 0; k < features; ++k) mean += at(b, k) / features;
    for (std::int64_t k = 0; k < features; ++k) square += (at(b, k) - mean) * (at(b, k) - mean) / features;
    return (at(b, c) - mean) / std::sqrt(square + 1e-5);
  });
  parts.push_back({"layer_norm_train", features, features, [=] { (void)grad(normed(), std::array{x}, {.seed = seed}); },
                   norm_error});

  const Tensor drawn = Tensor::normal({batch, classes}, 0, 1, rng);
  const Var logits = variable(drawn);
  std::vector<std::int32_t> target(batch);
  for (std::int64_t b = 0; b < batch; ++b) target[b] = static_cast<std::int32_t>(b % classes);
  double loss = 0;
  for (std::int64_t b = 0; b < batch; ++b) {
    double sum = 0;
    for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(double{drawn(b, c)});
    loss += (std::log(sum) - double{drawn(b, target[b])}) / batch;
  }
  const double loss_error = std::abs(double{cross_entropy(logits, target).value().item()} - loss);
  check(loss_error < 1e-5, "step_parts: cross_entropy is wrong (error ", loss_error, ")");
  parts.push_back({"cross_entropy_train", classes, classes,
                   [=] { (void)grad(cross_entropy(logits, target), std::array{logits}); }, loss_error});

  const auto keys = std::make_shared<Rng>(2);
  const Tensor dropped = dropout(Var(values), 0.5f, keys->draw()).value();
  const double drop_error = error_of(
      "dropout", dropped, [&](std::int64_t b, std::int64_t c) { return dropped(b, c) == 0 ? 0 : 2 * at(b, c); });
  parts.push_back({"dropout", features, features,
                   [=] {
                     no_grad guard;
                     dropout(x, 0.5f, keys->draw());
                   },
                   drop_error});

  // 784-300-100-10 has 266200 weights.
  const auto model = std::make_shared<MaskedDeepFFN>(inputs, classes, std::vector<std::int64_t>{300, 100});
  const Var images(Tensor::normal({batch, inputs}, 0, 1, rng));
  backward(cross_entropy((*model)(images), target));
  const auto adam = std::make_shared<Adam>();
  const auto sgd = std::make_shared<SGD>(SGD{.lr = 1e-6, .momentum = 0.9});
  const std::int64_t weights = inputs * 300 + 300 * 100 + 100 * classes;
  parts.push_back({"adam", weights, 1, [=] { with_gradients(*model), adam->step(*model); }, 0});
  parts.push_back({"sgd_momentum", weights, 1, [=] { with_gradients(*model), sgd->step(*model); }, 0});
  parts.push_back({"clip_grad_norm", weights, 1, [=] { with_gradients(*model), clip_grad_norm(*model, 1e-3); }, 0});

  const std::int64_t samples = 20000;  // 63 MB: batches come from memory
  const Tensor data = Tensor::normal({samples, inputs}, 0, 1, rng);
  const auto set = std::make_shared<Samples<float>>(data);
  const auto order = std::make_shared<std::vector<std::int32_t>>(samples);
  for (std::int64_t i = 0; i < samples; ++i) (*order)[i] = static_cast<std::int32_t>(i * 7919 % samples);
  const auto out = std::make_shared<Tensor>();
  const auto next = std::make_shared<std::int64_t>(0);
  const auto gather = [=] {
    const std::int64_t first = *next;
    *next = (first + batch) % (samples - batch);
    set->gather(std::span<const std::int32_t>(*order).subspan(static_cast<std::size_t>(first), batch), *out);
  };
  gather();
  const double gather_error =
      error_of("gather", *out, [&](std::int64_t b, std::int64_t c) { return data((*order)[b], c); });
  parts.push_back({"gather_batch", inputs, inputs, gather, gather_error});
  return parts;
}

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"threads", "rounds", "json"});
  const auto threads = options.numbers("threads", "1,2", 1, 1024);
  const int rounds = options.number("rounds", "7", 1, 1000);
  std::vector<bench::Row> rows;
  for (const int count : threads) {
    set_num_threads(count);
    const std::vector<Part> parts = make_parts();
    std::vector<std::function<void()>> runs;
    for (const Part& part : parts) runs.push_back(part.run);
    const auto times = bench::take_turns(runs, rounds);
    for (std::size_t k = 0; k < parts.size(); ++k)
      rows.push_back({parts[k].name, "", "", batch, parts[k].in, parts[k].out, 1, count, times[k], 0, parts[k].error});
  }
  return bench::report(options, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(argc, argv, "usage: step_parts [--threads 1,2] [--rounds 7] [--json FILE]\n", run);
}
