// Optimal Brain Damage: every curvature against references in double and against the others, storage, errors.
#include <variant>

#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/batch_norm.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/nn/pool.hpp>
#include <deepstruct/prune/obd.hpp>
#include <deepstruct/train/data.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;
using test::same_bits;

namespace {

/// Modules one after the other, of one type whatever they are.
struct ObdChain {
  using Part = std::variant<MaskedLinearLayer, MaskedConv2d, ReLU, Tanh, Flatten, MaxPool2d, BatchNorm1d, LayerNorm>;
  std::vector<Part> parts;

  template <class... Parts>
  explicit ObdChain(Parts... all) {
    (parts.emplace_back(std::move(all)), ...);
  }
  Var operator()(const Var& x) const {
    Var y = x;
    for (const Part& part : parts) y = std::visit([&](const auto& module) { return module(y); }, part);
    return y;
  }
  MaskedLinearLayer& linear(std::size_t k) { return std::get<MaskedLinearLayer>(parts[k]); }
  static auto fields(auto& m) { return std::tuple{Field{"", m.parts}}; }
};

using ObdRows = std::vector<std::vector<double>>;

Batch obd_batch(const Shape& x, std::int32_t classes, Rng& rng) {
  const Draw labels = rng.draw();
  Indices y = Indices::zeros({x[0]});
  y.for_each([&](std::int64_t n, std::int32_t& c) {
    c = static_cast<std::int32_t>(labels.below(static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(classes)));
  });
  return {Tensor::normal(x, 0, 1, rng), y};
}
template <class M>
void obd_thin(M& model, double density, Rng& rng) {
  each_masked(model, [&](auto& layer) {
    layer.set_mask(Mask::random(layer.mask().rows(), layer.mask().cols(), density, rng));
  });
}
/// Saliencies at the edges, layer by layer.
template <class M>
ObdRows obd_saliencies(const M& model) {
  ObdRows all;
  each_masked(model, [&](const auto& layer) {
    all.emplace_back();
    for (float s : detail::EdgePlaces(layer).picked(layer.saliency()).to_vector()) all.back().push_back(double{s});
  });
  return all;
}
/// The saliencies that a curvature gives.
template <class M, class Data, class Loss = CrossEntropy>
ObdRows obd_by(Curvature curvature, M model, Data&& data, Loss loss = {}) {
  set_obd_saliency(model, data, loss, {.curvature = curvature});
  return obd_saliencies(model);
}
void obd_require_close(const ObdRows& got, const ObdRows& want, double rtol = 1e-3, double atol = 1e-6) {
  REQUIRE(got.size() == want.size());
  for (std::size_t k = 0; k < got.size(); ++k) {
    REQUIRE(got[k].size() == want[k].size());
    for (std::size_t e = 0; e < got[k].size(); ++e) {
      INFO("layer " << k << ", edge " << e << ": " << got[k][e] << " and " << want[k][e]);
      REQUIRE(std::abs(got[k][e] - want[k][e]) <= atol + rtol * std::abs(want[k][e]));
    }
  }
}
std::vector<double> obd_sorted(const ObdRows& rows) {
  std::vector<double> all;
  for (const auto& row : rows) all.insert(all.end(), row.begin(), row.end());
  std::sort(all.begin(), all.end());
  return all;
}
double obd_largest(const ObdRows& rows) {
  double most = 0;
  for (double v : obd_sorted(rows)) most = std::max(most, std::abs(v));
  return most;
}
std::vector<double> obd_softmax(std::vector<double> z) {
  const double most = *std::max_element(z.begin(), z.end());
  double total = 0;
  for (double& v : z) total += v = std::exp(v - most);
  for (double& v : z) v /= total;
  return z;
}

/// Masked layers with ReLU or tanh between them, in double, from a model.
struct ObdNet {
  struct Layer {
    Mask mask;
    std::vector<double> w, bias;  // w by edge
  };
  std::vector<Layer> layers;
  bool tanh;

  template <class M>
  ObdNet(const M& model, bool smooth) : tanh(smooth) {
    each_masked(model, [&](const auto& layer) {
      layers.push_back({layer.mask(), {}, {}});
      for (float w : detail::EdgePlaces(layer).picked(layer.weight.value()).to_vector())
        layers.back().w.push_back(double{w});
      for (float b : layer.bias->value().to_vector()) layers.back().bias.push_back(double{b});
    });
  }
  double f(double z) const { return tanh ? std::tanh(z) : std::max(z, 0.0); }
  double slope(double z) const { return tanh ? 1 - std::tanh(z) * std::tanh(z) : z > 0 ? 1.0 : 0.0; }
  /// Sums before the activations, layer by layer; the last are the outputs.
  ObdRows sums(std::vector<double> x) const {
    ObdRows all;
    for (const Layer& l : layers) {
      std::vector<double> z = l.bias;
      l.mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) { z[r] += l.w[e] * x[c]; });
      all.push_back(z);
      for (double& v : z) v = f(v);
      x = z;
    }
    return all;
  }
  template <class F>
  static void each_sample(const std::vector<Batch>& data, F&& sample) {
    for (const Batch& b : data)
      for (std::int64_t n = 0; n < b.x.shape()[0]; ++n) {
        std::vector<double> x;
        for (std::int64_t c = 0; c < b.x.shape()[1]; ++c) x.push_back(double{b.x(n, c)});
        sample(x, b.y(n));
      }
  }
  static double count(const std::vector<Batch>& data) {
    double n = 0;
    each_sample(data, [&](const auto&, std::int32_t) { ++n; });
    return n;
  }
  double loss(const std::vector<Batch>& data) const {
    double total = 0;
    each_sample(
        data, [&](const std::vector<double>& x, std::int32_t y) { total -= std::log(obd_softmax(sums(x).back())[y]); });
    return total / count(data);
  }
  /// ½ w² (second difference of the loss).
  ObdRows second_differences(const std::vector<Batch>& data) {
    const double e = 1e-4, middle = loss(data);
    ObdRows all;
    for (Layer& l : layers) {
      all.emplace_back();
      for (double& w : l.w) {
        const double before = w;
        w = before + e;
        const double up = loss(data);
        w = before - e;
        const double down = loss(data);
        w = before;
        all.back().push_back(0.5 * before * before * (up - 2 * middle + down) / (e * e));
      }
    }
    return all;
  }
  /// ½ w² Σ_n jᵀ (diag p − p pᵀ) j / N with j = ∂z/∂w by differences.
  ObdRows gauss_newton(const std::vector<Batch>& data) {
    const double e = 1e-5;
    ObdRows all;
    for (Layer& l : layers) {
      all.emplace_back();
      for (double& w : l.w) {
        double h = 0;
        each_sample(data, [&](const std::vector<double>& x, std::int32_t) {
          const double before = w;
          const std::vector<double> p = obd_softmax(sums(x).back());
          w = before + e;
          const std::vector<double> up = sums(x).back();
          w = before - e;
          const std::vector<double> down = sums(x).back();
          w = before;
          double mean = 0, square = 0;
          for (std::size_t c = 0; c < p.size(); ++c) {
            const double j = (up[c] - down[c]) / (2 * e);
            mean += p[c] * j;
            square += p[c] * j * j;
          }
          h += square - mean * mean;
        });
        all.back().push_back(0.5 * w * w * h / count(data));
      }
    }
    return all;
  }
  /// ½ w² h by LeCun's recursion: p(1 − p) at the outputs, f'² and W² on the way back.
  ObdRows layerwise(const std::vector<Batch>& data) const {
    ObdRows all;
    for (const Layer& l : layers) all.emplace_back(l.w.size(), 0.0);
    each_sample(data, [&](const std::vector<double>& x, std::int32_t) {
      const ObdRows z = sums(x);
      std::vector<double> h = obd_softmax(z.back());
      for (double& p : h) p = p * (1 - p);
      for (std::size_t k = layers.size(); k-- > 0;) {
        const Layer& l = layers[k];
        std::vector<double> below(static_cast<std::size_t>(l.mask.cols()), 0);
        l.mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
          const double in = k == 0 ? x[c] : f(z[k - 1][c]);
          all[k][e] += 0.5 * l.w[e] * l.w[e] * in * in * h[r] / count(data);
          below[c] += l.w[e] * l.w[e] * h[r];
        });
        for (std::size_t c = 0; k > 0 && c < below.size(); ++c) below[c] *= slope(z[k - 1][c]) * slope(z[k - 1][c]);
        h = below;
      }
    });
    return all;
  }
};

/// in → 7 → 6 → 3 classes.
template <class A>
ObdChain obd_three(Rng& rng) {
  return ObdChain(MaskedLinearLayer(5, 7, rng), A(), MaskedLinearLayer(7, 6, rng), A(), MaskedLinearLayer(6, 3, rng));
}
/// Batches of different size, one of them empty.
std::vector<Batch> obd_data(Rng& rng) {
  return {obd_batch({9, 5}, 3, rng), obd_batch({0, 5}, 3, rng), obd_batch({4, 5}, 3, rng)};
}

/// Mean squared error summed over outputs, of numbers.
struct ObdSquared {
  template <class B>
  Var of_outputs(const Var& z, const B& batch) const {
    return sum(square(sub(z, batch.y))) * (1.0f / static_cast<float>(z.shape()[0]));
  }
  template <class M, class B>
  Var operator()(const M& model, const B& batch) const {
    return of_outputs(model(batch.x), batch);
  }
};
/// Samples meet in this loss.
struct ObdMixed {
  Var of_outputs(const Var& z, const Batch&) const { return square(sum(square(z))); }
  template <class M>
  Var operator()(const M& m, const Batch& b) const {
    return of_outputs(m(b.x), b);
  }
};
/// A layer that runs twice.
struct ObdTwice {
  MaskedLinearLayer again, out;
  explicit ObdTwice(Rng& rng) : again(5, 5, rng), out(5, 3, rng) {}
  Var operator()(const Var& x) const { return out(relu(again(relu(again(x))))); }
  static auto fields(auto& m) { return std::tuple{Field{"again", m.again}, Field{"out", m.out}}; }
};
/// h by a layer, then twice h in one of several ways, then a layer.
struct ObdDoubled {
  MaskedLinearLayer first, out;
  int way = 0;
  explicit ObdDoubled(Rng& rng) : first(5, 4, rng), out(4, 3, rng) {}
  Var operator()(const Var& x) const {
    const Var h = tanh(first(x));
    switch (way) {
      case 0:
        return out(h * 2.0f);
      case 1:
        return out(h + h);
      case 2:
        return out(narrow(cat({h * 2.0f, h}, 1), 1, 0, 4));
      case 3:
        return out(h + sum(h, Over(1, true)));  // one number for all of a row
      default:
        return out(h) + out(h - h);
    }
  }
  static auto fields(auto& m) { return std::tuple{Field{"first", m.first}, Field{"out", m.out}}; }
};
/// A layer that runs at every step of sequences.   [b, t, 5] → [b, 3]
struct ObdSequence {
  MaskedLinearLayer each, out;
  explicit ObdSequence(Rng& rng) : each(5, 4, rng), out(4, 3, rng) {}
  Var operator()(const Var& x) const { return out(sum(relu(each(x)), 1)); }
  static auto fields(auto& m) { return std::tuple{Field{"each", m.each}, Field{"out", m.out}}; }
};
/// ½ w² Σ_n jᵀ (diag p − p pᵀ) j / N with the gradients j of every output of every sample.
template <class M>
ObdRows obd_sample_gauss_newton(const M& model, const Batch& batch) {
  ObdRows all;
  Vars weights;
  std::vector<detail::EdgePlaces> places;
  each_masked(model, [&](const auto& layer) {
    weights.push_back(layer.weight.var());
    places.emplace_back(layer);
    all.emplace_back(static_cast<std::size_t>(places.back().count()), 0.0);
  });
  const std::int64_t samples = batch.x.shape()[0];
  for (std::int64_t n = 0; n < samples; ++n) {
    const Var z = model(narrow(batch.x, 0, n, 1));
    std::vector<double> logits;
    for (float v : z.value().to_vector()) logits.push_back(double{v});
    const std::vector<double> p = obd_softmax(logits);
    std::vector<Vars> j;
    for (std::size_t c = 0; c < p.size(); ++c)
      j.push_back(grad(select(select(z, 0, 0), 0, static_cast<std::int64_t>(c)), weights));
    for (std::size_t k = 0; k < weights.size(); ++k) {
      ObdRows at;
      for (const Vars& of_output : j) {
        at.emplace_back();
        for (float v : places[k].picked(of_output[k].value()).to_vector()) at.back().push_back(double{v});
      }
      const Tensor w = places[k].picked(weights[k].value());
      for (std::size_t e = 0; e < all[k].size(); ++e) {
        double mean = 0, square = 0;
        for (std::size_t c = 0; c < p.size(); ++c) mean += p[c] * at[c][e], square += p[c] * at[c][e] * at[c][e];
        const double weight = double{w(static_cast<std::int64_t>(e))};
        all[k][e] += 0.5 * weight * weight * (square - mean * mean) / static_cast<double>(samples);
      }
    }
  }
  return all;
}
constexpr Curvature obd_all[] = {Curvature::exact, Curvature::hutchinson, Curvature::gauss_newton,
                                 Curvature::layerwise};

}  // namespace

TEST_CASE("exact OBD saliency is half w squared times the second difference of the mean loss") {
  Rng rng(3);
  const auto data = obd_data(rng);
  const auto run = [&](auto model, bool smooth) {
    obd_thin(model, 0.7, rng);
    const ObdRows want = ObdNet(model, smooth).second_differences(data);
    REQUIRE(obd_largest(want) > 1e-3);
    obd_require_close(obd_by(Curvature::exact, model, data), want);
    obd_require_close(obd_by(Curvature::exact, pack(model), data), want);
    set_obd_saliency(model, data);
    each_masked(model, [](const auto& layer) {  // what stands behind the mask does not matter
      layer.saliency().for_each([&](std::int64_t i, float s) {
        const std::int64_t in = layer.mask().cols();
        if (!layer.mask().contains(i / in, i % in)) REQUIRE(s == 0);
      });
    });
  };
  run(obd_three<ReLU>(rng), false);
  run(obd_three<Tanh>(rng), true);
}

TEST_CASE("exact OBD saliency may be negative where the loss is concave in a weight") {
  Rng rng(8);
  auto model = obd_three<Tanh>(rng);
  each_param(model, [](Param& p) { p.set_value((p.var() * 3.0f).value()); });
  const auto data = obd_data(rng);
  const ObdRows s = obd_by(Curvature::exact, model, data);
  REQUIRE(obd_sorted(s).front() < -1e-3);
  obd_require_close(s, ObdNet(model, true).second_differences(data), 1e-3, 1e-5);
}

TEST_CASE("Gauss-Newton OBD saliency is exact on ReLU networks and the definition elsewhere") {
  Rng rng(4);
  const auto data = obd_data(rng);
  auto relu_net = obd_three<ReLU>(rng);
  auto smooth = obd_three<Tanh>(rng);
  obd_thin(relu_net, 0.8, rng);
  obd_thin(smooth, 0.8, rng);
  const ObdRows exact = obd_by(Curvature::exact, relu_net, data);
  obd_require_close(obd_by(Curvature::gauss_newton, relu_net, data), exact, 1e-4);
  obd_require_close(obd_by(Curvature::gauss_newton, pack(relu_net), data), exact, 1e-4);
  each_param(smooth, [](Param& p) { p.set_value((p.var() * 2.0f).value()); });
  const ObdRows want = ObdNet(smooth, true).gauss_newton(data);
  obd_require_close(obd_by(Curvature::gauss_newton, smooth, data), want);
  obd_require_close(obd_by(Curvature::gauss_newton, pack(smooth), data), want);
  for (double s : obd_sorted(want)) REQUIRE(s >= 0);
}

TEST_CASE("Gauss-Newton OBD sees every use of a layer, within a run and within a sample") {
  Rng rng(5);
  ObdTwice twice(rng);
  obd_thin(twice, 0.8, rng);
  const Batch flat = obd_batch({6, 5}, 3, rng);
  obd_require_close(obd_by(Curvature::gauss_newton, twice, std::vector{flat}), obd_sample_gauss_newton(twice, flat),
                    1e-4);
  ObdSequence sequence(rng);
  obd_thin(sequence, 0.8, rng);
  const Batch steps = obd_batch({4, 3, 5}, 3, rng);
  const ObdRows exact = obd_by(Curvature::exact, sequence, std::vector{steps});
  obd_require_close(obd_by(Curvature::gauss_newton, sequence, std::vector{steps}), exact, 1e-4);
  obd_require_close(obd_by(Curvature::gauss_newton, pack(sequence), std::vector{steps}), exact, 1e-4);
}

TEST_CASE("layerwise OBD saliency is LeCun's recursion, exact for one layer") {
  Rng rng(6);
  const auto data = obd_data(rng);
  const auto run = [&](auto model, bool smooth) {
    obd_thin(model, 0.7, rng);
    const ObdRows want = ObdNet(model, smooth).layerwise(data);
    obd_require_close(obd_by(Curvature::layerwise, model, data), want);
    obd_require_close(obd_by(Curvature::layerwise, pack(model), data), want);
    const ObdRows exact = obd_by(Curvature::exact, model, data);
    obd_require_close({obd_by(Curvature::layerwise, model, data).back()}, {exact.back()}, 1e-4);  // last layer: exact
  };
  run(obd_three<ReLU>(rng), false);
  run(obd_three<Tanh>(rng), true);
}

TEST_CASE("layerwise OBD goes through sums, parts and unions of values") {
  Rng rng(20);
  const auto data = obd_data(rng);
  ObdDoubled model(rng);
  const ObdRows want = obd_by(Curvature::layerwise, model, data);
  for (const int way : {1, 2}) {
    model.way = way;
    obd_require_close(obd_by(Curvature::layerwise, model, data), want, 1e-5);
  }
  model.way = 3;
  require_error([&] { set_obd_saliency(model, data, {}, {.curvature = Curvature::layerwise}); },
                {"set_obd_saliency: layerwise does not know"});
  model.way = 4;  // what is always 0 hands nothing back
  ObdChain plain(model.first, Tanh(), model.out);
  plain.linear(2).bias->set_value((plain.linear(2).bias->var() * 2.0f).value());
  obd_require_close(obd_by(Curvature::layerwise, model, data), obd_by(Curvature::layerwise, plain, data), 1e-5);
}

TEST_CASE("all OBD curvatures of softmax regression are its Hessian, Hutchinson's within its variance") {
  Rng rng(7);
  const Batch batch = obd_batch({20, 4}, 3, rng);
  MaskedLinearLayer layer(4, 3, rng);
  layer.set_mask(Mask::from_edges(3, 4, {{0, 0}, {0, 2}, {1, 1}, {1, 2}, {1, 3}, {2, 0}, {2, 3}}));
  ObdChain model(layer);
  const std::vector data{batch};
  const auto edges = detail::EdgePlaces(layer).edges;
  ObdRows hessian(edges.size(), std::vector<double>(edges.size(), 0));
  ObdNet::each_sample(data, [&](const std::vector<double>& x, std::int32_t) {
    const auto p = obd_softmax(ObdNet(model, false).sums(x).back());
    for (std::size_t i = 0; i < edges.size(); ++i)
      for (std::size_t j = 0; j < edges.size(); ++j) {
        const auto [r, c] = edges[i];
        const auto [q, d] = edges[j];
        hessian[i][j] += x[c] * x[d] * ((r == q ? p[r] : 0) - p[r] * p[q]) / 20;
      }
  });
  std::vector<double> want, w;
  for (std::size_t i = 0; i < edges.size(); ++i) {
    w.push_back(double{layer.weight.value()(edges[i].first, edges[i].second)});
    want.push_back(0.5 * w[i] * w[i] * hessian[i][i]);
  }
  for (const Curvature c : {Curvature::exact, Curvature::gauss_newton, Curvature::layerwise}) {
    obd_require_close(obd_by(c, model, data), {want}, 1e-4);
    obd_require_close(obd_by(c, pack(model), data), {want}, 1e-4);
  }

  const std::int64_t probes = 400;
  const auto estimate = [&](auto net, std::uint64_t seed) {
    Rng own(seed);
    set_obd_saliency(net, data, {}, {.curvature = Curvature::hutchinson, .probes = probes}, own);
    return obd_saliencies(net)[0];
  };
  double used = 0;
  for (const std::uint64_t seed : {1, 2, 3}) {
    const auto got = estimate(model, seed);
    for (std::size_t i = 0; i < edges.size(); ++i) {
      double variance = 0;
      for (std::size_t j = 0; j < edges.size(); ++j)
        if (j != i) variance += hessian[i][j] * hessian[i][j] / static_cast<double>(probes);
      const double sigma = 0.5 * w[i] * w[i] * std::sqrt(variance);
      INFO("edge " << i << ": " << got[i] << ", expected " << want[i] << " ± " << sigma);
      REQUIRE(std::abs(got[i] - want[i]) <= 4 * sigma + 1e-6);
      used = std::max(used, std::abs(got[i] - want[i]) / sigma);
    }
  }
  REQUIRE(used > 0.2);  // it is an estimate
  REQUIRE(estimate(model, 1) == estimate(model, 1));
  REQUIRE(estimate(model, 1) != estimate(model, 2));
  obd_require_close({estimate(pack(model), 1)}, {estimate(model, 1)}, 1e-4);
}

TEST_CASE("the loss of a linear model at its optimum rises by the OBD saliency when a weight goes") {
  Rng rng(9);
  ObdChain model(MaskedLinearLayer(4, 2, {.bias = false}, rng));
  auto& layer = model.linear(0);
  layer.set_mask(Mask::from_edges(2, 4, {{0, 0}, {0, 1}, {0, 3}, {1, 1}, {1, 2}}));
  std::vector<BasicBatch<Tensor>> data;
  for (const std::int64_t n : {7, 12}) {
    const Tensor x = Tensor::normal({n, 4}, 0, 1, rng);
    data.push_back({x, model(x).value()});
  }
  const auto loss = [&](const auto& m) {
    return (double{ObdSquared()(m, data[0]).item()} * 7 + double{ObdSquared()(m, data[1]).item()} * 12) / 19;
  };
  ObdRows rises(1);
  layer.mask().for_each([&](std::int32_t, std::int64_t r, std::int64_t c) {
    auto without = model;
    without.linear(0).set_edge(r, c, false);
    rises[0].push_back(loss(without));
  });
  for (const Curvature c : {Curvature::exact, Curvature::gauss_newton, Curvature::layerwise})
    obd_require_close(obd_by(c, model, data, ObdSquared()), rises, 1e-4);
  const auto any = [](const auto& m, const auto& batch) { return ObdSquared()(m, batch); };
  obd_require_close(obd_by(Curvature::exact, model, data, any), rises, 1e-4);
  // One input: no mixed derivatives, so that every probe is exact, in batches of any size.
  ObdChain single(MaskedLinearLayer(1, 3, {.bias = false}, rng));
  for (auto& batch : data) {
    batch.x = Tensor::normal({batch.x.shape()[0], 1}, 0, 1, rng);
    batch.y = single(batch.x).value();
  }
  const ObdRows exact = obd_by(Curvature::exact, single, data, ObdSquared());
  obd_require_close(obd_by(Curvature::hutchinson, single, data, ObdSquared()), exact, 1e-4);
}

TEST_CASE("OBD saliencies of convolutions agree between curvatures and storages") {
  Rng rng(10);
  ObdChain net(MaskedConv2d(2, 4, 3, {.conv = {.padding = {1, 1}}}, rng), ReLU(), MaxPool2d(2),
               MaskedConv2d(4, 4, {1, 2}, {.conv = {.stride = {1, 2}, .groups = 2}}, rng), ReLU(), Flatten(),
               MaskedLinearLayer(8, 3, rng));
  const std::vector data{obd_batch({5, 2, 4, 5}, 3, rng), obd_batch({3, 2, 4, 5}, 3, rng)};
  for (const double density : {1.0, 0.8, 0.5}) {
    obd_thin(net, density, rng);
    const ObdRows exact = obd_by(Curvature::exact, net, data);
    REQUIRE(obd_largest(exact) > 1e-4);
    obd_require_close(obd_by(Curvature::exact, pack(net), data), exact, 1e-4);
    obd_require_close(obd_by(Curvature::gauss_newton, net, data), exact, 1e-3);
    obd_require_close(obd_by(Curvature::gauss_newton, pack(net), data), exact, 1e-3);
    const ObdRows layers = obd_by(Curvature::layerwise, net, data);
    obd_require_close(obd_by(Curvature::layerwise, pack(net), data), layers, 1e-4);
    obd_require_close({layers.back()}, {exact.back()}, 1e-4);
  }
  // A kernel as large as the image is used once and is a linear layer: layerwise is exact, also behind the recursion of
  // a layer that has one output.
  ObdChain whole(MaskedConv2d(2, 3, {4, 5}, {}, rng), Flatten());
  obd_thin(whole, 0.5, rng);
  for (const bool packed : {false, true}) {
    const auto model = packed ? pack(whole) : whole;
    obd_require_close(obd_by(Curvature::layerwise, model, data), obd_by(Curvature::exact, model, data), 1e-4);
  }
  // A chain of single units: no mixed derivatives are left out.
  ObdChain chain(MaskedConv2d(2, 1, {4, 5}, {}, rng), Tanh(), MaskedConv2d(1, 3, 1, {}, rng), Flatten());
  for (const bool packed : {false, true}) {
    const auto model = packed ? pack(chain) : chain;
    const ObdRows h = obd_by(Curvature::layerwise, model, data), gn = obd_by(Curvature::gauss_newton, model, data);
    REQUIRE(h[0].size() == 40);
    obd_require_close({h[1]}, {gn[1]}, 1e-4);
    // Per sample the recursion is Σ_c w_c² p_c(1 − p_c) where Gauss-Newton has the variance of w: one ratio for all
    // weights of a sample.
    const std::vector<Batch> single{obd_batch({1, 2, 4, 5}, 3, rng)};
    const ObdRows a = obd_by(Curvature::layerwise, model, single), b = obd_by(Curvature::gauss_newton, model, single);
    for (std::size_t e = 1; e < 40; ++e)
      REQUIRE(std::abs(a[0][e] * b[0][0] - b[0][e] * a[0][0]) <= 1e-4 * a[0][e] * b[0][0]);
  }
}

TEST_CASE("OBD saliencies of a DAN are the same in either storage") {
  Rng rng(11);
  LayeredGraph structure;
  for (int v = 0; v < 6; ++v) structure.add_node(v);
  for (const auto& [from, to] : {std::pair{0, 2}, {1, 2}, {1, 3}, {2, 4}, {3, 4}, {0, 4}, {1, 5}, {3, 5}})
    structure.add_edge(from, to);
  const MaskedDeepDAN packed(5, 3, structure, {}, rng);
  const MaskedDeepDAN full = unpack(packed);
  const auto data = obd_data(rng);
  const auto exact = obd_sorted(obd_by(Curvature::exact, packed, data));
  REQUIRE(exact.back() > 1e-4);
  for (const auto& got : {obd_by(Curvature::exact, full, data), obd_by(Curvature::gauss_newton, packed, data),
                          obd_by(Curvature::gauss_newton, full, data)})
    obd_require_close({obd_sorted(got)}, {exact});
  REQUIRE(obd_largest(obd_by(Curvature::layerwise, full, data)) > 0);
  auto copy = packed;
  require_error([&] { set_obd_saliency(copy, data, {}, {.curvature = Curvature::layerwise}); },
                {"set_obd_saliency: unsupported op layered_dag"});
}

TEST_CASE("OBD saliency under a soft mask belongs to the parameter, whatever the curvature") {
  Rng rng(12);
  auto model = obd_three<ReLU>(rng);
  auto& first = model.linear(0);
  first.set_soft_mask(Tensor::uniform({7, 5}, 0.2f, 2, rng));
  const auto data = obd_data(rng);
  const ObdRows exact = obd_by(Curvature::exact, model, data);
  obd_require_close(obd_by(Curvature::gauss_newton, model, data), exact, 1e-4);
  auto plain = model;  // the same function
  const Tensor w = first.effective_weight();
  plain.linear(0).set_mask(Mask::ones(7, 5));
  plain.linear(0).weight.set_value(w);
  obd_require_close(obd_by(Curvature::exact, plain, data), exact, 1e-4);
  obd_require_close(obd_by(Curvature::layerwise, model, data), obd_by(Curvature::layerwise, plain, data), 1e-4);
}

TEST_CASE("OBD saliencies have the same bits for every number of threads") {
  Rng rng(13);
  auto model = obd_three<ReLU>(rng);
  obd_thin(model, 0.8, rng);
  const auto data = obd_data(rng);
  ObdChain conv(MaskedConv2d(2, 3, 2, {}, rng), ReLU(), Flatten(), MaskedLinearLayer(12, 3, rng));
  const std::vector images{obd_batch({5, 2, 3, 3}, 3, rng)};
  test::same_for_all_threads([&] {
    std::vector<Tensor> all;
    const auto take = [&](auto net, const auto& from) {
      for (const Curvature c : obd_all) {
        Rng own(1);
        set_obd_saliency(net, from, {}, {.curvature = c, .probes = 3}, own);
        each_masked(net, [&](const auto& layer) { all.push_back(layer.saliency()); });
      }
    };
    take(model, data);
    take(pack(model), data);
    take(conv, images);
    return all;
  });
}

TEST_CASE("setting OBD saliencies changes nothing else") {
  Rng rng(14);
  ObdChain model(MaskedLinearLayer(5, 6, rng), BatchNorm1d(6), ReLU(), MaskedLinearLayer(6, 3, rng));
  const auto data = obd_data(rng);
  backward(cross_entropy(model(data[0].x), data[0].y));
  const auto state = [&] {
    std::vector<Tensor> all;
    each_param(model, [&](const Param& p) {
      REQUIRE(p.var().wants_grad());
      all.push_back(p.value());
      all.push_back(p.grad());
    });
    const auto& norm = std::get<BatchNorm1d>(model.parts[1]);
    all.insert(all.end(), {norm.running_mean, norm.running_var, norm.num_batches_tracked});
    return all;
  };
  const auto before = state();
  set_obd_saliency(model, data);  // in training: through the statistics of the batch
  set_obd_saliency(model, data, {}, {.curvature = Curvature::hutchinson, .probes = 2}, rng);
  set_training(model, false);
  set_obd_saliency(model, data, {}, {.curvature = Curvature::gauss_newton});
  obd_require_close(obd_saliencies(model), obd_by(Curvature::exact, model, data), 1e-4);
  const auto after = state();
  for (std::size_t k = 0; k < before.size(); ++k) REQUIRE(same_bits(before[k], after[k]));
}

TEST_CASE("optimal_brain_damage prunes what the loss misses least, not what is small") {
  Rng rng(15);
  Tensor x = Tensor::normal({30, 3}, 0, 1, rng);
  for (std::int64_t n = 0; n < 30; ++n) x(n, 0) *= 0.01f;  // the largest weight sees the smallest input
  MaskedLinearLayer layer(3, 1, {.bias = false}, rng);
  layer.weight.set_value(Tensor::from({1, 3}, {5, 1, 2}));
  const std::vector<BasicBatch<Tensor>> data{{x, layer(x).value()}};
  for (const Curvature c : {Curvature::exact, Curvature::gauss_newton, Curvature::layerwise, Curvature::hutchinson})
    for (const bool packed : {false, true}) {
      ObdChain model(layer);
      if (packed) model = pack(model);
      const PruneReport report =
          optimal_brain_damage(model, data, absolute(1), ObdSquared(), {.curvature = c}, {.exact = true}, rng);
      REQUIRE(report.before() == 3);
      REQUIRE(model.linear(0).mask() == Mask::from_edges(1, 3, {{0, 1}, {0, 2}}));
      optimal_brain_damage(model, data, absolute(1), ObdSquared(), {.curvature = c}, {.exact = true}, rng);
      REQUIRE(model.linear(0).mask() == Mask::from_edges(1, 3, {{0, 2}}));
    }
  MaskedDeepFFN net(5, 3, {8}, {}, rng);
  const Batch batch = obd_batch({10, 5}, 3, rng);
  const Dataset set(batch.x, batch.y);
  optimal_brain_damage(net, batches(set, 4), percentage(50), {}, {}, {.exact = true});
  REQUIRE(get_network_weight_count(net) == 32);
  net.layer_first.set_mask(Mask::zeros(8, 5));  // a layer without an edge
  for (const Curvature c : obd_all) optimal_brain_damage(net, batches(set, 4), percentage(10), {}, {.curvature = c});
}

TEST_CASE("OBD on bad input is an Error and leaves the model as it was") {
  Rng rng(16);
  const auto data = obd_data(rng);
  ObdChain model(MaskedLinearLayer(5, 6, rng), ReLU(), MaskedLinearLayer(6, 3, rng));
  auto& first = model.linear(0);
  first.set_saliency(Tensor::full({6, 5}, 0.5f));
  const auto fails = [&](auto& net, const auto& from, Curvature c, std::initializer_list<const char*> text, auto loss,
                         std::int64_t probes = 4) {
    const ObdRows before = obd_saliencies(net);
    const std::int64_t weights = get_network_weight_count(net);
    require_error([&] { set_obd_saliency(net, from, loss, {.curvature = c, .probes = probes}, rng); }, text);
    require_error(
        [&] { optimal_brain_damage(net, from, percentage(50), loss, {.curvature = c, .probes = probes}, {}, rng); },
        text);
    REQUIRE(obd_saliencies(net) == before);
    REQUIRE(get_network_weight_count(net) == weights);
  };
  ObdChain dense(LayerNorm(5));
  const std::vector<Batch> none, empty{obd_batch({0, 5}, 3, rng)};
  const CrossEntropy entropy;
  for (const Curvature c : obd_all) {
    fails(model, none, c, {"set_obd_saliency: needs data"}, entropy);
    fails(model, empty, c, {"set_obd_saliency: needs data"}, entropy);
    fails(dense, data, c, {"set_obd_saliency: the model has no masked layers"}, entropy);
    auto broken = model;
    broken.linear(2).weight.mutable_value()(1, 2) = std::numeric_limits<float>::quiet_NaN();
    const auto weights = obd_saliencies(std::as_const(model));
    require_error([&] { set_obd_saliency(broken, data, {}, {.curvature = c}); },
                  {"set_obd_saliency: the loss is not finite"});
    REQUIRE(obd_saliencies(broken)[0] == weights[0]);
    // A loss that is finite, and a saliency that is not: w² overflows.
    auto huge = model;
    huge.linear(2).weight.set_value(Tensor::full({3, 6}, 8e19f));
    huge.linear(0).weight.set_value(Tensor::zeros({6, 5}));
    huge.linear(0).bias->set_value(Tensor::full({6}, 1.0f));
    huge.linear(2).bias->set_value(Tensor::zeros({3}));
    fails(huge, data, c, {"set_obd_saliency: a saliency is not finite"}, entropy);
  }
  fails(model, data, Curvature::hutchinson, {"needs at least one probe (0)"}, entropy, 0);
  require_error([&] { optimal_brain_damage(model, data, percentage(50), {}, {}, {.keep_per_layer = -1}); }, {"floor"});
  REQUIRE(first.saliency() == Tensor::full({6, 5}, 0.5f));

  const auto penalised = [](const auto& m, const auto& b) { return cross_entropy(m(b.x), b.y); };
  for (const Curvature c : {Curvature::gauss_newton, Curvature::layerwise}) {
    fails(model, data, c, {"set_obd_saliency: this curvature needs a loss of the outputs", "of_outputs"}, penalised);
    fails(model, data, c, {"set_obd_saliency: this curvature needs a loss that is a sum over samples"}, ObdMixed());
  }
  fails(model, data, Curvature::exact, {"set_obd_saliency: the loss must have exactly one element"},
        [](const auto& m, const auto& b) { return m(b.x); });
  ObdChain norm(MaskedLinearLayer(5, 6, rng), BatchNorm1d(6), MaskedLinearLayer(6, 3, rng));
  fails(norm, data, Curvature::gauss_newton, {"set_obd_saliency: gauss_newton needs outputs", "set_training"}, entropy);
  ObdChain layer_norm(MaskedLinearLayer(5, 6, rng), LayerNorm(6), MaskedLinearLayer(6, 3, rng));
  fails(layer_norm, data, Curvature::layerwise, {"set_obd_saliency: unsupported op"}, entropy);
}
