// Cases of the form inputs → output with gradients and second derivatives: shared by the ops families.
#pragma once

#include "harness.hpp"

namespace golden {

/// The inputs and attributes of one case, as an op wants them.
class Arguments {
 public:
  /// Float inputs named by `grads` become leaves, other float inputs constants, integer inputs indices.
  explicit Arguments(const Case& c);

  /// The float input of this name, or an empty Var.
  ds::Var operator[](std::string_view name) const;
  /// The k-th float input.
  ds::Var operator[](std::size_t k) const { return floats_.at(k).second; }
  /// All float inputs, in the order of the file.
  std::vector<ds::Var> all() const;
  const ds::Indices& indices(const std::string& name) const { return indices_.at(name); }

  bool has(std::string_view attribute) const {
    return attributes_.contains(attribute) && !(*this)(attribute).is_null();
  }
  const Json& operator()(std::string_view attribute) const { return attributes_.at(std::string(attribute)); }
  double number(std::string_view attribute) const { return to_number((*this)(attribute)); }
  float real(std::string_view attribute) const { return static_cast<float>(number(attribute)); }
  float real(std::string_view attribute, float otherwise) const { return has(attribute) ? real(attribute) : otherwise; }
  int integer(std::string_view attribute) const { return (*this)(attribute).get<int>(); }
  bool flag(std::string_view attribute) const { return has(attribute) && (*this)(attribute).get<bool>(); }
  std::string text(std::string_view attribute) const { return (*this)(attribute).get<std::string>(); }
  std::vector<std::int64_t> extents(std::string_view attribute) const {
    return (*this)(attribute).get<std::vector<std::int64_t>>();
  }

 private:
  std::vector<std::pair<std::string, ds::Var>> floats_;
  std::map<std::string, ds::Indices> indices_;
  Json attributes_;
};

using Op = std::function<ds::Var(const Arguments&)>;

/// Σ a·b, what turns an upstream gradient b into a loss.
inline ds::Var dot(const ds::Var& a, const ds::Tensor& b) { return ds::sum(ds::mul(a, b)); }

/// Compares op's output, its gradients (accumulated by backward() and recorded by grad()) and Hessian-vector products.
void check_differentiable(Case& c, const Op& op);

}  // namespace golden
