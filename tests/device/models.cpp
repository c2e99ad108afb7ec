// Whole models on a GPU beside the same models on the CPU: training, pruning, files, graphs, answers.
#include <deepstruct/autograd/gradcheck.hpp>
#include <deepstruct/deepstruct.hpp>
#include <deepstruct/graph.hpp>
#include <deepstruct/images.hpp>
#include <deepstruct/nn/inference.hpp>
#include <deepstruct/prune/sparsity_controller.hpp>
#include <deepstruct/transform/compact.hpp>
#include <deepstruct/transform/graph_transform.hpp>

#include "beside_cpu.hpp"
#include "support/cases.hpp"

using namespace deepstruct;
using test::gpu;
using test::require_error;
using test::require_near;
using test::require_same_parameters;

namespace {

Dataset blobs(std::int64_t n, std::int64_t features, std::int64_t classes, const Shape& shape) {
  Rng rng(5);
  Tensor x = Tensor::normal({n, features}, 0, 0.5f, rng);
  Indices y = Indices::empty({n});
  for (std::int64_t i = 0; i < n; ++i) {
    y(i) = static_cast<std::int32_t>(i % classes);
    x(i, i % classes) += 2;
  }
  return {reshape(x, shape).value(), y, classes};
}
/// Trains both for some steps and compares losses and parameters.
template <class M, class Optimizer>
void train_both(M here, Optimizer optimizer, const Dataset& data, float tolerance = 2e-4f) {
  M there = here;
  to(there, gpu);
  REQUIRE(device_of(there) == gpu);
  Optimizer same = optimizer;
  std::vector<double> losses[2];
  Rng first(1), second(1);
  FitOptions options{.epochs = 2, .batch_size = 16};
  options.on_step = [&](const Progress& p) { losses[0].push_back(p.loss); };
  fit(here, optimizer, data, first, options);
  options.on_step = [&](const Progress& p) { losses[1].push_back(p.loss); };
  fit(there, same, data, second, options);
  REQUIRE(losses[0].size() == losses[1].size());
  for (std::size_t k = 0; k < losses[0].size(); ++k) REQUIRE(std::fabs(losses[0][k] - losses[1][k]) < 1e-3);
  require_same_parameters(there, here, tolerance);
  const Evaluation a = evaluate(here, data), b = evaluate(there, data);
  REQUIRE(std::fabs(a.loss - b.loss) < 1e-3);
  REQUIRE(a.accuracy == b.accuracy);
}

/// The convolution has no bias: batch norm takes it away, and Adam would step by the rounding errors of its gradient.
struct SmallConvNet {
  MaskedConv2d conv;
  BatchNorm2d norm;
  MaskedLinearLayer out;
  explicit SmallConvNet(Rng& rng)
      : conv(1, 3, std::array<std::int64_t, 2>{3, 3}, {.bias = false}, rng), norm(3), out(3 * 2 * 2, 3, rng) {}
  Var operator()(const Var& x) const {
    return out(flatten(avg_pool2d(max_pool2d(relu(norm(conv(x))), {.kernel = {2, 2}}), {.kernel = {1, 1}})));
  }
  static auto fields(auto& m) { return std::tuple{Field{"conv", m.conv}, Field{"norm", m.norm}, Field{"out", m.out}}; }
};

}  // namespace

TEST_CASE("A MaskedDeepFFN trains on a GPU as on the CPU, dense, masked and packed") {
  const Dataset data = blobs(40, 12, 3, {40, 12});
  Rng rng(2);
  MaskedDeepFFN model(12, 3, {9, 8}, {}, rng);
  train_both(model, Adam{.lr = 0.01}, data);
  prune_network_by_saliency(model, percentage(60));
  train_both(model, SGD{.lr = 0.1, .momentum = 0.9}, data);
  train_both(pack(model), AdamW{.lr = 0.01}, data);
  train_both(pack(model), RMSprop{.lr = 0.01, .momentum = 0.5, .centered = true}, data, 5e-4f);
  train_both(pack(model), Adagrad{.lr = 0.05}, data);
}

TEST_CASE("A MaskedDeepDAN trains on a GPU as on the CPU, by branches and joint, in both storages") {
  const Dataset data = blobs(33, 6, 3, {33, 6});
  Rng rng(4);
  const LayeredGraph graph = LayeredGraph::load_from(watts_strogatz_graph(14, 4, 0.3, rng), Orientation::random, rng);
  for (const bool joint : {false, true})
    for (const storage store : {storage::full, storage::packed}) {
      if (joint && store == storage::full) continue;  // there is none
      Rng own(7);
      MaskedDeepDAN model(6, 3, graph, {.store = store, .joint = joint}, own);
      train_both(model, Adam{.lr = 0.01}, data);
    }
}

TEST_CASE("A DAG with more vertices than a multiprocessor has memory for") {
  // 227 KiB hold two samples of some 29000 sums.
  const std::int32_t inputs = 5, layer = 9000, outputs = 3, vertices = inputs + 2 * layer + outputs;
  Rng rng(9);
  for (const bool joint : {true, false}) {
    auto wiring = std::make_shared<DagWiring>();
    wiring->inputs = inputs, wiring->vertices = vertices;
    std::vector<std::int32_t> start{0}, col;
    if (!joint) wiring->row_start.push_back(0);
    for (std::int32_t v = inputs; v < vertices; ++v) {
      const std::int32_t from = v < inputs + layer       ? 0
                                : v < inputs + 2 * layer ? inputs
                                                         : inputs + layer,
                         count = v < inputs + layer ? inputs : layer;
      std::int32_t last = -1;
      for (int k = 0; k < 3; ++k) {
        const std::int32_t next = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(count)));
        if (from + next > last) col.push_back(last = from + next);
      }
      start.push_back(static_cast<std::int32_t>(col.size()));
      if (!joint && v >= inputs + layer) {  // a skip connection, as a branch of its own
        col.push_back(v % inputs);
        start.push_back(static_cast<std::int32_t>(col.size()));
      }
      if (!joint) wiring->row_start.push_back(static_cast<std::int32_t>(start.size()) - 1);
      if (v >= vertices - outputs) wiring->output.push_back(v);
    }
    const auto rows = static_cast<std::int64_t>(start.size()) - 1;
    const Mask mask = Mask::from_csr(rows, vertices, start, col);
    const Tensor x = Tensor::normal({3, inputs}, 0, 1, rng), values = Tensor::normal({mask.nnz()}, 0, 1, rng),
                 bias = Tensor::normal({rows}, 0, 0.5f, rng), seed = Tensor::normal({3, outputs}, 0, 1, rng);
    const auto results = [&](Device device) {
      const Var in = variable(to(x, device)), w = variable(to(values, device)), b = variable(to(bias, device));
      const Var y = layered_dag(in, w, b, mask, wiring);
      Vars all = grad(y, {in, w, b}, {.seed = Var(to(seed, device))});
      all.push_back(y);
      return all;
    };
    const Vars here = results(Device::cpu), there = results(gpu);
    for (std::size_t k = 0; k < here.size(); ++k) require_near(there[k].value(), here[k].value(), 1e-4f);
  }
}

TEST_CASE("Images train on a GPU as on the CPU") {
  const Dataset data = blobs(34, 36, 3, {34, 1, 6, 6});
  Rng rng(8);
  SmallConvNet model(rng);
  train_both(model, Adam{.lr = 0.01}, data, 1e-3f);
  prune_network_by_saliency(model, percentage(50));
  train_both(pack(model), Adam{.lr = 0.01}, data, 1e-3f);
}

TEST_CASE("Pruning, packing and rewiring on a GPU give the masks and values of the CPU") {
  Rng rng(3);
  MaskedDeepFFN here(20, 4, {16, 12}, {}, rng), there = here;
  to(there, gpu);
  for (const double share : {0.3, 0.5}) {
    prune_network_by_saliency(here, percentage(100 * share), {.exact = true});
    prune_network_by_saliency(there, percentage(100 * share), {.exact = true});
    REQUIRE(test::masks_of(there) == test::masks_of(here));
  }
  MaskedDeepFFN packed_here = pack(here), packed_there = pack(there);
  REQUIRE(device_of(packed_there) == gpu);
  require_same_parameters(packed_there, packed_here, 0);
  prune_network_by_saliency(packed_here, percentage(50));
  prune_network_by_saliency(packed_there, percentage(50));
  require_same_parameters(packed_there, packed_here, 0);
  require_same_parameters(unpack(packed_there), unpack(packed_here), 0);
  apply_mask(here), apply_mask(there);
  require_same_parameters(there, here, 0);
  recompute_mask(there, 0.05f), recompute_mask(here, 0.05f);
  require_same_parameters(there, here, 0);
  Rng r1(9), r2(9);
  reset_parameters(here, r1), reset_parameters(there, r2);
  require_same_parameters(there, here, 0);
}

TEST_CASE("Masks that are soft, learned or frozen work on a GPU") {
  const Dataset data = blobs(24, 8, 3, {24, 8});
  Rng rng(6);
  MaskedLinearLayer learned(8, 3, {.learnable_mask = true}, rng), frozen(8, 3, {.freeze_masked = true}, rng);
  frozen.set_mask(Mask::random(3, 8, 0.5, rng));
  train_both(learned, Adam{.lr = 0.05}, data);
  train_both(frozen, Adam{.lr = 0.05}, data);
  MaskedLinearLayer soft(8, 3, rng);
  Tensor factors = Tensor::full({3, 8}, 0.5f);
  factors(1, 2) = 0;
  to(soft, gpu);
  soft.set_soft_mask(factors);
  REQUIRE(soft.mask().nnz() == 23);
  REQUIRE(soft(to(Tensor::ones({2, 8}), gpu)).device() == gpu);
  learned.alphas().move_to(gpu);
  REQUIRE(learned.mask().rows() == 3);
}

TEST_CASE("A MaskedDeepDAN on a GPU packs, unpacks and draws anew there") {
  Rng rng(4);
  const LayeredGraph graph = LayeredGraph::load_from(watts_strogatz_graph(14, 4, 0.3, rng), Orientation::random, rng);
  MaskedDeepDAN here(6, 3, graph, {}, rng), there = here;
  to(there, gpu);
  here.unpack(), there.unpack();
  require_same_parameters(there, here, 0);
  here.pack(), there.pack();
  require_same_parameters(there, here, 0);
  Rng first(3), second(3);
  here.draw_initial_values(first), there.draw_initial_values(second);
  require_same_parameters(there, here, 0);
  const Tensor x = Tensor::normal({5, 6}, 0, 1, rng);
  require_near(there(to(x, gpu)).value(), here(x).value(), 1e-5f);
}

TEST_CASE("Dropout drops the same elements on a GPU") {
  Rng rng(2);
  const Tensor x = Tensor::ones({37, 9});
  const Draw draw = rng.draw();
  REQUIRE(dropout(to(x, gpu), 0.4f, draw).value() == dropout(x, 0.4f, draw).value());
}

TEST_CASE("A model on a GPU is a graph, and smaller, as on the CPU") {
  Rng rng(5);
  MaskedDeepFFN here(10, 3, {8}, {}, rng);
  prune_network_by_saliency(here, percentage(90));
  MaskedDeepFFN there = here;
  to(there, gpu);
  REQUIRE(to_graph(there) == to_graph(here));
  const auto a = compact(here, {1, 10}), b = compact(there, {1, 10});
  REQUIRE(device_of(b.model) == gpu);
  require_same_parameters(b.model, a.model, 0);
}

TEST_CASE("Inference on a GPU answers as the model does") {
  Rng rng(5);
  MaskedDeepFFN model(10, 3, {8, 7}, {}, rng);
  prune_network_by_saliency(model, percentage(50));
  const Tensor x = Tensor::normal({70, 10}, 0, 1, rng);
  const Tensor want = pack(model)(x).value();
  to(model, gpu);
  const Inference answer(pack(model), to(Tensor::ones({1, 10}), gpu));
  require_near(answer(to(x, gpu)).value(), want, 1e-5f);
  require_near(answer(to(Tensor::ones({1, 10}), gpu)).value(), model(to(Tensor::ones({1, 10}), gpu)).value(), 1e-5f);
  require_error([&] { model(x); }, {"different devices"});
}

TEST_CASE("Gates of learnable masks are the same on a GPU, and learn there") {
  Rng rng(14);
  const Tensor alphas = Tensor::normal({7, 5, 2}, 0, 2, rng);
  const Draw draw = rng.draw();
  const auto same = [&](const GradcheckFunction& f) {
    Rng point(3);
    const Var here = variable(alphas), there = variable(to(alphas, gpu)), u = Tensor::normal({7, 5}, 0, 1, point);
    const Var on_cpu = f(std::vector<Var>{here}), on_gpu = f(std::vector<Var>{there});
    REQUIRE(on_gpu.device() == gpu);
    require_near(on_gpu.value(), on_cpu.value(), 1e-5f);
    backward(sum(mul(on_cpu, u)));
    backward(sum(mul(on_gpu, to(u, gpu))));
    require_near(there.grad(), here.grad(), 1e-5f);
  };
  same([](std::span<const Var> a) { return straight_through_gate(a[0]); });
  same([&](std::span<const Var> a) { return gumbel_gate(a[0], 0.5f, draw); });
  same([&](std::span<const Var> a) { return gumbel_gate(a[0], 0.5f, draw, true); });
  same([&](std::span<const Var> a) { return hard_concrete_gate(a[0], 0.5f, draw); });
  same([](std::span<const Var> a) { return hard_concrete_final_gate(a[0]); });
  same([](std::span<const Var> a) { return open_probability(a[0], MaskGradient::hard_concrete, 0.5f); });

  for (const MaskGradient kind : {MaskGradient::gumbel_softmax, MaskGradient::hard_concrete}) {
    MaskedLinearLayer here(8, 3, {.learnable_mask = true, .gradient = kind}, rng), there = here;
    to(there, gpu);
    SparsityController left{.target = 0.5}, right = left;
    Adam first{.lr = 0.05}, second = first;
    const Tensor x = Tensor::normal({6, 8}, 0, 1, rng);
    for (int k = 0; k < 4; ++k) {
      manual_seed(static_cast<std::uint64_t>(k));
      backward(sum(square(here(x))) + left.penalty(here));
      manual_seed(static_cast<std::uint64_t>(k));
      backward(sum(square(there(to(x, gpu)))) + right.penalty(there));
      first.step(here), second.step(there);
      left.step(here), right.step(there);
    }
    require_same_parameters(there, here, 1e-4f);
    REQUIRE(left.finish(here).after() == 12);
    REQUIRE(right.finish(there).after() == 12);
    REQUIRE(there.mask() == here.mask());
    set_training(here, false), set_training(there, false);
    const Tensor want = here(x).value();
    harden(there);
    REQUIRE(there.weight.device() == gpu);
    require_near(there(to(x, gpu)).value(), want, 1e-4f);
  }
}
