// rewind: the weights of an earlier copy of a model under the masks of now.
#pragma once

#include <functional>

#include "bias.hpp"
#include "rounds.hpp"

namespace deepstruct {

namespace detail {

/// Everything of a model that holds numbers: weights of masked layers, other parameters, buffers. What else is in a
/// masked layer belongs to its mask.
struct ModelState {
  struct Weight {
    std::string name;
    Param* param;
    Mask mask;
    bool packed;
  };
  template <class T>
  struct Named {
    std::string name;
    T* value;
  };
  std::vector<Weight> weights;
  std::vector<Named<Param>> params;
  std::vector<Named<Tensor>> tensors;

  template <class M>
  explicit ModelState(M& model) {
    const void *begin = nullptr, *end = nullptr;  // of the masked layer that the walk is in
    walk(model, [&](const Path& path, auto& part) {
      using Part = std::remove_reference_t<decltype(part)>;
      [[maybe_unused]] const auto within = [&](const void* at) {
        return !std::less<const void*>()(at, begin) && std::less<const void*>()(at, end);
      };
      if constexpr (MaskedLayer<Part>) {
        begin = &part, end = &part + 1;
        weights.push_back({path.str(), &part.weight, part.mask(), part.packed()});
        if (part.bias) params.push_back({path.str() + ".bias", &*part.bias});
      } else if constexpr (std::is_same_v<Part, Param>) {
        if (!within(&part)) params.push_back({path.str(), &part});
      } else if constexpr (std::is_same_v<Part, Tensor>) {
        if (!within(&part)) tensors.push_back({path.str(), &part});
      }
    });
  }
};

/// Names of the masked layers, and which are packed.
template <class M>
std::pair<std::vector<std::string>, std::vector<bool>> storage_of(const M& model) {
  std::pair<std::vector<std::string>, std::vector<bool>> all;
  each_masked(model, [&](const std::string& name, const auto& layer) {
    all.first.push_back(name);
    all.second.push_back(layer.packed());
  });
  return all;
}

/// A copy of a model with its masked layers in the storage that those of another one have.
template <class M>
M in_storage_of(const char* op, const M& model, const M& other) {
  const auto want = storage_of(other);
  if (storage_of(model) == want) return model;
  M packed = pack(model), full = model;
  try {
    full = unpack(model);
  } catch (const Error&) {  // a joint network has no form by pairs of layers, and stays as it is
  }
  for (M* m : {&packed, &full})
    if (storage_of(*m) == want) return std::move(*m);
  for (const M* m : {&model, &std::as_const(packed), &std::as_const(full)}) {  // some layers packed, others not
    if (storage_of(*m).first != want.first) continue;
    M copy = *m;
    std::size_t k = 0;
    each_masked(copy, [&](auto& layer) { want.second[k++] ? layer.pack() : layer.unpack(); });
    return copy;
  }
  const auto have = storage_of(model).first;
  fail(op, ": the models have other masked layers (", have.size(), ", first ", have.empty() ? "none" : have.front(),
       ", and ", want.first.size(), ", first ", want.first.empty() ? "none" : want.first.front(), ")");
}

}  // namespace detail

/// Goes back to the weights of an earlier copy of the model, keeping the masks: every edge gets its value of then, and
/// so do biases that were not pruned, all other parameters and buffers (running statistics); optimizer slots and
/// gradients are forgotten, and 0 is behind the masks. Model and snapshot may differ in storage, and the snapshot may
/// have more edges: `auto snapshot = model;` at initialisation, or k training steps later, is what lottery tickets are
/// rewound to (Frankle & Carbin 2019; Frankle et al. 2020; Renda et al. 2020). Throws, and changes nothing, unless the
/// snapshot has all edges of the model and the same parameters otherwise. O(weights).
template <class M>
void rewind(M& model, const M& snapshot) {
  M from = detail::in_storage_of("rewind", snapshot, model);
  const detail::ModelState then(from), now(model);
  const auto same = [](const std::string& name, const Shape& a, const Shape& b) {
    check(a == b, "rewind: snapshot and model differ in shape (", name, ": ", a, " and ", b, ")");
  };
  check(then.params.size() == now.params.size() && then.tensors.size() == now.tensors.size(),
        "rewind: snapshot and model have other parameters (", then.params.size() + then.tensors.size(), " and ",
        now.params.size() + now.tensors.size(), ")");
  for (std::size_t k = 0; k < now.params.size(); ++k)
    same(now.params[k].name, then.params[k].value->shape(), now.params[k].value->shape());
  for (std::size_t k = 0; k < now.tensors.size(); ++k)
    same(now.tensors[k].name, then.tensors[k].value->shape(), now.tensors[k].value->shape());

  std::vector<Tensor> values;
  for (std::size_t k = 0; k < now.weights.size(); ++k) {
    const auto& [name, param, mask, packed] = now.weights[k];
    const Mask& before = then.weights[k].mask;
    same(name, before.shape(), mask.shape());
    const auto map = edge_map(before, mask);
    mask.for_each([&](std::int32_t e, std::int64_t r, std::int64_t c) {
      check(map[static_cast<std::size_t>(e)] >= 0, "rewind: the snapshot lacks an edge of the model (", name, ", edge ",
            r, " <- ", c, ")");
    });
    Param moved = *then.weights[k].param;
    if (packed) {
      remap(moved, map);
      values.push_back(moved.value());
    } else {
      no_grad guard;
      const Shape shape = moved.shape();
      Tensor all = place_edges(pick_edges(Tensor(moved.value()).with_shape(mask.shape()), mask), mask).value();
      values.push_back(std::move(all).with_shape(shape));
    }
    values.back() = to(std::move(values.back()), param->device());
  }
  const auto put = [](Param& param, const Tensor& value) {
    param.set_value(value);
    param.clear_slots();
    param.clear_grad();
    if (param.shape().rank() == 1 && param.live())  // pruned biases stay so
      detail::set_live_biases(param, Mask(*param.live()));
  };
  for (std::size_t k = 0; k < values.size(); ++k) put(*now.weights[k].param, values[k]);
  for (std::size_t k = 0; k < now.params.size(); ++k) put(*now.params[k].value, then.params[k].value->value());
  for (std::size_t k = 0; k < now.tensors.size(); ++k)
    *now.tensors[k].value = to(*then.tensors[k].value, now.tensors[k].value->device());
}

}  // namespace deepstruct
