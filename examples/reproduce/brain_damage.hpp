// Optimal brain damage on LeNet-300-100.
#pragma once

#include "in_rounds.hpp"

#include <deepstruct/prune/obd.hpp>

namespace reproduce {

/// Optimal brain damage (LeCun, Denker & Solla 1990) as later papers ran it on LeNet-300-100: 8 % of the weights, error
/// 2.0 %.
inline void obd(Lab& lab) {
  const auto sample = lab.some(lab.brief ? 500 : 5000, 500);
  in_rounds(lab,
            {.result = "OBD, 8 % kept",
             .published = "2.0 % error",
             .kept = 0.08,
             .rounds = 5,
             .epochs = 10,
             .most_error = 2.0},
            [&](auto& m) { ds::set_obd_saliency(m, sample, {}, {.curvature = ds::Curvature::gauss_newton}); });
}

}  // namespace reproduce
