// load_half: one half of a data set in the IDX format, as MNIST and Fashion-MNIST come.
#pragma once

#include <deepstruct/io/gzip.hpp>
#include <deepstruct/train/data.hpp>
#include <deepstruct/train/idx.hpp>

#include <filesystem>
#include <string>

namespace examples {

/// Images and labels of one half ("train" or "t10k") of an IDX data set in a folder, plain or .gz; of them the first
/// `limit` (0: all). Throws Error where a file is missing or damaged.
inline deepstruct::Dataset load_half(const std::filesystem::path& folder, const std::string& half, std::int64_t classes,
                                     std::int64_t limit = 0) {
  const auto find = [&](const std::string& kind) {
    const std::filesystem::path plain = folder / (half + "-" + kind + "-ubyte"), zipped = plain.string() + ".gz";
    deepstruct::check(std::filesystem::exists(plain) || std::filesystem::exists(zipped), "data: file not found (",
                      zipped.string(), ")");
    return std::filesystem::exists(plain) ? plain : zipped;
  };
  deepstruct::Dataset data(deepstruct::load_idx_images(find("images-idx3")),
                           deepstruct::load_idx_labels(find("labels-idx1")), classes);
  if (limit == 0 || limit >= data.size()) return data;
  const deepstruct::Batch first = data.slice(0, limit);
  return {first.x, first.y, classes};
}

}  // namespace examples
