// What it costs to decide which weights go: every criterion on 784-300-100-10, against a training step with a batch of
// 128; and surgery and second derivatives by the clock, for which there are limits.
//
// Data is drawn at random: what a criterion takes does not depend on it. That as many weights stay as were asked for,
// and that all are finite, is checked: of criteria before they are timed, of surgery on what was timed.
#include "bench.hpp"

#include <deepstruct/deepstruct.hpp>
#include <deepstruct/prune.hpp>

using namespace deepstruct;

namespace {

/// Batches of normal inputs of all classes in turn.
std::vector<Batch> samples(std::int64_t n, std::int64_t batch, std::int64_t inputs, Rng& rng) {
  std::vector<Batch> all;
  for (std::int64_t k = 0; k < n; k += batch) {
    Batch b{Tensor::normal({batch, inputs}, 0, 1, rng), Indices::zeros({batch})};
    for (std::int64_t i = 0; i < batch; ++i) b.y(i) = static_cast<std::int32_t>(i % 10);
    all.push_back(std::move(b));
  }
  return all;
}

/// Throws unless so many weights are left, all of them finite.
void check_pruned(const std::string& name, const MaskedDeepFFN& pruned, std::int64_t left) {
  check(get_network_weight_count(pruned) == left, name, ": ", get_network_weight_count(pruned),
        " weights are left (expected ", left, ")");
  each_param(pruned, [&](const Param& p) {
    for (const float v : p.value().to_vector()) check(std::isfinite(v), name, ": a weight is not finite (", v, ")");
  });
}

bench::Row row(const std::string& name, const std::string& model, std::int64_t batch, double density,
               bench::Timing time) {
  return {name, model, "full", batch, 0, 0, density, num_threads(), time};
}

/// Criteria that look at a batch or at none, in turn with a training step.
void first_order(std::vector<bench::Row>& rows, int rounds) {
  Rng rng(1);
  const MaskedDeepFFN model(784, 10, {300, 100}, {}, rng);
  const auto data = samples(128, 128, 784, rng);
  const Shape example{1, 784};
  MaskedDeepFFN trained = model;
  Adam adam;
  const std::vector<std::pair<std::string, std::function<void(MaskedDeepFFN&)>>> criteria{
      {"magnitude", [](auto& m) { set_magnitude_saliency(m); }},
      {"lamp", [](auto& m) { set_lamp_saliency(m); }},
      {"taylor", [&](auto& m) { set_taylor_saliency(m, data); }},
      {"snip", [&](auto& m) { set_snip_saliency(m, data); }},
      {"grasp", [&](auto& m) { set_grasp_saliency(m, data); }},
      {"fisher", [&](auto& m) { set_fisher_saliency(m, data); }},
      {"wanda", [&](auto& m) { set_wanda_saliency(m, data); }},
      {"synflow_round", [&](auto& m) { set_synflow_saliency(m, example); }},
      {"obd_gauss_newton", [&](auto& m) { set_obd_saliency(m, data, {}, {.curvature = Curvature::gauss_newton}); }},
      {"obd_hutchinson",
       [&](auto& m) {
         set_obd_saliency(m, data, CrossEntropy{}, {.curvature = Curvature::hutchinson, .probes = 1}, rng);
       }},
      {"obd_layerwise", [&](auto& m) { set_obd_saliency(m, data, {}, {.curvature = Curvature::layerwise}); }}};
  const std::int64_t left = 26620;
  std::vector<MaskedDeepFFN> models(criteria.size(), model);
  std::vector<std::string> names{"training_step"};
  std::vector<std::function<void()>> runs{[&] {
    backward(cross_entropy(trained(Var(data[0].x)), data[0].y));
    adam.step(trained);
  }};
  for (std::size_t k = 0; k < criteria.size(); ++k) {
    const auto& [name, set] = criteria[k];
    MaskedDeepFFN pruned = model;
    prune(pruned, set, remaining(left), {.exact = true});
    check_pruned(name, pruned, left);
    names.push_back(name);
    runs.push_back([&models, &criteria, k] { criteria[k].second(models[k]); });
  }
  const auto by_synflow = [&] {
    MaskedDeepFFN m = model;
    synflow(m, remaining(left), example);
    return m;
  };
  check_pruned("synflow_100", by_synflow(), left);
  names.push_back("synflow_100");
  runs.push_back([&] { by_synflow(); });
  const auto times = bench::take_turns(runs, rounds);
  std::cout << num_threads() << " threads, in training steps of " << bench::text(times[0].median) << " us:\n";
  for (std::size_t k = 0; k < times.size(); ++k) {
    rows.push_back(row(names[k], "784-300-100-10", 128, 1, times[k]));
    std::cout << "  " << std::left << std::setw(28) << names[k] << std::fixed << std::setprecision(2)
              << times[k].median / times[0].median << "\n";
  }
  std::cout.unsetf(std::ios::fixed);
}

/// Surgery that makes up for what goes, over so many samples, and all second derivatives of a small network.
void second_order(std::vector<bench::Row>& rows, std::int64_t n, int repeats) {
  Rng rng(2);
  const MaskedDeepFFN model(784, 10, {300, 100}, {}, rng), little(64, 10, {32}, {}, rng);
  const auto data = samples(n, 500, 784, rng), few = samples(1000, 500, 64, rng);
  const auto timed = [&](const std::string& name, const MaskedDeepFFN& start, const std::string& shape,
                         std::int64_t count, const std::function<void(MaskedDeepFFN&)>& prune) {
    std::int64_t left = 0;
    each_masked(start, [&](const auto& layer) { left += layer.mask().nnz() - layer.mask().nnz() / 2; });
    std::vector<double> us;
    for (int k = 0; k < repeats; ++k) {
      MaskedDeepFFN m = start;
      us.push_back(bench::microseconds([&] { prune(m); }));
      check_pruned(name, m, left);
    }
    rows.push_back(row(name, shape, count, 0.5, bench::timing_of(us)));
    std::cout << name << ", " << shape << ", " << count << " samples: " << bench::text(rows.back().time.median / 1e6)
              << " s\n";
  };
  timed("obs_layerwise", model, "784-300-100-10", n,
        [&](auto& m) { optimal_brain_surgeon_layer_wise(m, data, percentage(50)); });
  timed("obc", model, "784-300-100-10", n, [&](auto& m) { optimal_brain_compression(m, data, percentage(50)); });
  timed("obd_exact", little, "64-32-10", 1000, [&](auto& m) {
    optimal_brain_damage(m, few, absolute(get_network_weight_count(m) / 2), {}, {}, {.exact = true});
  });
}

int run(int argc, char** argv) {
  const bench::Options options(argc, argv, {"threads", "rounds", "samples", "repeats", "json"});
  const auto threads = options.numbers("threads", "1,2", 1, 1024);
  const int rounds = options.number("rounds", "11", 1, 1000000), repeats = options.number("repeats", "3", 0, 1000);
  const auto n = options.number<std::int64_t>("samples", "60000", 500, 100000000);
  std::vector<bench::Row> rows;
  for (const int count : threads) {
    set_num_threads(count);
    first_order(rows, rounds);
    if (repeats > 0) second_order(rows, n, repeats);
  }
  return bench::report(options, rows);
}

}  // namespace

int main(int argc, char** argv) {
  return bench::program(argc, argv,
                        "usage: criteria [--threads 1,2] [--rounds 11] [--samples 60000] [--repeats 3] [--json FILE]\n"
                        "--repeats 0 leaves surgery out\n",
                        run);
}
