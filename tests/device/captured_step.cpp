// Steps that a GPU repeats by one launch: the same bits as the steps themselves, whatever is drawn, pruned or moved in
// between, and errors where a step cannot be repeated.
#include <deepstruct/deepstruct.hpp>
#include <deepstruct/graph.hpp>
#include <deepstruct/images.hpp>
#include <deepstruct/prune.hpp>

#include <type_traits>

#include "beside_cpu.hpp"
#include "support/cases.hpp"

using namespace deepstruct;
using test::gpu;
using test::require_error;
using test::require_near;

namespace {

/// A few batches of random images of three kinds.
struct Batches {
  std::vector<Tensor> x;
  std::vector<Indices> y;
};
Batches some_batches(const Shape& shape, int count, std::int32_t classes = 3) {
  Rng rng(11);
  Batches all;
  for (int k = 0; k < count; ++k) {
    all.x.push_back(Tensor::normal(shape, 0, 1, rng));
    Indices y = Indices::empty({shape[0]});
    y.for_each([&](std::int64_t, std::int32_t& label) {
      label = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(classes)));
    });
    all.y.push_back(std::move(y));
  }
  return all;
}

template <class M>
void require_same_state(const M& a, const M& b) {
  std::vector<std::vector<float>> of_a, of_b;
  const auto take = [](std::vector<std::vector<float>>& to) {
    return [&to](const Param& p) {
      to.push_back(p.value().to_vector());
      for (const Param::Slot& s : p.slots()) to.push_back(s.value.to_vector());
    };
  };
  each_param(a, take(of_a));
  each_param(b, take(of_b));
  each<Tensor>(a, [&](const Tensor& t) { of_a.push_back(t.to_vector()); });
  each<Tensor>(b, [&](const Tensor& t) { of_b.push_back(t.to_vector()); });
  REQUIRE(of_a == of_b);
}

/// Trains two copies on a GPU, one captured, with a rate that changes; between steps `change` does something to both.
/// All bits must be the same, of losses, outputs, parameters, moments and buffers. How many steps were captured.
template <class M, class Change>
int train_captured(const M& model, const Batches& data, Change&& change, ClassLossOptions options = {}) {
  M plain = model, repeated = model;
  to(plain, gpu), to(repeated, gpu);
  set_training(plain, true), set_training(repeated, true);
  Adam plain_adam, repeated_adam;
  Rng plain_rng(5), repeated_rng(5);
  const auto pass = [&](M& net, const Tensor& x, const Indices& y) {
    const Var logits = net(x), loss = cross_entropy(logits, y, options);
    backward(loss);
    return std::pair(logits, loss);
  };
  CapturedStep step(repeated, [&](const Tensor& x, const Indices& y) { return pass(repeated, x, y); });
  int captured = 0;
  for (std::size_t k = 0; k < data.x.size(); ++k) {
    INFO("step " << k);
    default_rng() = plain_rng;
    const auto [logits, loss] = pass(plain, to(data.x[k], gpu), data.y[k]);
    plain_rng = default_rng();
    default_rng() = repeated_rng;
    const auto [other_logits, other_loss] = step(data.x[k], data.y[k]);
    repeated_rng = default_rng();
    captured += step.captured();
    REQUIRE(other_loss.item() == loss.item());
    REQUIRE(other_logits.value() == logits.value());
    REQUIRE(repeated_rng == plain_rng);
    plain_adam.lr = repeated_adam.lr = 0.01 / static_cast<double>(k + 1);
    if (k % 2 == 1) REQUIRE(clip_grad_norm(plain, 0.05) == clip_grad_norm(repeated, 0.05));
    plain_adam.step(plain);
    repeated_adam.step(repeated);
    require_same_state(plain, repeated);
    change(static_cast<int>(k), plain, repeated);
  }
  return captured;
}
struct ConvStep {
  MaskedConv2d conv;
  BatchNorm2d norm;
  MaskedLinearLayer out;
  explicit ConvStep(Rng& rng)
      : conv(1, 3, std::array<std::int64_t, 2>{3, 3}, {}, rng), norm(3), out(3 * 2 * 2, 3, rng) {}
  Var operator()(const Var& x) const { return out(flatten(max_pool2d(relu(norm(conv(x))), {.kernel = {2, 2}}))); }
  static auto fields(auto& m) { return std::tuple{Field{"conv", m.conv}, Field{"norm", m.norm}, Field{"out", m.out}}; }
};
constexpr auto nothing = [](int, auto&, auto&) {};

}  // namespace

TEST_CASE("A captured step has the bits of the step itself: masked, packed, with drops and norms") {
  const Batches data = some_batches({9, 6}, 6);
  for (const storage store : {storage::full, storage::packed}) {
    Rng rng(1);
    MaskedDeepFFN model(6, 3, {8, 7}, {.use_layer_norm = true, .store = store}, rng);
    each_masked(model,
                [&](auto& layer) { layer.set_mask(Mask::random(layer.mask().rows(), layer.mask().cols(), 0.5, rng)); });
    REQUIRE(train_captured(model, data, nothing) == 5);
    REQUIRE(train_captured(Sequential(model, Dropout(0.3f)), data, nothing) == 5);
  }
}

TEST_CASE("A captured step of images keeps its running statistics") {
  Rng rng(2);
  const ConvStep model(rng);
  REQUIRE(train_captured(model, some_batches({5, 1, 6, 6}, 4), nothing) == 3);
}

TEST_CASE("A captured step of a DAG, with weights of classes and smooth labels") {
  Rng rng(3);
  const LayeredGraph graph = LayeredGraph::load_from(watts_strogatz_graph(12, 4, 0.3, rng), Orientation::random, rng);
  const Batches data = some_batches({8, 6}, 4);
  for (const storage store : {storage::full, storage::packed}) {
    const MaskedDeepDAN model(6, 3, graph, {.store = store}, rng);
    const ClassLossOptions smooth{
        .weight = Tensor::from({3}, {1, 2, 0.5f}), .ignore_index = 1, .label_smoothing = 0.2f};
    REQUIRE(train_captured(model, data, nothing, smooth) == 3);
    REQUIRE(train_captured(model, data, nothing, {.reduction = Reduction::sum}) == 3);
  }
}

TEST_CASE("A captured step notices what was pruned, moved, or left behind, and begins anew") {
  Rng rng(4);
  const MaskedDeepFFN model(6, 3, {8}, {.store = storage::packed}, rng);
  // Steps 0 and 1 run and are captured; pruned after 2; 3 runs, 4 is captured; packed anew after 5.
  REQUIRE(train_captured(model, some_batches({7, 6}, 8), [](int k, auto& plain, auto& repeated) {
            for (auto* net : {&plain, &repeated}) {
              if (k == 2) prune(*net, Magnitude{}, percentage(0.3));
              if (k == 5) to(to(*net, Device::cpu), gpu);
            }
          }) == 2 + 2 + 1);
}

TEST_CASE("Batches of another size are not captured, and those of the size that is go on") {
  Batches data = some_batches({6, 6}, 6);
  const Batches few = some_batches({4, 6}, 1);
  data.x[3] = few.x[0], data.y[3] = few.y[0];
  Rng rng(5);
  REQUIRE(train_captured(MaskedDeepFFN(6, 3, {8}, {}, rng), data, nothing) == 5);  // it stays captured in between
}

TEST_CASE("Gradients add up in a captured step as they do in the step") {
  Rng rng(6);
  Linear plain(4, 3, rng);
  Linear repeated = plain;
  to(plain, gpu), to(repeated, gpu);
  const Batches data = some_batches({5, 4}, 8);
  const auto pass = [](const Linear& net, const Tensor& x, const Indices& y) {
    const Var loss = cross_entropy(net(x), y);
    backward(loss);
    return loss;
  };
  CapturedStep step(repeated, [&](const Tensor& x, const Indices& y) { return pass(repeated, x, y); });
  for (std::size_t k = 0; k < data.x.size(); ++k) {
    pass(plain, to(data.x[k], gpu), data.y[k]);
    step(data.x[k], data.y[k]);
    REQUIRE(step.captured() == (k % 3 != 0));  // the first of three has no sum to add to: it is another step
    REQUIRE(repeated.weight.grad() == plain.weight.grad());
    if (k % 3 == 2) clear_grad(plain), clear_grad(repeated);  // then the sum of three begins anew
  }
}

TEST_CASE("A step that waits for the GPU, or draws elsewhere, is no step to capture, and leaves all as it was") {
  Rng rng(7);
  MaskedDeepFFN model(6, 3, {8}, {}, rng);
  to(model, gpu);
  const Batches data = some_batches({5, 6}, 2);
  const auto call_twice = [&](auto f, std::initializer_list<const char*> words) {
    CapturedStep step(model, f);
    step(data.x[0]);
    clear_grad(model);
    const Rng before = default_rng();
    require_error([&] { step(data.x[1]); }, words);
    REQUIRE(default_rng() == before);
    REQUIRE(!runtime::capturing);
    REQUIRE(!step.captured());
    each_param(model, [](const Param& p) { REQUIRE(!p.has_grad()); });
    const MaskedDeepFFN copy = model;
    REQUIRE(model(to(data.x[0], gpu)).value() == copy(to(data.x[0], gpu)).value());
  };
  call_twice(
      [&](const Tensor& x) {
        const Var loss = sum(model(x));
        backward(loss);
        return loss.item();
      },
      {"captured work must not wait for the device"});
  Rng own(99);
  call_twice([&](const Tensor& x) { return dropout(model(x), 0.5f, own); },
             {"dropout: captured work draws from one generator", "seed 99"});
  Rng twin = default_rng();
  call_twice([&](const Tensor& x) { return dropout(model(x), 0.5f, twin); }, {"draws from another generator"});
  call_twice(
      [&](const Tensor& x) {
        return add(model(x), to(Tensor::normal({5, 3}), gpu));
      },
      {"random numbers from ops like dropout only"});
  SGD sgd;
  call_twice(
      [&](const Tensor& x) {
        const Var loss = sum(model(x));
        backward(loss);
        sgd.step(model);
        return loss;
      },
      {"SGD: captured work cannot hold a step"});
  const Var other = variable(to(Tensor::ones({5, 3}), gpu));
  call_twice(
      [&](const Tensor& x) {
        const Var loss = sum(mul(model(x), other));
        backward(loss);
        return loss;
      },
      {"a gradient that is none of the model's"});
  const auto inner = [&](const Tensor& x) { return model(x); };
  CapturedStep within(model, inner);
  within(data.x[0]);
  call_twice([&](const Tensor& x) { return within(x); }, {"captures already"});
}

TEST_CASE("A step that puts a value of the model elsewhere cannot be repeated, and loses none") {
  Rng rng(8);
  MaskedLinearLayer model(4, 3, rng);
  to(model, gpu);
  const Tensor x = Tensor::normal({5, 4}, 0, 1, rng), weight = model.weight.value();
  enum class Act { nothing, move, move_and_wait, mask } act = Act::nothing;
  CapturedStep step(model, [&](const Tensor& in) {
    if (act == Act::mask) model.set_mask(Mask(model.mask().filter([](auto, auto, auto) { return true; })));
    if (act == Act::move || act == Act::move_and_wait)
      model.weight.set_value(affine(Var(model.weight.value()), 1, 0).value());
    if (act == Act::move_and_wait) (void)model.weight.value().to_vector();
    return model(in);
  });
  static_assert(!std::is_copy_constructible_v<decltype(step)> && std::is_move_constructible_v<decltype(step)>);
  for (const Act now : {Act::move, Act::move_and_wait, Act::mask})
    for (const bool at_once : {true, false}) {
      step.forget();
      act = at_once ? now : Act::nothing;
      if (!at_once) step(x);
      act = now;
      const Mask mask = model.mask();
      require_error([&] { step(x); }, {now == Act::move_and_wait && !at_once
                                           ? "captured work must not wait"
                                           : "CapturedStep: the step puts values or masks of the model elsewhere"});
      REQUIRE(!step.captured());
      REQUIRE(model.weight.value() == weight);
      REQUIRE((at_once || model.mask().shares(mask)));
    }
}

TEST_CASE("A mask that is equal but another one is no reason to read one that is gone") {
  Rng rng(13);
  MaskedLinearLayer model(9, 8, {.store = storage::full}, rng);
  model.set_mask(Mask::random(8, 9, 0.15, rng));
  to(model, gpu);
  const Tensor x = Tensor::normal({5, 9}, 0, 1, rng), there = to(x, gpu);
  CapturedStep step(model, [&](const Tensor& in) { return model(in); });
  for (int k = 0; k < 9; ++k) {
    REQUIRE(step(x).value() == model(there).value());
    REQUIRE(step.captured() == (k % 3 != 0));
    if (k % 3 == 2) model.set_mask(model.mask().filter([](auto, auto, auto) { return true; }));
  }
}

TEST_CASE("Losses by logarithms, and a DAG whose every sink is an output, are captured") {
  Rng rng(14);
  const LayeredGraph graph = LayeredGraph::load_from(watts_strogatz_graph(10, 4, 0.3, rng), Orientation::random, rng);
  MaskedDeepDAN model(4, 3, graph, {.use_layer_norm = true, .all_sinks = true}, rng);
  to(model, gpu);
  const Batches data = some_batches({6, 4}, 4);
  const auto pass = [&](const Tensor& x, const Indices& y) {
    const Var loss = nll_loss(log_softmax(model(x), 1), y, {.ignore_index = 2});
    backward(loss);
    return loss;
  };
  CapturedStep step(model, pass);
  std::vector<std::vector<float>> gradients[2];
  for (const bool captured : {false, true})
    for (std::size_t k = 0; k < data.x.size(); ++k) {
      const Var loss = captured ? step(data.x[k], data.y[k]) : pass(to(data.x[k], gpu), data.y[k]);
      gradients[captured].push_back(loss.value().to_vector());
      each_param(model, [&](const Param& p) {
        if (p.has_grad()) gradients[captured].push_back(p.grad().to_vector());
      });
      clear_grad(model);
    }
  REQUIRE(step.captured());
  REQUIRE(gradients[0] == gradients[1]);
  Indices wrong = data.y[0];
  wrong(1) = 3;
  REQUIRE(std::isnan(step(data.x[0], wrong).item()));
}

TEST_CASE("On the CPU a captured step is the step; one that is forgotten begins anew") {
  Rng rng(9);
  Linear model(4, 3, rng);
  Tensor x = Tensor::normal({5, 4}, 0, 1, rng);
  int calls = 0;
  CapturedStep step(model, [&](const Tensor& in) {
    ++calls;
    return model(in);
  });
  for (int k = 0; k < 4; ++k) REQUIRE(step(x).value() == model(x).value());
  REQUIRE(calls == 4);
  REQUIRE(!step.captured());
  to(model, gpu);
  for (int k = 0; k < 4; ++k) {
    x = Tensor::normal({5, 4}, 0, 1, rng);
    REQUIRE(step(x).value() == model(to(x, gpu)).value());
  }
  REQUIRE(calls == 6);
  REQUIRE(step.captured());
  step.forget();
  REQUIRE(!step.captured());
  step(x);
  REQUIRE(calls == 7);
}

TEST_CASE("What a captured step returned outlives it") {
  Rng rng(10);
  Linear model(4, 3, rng);
  to(model, gpu);
  const Tensor x = Tensor::normal({5, 4}, 0, 1, rng);
  Var last;
  {
    CapturedStep step(model, [&](const Tensor& in) {
      const Var y = model(in);
      backward(sum(square(y)));
      return y;
    });
    for (int k = 0; k < 3; ++k) clear_grad(model), last = step(x);
  }
  REQUIRE(last.value() == model(to(x, gpu)).value());
  Linear copy = model;
  backward(sum(square(copy(to(x, gpu)))));
  REQUIRE(model.weight.grad() == copy.weight.grad());
  const Tensor other = to(x, gpu);  // takes memory, none of which may be the result's
  REQUIRE(last.value() == model(to(x, gpu)).value());
}

/// Counts how often the host goes through it.
struct Counted {
  MaskedDeepFFN net;
  std::shared_ptr<int> calls = std::make_shared<int>(0);
  Var operator()(const Var& x) const {
    ++*calls;
    return net(x);
  }
  static auto fields(auto& m) { return std::tuple{Field{"net", m.net}}; }
};

TEST_CASE("fit with capture gives the parameters of fit, with few passes of the host") {
  Rng rng(12);
  const MaskedDeepFFN model(6, 3, {8}, {}, rng);
  const Batches data = some_batches({22, 6}, 1);
  const Dataset set(data.x[0], data.y[0], 3);
  std::vector<MaskedDeepFFN> nets;
  std::vector<FitReport> reports;
  for (const bool capture : {false, true}) {
    Counted counted{model};
    to(counted, gpu);
    Rng order(3);
    Adam adam;
    reports.push_back(fit(counted, adam, set, order, {.epochs = 3, .batch_size = 6, .capture = capture}));
    REQUIRE(*counted.calls == (capture ? 2 + 3 : 12));  // the first, the captured one, and the last of each epoch
    nets.push_back(counted.net);
  }
  require_same_state(nets[0], nets[1]);
  REQUIRE(reports[0].loss == reports[1].loss);
  REQUIRE(reports[0].accuracy == reports[1].accuracy);

  Indices labels = data.y[0];
  labels(0) = 7;  // the data set does not know how many classes there are
  const Dataset wrong(data.x[0], labels);
  Counted counted{model};
  to(counted, gpu);
  SGD sgd;
  require_error([&] { fit(counted, sgd, wrong, rng, {.epochs = 1, .batch_size = 4, .capture = true}); },
                {"cross_entropy: target is no class (7 of 3 classes"});
}
