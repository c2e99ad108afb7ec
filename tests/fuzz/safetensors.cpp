#include <algorithm>

#include <deepstruct/io/safetensors.hpp>

#include "targets.hpp"

using namespace deepstruct;

namespace {

/// Values of finite F64 are what F32 holds of them, so only their number can be told.
template <class T>
void fuzz_values(const StoredTensor& t, std::size_t count) {
  const auto values = fuzz::parsed([&] { return values_of<T>(t); });
  fuzz::require(!values || values->size() == count, "safetensors: another number of values");
}

StoredTensors fuzz_by_name(StoredTensors content) {
  std::sort(content.tensors.begin(), content.tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  return content;
}

}  // namespace

void fuzz::safetensors(Bytes bytes) {
  const auto content = parsed([&] { return parse_safetensors(bytes); });
  if (!content) return;
  for (const StoredTensor& t : content->tensors) {
    require(content->find(t.name) == &t, "safetensors: a name is there twice");
    std::size_t count = 1;
    for (const std::int64_t n : t.shape) count *= static_cast<std::size_t>(n);
    require(t.bytes.size() == count * detail::type_info(t.type).size, "safetensors: bytes do not fill a shape");
    fuzz_values<float>(t, count);
    fuzz_values<double>(t, count);
    fuzz_values<std::int32_t>(t, count);
    fuzz_values<std::int64_t>(t, count);
    if (const auto x = parsed([&] { return tensor_of(t); })) {
      require(x->size() == static_cast<std::int64_t>(count), "safetensors: a Tensor of another size");
      const StoredTensor back = stored_tensor(t.name, *x);
      require(back.shape == t.shape, "safetensors: a Tensor of another shape");
      if (t.type == StoredTensor::Type::f32) require(back.bytes == t.bytes, "safetensors: a Tensor of other bits");
    }
  }
  const auto written = safetensors_bytes(*content);
  const StoredTensors again = parse_safetensors(written);
  require(fuzz_by_name(again) == fuzz_by_name(*content), "safetensors: written again, the content differs");
}
