// What a module is, and the walks over it: each_param, each<…>, names as in a PyTorch state_dict, trace.
#pragma once

#include <concepts>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <variant>
#include <vector>

#include "../autograd/trace.hpp"
#include "param.hpp"

namespace deepstruct {

/// A named part of a module.
template <class T>
struct Field {
  const char* name;
  T& value;
};
template <class T>
Field(const char*, T&) -> Field<T>;

/// A module is a struct with operator() that lists its parts:
///   static auto fields(auto& m) { return std::tuple{Field{"weight", m.weight}, Field{"bias", m.bias}}; }
template <class T>
concept Module = requires(T& m) {
  std::remove_const_t<T>::fields(m);
};

/// Where a walk is: a chain of names on the stack; text only when asked for, so that a training step allocates nothing.
struct Path {
  const Path* parent = nullptr;
  const char* name = "";
  std::int64_t index = -1;

  /// Dotted name, such as "_layers_hidden.0.weight".
  std::string str() const {
    std::string text = parent ? parent->str() : "";
    const std::string own = index >= 0 ? std::to_string(index) : name;
    return own.empty() ? text : text.empty() ? own : text + "." + own;
  }
};

/// Calls f(path, part) for x and every part of it that f takes, in the order of the fields; vectors, tuples, optionals
/// and variants are looked through.
template <class T, class F>
void walk(T& x, F&& f, const Path& path = {}) {
  if constexpr (std::is_invocable_v<F&, const Path&, T&>) f(path, x);
  if constexpr (Module<T>) {
    std::apply(
        [&](auto... field) {
          (walk(field.value, f, Path{&path, field.name}), ...);
        },
        std::remove_const_t<T>::fields(x));
  } else if constexpr (requires {
                         x.has_value();
                         *x;
                       }) {
    if (x.has_value()) walk(*x, f, path);
  } else if constexpr (requires { x.valueless_by_exception(); }) {
    std::visit([&](auto& part) { walk(part, f, path); }, x);
  } else if constexpr (requires { std::tuple_size<std::remove_const_t<T>>::value; }) {
    std::int64_t k = 0;
    std::apply([&](auto&... part) { (walk(part, f, Path{&path, "", k++}), ...); }, x);
  } else if constexpr (requires {
                         x.begin();
                         x.end();
                       } &&
                       !std::is_same_v<std::remove_const_t<T>, std::string>) {
    std::int64_t k = 0;
    for (auto& part : x) walk(part, f, Path{&path, "", k++});
  }
}

/// Calls f(part) or f(dotted name, part) for every part of type Part, at any depth.
template <class Part, class M, class F>
void each(M& model, F&& f) {
  using Wanted = std::conditional_t<std::is_const_v<M>, const Part, Part>;
  walk(model, [&](const Path& path, std::same_as<Wanted> auto& part) {  // not what merely converts to it
    if constexpr (std::is_invocable_v<F&, const std::string&, Wanted&>)
      f(path.str(), part);
    else
      f(part);
  });
}

/// Calls f(param) or f(dotted name, param) for every parameter.
template <class M, class F>
void each_param(M& model, F&& f) {
  each<Param>(model, f);
}

/// Names of everything that a checkpoint holds, in order: parameters, masks, buffers; as in a PyTorch state_dict.
template <class M>
std::vector<std::string> state_names(const M& model) {
  std::vector<std::string> names;
  const auto add = [&](const Path& path) { names.push_back(path.str()); };
  struct Visitor {
    const decltype(add)& add_name;
    void operator()(const Path& path, const Param&) const { add_name(path); }
    void operator()(const Path& path, const Mask&) const { add_name(path); }
    void operator()(const Path& path, const Tensor&) const { add_name(path); }
  };
  walk(model, Visitor{add});
  return names;
}

/// Number of entries of all parameters.
template <class M>
std::int64_t parameter_count(const M& model) {
  std::int64_t n = 0;
  each_param(model, [&](const Param& p) { n += p.size(); });
  return n;
}

/// The device that a model lives on: that of its first parameter; the CPU if it has none.
template <class M>
Device device_of([[maybe_unused]] const M& model) {
  if constexpr (has_cuda) {
    std::optional<Device> device;
    each_param(model, [&](const Param& p) {
      if (!device) device = p.device();
    });
    return device.value_or(Device::cpu);
  } else {
    return Device::cpu;
  }
}

/// A module, or several: what parameters are in, and may be moved.
template <class M>
concept Movable =
    !std::is_const_v<M> && !std::is_same_v<M, Var> && !std::is_same_v<M, Mask> && !requires(M & m, Device device) {
  std::move(m).moved_to(device);
};

/// Moves a model to a device, in place: parameters with gradients and slots, and buffers. Everything runs there from
/// then on; inputs must be there too. Throws if the program has no such device, or that has not enough memory: the
/// model is the one it was then.
template <Movable M>
M& to(M& model, Device device) {
  struct Copy {  // all is copied before anything changes
    Device device;
    pool_vector<Param>& params;
    pool_vector<Tensor>& tensors;
    void operator()(const Path&, Param& p) const { params.push_back(p.copy_on(device)); }
    void operator()(const Path&, Tensor& t) const { tensors.push_back(to(std::as_const(t), device)); }
  };
  struct Take {
    typename pool_vector<Param>::iterator param;
    typename pool_vector<Tensor>::iterator tensor;
    void operator()(const Path&, Param& p) { p = std::move(*param++); }
    void operator()(const Path&, Tensor& t) { t = std::move(*tensor++); }
  };
  pool_vector<Param> params;
  pool_vector<Tensor> tensors;
  walk(model, Copy{device, params, tensors});
  walk(model, Take{params.begin(), tensors.begin()});
  finish(device);  // other threads may read it in streams of their own
  return model;
}

/// f(model), which reads or makes single weights, on the CPU: a model on a GPU is copied there and comes back changed.
/// If f throws, the model on a GPU is the one it was.
template <class M, class F>
void on_host(M& model, F&& f) {
  if constexpr (has_cuda)
    if (const Device device = device_of(model); device != Device::cpu) {
      M host = model;
      f(to(host, Device::cpu));
      to(host, device);
      model = std::move(host);
      return;
    }
  f(model);
}

/// Forgets all gradients.
template <class M>
void clear_grad(M& model) {
  each_param(model, [](const Param& p) { p.clear_grad(); });
}

/// Everything model(example) computes, unfused and in order, parameters with their dotted names; the last step is the
/// result.
template <class M>
std::vector<Step> trace(const M& model, const Tensor& example) {
  auto steps = trace_function([&](const Var& x) { return model(x); }, Var(example));
  each_param(model, [&](const std::string& name, const Param& p) {
    for (Step& s : steps)
      if (s.value == p.var()) s.name = name;
  });
  return steps;
}

}  // namespace deepstruct
