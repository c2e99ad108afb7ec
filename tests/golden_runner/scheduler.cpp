// ops.schedulers.
#include "families.hpp"

#include "deepstruct/train/schedule.hpp"

namespace golden {

namespace {

/// The options of a schedule: `config` holds only what is not the default.
class Config {
 public:
  explicit Config(const Case& c) : config_(c["config"]), lr_(to_number(c["base_lr"])) {}

  double lr() const { return lr_; }
  template <class T>
  T operator()(const char* key, T otherwise) const {
    return config_.contains(key) ? config_.at(key).get<T>() : otherwise;
  }

 private:
  const Json& config_;
  double lr_;
};

using Rates = std::vector<double>;

template <class Schedule>
Rates rates(const Schedule& schedule, std::size_t n) {
  Rates lr;
  for (std::size_t t = 0; t < n; ++t) lr.push_back(schedule(static_cast<std::int64_t>(t)));
  return lr;
}

using Steps = std::int64_t;
using MakeSchedule = Rates (*)(const Config&, std::size_t);

const std::map<std::string, MakeSchedule> schedules = {
    {"StepLR",
     [](const Config& f, std::size_t n) {
       const ds::StepLR d;
       return rates(ds::StepLR{f.lr(), f("step_size", Steps{0}), f("gamma", d.gamma)}, n);
     }},
    {"MultiStepLR",
     [](const Config& f, std::size_t n) {
       const ds::MultiStepLR d;
       return rates(ds::MultiStepLR{f.lr(), f("milestones", std::vector<Steps>{}), f("gamma", d.gamma)}, n);
     }},
    {"ExponentialLR",
     [](const Config& f, std::size_t n) {
       return rates(ds::ExponentialLR{f.lr(), f("gamma", 0.0)}, n);
     }},
    {"CosineAnnealingLR",
     [](const Config& f, std::size_t n) {
       const ds::CosineAnnealingLR d;
       return rates(ds::CosineAnnealingLR{f.lr(), f("T_max", Steps{0}), f("eta_min", d.eta_min)}, n);
     }},
    {"CosineAnnealingWarmRestarts",
     [](const Config& f, std::size_t n) {
       const ds::CosineAnnealingWarmRestarts d;
       return rates(
           ds::CosineAnnealingWarmRestarts{f.lr(), f("T_0", Steps{0}), f("T_mult", d.T_mult), f("eta_min", d.eta_min)},
           n);
     }},
    {"LinearLR",
     [](const Config& f, std::size_t n) {
       const ds::LinearLR d;
       return rates(ds::LinearLR{f.lr(), f("start_factor", d.start_factor), f("end_factor", d.end_factor),
                                 f("total_iters", d.total_iters)},
                    n);
     }},
    {"ConstantLR",
     [](const Config& f, std::size_t n) {
       const ds::ConstantLR d;
       return rates(ds::ConstantLR{f.lr(), f("factor", d.factor), f("total_iters", d.total_iters)}, n);
     }},
};

Rates plateau(const Config& f, const Json& metrics) {
  using Plateau = ds::ReduceLROnPlateau;
  Plateau s;
  s.lr = f.lr();
  s.mode = f("mode", std::string("min")) == "min" ? Plateau::Mode::min : Plateau::Mode::max;
  s.factor = f("factor", s.factor);
  s.patience = f("patience", s.patience);
  s.threshold = f("threshold", s.threshold);
  s.threshold_mode =
      f("threshold_mode", std::string("rel")) == "rel" ? Plateau::Threshold::rel : Plateau::Threshold::abs;
  s.cooldown = f("cooldown", s.cooldown);
  s.min_lr = f("min_lr", s.min_lr);
  s.eps = f("eps", s.eps);
  Rates lr{s()};
  for (const Json& metric : metrics) lr.push_back(s.step(to_number(metric)));
  return lr;
}

}  // namespace

void run_scheduler(Case& c) {
  const std::string name = c.text("scheduler");
  const Config config(c);
  const Json& expected = c["lr"];
  const Rates got = name == "ReduceLROnPlateau" ? plateau(config, c["metrics"])
                                                : find_runner(schedules, "scheduler", name)(config, expected.size());
  c.equal("number of rates", static_cast<double>(expected.size()), static_cast<double>(got.size()));
  const Tolerance t{c.tolerance().rtol,
                    c.tolerance().rtol * config.lr()};  // rates that reach 0 agree to the scale of lr
  for (std::size_t k = 0; k < std::min(expected.size(), got.size()); ++k)
    c.close("lr[" + std::to_string(k) + "]", to_number(expected[k]), got[k], t);
}

}  // namespace golden
