// first_batches: what criteria look at.
#pragma once

#include <deepstruct/train/data.hpp>

#include <algorithm>
#include <vector>

namespace examples {

/// The first `samples` of a data set, at most all, in batches of `batch`, the last of which may be smaller.
inline std::vector<deepstruct::Batch> first_batches(const deepstruct::Dataset& data, std::int64_t samples,
                                                    std::int64_t batch) {
  samples = std::min(samples, data.size());
  std::vector<deepstruct::Batch> all;
  for (std::int64_t k = 0; k < samples; k += batch) all.push_back(data.slice(k, std::min(samples, k + batch)));
  return all;
}

}  // namespace examples
