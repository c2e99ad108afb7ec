#include <cstring>

#include <deepstruct/train/idx.hpp>

#include "targets.hpp"

using namespace deepstruct;

void fuzz::idx(Bytes bytes) {
  const auto x = parsed([&] { return idx_tensor(bytes); });
  const auto images = parsed([&] { return idx_images(bytes); });
  const auto labels = parsed([&] { return idx_labels(bytes); });
  if (images) {
    require(x && x->shape() == images->shape(), "idx: images are no tensor");
    const auto all = x->to_vector(), shown = images->to_vector();
    for (std::size_t k = 0; k < all.size(); ++k) require(shown[k] == all[k] / 255.0f, "idx: images are not bytes/255");
  }
  if (labels) {
    require(x && x->shape() == labels->shape(), "idx: labels are no tensor");
    const auto all = x->to_vector();
    const auto named = labels->to_vector();
    for (std::size_t k = 0; k < all.size(); ++k)
      require(all[k] == static_cast<float>(named[k]), "idx: labels are other numbers");
  }
  if (x && bytes[2] == std::byte{0x08}) {  // every byte is an element, in order
    const auto all = x->to_vector();
    const Bytes data = bytes.subspan(4 + 4 * static_cast<std::size_t>(x->rank()));
    require(all.size() == data.size(), "idx: other elements than bytes");
    for (std::size_t k = 0; k < all.size(); ++k)
      require(all[k] == static_cast<float>(std::to_integer<int>(data[k])), "idx: elements are not the bytes");
  }
}
