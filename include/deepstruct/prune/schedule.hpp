// Sparsity schedules: how much is pruned after t steps or rounds, as a function of t.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "../core/error.hpp"

namespace deepstruct {

namespace detail {

inline void check_sparsity(const char* op, const char* what, double s) {
  check(s >= 0 && s <= 1, op, ": ", what, " must be a share from 0 to 1 (", s, ")");
}
inline void check_sparsity_time(const char* op, std::int64_t t) { check(t >= 0, op, ": need t >= 0 (", t, ")"); }

}  // namespace detail

/// s(t) = final from t = begin on, 0 before.
struct OneShot {
  double final = 0;        ///< sparsity, the share of the weights at the start that is gone
  std::int64_t begin = 1;  ///< round 1 of prune_iteratively

  /// Sparsity after t steps or rounds. Throws on t < 0 and unless 0 ≤ final ≤ 1.
  double operator()(std::int64_t t) const {
    detail::check_sparsity_time("OneShot", t);
    detail::check_sparsity("OneShot", "final", final);
    check(begin >= 0, "OneShot: need begin >= 0 (", begin, ")");
    return t < begin ? 0 : final;
  }
  /// The time from which on nothing changes.
  std::int64_t last() const { return begin; }
};

/// The share that is left falls by the same factor every round: 1 − s(t) = (1 − final)^(t/rounds), t ≤ rounds (Han et
/// al. 2015; Frankle & Carbin 2019). 20 per cent a round for n rounds is final = 1 − 0.8ⁿ.
struct IterativeSchedule {
  double final = 0;         ///< sparsity after the last round; below 1, as no factor leads to 0
  std::int64_t rounds = 1;  ///< as many as the way there has

  /// Sparsity after t rounds. Throws on t < 0 and unless 0 ≤ final < 1 and rounds ≥ 1.
  double operator()(std::int64_t t) const {
    detail::check_sparsity_time("IterativeSchedule", t);
    detail::check_sparsity("IterativeSchedule", "final", final);
    check(final < 1, "IterativeSchedule: need final < 1, no factor leads to 0 (", final, ")");
    check(rounds >= 1, "IterativeSchedule: need rounds >= 1 (", rounds, ")");
    if (t >= rounds) return final;
    return 1 - std::pow(1 - final, static_cast<double>(t) / static_cast<double>(rounds));
  }
  /// The time from which on nothing changes.
  std::int64_t last() const { return rounds; }
};

/// s(t) = final + (initial − final)·(1 − (t − begin)/(steps·every))³ at t = begin, begin + every, …, begin +
/// steps·every; the same until the next of these times, 0 before and final after them (Zhu & Gupta 2017, with t₀ =
/// begin, n = steps, Δt = every). It prunes fast while there is much to choose from, and slowly in the end.
struct CubicSchedule {
  double initial = 0, final = 0;                 ///< sparsities
  std::int64_t begin = 0, steps = 1, every = 1;  ///< time, number of pruning steps after the first, time between them

  /// Sparsity after t steps. Throws on t < 0 and unless 0 ≤ initial ≤ final ≤ 1, begin ≥ 0, steps ≥ 1 and every ≥ 1.
  double operator()(std::int64_t t) const {
    detail::check_sparsity_time("CubicSchedule", t);
    detail::check_sparsity("CubicSchedule", "initial", initial);
    detail::check_sparsity("CubicSchedule", "final", final);
    check(initial <= final, "CubicSchedule: need initial <= final (", initial, " and ", final, ")");
    check(begin >= 0 && steps >= 1 && every >= 1, "CubicSchedule: need begin >= 0, steps >= 1 and every >= 1 (", begin,
          ", ", steps, " and ", every, ")");
    if (t < begin) return 0;
    const std::int64_t done = (t - begin) / every;
    if (done >= steps) return final;
    const double left = 1 - static_cast<double>(done) / static_cast<double>(steps);
    return final + (initial - final) * (left * left * left);
  }
  /// The time from which on nothing changes.
  std::int64_t last() const {
    constexpr auto most = std::numeric_limits<std::int64_t>::max();
    check(begin >= 0 && steps >= 1 && every >= 1 && steps <= (most - begin) / every,
          "CubicSchedule: need begin >= 0, steps >= 1, every >= 1 and an end that can be counted (", begin, ", ", steps,
          " and ", every, ")");
    return begin + steps * every;
  }
};

}  // namespace deepstruct
