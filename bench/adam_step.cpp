// One training step of MaskedDeepFFN 784-300-100-10, batch 128: forward, cross entropy, backward, Adam.
//
// The losses of the first steps are checked before anything is timed: against the reference in double precision that
// adam_step_peer.py --make DIR leaves beside weights, masks and inputs, or, without a problem, packed against full
// storage.
#include "bench.hpp"

#include <deepstruct/deepstruct.hpp>
#include <deepstruct/train/formats.hpp>

#include <filesystem>

using namespace deepstruct;

namespace {

constexpr std::int64_t widths[] = {784, 300, 100, 10};
constexpr std::int64_t batch = 128;
constexpr int layers = 3, batches_kept = 8, checked_steps = 3;
constexpr double tolerance = 2e-5;  // of the loss

/// Everything a step starts from, the same for each library.
struct Problem {
  std::vector<Tensor> weight, bias, mask;  // one per layer
  std::vector<Tensor> x;                   // batches [128, 784]
  std::vector<Indices> y;                  // [128]
  std::vector<double> losses;              // of the first steps, empty if nobody computed them
};

Problem random_problem(double density) {
  Rng rng(1);
  Problem p;
  for (int k = 0; k < layers; ++k) {
    const std::int64_t in = widths[k], out = widths[k + 1];
    const float bound = static_cast<float>(std::sqrt(6 / (static_cast<double>(in) * density)));
    p.weight.push_back(Tensor::uniform({out, in}, -bound, bound, rng));
    p.bias.push_back(Tensor::uniform({out}, -0.1f, 0.1f, rng));
    p.mask.push_back(Mask::random(out, in, density, rng).to_dense());
  }
  for (int k = 0; k < batches_kept; ++k) {
    p.x.push_back(Tensor::normal({batch, widths[0]}, 0, 1, rng));
    Indices y = Indices::zeros({batch});
    for (std::int64_t i = 0; i < batch; ++i) y(i) = static_cast<std::int32_t>((7 * i + k) % widths[layers]);
    p.y.push_back(std::move(y));
  }
  return p;
}

Problem load_problem(const std::filesystem::path& folder, double density) {
  const std::filesystem::path own = folder / bench::text(density);
  const auto file = [](const char* name, int k) { return std::string(name) + "_" + std::to_string(k) + ".npy"; };
  Problem p;
  for (int k = 0; k < layers; ++k) {
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
      : problem_(problem), model_(widths[0], widths[3], {widths[1], widths[2]}) {
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
    const Var loss = cross_entropy(model_(problem_.x[k]), problem_.y[k]);
    backward(loss);
    adam_.step(model_);
    return loss;
  }
  std::vector<double> first_losses() {
    std::vector<double> losses;
    for (int k = 0; k < checked_steps; ++k) losses.push_back(double{step().item()});
    return losses;
  }

 private:
  const Problem& problem_;
  MaskedDeepFFN model_;
  Adam adam_;
  std::size_t next_ = 0;
};

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"problem", "density", "storage", "threads", "repeats", "json"});
  const auto densities = options.numbers("density", "1,0.5,0.1,0.05,0.01", 1e-6, 1.0);
  const auto threads = options.numbers("threads", std::to_string(num_threads()), 1, 1024);
  const int repeats = options.number("repeats", "300", 1, 1000000);
  const std::string folder = options.get("problem", ""), only = options.get("storage", "");
  check(only.empty() || only == "full" || only == "packed", "--storage must be full or packed (", only, ")");

  std::cout << "deepstruct " << DEEPSTRUCT_VERSION_MAJOR << "." << DEEPSTRUCT_VERSION_MINOR << ", "
            << simd::name(simd::active()) << "\n";
  std::vector<bench::Row> rows;
  for (const int count : threads) {
    set_num_threads(count);
    for (const double density : densities) {
      const Problem problem = folder.empty() ? random_problem(density) : load_problem(folder, density);
      const auto wanted = folder.empty() ? Training(problem, storage::full).first_losses() : problem.losses;
      for (const storage store : {storage::full, storage::packed}) {
        const std::string name = store == storage::full ? "full" : "packed";
        if (!only.empty() && only != name) continue;
        Training training(problem, store);
        const auto losses = training.first_losses();
        double error = 0;
        for (int k = 0; k < checked_steps; ++k) {
          error = std::max(error, std::abs(losses[k] - wanted[k]));
          check(std::abs(losses[k] - wanted[k]) <= tolerance * wanted[k], "wrong loss in step ", k + 1, " at density ",
                density, ", ", name, " (", losses[k], ", expected ", wanted[k], ")");
        }
        const bench::Timing time = bench::measure([&] { training.step(); }, repeats);
        rows.push_back({"adam_step", "784-300-100-10", name, batch, density, count, time, error});
      }
    }
  }
  bench::print(std::cout, rows);
  if (const std::string json = options.get("json", ""); !json.empty()) bench::write_json(json, rows);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    std::cout << "usage: adam_step [--density 1,0.5,0.1] [--storage full|packed] [--threads 1,2] [--repeats 300]\n"
              << "                 [--problem DIR, from adam_step_peer.py --make DIR] [--json FILE]\n";
    return 0;
  }
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "adam_step: " << error.what() << std::endl;
    return 2;
  }
}
