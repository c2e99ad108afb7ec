// ops.initialisers: bounds and moments of our own samples.
#include "families.hpp"

#include "deepstruct/nn/layers.hpp"
#include "deepstruct/nn/linear.hpp"

namespace golden {

namespace {

using Make = ds::Tensor (*)(const ds::Shape&, ds::Rng&);
using N = ds::Nonlinearity;

const std::map<std::string, Make> initialisers = {
    {"kaiming_uniform(a=sqrt(5)) [Linear/Conv default]",
     [](const ds::Shape& s, ds::Rng& rng) { return ds::kaiming_uniform(s, {.slope = std::sqrt(5.0)}, rng); }},
    {"kaiming_uniform(relu)",
     [](const ds::Shape& s, ds::Rng& rng) { return ds::kaiming_uniform(s, {.nonlinearity = N::relu}, rng); }},
    {"kaiming_uniform(relu,fan_out)",
     [](const ds::Shape& s, ds::Rng& rng) {
       return ds::kaiming_uniform(s, {.nonlinearity = N::relu, .fan = ds::Fan::out}, rng);
     }},
    {"kaiming_normal(relu)",
     [](const ds::Shape& s, ds::Rng& rng) { return ds::kaiming_normal(s, {.nonlinearity = N::relu}, rng); }},
    {"xavier_uniform", [](const ds::Shape& s, ds::Rng& rng) { return ds::xavier_uniform(s, 1, rng); }},
    {"xavier_uniform(gain=tanh)",
     [](const ds::Shape& s, ds::Rng& rng) { return ds::xavier_uniform(s, ds::calculate_gain(N::tanh), rng); }},
    {"xavier_normal", [](const ds::Shape& s, ds::Rng& rng) { return ds::xavier_normal(s, 1, rng); }},
};

/// None beyond the bound, and the largest as close to it as the largest of so many uniform ones is (but for one run in
/// e^20).
void check_bound(Case& c, const std::string& what, double bound, const std::vector<float>& samples) {
  double largest = 0;
  for (float w : samples) largest = std::max(largest, std::abs(double{w}));
  c.expect(largest <= bound * (1 + 1e-6) && largest >= bound * (1 - 20 / static_cast<double>(samples.size())),
           what + ": expected bound " + std::to_string(bound) + ", got max |w| " + std::to_string(largest));
}

/// Mean 0 and the variance within five standard errors.
void check_moments(Case& c, double variance, bool uniform, const std::vector<float>& samples) {
  const double n = static_cast<double>(samples.size()), kurtosis = uniform ? 1.8 : 3;
  double sum = 0, squares = 0;
  for (float w : samples) sum += double{w}, squares += double{w} * double{w};
  const double mean = sum / n;
  c.close("mean", 0, mean, {0, 5 * std::sqrt(variance / n)});
  c.close("variance", variance, squares / n - mean * mean, {0, 5 * variance * std::sqrt((kurtosis - 1) / n)});
}

template <class Draw>
std::vector<float> gather_samples(std::size_t least, Draw&& draw) {
  std::vector<float> samples;
  while (samples.size() < least) {
    const auto more = draw().to_vector();
    ds::check(!more.empty(), "golden: an initialiser of no elements");
    samples.insert(samples.end(), more.begin(), more.end());
  }
  return samples;
}

void run_distribution(Case& c, Make make) {
  const ds::Shape shape = to_shape(c["shape"]);
  c.equal("fan_in", to_number(c["fan_in"]), ds::fans(shape).in);
  c.equal("fan_out", to_number(c["fan_out"]), ds::fans(shape).out);
  ds::Rng rng(1);
  const bool uniform = c.text("distribution") == "uniform";
  const auto samples = gather_samples(200000, [&] { return make(shape, rng); });
  if (uniform) check_bound(c, "samples", to_number(c["bound"]), samples);
  check_moments(c, to_number(c["variance"]), uniform, samples);
}

/// The numbers in a text such as "default Conv2d(3,5,(3,2))", in order, from the first parenthesis on.
std::vector<std::int64_t> sizes_in(const std::string& text) {
  std::vector<std::int64_t> sizes;
  for (std::size_t k = std::min(text.find('('), text.size()); k < text.size(); ++k) {
    if (!std::isdigit(static_cast<unsigned char>(text[k]))) continue;
    std::size_t length = 0;
    sizes.push_back(std::stoll(text.substr(k), &length));
    k += length;
  }
  ds::check(sizes.size() >= 2, "golden: no sizes in \"", text, "\"");
  return sizes;
}

void check_default(Case& c, const std::function<ds::Tensor()>& weight, const std::function<ds::Tensor()>& bias) {
  check_bound(c, "weight", to_number(c["weight_bound"]), gather_samples(5000, weight));
  check_bound(c, "bias", to_number(c["bias_bound"]), gather_samples(5000, bias));
}
void run_default_linear(Case& c) {
  const auto size = sizes_in(c.text("initialiser"));
  to_shape(Json(size));
  ds::Rng rng(1);
  check_default(
      c, [&] { return ds::Linear(size[0], size[1], rng).weight.value(); },
      [&] { return ds::Linear(size[0], size[1], rng).bias->value(); });
}
void run_default_conv(Case& c) {
  const auto size = sizes_in(c.text("initialiser"));
  ds::check(size.size() >= 3, "golden: no kernel size");
  const ds::Shape weight = to_shape(Json{size[1], size[0], size[2], size.size() > 3 ? size[3] : size[2]});
  ds::Rng rng(1);
  check_default(
      c, [&] { return ds::default_weight(weight, rng); }, [&] { return ds::default_bias(weight, rng); });
}

void run_norm_layers(Case& c) {
  const ds::LayerNorm norm(3);
  for (float w : norm.weight.value().to_vector()) c.equal("weight", to_number(c["weight"]), w);
  for (float b : norm.bias.value().to_vector()) c.equal("bias", to_number(c["bias"]), b);
}

/// Keys are PyTorch's names; "leaky_relu_0.2" carries its slope.
void run_gains(Case& c) {
  static const std::map<std::string, N> names = {
      {"linear", N::linear}, {"conv2d", N::linear},         {"sigmoid", N::sigmoid}, {"tanh", N::tanh},
      {"relu", N::relu},     {"leaky_relu", N::leaky_relu}, {"selu", N::selu}};
  const std::string leaky = "leaky_relu_";
  for (const auto& [key, value] : c["values"].items()) {
    const double gain = key.starts_with(leaky) ? ds::calculate_gain(N::leaky_relu, std::stod(key.substr(leaky.size())))
                                               : ds::calculate_gain(names.at(key));
    c.close("gain " + key, to_number(value), gain, {1e-6, 0});
  }
}

void run_fan_error(Case& c) {
  ds::Rng rng(1);
  c.throws("kaiming_uniform of rank 1", [&] { ds::kaiming_uniform({5}, {}, rng); });
  c.throws("xavier_normal of rank 1", [&] { ds::xavier_normal({5}, 1, rng); });
}

}  // namespace

void run_initialiser(Case& c) {
  const std::string name = c.text("initialiser");
  if (name.starts_with("default Linear")) return run_default_linear(c);
  if (name.starts_with("default Conv2d")) return run_default_conv(c);
  if (name.starts_with("LayerNorm")) return run_norm_layers(c);
  if (name == "calculate_gain") return run_gains(c);
  if (name.ends_with("on a 1-d tensor")) return run_fan_error(c);
  run_distribution(c, find_runner(initialisers, "initialiser", name));
}

}  // namespace golden
