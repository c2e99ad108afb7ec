// What tests of criteria share: a MaskedDeepFFN in double, data, and what a criterion must not change.
#pragma once

#include <deepstruct/models/masked_deep_dan.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/nn/batch_norm.hpp>
#include <deepstruct/nn/conv.hpp>
#include <deepstruct/prune/prune.hpp>
#include <deepstruct/train/data.hpp>

#include "support/cases.hpp"

namespace test {

/// Values of a layer's weight, row by row.
using Rows = std::vector<double>;

/// relu(… relu(x Wᵀ + b) …) Wᵀ + b and the gradients of its cross entropy, as the equations say.
struct NaiveFFN {
  struct Layer {
    std::int64_t in, out;
    Rows w;  // 0 behind the mask
    Rows b;
    deepstruct::Mask mask;
  };
  std::vector<Layer> layers;

  explicit NaiveFFN(const deepstruct::MaskedDeepFFN& model) {
    deepstruct::each_masked(model, [&](const auto& layer) {
      Layer l{layer.in_features(), layer.out_features(), {}, {}, layer.mask()};
      for (float w : layer.effective_weight().to_vector()) l.w.push_back(double{w});
      for (float b : layer.bias->value().to_vector()) l.b.push_back(double{b});
      layers.push_back(std::move(l));
    });
  }
  /// What every layer reads, and the outputs.
  std::vector<Rows> run(Rows x) const {
    std::vector<Rows> all{std::move(x)};
    for (std::size_t k = 0; k < layers.size(); ++k) {
      Rows y = layers[k].b;
      for (std::int64_t r = 0; r < layers[k].out; ++r) {
        for (std::int64_t c = 0; c < layers[k].in; ++c) y[r] += layers[k].w[r * layers[k].in + c] * all[k][c];
        if (k + 1 < layers.size()) y[r] = std::max(0.0, y[r]);
      }
      all.push_back(std::move(y));
    }
    return all;
  }
  /// dL/dW of a sample, 0 behind the mask.
  std::vector<Rows> gradient(const Rows& x, std::int32_t label, double temperature = 1) const {
    const std::vector<Rows> h = run(x);
    double greatest = -1e300, sum = 0;
    for (double y : h.back()) greatest = std::max(greatest, y / temperature);
    for (double y : h.back()) sum += std::exp(y / temperature - greatest);
    Rows delta;
    for (std::size_t r = 0; r < h.back().size(); ++r)
      delta.push_back(
          (std::exp(h.back()[r] / temperature - greatest) / sum - (static_cast<std::int32_t>(r) == label ? 1 : 0)) /
          temperature);
    std::vector<Rows> g(layers.size());
    for (std::size_t k = layers.size(); k-- > 0;) {
      const Layer& l = layers[k];
      Rows below(static_cast<std::size_t>(l.in), 0.0);
      for (std::int64_t r = 0; r < l.out; ++r)
        for (std::int64_t c = 0; c < l.in; ++c) {
          g[k].push_back(l.mask.contains(r, c) ? delta[r] * h[k][c] : 0);
          below[c] += delta[r] * l.w[r * l.in + c];
        }
      for (std::int64_t c = 0; c < l.in && k > 0; ++c)
        if (!(h[k][c] > 0)) below[c] = 0;
      delta = std::move(below);
    }
    return g;
  }
};

/// Sample i of a tensor [b, …].
inline Rows sample(const deepstruct::Tensor& x, std::int64_t i) {
  Rows all;
  for (std::int64_t r = 0; r < x.shape().rows(); ++r) all.push_back(double{x.data()[r * x.ld() + i]});
  return all;
}
/// Calls f(x, label) for every sample and returns how many there are.
template <class F>
double each_labelled(const std::vector<deepstruct::Batch>& data, F&& f) {
  double n = 0;
  for (const deepstruct::Batch& batch : data)
    for (std::int64_t i = 0; i < batch.x.shape()[0]; ++i, ++n) f(sample(batch.x, i), batch.y(i));
  return n;
}
inline std::vector<Rows> mean_gradient(const NaiveFFN& net, const std::vector<deepstruct::Batch>& data,
                                       double temperature = 1) {
  std::vector<Rows> sum;
  const double n = each_labelled(data, [&](const Rows& x, std::int32_t label) {
    const std::vector<Rows> g = net.gradient(x, label, temperature);
    if (sum.empty()) sum.assign(g.size(), {});
    for (std::size_t k = 0; k < g.size(); ++k) {
      sum[k].resize(g[k].size(), 0);
      for (std::size_t e = 0; e < g[k].size(); ++e) sum[k][e] += g[k][e];
    }
  });
  for (Rows& layer : sum)
    for (double& g : layer) g /= n;
  return sum;
}

/// Batches of these sizes, inputs of a shape [features …] or [channels, h, w], normal.
inline std::vector<deepstruct::Batch> labelled(std::initializer_list<std::int64_t> counts, const deepstruct::Shape& x,
                                               std::int32_t classes, deepstruct::Rng& rng) {
  std::vector<deepstruct::Batch> data;
  for (std::int64_t n : counts) {
    deepstruct::Extents extents{n};
    for (std::int64_t d : x.extents()) extents.push_back(d);
    deepstruct::Batch batch{deepstruct::Tensor::normal(deepstruct::Shape(extents), 0, 1, rng),
                            deepstruct::Indices::zeros({n})};
    for (std::int64_t i = 0; i < n; ++i)
      batch.y(i) = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(classes)));
    data.push_back(std::move(batch));
  }
  return data;
}
/// A network whole, with holes in full storage (what stands in them is not a number), and with holes in packed storage.
template <class M>
std::vector<M> in_all_storages(const M& whole, double percent = 40) {
  M holes = whole;
  deepstruct::prune_network_by_saliency(holes, deepstruct::percentage(percent), {.exact = true});
  const M packed = deepstruct::pack(holes);
  deepstruct::each_masked(holes, [](auto& layer) {
    const deepstruct::Mask mask = layer.mask();
    const deepstruct::Tensor exists =
        deepstruct::detail::at_edges(layer, Rows(static_cast<std::size_t>(mask.nnz()), 1.0));
    for (std::int64_t k = 0; k < exists.shape().storage(); ++k)
      if (exists.data()[k] == 0) layer.weight.mutable_value().data()[k] = std::numeric_limits<float>::quiet_NaN();
  });
  return {whole, holes, packed};
}
/// The saliencies at the edges, layer by layer.
template <class M>
std::vector<Rows> edge_saliencies(const M& model) {
  std::vector<Rows> all;
  deepstruct::each_masked(model, [&](const auto& layer) {
    all.emplace_back();
    deepstruct::detail::edges_of(layer, layer.saliency()).for_each([&](std::int64_t, float s) {
      all.back().push_back(double{s});
    });
  });
  return all;
}
/// Entries of full matrices at the edges of masks.
template <class M>
std::vector<Rows> at_masks(const M& model, const std::vector<Rows>& full) {
  std::vector<Rows> all;
  deepstruct::each_masked(model, [&](const auto& layer) {
    const deepstruct::Mask mask = layer.mask();
    const Rows& rows = full[all.size()];
    all.emplace_back();
    mask.for_each(
        [&](std::int32_t, std::int64_t r, std::int64_t c) { all.back().push_back(rows[r * mask.cols() + c]); });
  });
  return all;
}
/// Equal within `relative` of the greatest magnitude of a layer.
inline void require_near(const std::vector<Rows>& got, const std::vector<Rows>& want, double relative) {
  REQUIRE(got.size() == want.size());
  for (std::size_t k = 0; k < got.size(); ++k) {
    REQUIRE(got[k].size() == want[k].size());
    double scale = 0;
    for (double w : want[k]) scale = std::max(scale, std::fabs(w));
    REQUIRE((scale > 0 || want[k].empty()));  // a comparison of zeros shows nothing
    for (std::size_t e = 0; e < got[k].size(); ++e)
      if (!(std::fabs(got[k][e] - want[k][e]) <= relative * scale))
        FAIL("layer " << k << ", edge " << e << ": got " << got[k][e] << ", want " << want[k][e] << ", scale "
                      << scale);
  }
}

/// All that a model holds but saliencies: values, slots, gradients, buffers, masks, flags.
template <class M>
std::vector<deepstruct::Tensor> state_of(const M& model) {
  using namespace deepstruct;
  struct All {
    std::vector<Tensor>& to;
    void operator()(const Path&, const Param& p) const {
      to.push_back(p.value());
      if (p.has_grad()) to.push_back(p.grad());
      for (const Param::Slot& s : p.slots()) to.push_back(s.value);
    }
    void operator()(const Path&, const Tensor& t) const { to.push_back(t); }
    void operator()(const Path&, const Mask& m) const { to.push_back(m.to_dense()); }
    void operator()(const Path&, const Dropout& d) const { to.push_back(Tensor::scalar(d.training)); }
    void operator()(const Path&, const BatchNorm2d& b) const { to.push_back(Tensor::scalar(b.training)); }
  };
  std::vector<Tensor> all;
  walk(model, All{all});
  return all;
}
inline void require_same_state(const std::vector<deepstruct::Tensor>& a, const std::vector<deepstruct::Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t k = 0; k < a.size(); ++k) REQUIRE(same_bits(a[k], b[k]));
}
/// A convolution, batch norm with statistics, dropout and a linear layer in training, with gradients left by a step.
inline auto conv_norm_net(deepstruct::Rng& rng, deepstruct::storage store = deepstruct::storage::full) {
  using namespace deepstruct;
  Sequential net{
      MaskedConv2d(1, 3, 3, {.store = store}, rng),          BatchNorm2d(3), ReLU(), Flatten(), Dropout(0.25f),
      MaskedLinearLayer(3 * 4 * 4, 3, {.store = store}, rng)};
  auto& norm = std::get<1>(net.modules);
  norm.running_mean = Tensor::normal({3}, 0, 1, rng);
  norm.running_var = Tensor::uniform({3}, 0.5, 2, rng);
  norm.bias->set_value(Tensor::normal({3}, 0, 1, rng));
  backward(sum(net(Tensor::normal({4, 1, 6, 6}, 0, 1, rng))));
  return net;
}
/// A criterion sets saliencies and nothing else.
template <class M, class F>
void require_only_saliencies_change(M model, F&& criterion) {
  backward(sum(model(deepstruct::Tensor::ones({4, 1, 6, 6}))));  // a copy has no gradients
  const auto before = state_of(model);
  criterion(model);
  require_same_state(state_of(model), before);
  deepstruct::each_masked(model, [](const auto& layer) { REQUIRE(layer.has_saliency()); });
}
/// A criterion throws an Error with these parts and nothing changes.
template <class M, class F>
void require_refused(M model, F&& criterion, std::initializer_list<const char*> parts) {
  deepstruct::each_masked(model,
                          [&](auto& layer) { layer.set_saliency(deepstruct::Tensor::full(layer.weight.shape(), 7)); });
  const auto before = state_of(model);
  require_error([&] { criterion(model); }, parts);
  require_same_state(state_of(model), before);
  deepstruct::each_masked(model, [](const auto& layer) {
    REQUIRE(same_bits(layer.saliency(), deepstruct::Tensor::full(layer.weight.shape(), 7)));
  });
}

/// A network of a graph with skip connections, by pairs of layers and in one CSR.
struct SkipNetworks {
  deepstruct::MaskedDeepDAN full, packed;

  explicit SkipNetworks(deepstruct::Rng& rng) : full(make(rng)), packed(deepstruct::pack(full)) {}
  static deepstruct::MaskedDeepDAN make(deepstruct::Rng& rng) {
    std::vector<deepstruct::Edge> edges;
    for (std::int32_t target = 4; target < 12; ++target)
      for (std::int32_t source = 0; source < target / 4 * 4; ++source)
        if (source == target - 4 || rng.uniform() < 0.7f) edges.push_back({source, target});
    deepstruct::Graph g(12, std::move(edges), true);
    std::vector<std::int32_t> layer;
    for (std::int32_t v = 0; v < 12; ++v) layer.push_back(v / 4);
    return {5, 3, deepstruct::LayeredGraph::with_layers(g, layer), {.store = deepstruct::storage::full}, rng};
  }
  /// Both lose the same connections by a criterion.
  template <class F>
  void require_same_choice(F&& criterion, double percent = 50) const {
    deepstruct::MaskedDeepDAN a = full, b = packed;
    deepstruct::prune(a, criterion, deepstruct::percentage(percent), {.exact = true});
    deepstruct::prune(b, criterion, deepstruct::percentage(percent), {.exact = true});
    REQUIRE(a.layer_first.mask() == b.layer_first.mask());
    REQUIRE(a.layer_out.mask() == b.layer_out.mask());
    std::int64_t gone = 0;
    for (const auto& [source, target] : full.connections()) {
      REQUIRE(a.mask(source, target) == b.mask(source, target));
      gone += full.mask(source, target).nnz() - a.mask(source, target).nnz();
    }
    REQUIRE(gone > 0);
  }
};

}  // namespace test
