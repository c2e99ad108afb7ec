#include "harness.hpp"

namespace golden {

double to_number(const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (value == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (value == "Infinity") return std::numeric_limits<double>::infinity();
  if (value == "-Infinity") return -std::numeric_limits<double>::infinity();
  ds::fail("golden: not a number (", value.dump(), ")");
}

Values::Values(const Json& array) : shape(array.at("shape").get<std::vector<std::int64_t>>()) {
  const bool single = array.at("dtype") == "float32";  // the shortest decimal of a float: equal only as a float
  for (const Json& x : array.at("data")) data.push_back(single ? static_cast<float>(to_number(x)) : to_number(x));
  ds::check(static_cast<std::int64_t>(data.size()) == shape.size(), "golden: shape ", shape, " needs ", shape.size(),
            " values (", data.size(), ")");
}

namespace {

template <class T>
ds::Array<T> to_array(const Json& array) {
  const Values values(array);
  std::vector<T> data;
  for (double x : values.data) {
    if constexpr (std::is_integral_v<T>)
      ds::check(x >= std::numeric_limits<T>::min() && x <= std::numeric_limits<T>::max() && x == std::floor(x),
                "golden: not an int32 (", x, ")");
    data.push_back(static_cast<T>(x));
  }
  return ds::Array<T>::from(values.shape, data);
}

std::string at(const ds::Shape& shape, std::int64_t flat) {
  std::string text = "]";
  for (int k = shape.rank() - 1; k >= 0; flat /= shape[k], --k)
    text = (k ? ", " : "") + std::to_string(flat % shape[k]) + text;
  return "[" + text;
}

bool agree(double expected, double got, Tolerance t) {
  if (std::isnan(expected) || std::isnan(got)) return std::isnan(expected) && std::isnan(got);
  if (std::isinf(expected) || std::isinf(got)) return expected == got;
  return std::abs(got - expected) <= t.atol + t.rtol * std::abs(expected);
}

template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  text.precision(9);
  (text << ... << parts);
  return text.str();
}

}  // namespace

ds::Tensor to_tensor(const Json& array) { return to_array<float>(array); }
ds::Indices to_indices(const Json& array) { return to_array<std::int32_t>(array); }
ds::Mask to_mask(const Json& array) { return ds::Mask::from_dense(to_tensor(array)); }
ds::Shape to_shape(const Json& extents) {
  const ds::Shape shape(extents.get<std::vector<std::int64_t>>());
  ds::check(shape.size() <= 1 << 24, "golden: too large (", shape, ")");
  return shape;
}
bool is_float(const Json& array) { return array.at("dtype").get<std::string>().starts_with("float"); }

void Case::close(const std::string& what, const Values& want, const Values& got, Tolerance tolerance,
                 const std::set<std::int64_t>& loose, double atol_loose) {
  if (want.shape != got.shape) return mismatch(join(what, ": expected shape ", want.shape, ", got ", got.shape));
  std::size_t wrong = 0, first = 0;
  for (std::size_t i = want.data.size(); i-- > 0;) {
    const bool is_loose = loose.contains(static_cast<std::int64_t>(i));
    if (agree(want.data[i], got.data[i], is_loose ? Tolerance{tolerance.rtol, atol_loose} : tolerance)) continue;
    ++wrong;
    first = i;
  }
  if (wrong)
    mismatch(join(what, at(want.shape, static_cast<std::int64_t>(first)), ": expected ", want.data[first], ", got ",
                  got.data[first], " (", wrong, " of ", want.data.size(), " differ)"));
}

void Case::close(const std::string& what, double expected, double got, Tolerance tolerance) {
  if (!agree(expected, got, tolerance)) mismatch(join(what, ": expected ", expected, ", got ", got));
}

void Case::equal(const std::string& what, const std::vector<std::string>& expected,
                 const std::vector<std::string>& got) {
  if (expected != got) mismatch(join(what, ": expected ", Json(expected).dump(), ", got ", Json(got).dump()));
}

}  // namespace golden
