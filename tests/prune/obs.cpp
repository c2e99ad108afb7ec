// Optimal brain surgeon, of whole networks and layer by layer, and optimal brain compression: against brute force.
#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/batch_norm.hpp>
#include <deepstruct/prune/obc.hpp>
#include <deepstruct/prune/obs.hpp>
#include <deepstruct/prune/obs_layerwise.hpp>
#include <deepstruct/train/monks.hpp>
#include <deepstruct/train/optimizer.hpp>

#include <Eigen/QR>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_close;
using test::require_error;
using test::same_bits;

namespace {

using ObsMatrix = Eigen::MatrixXd;
using ObsVector = Eigen::VectorXd;

constexpr float obs_nan = std::numeric_limits<float>::quiet_NaN();

/// One masked layer.
struct ObsLayer {
  MaskedLinearLayer layer;

  ObsLayer(std::int64_t in, std::int64_t out, Rng& rng) : layer(in, out, rng) {}
  Var operator()(const Var& x) const { return layer(x); }
  static auto fields(auto& m) { return std::tuple{Field{"layer", m.layer}}; }
};
/// Two masked layers and tanh between them.
struct ObsNet {
  MaskedLinearLayer hidden, out;

  ObsNet(std::int64_t in, std::int64_t width, std::int64_t outputs, Rng& rng)
      : hidden(in, width, rng), out(width, outputs, rng) {}
  Var operator()(const Var& x) const { return out(tanh(hidden(x))); }
  static auto fields(auto& m) { return std::tuple{Field{"hidden", m.hidden}, Field{"out", m.out}}; }
};
struct ObsConv {
  MaskedConv2d conv;

  ObsConv(const Conv2dOptions& how, Rng& rng) : conv(2, 3, std::array<std::int64_t, 2>{3, 2}, {.conv = how}, rng) {}
  Var operator()(const Var& x) const { return conv(x); }
  static auto fields(auto& m) { return std::tuple{Field{"conv", m.conv}}; }
};
struct ObsNormed {
  MaskedLinearLayer first;
  BatchNorm1d norm;
  MaskedLinearLayer last;

  explicit ObsNormed(Rng& rng) : first(6, 5, rng), norm(5), last(5, 3, rng) {}
  Var operator()(const Var& x) const { return last(relu(norm(first(x)))); }
  static auto fields(auto& m) {
    return std::tuple{Field{"first", m.first}, Field{"norm", m.norm}, Field{"last", m.last}};
  }
};
struct ObsUnused {
  MaskedLinearLayer used, unused;

  explicit ObsUnused(Rng& rng) : used(4, 3, rng), unused(4, 3, rng) {}
  Var operator()(const Var& x) const { return used(x); }
  static auto fields(auto& m) { return std::tuple{Field{"used", m.used}, Field{"unused", m.unused}}; }
};
struct ObsPlain {
  Linear dense{4, 2};

  Var operator()(const Var& x) const { return dense(x); }
  static auto fields(auto& m) { return std::tuple{Field{"dense", m.dense}}; }
};

/// Inputs [n, in] that depend on each other, as those of real layers do.
Tensor obs_inputs(std::int64_t n, std::int64_t in, Rng& rng) {
  no_grad guard;
  const Var factors = Tensor::normal({n, std::max<std::int64_t>(1, in / 2)}, 0, 1, rng),
            mix = Tensor::normal({std::max<std::int64_t>(1, in / 2), in}, 0, 1, rng);
  return add(matmul(factors, mix), Var(Tensor::normal({n, in}, 0, 0.5f, rng))).value();
}
Indices obs_labels(std::int64_t n, std::int32_t classes, Rng& rng) {
  Indices y = Indices::empty({n});
  for (std::int64_t i = 0; i < n; ++i) y(i) = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(classes)));
  return y;
}
ObsMatrix obs_doubles(const Tensor& t) { return as_eigen(t).cast<double>(); }

/// ‖X_S v − X w‖² least, by QR of the inputs with rows √(n·ridge)·I below them; [in], 0 outside S.
ObsVector obs_fit(const ObsMatrix& x, double ridge, const ObsVector& w, const std::vector<int>& stay, double* error) {
  const Eigen::Index n = x.rows(), in = x.cols(), k = static_cast<Eigen::Index>(stay.size());
  ObsMatrix all(n + in, in), part(n + in, k);
  all << x, std::sqrt(ridge * static_cast<double>(n)) * ObsMatrix::Identity(in, in);
  for (Eigen::Index j = 0; j < k; ++j) part.col(j) = all.col(stay[static_cast<std::size_t>(j)]);
  const ObsVector target = all * w;
  ObsVector v = ObsVector::Zero(in);
  const ObsVector fit = k == 0 ? ObsVector() : ObsVector(part.colPivHouseholderQr().solve(target));
  for (Eigen::Index j = 0; j < k; ++j) v(stay[static_cast<std::size_t>(j)]) = fit(j);
  if (error) *error = (all * v - target).squaredNorm() / static_cast<double>(n);
  return v;
}
/// The columns of row r that a mask has.
std::vector<int> obs_row(const Mask& mask, std::int64_t r) {
  const auto start = mask.row_start(), col = mask.col();
  return {col.begin() + start[r], col.begin() + start[r + 1]};
}
/// Σ (XWᵀ − XVᵀ)² / n
double obs_output_error(const Tensor& x, const Tensor& w, const Tensor& v) {
  return (obs_doubles(x) * (obs_doubles(w) - obs_doubles(v)).transpose()).squaredNorm() /
         static_cast<double>(x.shape()[0]);
}
/// Everything of a model that can change.
template <class M>
std::vector<Tensor> obs_state(const M& model) {
  std::vector<Tensor> all;
  struct Visitor {
    std::vector<Tensor>& all;
    void operator()(const Path&, const Param& p) const { all.push_back(p.value()); }
    void operator()(const Path&, const Tensor& t) const { all.push_back(t); }
    void operator()(const Path&, const Mask& m) const { all.push_back(m.to_dense()); }
  };
  walk(model, Visitor{all});
  each_masked(model, [&](const auto& layer) { all.push_back(layer.saliency()); });
  return all;
}
void obs_require_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t k = 0; k < a.size(); ++k) {
    INFO("part " << k);
    REQUIRE(same_bits(a[k], b[k]));
  }
}
/// f must throw an Error of these parts and leave the model as it was.
template <class M, class F>
void obs_require_refused(M& model, F&& f, std::initializer_list<const char*> parts) {
  const auto before = obs_state(model);
  require_error([&] { f(model); }, parts);
  obs_require_same(obs_state(model), before);
}

template <class M>
std::int64_t obs_errors(const M& model, const Batch& batch) {
  no_grad guard;
  const Tensor y = model(Var(batch.x)).value();
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < y.shape()[0]; ++i) wrong += (y(i, 0) > 0.5f) != (batch.y(i) == 1);
  return wrong;
}
template <class M, class B, class Loss>
void obs_train(M& model, const B& batch, const Loss& loss, int steps, float rate) {
  Adam adam{.lr = rate};
  for (int k = 0; k < steps; ++k) {
    backward(loss(model, batch));
    adam.step(model);
  }
}

}  // namespace

TEST_CASE("edge_cut of one weight is the least squares fit of the others") {
  Rng rng(3);
  for (const std::int64_t in : {1, 2, 5, 9}) {
    const Tensor x = obs_inputs(40, in, rng), w = Tensor::normal({3, in}, 0, 1, rng);
    const ObsMatrix inverse = inverse_input_hessian(x, 1e-6);
    const EdgeCut cut = edge_cut(w, Mask::ones(3, in), inverse, absolute(1));
    REQUIRE(cut.mask.nnz() == 3 * in - 1);
    // The row that lost it, and that it was the cheapest of all.
    double least = std::numeric_limits<double>::infinity(), paid = 0;
    for (std::int64_t r = 0; r < 3; ++r) {
      const ObsVector row = obs_doubles(w).row(r);
      const std::vector<int> has = obs_row(cut.mask, r);
      for (int q = 0; q < in; ++q) {
        std::vector<int> rest;
        for (int c = 0; c < in; ++c)
          if (c != q) rest.push_back(c);
        double error = 0;
        const ObsVector fit = obs_fit(obs_doubles(x), 1e-6, row, rest, &error);
        REQUIRE(cut.sensitivity[static_cast<std::size_t>(r * in + q)] == Approx(error / 2).epsilon(1e-6));
        least = std::min(least, error);
        if (has == rest) {
          paid = error;
          for (int c = 0; c < in; ++c) REQUIRE(cut.weight(r, c) == Approx(fit(c)).margin(1e-5));
        }
      }
      if (static_cast<std::int64_t>(has.size()) == in)
        for (int c = 0; c < in; ++c) REQUIRE(cut.weight(r, c) == w(r, c));
    }
    REQUIRE(paid == least);
  }
}

TEST_CASE("edge_cut takes what the budget says and no more") {
  Rng rng(4);
  const Tensor x = obs_inputs(30, 6, rng), w = Tensor::normal({4, 6}, 0, 1, rng);
  const ObsMatrix inverse = inverse_input_hessian(x);
  const Mask mask = Mask::where(4, 6, [](std::int64_t r, std::int64_t c) { return (r + c) % 4 != 0; });  // 18 edges
  REQUIRE(mask.nnz() == 18);
  const auto left = [&](const Budget& b) { return edge_cut(w, mask, inverse, b).mask.nnz(); };
  REQUIRE(left(percentage(0)) == 18);
  REQUIRE(left(percentage(5)) == 18);  // 0.9 of a weight
  REQUIRE(left(percentage(50)) == 9);
  REQUIRE(left(percentage(100)) == 0);
  REQUIRE(left(absolute(0)) == 18);
  REQUIRE(left(absolute(7)) == 11);
  REQUIRE(left(remaining(5)) == 5);
  REQUIRE(left(density(0.25)) == 6);
  std::vector<double> s = edge_cut(w, mask, inverse, absolute(0)).sensitivity;
  REQUIRE(s.size() == 18);
  std::sort(s.begin(), s.end());
  REQUIRE(left(bucket(0)) == 18);
  REQUIRE(left(bucket(s[0] + s[1] + 0.5 * s[2])) == 16);
  REQUIRE(left(bucket(1e9)) == 0);

  const EdgeCut cut = edge_cut(w, mask, inverse, absolute(7));
  for (std::int64_t r = 0; r < 4; ++r)
    for (std::int64_t c = 0; c < 6; ++c) {
      if (!cut.mask.contains(r, c)) REQUIRE(cut.weight(r, c) == 0);
      if (cut.mask.contains(r, c)) REQUIRE(mask.contains(r, c));
    }

  require_error([&] { edge_cut(w, mask, inverse, absolute(19)); }, {"edge_cut: ", "19 of 18"});
  require_error([&] { edge_cut(w, mask, inverse, remaining(19)); }, {"edge_cut: ", "19 of 18"});
  require_error([&] { edge_cut(w, Mask::ones(6, 4), inverse, absolute(1)); }, {"edge_cut: ", "do not fit"});
  require_error([&] { edge_cut(w, mask, ObsMatrix::Identity(5, 5), absolute(1)); }, {"edge_cut: ", "do not fit"});
  require_error([&] { edge_cut(w, mask, -inverse, absolute(1)); }, {"edge_cut: ", "positive diagonal"});
  Tensor bad = w;
  bad(0, 1) = obs_nan;
  require_error([&] { edge_cut(bad, mask, inverse, absolute(1)); }, {"edge_cut: ", "edge 0 <- 1"});
  bad = w;
  bad(0, 0) = obs_nan;  // no edge: its weight does not matter
  REQUIRE(edge_cut(bad, mask, inverse, absolute(1)).weight(0, 0) == 0);
  require_error([&] { inverse_input_hessian(Tensor::zeros({0, 3})); }, {"inverse_input_hessian: ", "samples"});
  require_error([&] { inverse_input_hessian(Tensor::ones({4, 3}), 0); }, {"inverse_input_hessian: ", "singular"});
  require_error([&] { inverse_input_hessian(Tensor::full({4, 3}, obs_nan)); }, {"inverse_input_hessian: ", "finite"});
}

TEST_CASE("compression removes greedily what costs least by brute force, and fits the rest") {
  Rng rng(5);
  for (const double keep : {1.0, 0.6}) {
    const Tensor x = obs_inputs(60, 7, rng);
    ObsLayer model(7, 4, rng);
    if (keep < 1) model.layer.set_mask(Mask::random(4, 7, keep, rng));
    const Mask before = model.layer.mask();
    const ObsMatrix rows = obs_doubles(x), w = obs_doubles(model.layer.effective_weight());
    const double ridge = 0.01 * rows.colwise().squaredNorm().mean() / 60;

    // All rows together, one weight at a time: the one whose loss rises least in its row. The loss of a row is that
    // against the outputs of the dense row.
    std::vector<std::vector<int>> has;
    std::vector<double> error(4, 0);
    for (std::int64_t r = 0; r < 4; ++r) has.push_back(obs_row(before, r));
    const auto step = [&] {
      double least = std::numeric_limits<double>::infinity(), then = 0;
      std::size_t row = 0, at = 0;
      for (std::size_t r = 0; r < 4; ++r)
        for (std::size_t k = 0; k < has[r].size(); ++k) {
          auto rest = has[r];
          rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(k));
          double e = 0;
          obs_fit(rows, ridge, w.row(static_cast<Eigen::Index>(r)), rest, &e);
          if (e - error[r] < least) {
            least = e - error[r];
            then = e;
            row = r;
            at = k;
          }
        }
      has[row].erase(has[row].begin() + static_cast<std::ptrdiff_t>(at));
      error[row] = then;
    };
    std::int64_t gone = 0;
    for (const std::int64_t n : {1, 4, 9, 13}) {
      for (; gone < n; ++gone) step();
      INFO("density " << keep << ", " << n << " weights gone");
      ObsLayer now = model;
      const std::vector<Batch> data{{x, Indices::zeros({60})}};
      const PruneReport report = optimal_brain_compression(now, data, absolute(n));
      REQUIRE(report.after() == before.nnz() - n);
      for (std::int64_t r = 0; r < 4; ++r) {
        const auto& stay = has[static_cast<std::size_t>(r)];
        REQUIRE(obs_row(now.layer.mask(), r) == stay);
        const ObsVector fit = obs_fit(rows, ridge, w.row(r), stay, nullptr);
        const Tensor effective = now.layer.effective_weight();
        for (std::int64_t c = 0; c < 7; ++c) REQUIRE(effective(r, c) == Approx(fit(c)).margin(1e-4));
      }
    }
  }
}

TEST_CASE("a trace goes on to the last weight, also where inputs are always 0 or equal") {
  Rng rng(6);
  Tensor x = obs_inputs(50, 12, rng);
  for (std::int64_t i = 0; i < 50; ++i) {
    x(i, 3) = 0;
    x(i, 7) = x(i, 1);
  }
  ObsLayer model(12, 5, rng);
  const std::vector<Batch> data{{x, Indices::zeros({50})}};
  for (const auto& budget : {percentage(100), bucket(1e9), remaining(0)}) {
    ObsLayer none = model;
    REQUIRE(optimal_brain_compression(none, data, budget).after() == 0);
    REQUIRE(optimal_brain_surgeon_layer_wise(model, data, percentage(0)).after() == 60);
  }
  ObsLayer some = model;
  optimal_brain_compression(some, data, absolute(10), {.damping = 1e-6});
  for (std::int64_t r = 0; r < 5; ++r) {
    REQUIRE(!some.layer.mask().contains(r, 3));                                     // it costs nothing
    REQUIRE(some.layer.mask().contains(r, 7) != some.layer.mask().contains(r, 1));  // of two equal inputs one is enough
  }
  ObsLayer zero = model;  // no input at all: any weight may go
  const std::vector<Batch> nothing{{Tensor::zeros({9, 12}), Indices::zeros({9})}};
  REQUIRE(optimal_brain_compression(zero, nothing, absolute(11)).after() == 49);
  REQUIRE(optimal_brain_surgeon_layer_wise(zero, nothing, absolute(11)).after() == 38);
}

TEST_CASE("outputs suffer least by compression, more by layer-wise surgery, most by magnitude") {
  int surgery_better = 0;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    Rng rng(seed);
    const Tensor x = obs_inputs(200, 24, rng);
    const ObsLayer dense(24, 10, rng);
    const std::vector<Batch> data{{x, Indices::zeros({200})}};
    for (const double q : {20.0, 40.0}) {
      ObsLayer magnitude = dense, surgery = dense, compression = dense;
      prune_layer_by_saliency(magnitude, percentage(q), {.exact = true});
      optimal_brain_surgeon_layer_wise(surgery, data, percentage(q), {.damping = 1e-6});
      optimal_brain_compression(compression, data, percentage(q), {.damping = 1e-6});
      const auto error = [&](const ObsLayer& m) {
        return obs_output_error(x, dense.layer.effective_weight(), m.layer.effective_weight());
      };
      INFO("seed " << seed << ", " << q << " per cent: " << error(compression) << " " << error(surgery) << " "
                   << error(magnitude));
      REQUIRE(compression.layer.mask().nnz() == magnitude.layer.mask().nnz());
      REQUIRE(surgery.layer.mask().nnz() == magnitude.layer.mask().nnz());
      REQUIRE(error(compression) < error(surgery));
      REQUIRE(error(compression) < 0.3 * error(magnitude));
      surgery_better += error(surgery) < error(magnitude);
    }
  }
  REQUIRE(surgery_better == 16);
}

TEST_CASE("layers of a network see inputs from pruned layers, or from the dense model if asked") {
  Rng rng(7);
  const Tensor x = obs_inputs(90, 8, rng);
  const MaskedDeepFFN dense(8, 3, {7, 6}, {}, rng);
  const Dataset set(x, Indices::zeros({90}));
  for (const bool after : {true, false}) {
    MaskedDeepFFN model = dense;
    const auto report = optimal_brain_surgeon_layer_wise(model, batches(set, 32), percentage(30),
                                                         {.damping = 1e-3, .after_pruned = after});
    REQUIRE(report.layers.size() == 3);
    MaskedDeepFFN by_hand = dense;
    std::vector<MaskedLinearLayer*> layers;
    each_masked(by_hand, [&](MaskedLinearLayer& l) { layers.push_back(&l); });
    no_grad guard;
    Var h = x, clean = x;
    for (std::size_t k = 0; k < layers.size(); ++k) {
      MaskedLinearLayer& l = *layers[k];
      const Var clean_next = relu(l(clean));
      const ObsMatrix in = obs_doubles((after ? h : clean).value());
      const double ridge = 1e-3 * in.colwise().squaredNorm().mean() / 90;
      const EdgeCut cut = edge_cut(l.effective_weight(), l.mask(),
                                   inverse_input_hessian((after ? h : clean).value(), ridge), percentage(30));
      l.set_mask(cut.mask);
      l.weight.set_value(cut.weight);
      h = relu(l(h));
      clean = clean_next;
    }
    std::size_t k = 0;
    each_masked(std::as_const(model), [&](const MaskedLinearLayer& l) {
      INFO("layer " << k << ", after_pruned " << after);
      REQUIRE(l.mask() == layers[k]->mask());
      require_close(l.weight.value(), layers[k]->weight.value(), 1e-4, 1e-5);
      ++k;
    });
  }
}

TEST_CASE("packed and full models undergo the same surgery, for any number of threads, whatever the batches") {
  Rng rng(8);
  const Dataset set(obs_inputs(100, 20, rng), Indices::zeros({100}));
  MaskedDeepFFN full(20, 4, {15, 9}, {}, rng);
  prune_network_by_saliency(full, percentage(20));
  const MaskedDeepFFN packed = pack(full);
  const auto operate = [&](auto& model, int kind, std::int64_t batch) {
    if (kind == 0) optimal_brain_surgeon_layer_wise(model, batches(set, batch), percentage(40));
    if (kind == 1) optimal_brain_compression(model, batches(set, batch), percentage(40));
    if (kind == 2) optimal_brain_compression(model, batches(set, batch), bucket(0.05));
  };
  for (int kind = 0; kind < 3; ++kind) {
    MaskedDeepFFN a = full, b = packed, c = full;
    operate(a, kind, 32);
    operate(b, kind, 32);
    operate(c, kind, 100);
    REQUIRE(get_network_weight_count(a) < get_network_weight_count(full));
    const auto compare = [](const MaskedDeepFFN& one, const MaskedDeepFFN& other) {
      std::vector<std::pair<Mask, Tensor>> all;
      each_masked(one, [&](const MaskedLinearLayer& l) { all.emplace_back(l.mask(), l.effective_weight()); });
      std::size_t k = 0;
      each_masked(other, [&](const MaskedLinearLayer& l) {
        REQUIRE(l.mask() == all[k].first);
        require_close(l.effective_weight(), all[k].second, 1e-3, 1e-5);
        ++k;
      });
    };
    compare(a, b);
    compare(a, c);
    each_masked(std::as_const(b), [](const MaskedLinearLayer& l) { REQUIRE(l.packed()); });
    each_masked(std::as_const(a), [](const MaskedLinearLayer& l) {  // nothing is remembered that fits no more
      REQUIRE(same_bits(l.weight.value(), l.effective_weight()));
    });
  }
  for (int kind = 0; kind < 2; ++kind)
    test::same_for_all_threads([&] {
      MaskedDeepFFN m = full;
      operate(m, kind, 100);
      return obs_state(m);
    });
}

TEST_CASE("budgets over layers: shares add up, a bucket and a density are every layer's own") {
  Rng rng(9);
  const Dataset set(obs_inputs(40, 10, rng), Indices::zeros({40}));
  const MaskedDeepFFN dense(10, 3, {7, 5}, {}, rng);  // 70 + 35 + 15
  const auto after = [&](const Budget& budget) {
    MaskedDeepFFN m = dense;
    std::vector<std::int64_t> counts;
    for (const auto& l : optimal_brain_compression(m, batches(set, 40), budget).layers) counts.push_back(l.after);
    return counts;
  };
  REQUIRE(after(percentage(50)) == std::vector<std::int64_t>{35, 18, 8});
  REQUIRE(after(absolute(24)) == std::vector<std::int64_t>{56, 28, 12});
  REQUIRE(after(absolute(25)) == std::vector<std::int64_t>{55, 28, 12});  // 14.58, 7.29, 3.125
  REQUIRE(after(absolute(120)) == std::vector<std::int64_t>{0, 0, 0});
  REQUIRE(after(remaining(24)) == std::vector<std::int64_t>{14, 7, 3});
  REQUIRE(after(density(0.2)) == std::vector<std::int64_t>{14, 7, 3});
  REQUIRE(after(bucket(0)) == std::vector<std::int64_t>{70, 35, 15});
  MaskedDeepFFN thin = dense;
  prune_layer_by_saliency(thin, percentage(90));
  obs_require_refused(thin, [&](auto& m) { optimal_brain_compression(m, batches(set, 40), density(0.5)); },
                      {"optimal_brain_compression: ", "fewer weights than shall stay"});
}

TEST_CASE("a convolution is operated by the patches that its kernels see") {
  Rng rng(10);
  for (const Conv2dOptions& how :
       {Conv2dOptions{}, Conv2dOptions{.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 2}}}) {
    const Tensor x = Tensor::normal({11, 2, 6, 7}, 0, 1, rng);
    const ObsConv dense(how, rng);
    // A convolution with one-hot kernels lays the patches out as channels.
    Tensor one_hot = Tensor::zeros({12, 2, 3, 2});
    for (std::int64_t k = 0; k < 12; ++k) one_hot(k, k / 6, k / 2 % 3, k % 2) = 1;
    no_grad guard;
    const Tensor patches = conv2d(Var(x), Var(one_hot), {}, how).value();
    const std::int64_t places = patches.shape()[2] * patches.shape()[3];
    ObsMatrix rows(11 * places, 12);
    for (std::int64_t b = 0; b < 11; ++b)
      for (std::int64_t p = 0; p < places; ++p)
        for (std::int64_t k = 0; k < 12; ++k)
          rows(b * places + p, k) = double{patches(b, k, p / patches.shape()[3], p % patches.shape()[3])};
    const double ridge = 0.01 * rows.colwise().squaredNorm().mean() / static_cast<double>(rows.rows());
    const std::vector<Batch> data{{x, Indices::zeros({11})}};
    ObsConv full = dense, packed = pack(dense), surgery = dense;
    optimal_brain_compression(full, data, percentage(60));
    optimal_brain_compression(packed, data, percentage(60));
    REQUIRE(packed.conv.mask() == full.conv.mask());
    require_close(packed.conv.effective_weight(), full.conv.effective_weight(), 1e-3, 1e-5);
    const ObsMatrix w = obs_doubles(dense.conv.effective_weight().with_shape({3, 12})),
                    v = obs_doubles(full.conv.effective_weight().with_shape({3, 12}));
    for (std::int64_t r = 0; r < 3; ++r) {
      const ObsVector fit = obs_fit(rows, ridge, w.row(r), obs_row(full.conv.mask(), r), nullptr);
      for (Eigen::Index c = 0; c < 12; ++c) REQUIRE(v(r, c) == Approx(fit(c)).margin(1e-4));
    }
    REQUIRE(optimal_brain_surgeon_layer_wise(surgery, data, absolute(10)).after() == 26);
  }
  ObsConv grouped({.groups = 1}, rng);
  grouped.conv = MaskedConv2d(2, 4, 3, {.conv = {.groups = 2}}, rng);
  const std::vector<Batch> data{{Tensor::ones({2, 2, 5, 5}), Indices::zeros({2})}};
  obs_require_refused(grouped, [&](auto& m) { optimal_brain_compression(m, data, percentage(10)); },
                      {"optimal_brain_compression: ", "groups", "layer conv"});
}

TEST_CASE("layer-wise surgery that cannot be leaves the model as it was") {
  Rng rng(11);
  const std::vector<Batch> data{{obs_inputs(20, 6, rng), Indices::zeros({20})}};
  ObsNormed model(rng);
  const auto operate = [&](bool exact, auto& m, const auto& from, const Budget& b, const LayerwiseOptions& o = {}) {
    exact ? optimal_brain_compression(m, from, b, o) : optimal_brain_surgeon_layer_wise(m, from, b, o);
  };
  for (const bool exact : {false, true}) {
    const char* op = exact ? "optimal_brain_compression: " : "optimal_brain_surgeon_layer_wise: ";
    const auto refused = [&](auto& m, const auto& from, const Budget& b, const LayerwiseOptions& o,
                             std::initializer_list<const char*> parts) {
      obs_require_refused(
          m, [&](auto& it) { operate(exact, it, from, b, o); }, parts);
    };
    refused(model, std::vector<Batch>{}, percentage(10), {}, {op, "needs data"});
    refused(model, data, absolute(46), {}, {op, "46 of 45"});
    refused(model, data, percentage(10), {.damping = -1}, {op, "damping"});
    refused(model, data, percentage(10), {.damping = obs_nan}, {op, "damping"});
    std::vector<Batch> broken = data;
    broken[0].x(3, 2) = obs_nan;
    refused(model, broken, percentage(10), {}, {op, "not finite", "layer first"});
    std::vector<Batch> equal = data;
    for (std::int64_t i = 0; i < 20; ++i) equal[0].x(i, 2) = equal[0].x(i, 1);
    refused(model, equal, percentage(10), {.damping = 0}, {op, "singular", "layer first"});
    ObsNormed infinite = model;
    infinite.last.weight.mutable_value()(1, 1) = obs_nan;
    refused(infinite, data, percentage(10), {}, {op, "weight is not finite", "layer last"});
    ObsPlain plain;
    refused(plain, data, percentage(10), {}, {op, "no masked layers"});
    ObsUnused unused(rng);
    const std::vector<Batch> narrow{{obs_inputs(20, 4, rng), Indices::zeros({20})}};
    refused(unused, narrow, percentage(10), {}, {op, "no input of its own", "layer unused"});
    LayeredGraph structure;
    for (int v = 0; v < 4; ++v) structure.add_node(v);
    structure.add_edge(0, 1);
    structure.add_edge(1, 2);
    structure.add_edge(1, 3);
    const MaskedDeepDAN dan(6, 2, structure, {.store = storage::full}, rng);
    MaskedDeepDAN packed = pack(dan), full = dan;
    refused(packed, data, percentage(10), {}, {op, "unpack"});
    operate(exact, full, data, percentage(40), {});
    REQUIRE(get_network_weight_count(full) < get_network_weight_count(dan));
  }

  // Saliencies and running statistics stay, also where it works; a layer that loses nothing is not touched.
  model.first.set_saliency(Tensor::uniform({5, 6}, 0, 1, rng));
  model.first.set_edge(0, 0, false);
  const ObsNormed before = model;
  optimal_brain_compression(model, data, bucket(0));
  obs_require_same(obs_state(model), obs_state(before));
  optimal_brain_surgeon_layer_wise(model, data, percentage(50));
  REQUIRE(same_bits(model.first.saliency(), before.first.saliency()));
  REQUIRE(same_bits(model.norm.running_mean, before.norm.running_mean));
  REQUIRE(same_bits(model.first.bias->value(), before.first.bias->value()));
  REQUIRE(model.first.weight.value()(0, 0) == 0);
}

TEST_CASE("the inverse of the full Hessian is that of finite differences where Gauss-Newton is exact") {
  Rng rng(12);
  ObsLayer model(3, 4, rng);
  const Batch batch{Tensor::normal({9, 3}, 0, 1, rng), obs_labels(9, 4, rng)};
  const std::vector<Batch> data{batch};
  const auto require_inverse = [&](const auto& loss) {
    ObsLayer probe = model;
    const detail::ParameterVector parameters(probe, "test");
    REQUIRE(parameters.size() == 16);
    const auto samples = detail::single_samples("test", data);
    const std::vector<char> none(16, 0);
    const double alpha = 0.01;
    const ObsMatrix inverse = detail::inverse_hessian("test", probe, parameters, samples, loss, alpha, none);
    // For a linear model the Hessian of these losses has no other part.
    const ObsVector theta = parameters.gather(parameters.params());
    ObsMatrix hessian(16, 16);
    for (Eigen::Index k = 0; k < 16; ++k) {
      const double h = 1.0 / 64;
      const auto gradient = [&](double step) {
        parameters.scatter(theta + step * ObsVector::Unit(16, k));
        return parameters.gather(grad(loss(probe, batch), parameters.params()));
      };
      const ObsVector fine = (gradient(h) - gradient(-h)) / (2 * h),
                      coarse = (gradient(2 * h) - gradient(-2 * h)) / (4 * h);
      hessian.col(k) = (4 * fine - coarse) / 3;
      hessian(k, k) += alpha;
    }
    parameters.scatter(theta);
    REQUIRE((inverse * hessian - ObsMatrix::Identity(16, 16)).cwiseAbs().maxCoeff() < 2e-3);
    // Without a parameter the others are as if it had never been.
    std::vector<char> gone = none;
    gone[5] = 1;
    const ObsMatrix without = detail::inverse_hessian("test", probe, parameters, samples, loss, alpha, gone);
    const ObsVector h5 = inverse.col(5);
    ObsMatrix downdated = inverse - h5 / h5(5) * h5.transpose();
    downdated(5, 5) = 1 / alpha;
    REQUIRE((without - downdated).cwiseAbs().maxCoeff() < 1e-6 * inverse.cwiseAbs().maxCoeff());
  };
  require_inverse(CrossEntropy{});
  require_inverse(SquaredError{});
}

TEST_CASE("where the loss is quadratic, surgery finds the best weight to remove and the best of what is left") {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Rng rng(seed);
    const Tensor x = obs_inputs(30, 5, rng), t = Tensor::normal({30, 1}, 0, 1, rng);
    ObsMatrix rows(30, 6);
    rows << obs_doubles(x), ObsVector::Ones(30);  // the bias is the last
    const ObsVector target = obs_doubles(t);
    const auto fit = [&](const std::vector<int>& stay, double& loss) {
      ObsMatrix part(30, static_cast<Eigen::Index>(stay.size()));
      for (std::size_t k = 0; k < stay.size(); ++k) part.col(static_cast<Eigen::Index>(k)) = rows.col(stay[k]);
      const ObsVector some = part.colPivHouseholderQr().solve(target);
      loss = 0.5 * (part * some - target).squaredNorm() / 30;
      ObsVector all = ObsVector::Zero(6);
      for (std::size_t k = 0; k < stay.size(); ++k) all(stay[k]) = some(static_cast<Eigen::Index>(k));
      return all;
    };
    double loss = 0;
    std::vector<int> stay{0, 1, 2, 3, 4, 5};
    const ObsVector trained = fit(stay, loss);
    ObsLayer model(5, 1, rng);
    for (std::int64_t c = 0; c < 5; ++c) model.layer.weight.mutable_value()(0, c) = static_cast<float>(trained(c));
    model.layer.bias->mutable_value()(0) = static_cast<float>(trained(5));
    const std::vector<RegressionBatch> data{{x, t}};
    const ObsLayer dense = model;
    for (int n = 1; n <= 3; ++n) {
      double least = std::numeric_limits<double>::infinity();
      std::vector<int> best;
      for (const int q : stay) {
        if (q == 5) continue;
        auto rest = stay;
        std::erase(rest, q);
        double l = 0;
        fit(rest, l);
        if (l < least) {
          least = l;
          best = rest;
        }
      }
      const double before = loss;
      const ObsVector theta = fit(stay = best, loss);
      ObsLayer once = dense;  // n at once, with H⁻¹ brought up to date instead of made anew
      optimal_brain_surgeon(once, data, absolute(n), SquaredError{}, {.alpha = 1e-9, .refresh = 5});
      const SurgeonReport report = optimal_brain_surgeon(model, data, absolute(1), SquaredError{}, {.alpha = 1e-9});
      REQUIRE(report.loss_before == Approx(before).epsilon(1e-4));
      REQUIRE(report.loss_after == Approx(loss).epsilon(1e-4));
      REQUIRE(report.predicted == Approx(loss - before).epsilon(1e-3));
      REQUIRE(report.after() == 5 - n);
      for (const ObsLayer& m : {model, once}) {
        for (std::int64_t c = 0; c < 5; ++c) {
          REQUIRE(m.layer.mask().contains(0, c) == (theta(c) != 0));
          REQUIRE(m.layer.effective_weight()(0, c) == Approx(theta(c)).margin(1e-4));
        }
        REQUIRE(m.layer.bias->value()(0) == Approx(theta(5)).margin(1e-4));
      }
    }
  }
}

TEST_CASE("on XOR surgery removes weights that are not needed, where magnitude takes others") {
  const Batch batch{Tensor::from({4, 2}, {0, 0, 0, 1, 1, 0, 1, 1}), Indices::from({4}, {0, 1, 1, 0})};
  const std::vector<Batch> data{batch};
  const auto no_errors = [&](const auto& m) { return obs_errors(m, batch) == 0; };
  int trained = 0, magnitude_fails = 0;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    INFO("seed " << seed);
    Rng rng(seed);
    ObsNet net(2, 4, 1, rng);
    obs_train(net, batch, SquaredError{}, 500, 0.03f);
    if (!no_errors(net)) continue;
    ++trained;
    ObsNet surgery = net, packed = pack(net), magnitude = net;
    const auto report = optimal_brain_surgeon(surgery, data, percentage(100), SquaredError{}, {}, no_errors);
    REQUIRE(report.stopped);
    const std::int64_t removed = report.before() - report.after();
    REQUIRE(removed >= 3);
    REQUIRE(get_network_weight_count(surgery) == 12 - removed);
    REQUIRE(no_errors(surgery));
    prune_network_by_saliency(magnitude, absolute(removed), {.exact = true});
    magnitude_fails += !no_errors(magnitude);
    optimal_brain_surgeon(packed, data, percentage(100), SquaredError{}, {}, no_errors);
    REQUIRE(packed.hidden.mask() == surgery.hidden.mask());
    REQUIRE(packed.out.mask() == surgery.out.mask());
    require_close(packed(Var(batch.x)).value(), surgery(Var(batch.x)).value(), 1e-3, 1e-3);

    // Two monotone hidden units need all their weights: nothing goes, nothing changes.
    ObsNet small(2, 2, 1, rng);
    obs_train(small, batch, SquaredError{}, 500, 0.03f);
    if (!no_errors(small)) continue;
    const auto before = obs_state(small);
    REQUIRE(optimal_brain_surgeon(small, data, percentage(100), SquaredError{}, {}, no_errors).after() == 6);
    obs_require_same(obs_state(small), before);
  }
  REQUIRE(trained >= 10);
  REQUIRE(2 * magnitude_fails >= trained);
}

TEST_CASE("on a MONK's problem surgery leaves less than half of the weights without an error, where magnitude cannot") {
  Rng rng(1);
  const MonksSplit monk = monks(1, rng);
  const Batch train = monk.train.all(), test = monk.test.all();
  ObsNet net(17, 3, 1, rng);
  obs_train(net, train, SquaredError{}, 400, 0.02f);
  REQUIRE(obs_errors(net, train) == 0);
  const std::int64_t wrong = obs_errors(net, test);
  ObsNet small = net;
  optimal_brain_surgeon(small, batches(monk.train, 50), percentage(100), SquaredError{}, {},
                        [&](const auto& m) { return obs_errors(m, train) == 0; });
  REQUIRE(2 * get_network_weight_count(small) < get_network_weight_count(net));
  REQUIRE(obs_errors(small, train) == 0);
  REQUIRE(obs_errors(small, test) <= wrong + 5);
  ObsNet magnitude = net;
  prune_network_by_saliency(magnitude, remaining(get_network_weight_count(small)));
  REQUIRE(obs_errors(magnitude, train) > 5);
}

TEST_CASE("surgery of a whole network stops where it is told to") {
  Rng rng(13);
  MaskedDeepFFN dense(5, 3, {6}, {}, rng);
  prune_network_by_saliency(dense, percentage(20));
  const Batch batch{Tensor::normal({25, 5}, 0, 1, rng), obs_labels(25, 3, rng)};
  const std::vector<Batch> data{batch};
  obs_train(dense, batch, CrossEntropy{}, 200, 0.02f);
  apply_mask(dense);
  const std::int64_t n = get_network_weight_count(dense);

  MaskedDeepFFN some = dense, packed = pack(dense);
  const auto report = optimal_brain_surgeon(some, data, absolute(9));
  REQUIRE(report.after() == n - 9);
  REQUIRE(!report.stopped);
  REQUIRE(report.loss_after == Approx(double{CrossEntropy{}(some, batch).item()}).epsilon(1e-5));
  optimal_brain_surgeon(packed, data, absolute(9));
  std::vector<Mask> masks;
  each_masked(std::as_const(some), [&](const auto& l) { masks.push_back(l.mask()); });
  std::size_t k = 0;
  each_masked(std::as_const(packed), [&](const auto& l) { REQUIRE(l.mask() == masks[k++]); });
  require_close(packed(Var(batch.x)).value(), some(Var(batch.x)).value(), 1e-3, 1e-3);
  for (const auto& layer : report.layers) REQUIRE(layer.after <= layer.before);

  MaskedDeepFFN bounded = dense;
  const double bound = 2 * report.loss_before + 0.05;
  const auto stopped = optimal_brain_surgeon(bounded, data, percentage(100), CrossEntropy{}, {.max_loss = bound});
  REQUIRE(stopped.stopped);
  REQUIRE(stopped.loss_after <= bound);
  REQUIRE(CrossEntropy{}(bounded, batch).item() <= static_cast<float>(bound) * 1.00001f);
  REQUIRE(stopped.after() < n);
  MaskedDeepFFN bucketed = dense;
  const auto paid = optimal_brain_surgeon(bucketed, data, bucket(0.01));
  REQUIRE(paid.predicted <= 0.01);
  REQUIRE(paid.after() < n);
  MaskedDeepFFN few = dense;
  REQUIRE(optimal_brain_surgeon(few, data, remaining(4)).after() == 4);
  MaskedDeepFFN none = dense;
  REQUIRE(optimal_brain_surgeon(none, data, percentage(100)).after() == 0);

  // Every parameter that is left may move, and a packed network of branches has no layers to tell apart.
  LayeredGraph structure;
  for (int v = 0; v < 5; ++v) structure.add_node(v);
  for (const auto& [from, to] : {std::pair{0, 2}, {1, 2}, {2, 3}, {0, 3}, {2, 4}}) structure.add_edge(from, to);
  const MaskedDeepDAN dan(5, 3, structure, {.store = storage::full}, rng);
  MaskedDeepDAN dan_full = dan, dan_packed = pack(dan);
  const auto dan_before = get_network_weight_count(dan);
  optimal_brain_surgeon(dan_full, data, absolute(6), CrossEntropy{}, {.alpha = 1e-3});
  optimal_brain_surgeon(dan_packed, data, absolute(6), CrossEntropy{}, {.alpha = 1e-3});
  REQUIRE(get_network_weight_count(dan_full) == dan_before - 6);
  REQUIRE(get_network_weight_count(dan_packed) == dan_before - 6);
  REQUIRE(std::isfinite(CrossEntropy{}(dan_packed, batch).item()));
}

TEST_CASE("surgery of a whole network that cannot be leaves it as it was") {
  Rng rng(14);
  ObsNormed model(rng);
  const std::vector<Batch> data{{Tensor::normal({12, 6}, 0, 1, rng), obs_labels(12, 3, rng)}};
  const auto refused = [&](auto& m, const auto& from, const Budget& b, const SurgeonOptions& o,
                           std::initializer_list<const char*> parts) {
    obs_require_refused(
        m, [&](auto& it) { optimal_brain_surgeon(it, from, b, CrossEntropy{}, o); }, parts);
  };
  const char* op = "optimal_brain_surgeon: ";
  refused(model, std::vector<Batch>{}, percentage(10), {}, {op, "needs data"});
  refused(model, data, absolute(46), {}, {op, "46 of 45"});
  refused(model, data, remaining(46), {}, {op, "46 of 45"});
  refused(model, data, absolute(1), {.alpha = 0}, {op, "alpha"});
  refused(model, data, absolute(1), {.alpha = obs_nan}, {op, "alpha"});
  refused(model, data, absolute(1), {.refresh = 0}, {op, "anew"});
  std::vector<Batch> broken = data;
  broken[0].x(0, 0) = obs_nan;
  refused(model, broken, absolute(1), {}, {op, "not finite"});
  ObsNormed infinite = model;
  infinite.first.bias->mutable_value()(0) = std::numeric_limits<float>::infinity();
  refused(infinite, data, absolute(1), {}, {op, "not finite"});
  ObsPlain plain;
  refused(plain, data, absolute(1), {}, {op, "no masked layers"});
  ObsLayer big(200, 60, rng);
  const std::vector<Batch> wide{{Tensor::ones({1, 200}), Indices::zeros({1})}};
  refused(big, wide, absolute(1), {}, {op, "12060 of at most 10000"});
  ObsLayer learned(6, 3, rng);
  learned.layer = MaskedLinearLayer(6, 3, {.learnable_mask = true}, rng);
  refused(learned, data, absolute(1), {}, {op, "learned mask", "layer layer"});

  // A callback that throws, and one that accepts nothing.
  obs_require_refused(model,
                      [&](auto& m) {
                        optimal_brain_surgeon(m, data, absolute(1), CrossEntropy{}, {},
                                              [](const auto&) -> bool { throw Error("enough"); });
                      },
                      {"enough"});
  const auto before = obs_state(model);
  const auto report =
      optimal_brain_surgeon(model, data, absolute(3), CrossEntropy{}, {}, [](const auto&) { return false; });
  REQUIRE(report.stopped);
  REQUIRE(report.loss_after == report.loss_before);
  obs_require_same(obs_state(model), before);
  REQUIRE(optimal_brain_surgeon(model, data, absolute(0)).before() == 45);
  obs_require_same(obs_state(model), before);
  // Running statistics stay when it works; soft factors become part of the weights.
  const Tensor mean = model.norm.running_mean;
  REQUIRE(optimal_brain_surgeon(model, data, absolute(2)).after() == 43);
  REQUIRE(same_bits(model.norm.running_mean, mean));
  ObsLayer soft(6, 3, rng);
  soft.layer.set_soft_mask(Tensor::uniform({3, 6}, 0.5f, 2, rng));
  const Tensor effective = soft.layer.effective_weight();
  optimal_brain_surgeon(soft, data, absolute(1), CrossEntropy{}, {.alpha = 1e6});  // next to no compensation
  REQUIRE(soft.layer.mask().nnz() == 17);
  const Tensor left = soft.layer.effective_weight();
  soft.layer.mask().for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
    REQUIRE(left(r, c) == Approx(effective(r, c)).margin(1e-5));
  });
}

TEST_CASE("SquaredError is half the mean squared distance to targets or labels") {
  Rng rng(15);
  ObsLayer three(2, 3, rng), one(2, 1, rng);
  const Tensor x = Tensor::normal({4, 2}, 0, 1, rng), t = Tensor::normal({4, 3}, 0, 1, rng);
  const Indices labels = Indices::from({4}, {0, 2, 1, 1});
  no_grad guard;
  const Tensor y = three(Var(x)).value(), z = one(Var(x)).value();
  double to_targets = 0, to_classes = 0, to_numbers = 0;
  for (std::int64_t i = 0; i < 4; ++i) {
    for (std::int64_t k = 0; k < 3; ++k) {
      to_targets += 0.125 * std::pow(double{y(i, k)} - double{t(i, k)}, 2);
      to_classes += 0.125 * std::pow(1 / (1 + std::exp(-double{y(i, k)})) - (labels(i) == k ? 1 : 0), 2);
    }
    to_numbers += 0.125 * std::pow(double{z(i, 0)} - labels(i), 2);
  }
  REQUIRE(SquaredError{}(three, RegressionBatch{x, t}).item() == Approx(to_targets).epsilon(1e-5));
  REQUIRE(SquaredError{.sigmoid = true}(three, Batch{x, labels}).item() == Approx(to_classes).epsilon(1e-5));
  REQUIRE(SquaredError{}(one, Batch{x, labels}).item() == Approx(to_numbers).epsilon(1e-5));
  require_error([&] { SquaredError{}(one, RegressionBatch{x, t}); }, {"SquaredError: ", "shape"});
  require_error(
      [&] {
        SquaredError{}(three, Batch{x, Indices::from({4}, {0, 3, 1, 1})});
      },
      {"SquaredError: ", "3 of 3"});
}
