// The parts of a training run as text and arrays: optimizers, schedules, generators, counters.
#pragma once

#include <optional>

#include "../train/optimizer.hpp"
#include "../train/schedule.hpp"
#include "model_file.hpp"
#include "text.hpp"

namespace deepstruct {

/// The name of a type of part in checkpoints and its fields, for types without fields() of their own: one
/// specialisation for a new optimizer.
template <class T>
struct TrainingPart;

template <>
struct TrainingPart<SGD> {
  static constexpr const char* kind = "SGD";
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr}, Field{"momentum", p.momentum}, Field{"dampening", p.dampening},
                      Field{"weight_decay", p.weight_decay}, Field{"nesterov", p.nesterov}};
  }
};

namespace detail {

struct AdamFields {
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr},
                      Field{"beta1", p.beta1},
                      Field{"beta2", p.beta2},
                      Field{"eps", p.eps},
                      Field{"weight_decay", p.weight_decay},
                      Field{"amsgrad", p.amsgrad},
                      Field{"steps", p.steps}};
  }
};

}  // namespace detail

template <>
struct TrainingPart<Adam> : detail::AdamFields {
  static constexpr const char* kind = "Adam";
};
template <>
struct TrainingPart<AdamW> : detail::AdamFields {
  static constexpr const char* kind = "AdamW";
};
template <>
struct TrainingPart<RMSprop> {
  static constexpr const char* kind = "RMSprop";
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr},
                      Field{"alpha", p.alpha},
                      Field{"eps", p.eps},
                      Field{"weight_decay", p.weight_decay},
                      Field{"momentum", p.momentum},
                      Field{"centered", p.centered}};
  }
};
template <>
struct TrainingPart<Adagrad> {
  static constexpr const char* kind = "Adagrad";
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr}, Field{"lr_decay", p.lr_decay}, Field{"eps", p.eps},
                      Field{"weight_decay", p.weight_decay}, Field{"steps", p.steps}};
  }
};
template <>
struct TrainingPart<StepLR> {
  static constexpr const char* kind = "StepLR";
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr}, Field{"step_size", p.step_size}, Field{"gamma", p.gamma}};
  }
};
template <>
struct TrainingPart<MultiStepLR> {
  static constexpr const char* kind = "MultiStepLR";
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr}, Field{"milestones", p.milestones}, Field{"gamma", p.gamma}};
  }
};
template <>
struct TrainingPart<ExponentialLR> {
  static constexpr const char* kind = "ExponentialLR";
  static auto fields(auto& p) { return std::tuple{Field{"lr", p.lr}, Field{"gamma", p.gamma}}; }
};
template <>
struct TrainingPart<CosineAnnealingLR> {
  static constexpr const char* kind = "CosineAnnealingLR";
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr}, Field{"T_max", p.T_max}, Field{"eta_min", p.eta_min}};
  }
};
template <>
struct TrainingPart<CosineAnnealingWarmRestarts> {
  static constexpr const char* kind = "CosineAnnealingWarmRestarts";
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr}, Field{"T_0", p.T_0}, Field{"T_mult", p.T_mult}, Field{"eta_min", p.eta_min}};
  }
};
template <>
struct TrainingPart<LinearLR> {
  static constexpr const char* kind = "LinearLR";
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr}, Field{"start_factor", p.start_factor}, Field{"end_factor", p.end_factor},
                      Field{"total_iters", p.total_iters}};
  }
};
template <>
struct TrainingPart<ConstantLR> {
  static constexpr const char* kind = "ConstantLR";
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr}, Field{"factor", p.factor}, Field{"total_iters", p.total_iters}};
  }
};
template <>
struct TrainingPart<ReduceLROnPlateau> {
  static constexpr const char* kind = "ReduceLROnPlateau";
  static auto fields(auto& p) {
    return std::tuple{Field{"lr", p.lr},
                      Field{"mode", p.mode},
                      Field{"factor", p.factor},
                      Field{"patience", p.patience},
                      Field{"threshold", p.threshold},
                      Field{"threshold_mode", p.threshold_mode},
                      Field{"cooldown", p.cooldown},
                      Field{"min_lr", p.min_lr},
                      Field{"eps", p.eps},
                      Field{"best", p.best},
                      Field{"bad_steps", p.bad_steps},
                      Field{"cooldown_left", p.cooldown_left}};
  }
};

namespace detail {

template <class T>
concept NamedPart = requires {
  TrainingPart<T>::kind;
};
template <class T>
concept OptionalPart = requires(T x) {
  x.has_value();
  x.reset();
};
template <class T>
concept ListPart = requires(T x) {
  x.push_back(x.front());
  x.data();
}
&&!std::same_as<T, std::string>;

template <class T>
auto part_fields(T& part) {
  if constexpr (NamedPart<std::remove_const_t<T>>)
    return TrainingPart<std::remove_const_t<T>>::fields(part);
  else
    return std::remove_const_t<T>::fields(part);
}

/// Writes parts: single values as metadata deepstruct.training.<name>, lists and Tensors as arrays training.<name>.
struct PartWriter {
  StoredTensors& content;

  template <class T>
  void operator()(const std::string& name, const T& part) const {
    if constexpr (ListPart<T>) {
      content.tensors.push_back(stored_values(std::string(training_prefix) + name, part));
    } else if constexpr (std::same_as<T, Tensor>) {
      content.tensors.push_back(stored_tensor(std::string(training_prefix) + name, part));
    } else if constexpr (NamedPart<T> || Module<T>) {
      if constexpr (NamedPart<T>) say(name, TrainingPart<T>::kind);
      std::apply([&](const auto&... field) { ((*this)(name + "." + field.name, field.value), ...); },
                 part_fields(part));
    } else if constexpr (OptionalPart<T>) {
      say(name, part.has_value() ? "some" : "none");
      if (part.has_value()) (*this)(name + ".value", *part);
    } else if constexpr (std::same_as<T, Rng>) {
      (*this)(name + ".seed", part.seed());
      (*this)(name + ".draws", part.draws());
    } else if constexpr (std::is_enum_v<T>) {
      (*this)(name, static_cast<std::int64_t>(part));
    } else if constexpr (std::is_arithmetic_v<T>) {
      std::string text;
      append_number(text, part);
      say(name, text);
    } else {
      static_assert(std::is_convertible_v<T, std::string>, "no part of a checkpoint: give it fields()");
      say(name, part);
    }
  }

 private:
  void say(const std::string& name, const std::string& text) const {
    check(content.metadata.emplace(std::string(training_key) + "." + name, text).second,
          "save_checkpoint: two parts have the same name (", name, ")");
  }
};

/// Reads what PartWriter wrote.
class PartReader {
 public:
  explicit PartReader(const StoredTensors& content) {
    const std::string key = std::string(training_key) + ".";
    for (const auto& [name, text] : content.metadata)
      if (name.starts_with(key)) texts_.emplace(name.substr(key.size()), text);
    for (const StoredTensor& t : content.tensors)
      if (t.name.starts_with(training_prefix)) arrays_.emplace(t.name.substr(training_prefix.size()), &t);
  }

  template <class T>
  void operator()(const std::string& name, T& part) {
    if constexpr (ListPart<T>) {
      part = values_of<typename T::value_type>(array(name));
    } else if constexpr (std::same_as<T, Tensor>) {
      part = tensor_of(array(name));
    } else if constexpr (NamedPart<T> || Module<T>) {
      if constexpr (NamedPart<T>) {
        const std::string kind = text(name);
        check(kind == TrainingPart<T>::kind, "load_checkpoint: a part has another type (", name, ": ", kind, ", not ",
              TrainingPart<T>::kind, ")");
      }
      std::apply([&](const auto&... field) { ((*this)(name + "." + field.name, field.value), ...); },
                 part_fields(part));
    } else if constexpr (OptionalPart<T>) {
      part.reset();
      if (text(name) == "some") (*this)(name + ".value", part.emplace());
    } else if constexpr (std::same_as<T, Rng>) {
      std::uint64_t seed = 0, draws = 0;
      (*this)(name + ".seed", seed);
      (*this)(name + ".draws", draws);
      part = Rng(seed, draws);
    } else if constexpr (std::is_enum_v<T>) {
      std::int64_t number = 0;
      (*this)(name, number);
      part = static_cast<T>(number);
    } else if constexpr (std::is_arithmetic_v<T>) {
      const std::string from = text(name);
      std::optional<T> number;
      if constexpr (std::same_as<T, bool>) {
        if (from == "true" || from == "false") number = from == "true";
      } else {
        number = parse_number<T>(from);
      }
      check(number.has_value(), "load_checkpoint: a part has another type (", name, ": ", from, ")");
      part = *number;
    } else {
      part = text(name);
    }
  }
  void require_none() const {
    const std::string left = !texts_.empty()    ? texts_.begin()->first
                             : !arrays_.empty() ? arrays_.begin()->first
                                                : std::string();
    check(left.empty(), "load_checkpoint: the file holds a part that nobody asks for (", left, ")");
  }

 private:
  template <class Map>
  static auto take(Map& from, const std::string& name) {
    const auto found = from.find(name);
    check(found != from.end(), "load_checkpoint: a part is missing (", name, ")");
    auto value = found->second;
    from.erase(found);
    return value;
  }
  std::string text(const std::string& name) { return take(texts_, name); }
  const StoredTensor& array(const std::string& name) { return *take(arrays_, name); }

  std::map<std::string, std::string> texts_;
  std::map<std::string, const StoredTensor*> arrays_;
};

}  // namespace detail

}  // namespace deepstruct
