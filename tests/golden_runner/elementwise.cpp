// ops.unary and ops.binary.
#include "differentiable.hpp"
#include "families.hpp"

#include "deepstruct/ops/linear.hpp"

namespace golden {

namespace {

using Args = const Arguments&;

template <ds::Var (*f)(const ds::Var&)>
ds::Var of_x(Args a) {
  return f(a["x"]);
}
template <ds::Var (*f)(const ds::Var&, const ds::Var&)>
ds::Var of_ab(Args a) {
  return f(a["a"], a["b"]);
}

constexpr float infinity = std::numeric_limits<float>::infinity();

const std::map<std::string, Op> elementwise_ops = {
    {"abs", of_x<ds::abs>},
    {"add", of_ab<ds::add>},
    {"clamp", [](Args a) { return ds::clamp(a["x"], a.real("min", -infinity), a.real("max", infinity)); }},
    {"cos", of_x<ds::cos>},
    {"div", of_ab<ds::div>},
    {"elu", [](Args a) { return ds::elu(a["x"], a.real("alpha", 1)); }},
    {"exp", of_x<ds::exp>},
    {"gelu", [](Args a) { return a.text("approximate") == "tanh" ? ds::gelu_tanh(a["x"]) : ds::gelu(a["x"]); }},
    {"hardtanh", [](Args a) { return ds::hardtanh(a["x"], a.real("min_val", -1), a.real("max_val", 1)); }},
    {"leaky_relu", [](Args a) { return ds::leaky_relu(a["x"], a.real("negative_slope", 0.01f)); }},
    {"log", of_x<ds::log>},
    {"log1p", of_x<ds::log1p>},
    {"logsigmoid", of_x<ds::logsigmoid>},
    {"matmul", of_ab<ds::matmul>},
    {"maximum", of_ab<ds::maximum>},
    {"minimum", of_ab<ds::minimum>},
    {"mul", of_ab<ds::mul>},
    {"neg", of_x<ds::neg>},
    {"pow_scalar", [](Args a) { return ds::pow(a["x"], a.real("exponent")); }},
    {"reciprocal", of_x<ds::reciprocal>},
    {"relu", of_x<ds::relu>},
    {"relu6", of_x<ds::relu6>},
    {"rsqrt", of_x<ds::rsqrt>},
    {"selu", of_x<ds::selu>},
    {"sigmoid", of_x<ds::sigmoid>},
    {"silu", of_x<ds::silu>},
    {"sin", of_x<ds::sin>},
    {"softplus", [](Args a) { return ds::softplus(a["x"], a.real("beta", 1), a.real("threshold", 20)); }},
    {"softsign", of_x<ds::softsign>},
    {"sqrt", of_x<ds::sqrt>},
    {"square", of_x<ds::square>},
    {"sub", of_ab<ds::sub>},
    {"tanh", of_x<ds::tanh>},
    {"tanhshrink", of_x<ds::tanhshrink>},
};

}  // namespace

void run_elementwise(Case& c) { check_differentiable(c, find_runner(elementwise_ops, "op", c.text("op"))); }

}  // namespace golden
