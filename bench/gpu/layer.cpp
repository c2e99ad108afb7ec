// Layers and networks as a program of the library has them, with Tensors, ops and optimizers on the device `cuda`,
// beside PyTorch. Usage: layer RESULT.json [PEER.txt]   (what layer_peer.py wrote). Wall-clock time, so launches count.
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/ops/loss.hpp>
#include <deepstruct/train/captured_step.hpp>
#include <deepstruct/train/optimizer.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

using namespace deepstruct;

namespace {

constexpr Device gpu = Device::cuda;

/// Median microseconds of a call, over 15 groups of 10.
double time_us(const std::function<void()>& call) {
  for (int k = 0; k < 5; ++k) call();
  finish(gpu);
  std::vector<double> us;
  for (int group = 0; group < 15; ++group) {
    const auto begin = std::chrono::steady_clock::now();
    for (int k = 0; k < 10; ++k) call();
    finish(gpu);
    us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count() / 10);
  }
  std::nth_element(us.begin(), us.begin() + 7, us.end());
  return us[7];
}

struct Peer {
  std::string of, name;
  double us;
};

/// The greatest difference between two tensors, relative to the greatest element of the second.
double difference(const Tensor& got, const Tensor& want) {
  double most = 0, error = 0;
  const std::vector<float> a = got.to_vector(), b = want.to_vector();
  for (std::size_t i = 0; i < b.size(); ++i) {
    most = std::max(most, std::fabs(double{b[i]}));
    error = std::max(error, std::fabs(double{a[i]} - double{b[i]}));
  }
  return most > 0 ? error / most : error;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || !cuda_available()) return 77;
  std::vector<Peer> peers;
  if (argc > 2) {
    std::ifstream in(argv[2]);
    for (Peer p; in >> p.of >> p.name >> p.us;) peers.push_back(p);
  }
  std::ofstream out(argv[1]);
  out << "[";
  bool first = true;
  const auto write = [&](const std::string& name, double us, double error, const std::string& more) {
    bool any = false;
    for (const Peer& p : peers) {
      if (p.of != name) continue;
      any = true;
      out << (first ? "\n" : ",\n") << "{\"case\": \"" << name << "\", " << more << "\"ours_us\": " << us
          << ", \"peer\": \"" << p.name << "\", \"peer_us\": " << p.us << ", \"ratio\": " << p.us / us
          << ", \"rel_err\": " << error << "}";
      std::printf("%-28s ours %9.1f us  %-24s %9.1f us  ratio %7.2f  error %.1e\n", name.c_str(), us, p.name.c_str(),
                  p.us, p.us / us, error);
      first = false;
    }
    if (any) return;
    out << (first ? "\n" : ",\n") << "{\"case\": \"" << name << "\", " << more << "\"ours_us\": " << us
        << ", \"rel_err\": " << error << "}";
    std::printf("%-28s ours %9.1f us  error %.1e\n", name.c_str(), us, error);
    first = false;
  };

  // A sparse layer forward and backward: x and all parameters get gradients.
  for (const std::int64_t size : {std::int64_t{1024}, std::int64_t{2048}})
    for (const std::int64_t batch : {std::int64_t{128}, std::int64_t{512}})
      for (const double sparsity : {0.9, 0.95, 0.99}) {
        Rng rng(1);
        const Mask mask = Mask::random(size, size, 1 - sparsity, rng);
        const Tensor values = Tensor::normal({mask.nnz()}, 0, 0.05f, rng), x = Tensor::normal({batch, size}, 0, 1, rng),
                     seed = Tensor::normal({batch, size}, 0, 1, rng), bias = Tensor::normal({size}, 0, 1, rng);
        const auto gradients = [&](Device device) {
          const Var in = variable(to(x, device)), w = variable(to(values, device)), b = variable(to(bias, device));
          return grad(sparse_linear(in, w, mask, b), {in, w, b}, {.seed = Var(to(seed, device))});
        };
        const Vars here = gradients(Device::cpu), there = gradients(gpu);
        double error = 0;
        for (std::size_t k = 0; k < here.size(); ++k)
          error = std::max(error, difference(there[k].value(), here[k].value()));
        const Var in = variable(to(x, gpu)), w = variable(to(values, gpu)), b = variable(to(bias, gpu)),
                  up = to(seed, gpu);
        const double us = time_us([&] { grad(sparse_linear(in, w, mask, b), {in, w, b}, {.seed = up}); });
        std::ostringstream name, more;
        name << "layer_" << size << "_" << batch << "_" << sparsity;
        more << "\"rows\": " << size << ", \"cols\": " << size << ", \"batch\": " << batch
             << ", \"sparsity\": " << sparsity << ", ";
        write(name.str(), us, error, more.str());
      }

  // A training step of 784-300-100-10 with Adam: dense, and packed with 5 % of the weights.
  for (const double sparsity : {0.0, 0.95}) {
    Rng rng(2);
    MaskedDeepFFN model(784, 10, {300, 100}, {}, rng);
    if (sparsity > 0) {
      each_masked(model, [&](auto& layer) {
        layer.set_mask(Mask::random(layer.mask().rows(), layer.mask().cols(), 1 - sparsity, rng));
      });
      model = pack(model);
    }
    const std::int64_t batch = 128;
    const Tensor x = Tensor::normal({batch, 784}, 0, 1, rng);
    std::vector<std::int32_t> labels;
    for (std::int64_t i = 0; i < batch; ++i) labels.push_back(static_cast<std::int32_t>(rng.below(10)));
    MaskedDeepFFN there = model;
    to(there, gpu);
    const Var in = to(x, gpu);
    const double error = difference(there(in).value(), model(x).value());
    Adam adam;
    std::ostringstream name, more;
    name << sparsity;
    more << "\"batch\": " << batch << ", \"sparsity\": " << sparsity << ", ";
    const double us = time_us([&] {
      backward(cross_entropy(there(in), labels));
      adam.step(there);
    });
    write("ffn_step_" + name.str(), us, error, more.str());
    // The same captured, its batch copied from the host each time.
    const Indices target = Indices::from({batch}, labels);
    CapturedStep step(there, [&](const Tensor& images, const Indices& right) {
      const Var loss = cross_entropy(there(images), right);
      backward(loss);
      return loss;
    });
    const double captured = time_us([&] {
      step(x, target);
      adam.step(there);
    });
    clear_grad(there);
    const double loss = double{cross_entropy(there(in), labels).item()};
    write("ffn_captured_" + name.str(), captured,
          std::fabs(double{step(x, target).item()} - loss) / std::max(loss, 1e-30), more.str());
  }
  out << "\n]\n";
  return 0;
}
