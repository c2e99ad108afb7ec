// One training step of a MaskedDeepFFN, batch 128: forward, cross entropy, backward, Adam; and inference alone.
//
// The losses of the first steps are checked before anything is timed: against the reference in double precision that
// peers.py --make DIR leaves beside weights, masks and inputs, or, without a problem, packed against full storage.
#include "bench.hpp"

#include <deepstruct/deepstruct.hpp>
#include <deepstruct/nn/inference.hpp>
#include <deepstruct/train/formats.hpp>

#include <filesystem>
#include <sstream>

using namespace deepstruct;

namespace {

constexpr std::int64_t batch = 128, inputs = 784, classes = 10;
constexpr int batches_kept = 8, checked_steps = 3;
constexpr double tolerance = 2e-5;  // of the loss

/// Everything a step starts from, the same for each library.
struct Problem {
  std::vector<std::int64_t> widths;
  std::vector<Tensor> weight, bias, mask;  // one per layer
  std::vector<Tensor> x;                   // batches [128, 784]
  std::vector<Indices> y;                  // [128]
  std::vector<double> losses;              // of the first steps, empty if nobody computed them
};

/// 784-300-100-10 → {784, 300, 100, 10}
std::vector<std::int64_t> widths_of(const std::string& model) {
  std::vector<std::int64_t> widths;
  for (const char *at = model.data(), *end = at + model.size(); at < end; ++at) {
    std::int64_t width = 0;
    const auto [next, problem] = std::from_chars(at, end, width);
    check(problem == std::errc{} && width > 0 && (next == end || *next == '-'),
          "--model must be widths like 784-300-10 (", model, ")");
    widths.push_back(width);
    at = next;
  }
  check(widths.size() >= 3 && widths.front() == inputs && widths.back() == classes, "--model must go from ", inputs,
        " through hidden layers to ", classes, " (", model, ")");
  return widths;
}

Problem random_problem(const std::string& model, double density) {
  Rng rng(1);
  Problem p;
  p.widths = widths_of(model);
  for (std::size_t k = 0; k + 1 < p.widths.size(); ++k) {
    const std::int64_t in = p.widths[k], out = p.widths[k + 1];
    const float bound = static_cast<float>(std::sqrt(6 / (static_cast<double>(in) * density)));
    p.weight.push_back(Tensor::uniform({out, in}, -bound, bound, rng));
    p.bias.push_back(Tensor::uniform({out}, -0.1f, 0.1f, rng));
    p.mask.push_back(Mask::random(out, in, density, rng).to_dense());
  }
  for (int k = 0; k < batches_kept; ++k) {
    p.x.push_back(Tensor::normal({batch, inputs}, 0, 1, rng));
    Indices y = Indices::zeros({batch});
    for (std::int64_t i = 0; i < batch; ++i) y(i) = static_cast<std::int32_t>((7 * i + k) % classes);
    p.y.push_back(std::move(y));
  }
  return p;
}

Problem load_problem(const std::filesystem::path& folder, const std::string& model, double density) {
  const std::filesystem::path own = folder / model / bench::text(density);
  const auto file = [](const char* name, auto k) { return std::string(name) + "_" + std::to_string(k) + ".npy"; };
  Problem p;
  p.widths = widths_of(model);
  for (std::size_t k = 0; k + 1 < p.widths.size(); ++k) {
    p.weight.push_back(load_npy(own / file("weight", k)));
    p.bias.push_back(load_npy(own / file("bias", k)));
    p.mask.push_back(load_npy(own / file("mask", k)));
  }
  for (int k = 0; k < batches_kept; ++k) {
    p.x.push_back(load_npy(folder / file("x", k)));
    p.y.push_back(load_npy_indices(folder / file("y", k)));
  }
  load_npy(own / "losses.npy").for_each([&](std::int64_t, float loss) { p.losses.push_back(double{loss}); });
  check(p.losses.size() == checked_steps, "need ", checked_steps, " losses (", p.losses.size(), ")");
  return p;
}

/// A model with its optimizer, and the data it steps through.
class Training {
 public:
  Training(const Problem& problem, storage store)
      : problem_(problem), model_(inputs, classes, {problem.widths.begin() + 1, problem.widths.end() - 1}) {
    for (const Tensor& x : problem.x) x_.emplace_back(x);
    std::size_t k = 0;
    each<MaskedLinearLayer>(model_, [&](MaskedLinearLayer& layer) {
      layer.weight.set_value(problem.weight[k]);
      layer.bias->set_value(problem.bias[k]);
      layer.set_mask(problem.mask[k++]);
      if (store == storage::packed) layer.pack();
    });
  }
  /// What is timed. Returns the loss before the step, not yet read.
  Var step() {
    const std::size_t k = next_++ % problem_.x.size();
    const Var loss = cross_entropy(model_(x_[k]), problem_.y[k]);
    backward(loss);
    adam_.step(model_);
    return loss;
  }
  /// The model as it is now, made ready to answer.
  Inference inference() const { return Inference(model_, x_[0].value()); }
  /// Largest difference of what inference and the model say of x.
  double inference_error(const Var& x) const {
    no_grad guard;
    return double{amax(abs(inference()(x) - model_(x))).item()};
  }
  std::vector<double> first_losses() {
    std::vector<double> losses;
    for (int k = 0; k < checked_steps; ++k) losses.push_back(double{step().item()});
    return losses;
  }

 private:
  const Problem& problem_;
  std::vector<Var> x_;
  MaskedDeepFFN model_;
  Adam adam_;
  std::size_t next_ = 0;
};

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"problem", "model", "density", "storage", "threads", "repeats", "json"});
  const auto densities = options.numbers("density", "1,0.5,0.1,0.05,0.01", 1e-6, 1.0);
  const auto threads = options.numbers("threads", std::to_string(num_threads()), 1, 1024);
  const int repeats = options.number("repeats", "300", 1, 1000000);
  std::istringstream models(options.get("model", "784-300-100-10,784-1000-1000-10"));
  const std::string folder = options.get("problem", ""), only = options.get("storage", "");
  check(only.empty() || only == "full" || only == "packed", "--storage must be full or packed (", only, ")");

  std::cout << "deepstruct " << DEEPSTRUCT_VERSION_MAJOR << "." << DEEPSTRUCT_VERSION_MINOR << ", "
            << simd::name(simd::active()) << "\n";
  std::vector<bench::Row> rows;
  for (std::string model; std::getline(models, model, ',');)
    for (const int count : threads)
      for (const double density : densities) {
        set_num_threads(count);
        const Problem problem = folder.empty() ? random_problem(model, density) : load_problem(folder, model, density);
        const auto wanted = folder.empty() ? Training(problem, storage::full).first_losses() : problem.losses;
        for (const storage store : {storage::full, storage::packed}) {
          const std::string name = store == storage::full ? "full" : "packed";
          if (!only.empty() && only != name) continue;
          Training training(problem, store);
          const auto losses = training.first_losses();
          double error = 0;
          for (int k = 0; k < checked_steps; ++k) {
            error = std::max(error, std::abs(losses[k] - wanted[k]));
            check(std::abs(losses[k] - wanted[k]) <= tolerance * wanted[k], "wrong loss in step ", k + 1, " of ", model,
                  " at density ", density, ", ", name, " (", losses[k], ", expected ", wanted[k], ")");
          }
          const auto add = [&](const char* what, std::int64_t samples, const bench::Timing& time) {
            rows.push_back({what, model, name, samples, 0, 0, density, count, time, 0, error});
          };
          add("adam_step", batch, bench::measure([&] { training.step(); }, repeats));
          for (const std::int64_t samples : {batch, std::int64_t{1}}) {
            const Var x = narrow(problem.x[0], 0, 0, samples);
            const Inference inference = training.inference();
            const double off = training.inference_error(x);
            check(off <= 1e-4, "inference differs from the model by ", off, " (", model, ", density ", density, ")");
            add("inference", samples, bench::measure([&] { inference(x); }, 9, 0.05, 0.003));
          }
        }
      }
  return bench::report(options, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(
      argc, argv,
      "usage: adam_step [--model 784-300-100-10] [--density 1,0.5,0.1] [--storage full|packed] [--threads 1,2]\n       "
      "          [--repeats 300] [--problem DIR, from peers.py --make DIR] [--json FILE]\n",
      run);
}
