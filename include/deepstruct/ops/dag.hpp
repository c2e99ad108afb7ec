// layered_dag: all vertices of a directed acyclic network in one op, however many layers it has.
#pragma once

#include <memory>

#include "../kernels/dag.hpp"
#include "linear.hpp"
#include "shape.hpp"

namespace deepstruct {

/// What layered_dag knows of a network but its mask [branches, vertices]: vertices are in topological order, the inputs
/// first, and rows of the mask feed vertices in order.
struct DagWiring {
  std::int64_t inputs = 0;              ///< vertices that x gives
  std::int64_t vertices = 0;            ///< all of them
  std::vector<std::int32_t> row_start;  ///< first branch of every vertex behind the inputs, and the number of branches
                                        ///< [vertices − inputs + 1]; empty: joint, one branch each
  std::vector<VertexActivation> activation;    ///< joint: of every vertex behind the inputs; empty: ReLU
  std::vector<std::int32_t> output;            ///< vertices whose values are the result, ascending
  std::vector<std::int32_t> layer_start = {};  ///< first vertex of every layer, and the end; empty: as edges lead. Only
                                               ///< readers of the network as a graph ask

  bool joint() const { return row_start.empty(); }
  std::int64_t rows() const { return joint() ? vertices - inputs : std::int64_t{row_start.back()}; }
  /// First branch of vertex inputs + k.
  std::int64_t row_of(std::int64_t k) const { return joint() ? k : row_start[k]; }
};

namespace detail {

/// What kernels need of a mask and its wiring besides these: the branches that have edges. Kept with the mask.
struct DagPlan {
  std::shared_ptr<const DagWiring> wiring;
  std::vector<dag_branch> branch;
  std::vector<std::int32_t> branch_start, target, through;
  std::vector<std::int32_t> block;  ///< first vertices of runs without an edge within them, and the end

  DagPlan(const Mask& mask, std::shared_ptr<const DagWiring> of) : wiring(std::move(of)) {
    const DagWiring& w = *wiring;
    const auto start = mask.row_start(), col = mask.col();
    const std::int64_t count = w.vertices - w.inputs;
    check(std::is_sorted(w.row_start.begin(), w.row_start.end()),
          "layered_dag: the wiring has not one run of branches for every vertex behind the inputs (starts of ", count,
          " vertices descend)");
    check(w.activation.empty() || static_cast<std::int64_t>(w.activation.size()) == count,
          "layered_dag: needs an activation for every vertex behind the inputs (", w.activation.size(), " for ", count,
          ")");
    for (std::size_t k = 0; k < w.output.size(); ++k)
      check(w.output[k] >= 0 && w.output[k] < w.vertices && (k == 0 || w.output[k - 1] < w.output[k]),
            "layered_dag: outputs must be ascending vertices (", w.output[k], " of ", w.vertices, ")");
    block.push_back(static_cast<std::int32_t>(w.inputs));
    for (std::int64_t k = 0; k < count; ++k) {
      const auto v = static_cast<std::int32_t>(w.inputs + k);
      if (!w.joint()) branch_start.push_back(static_cast<std::int32_t>(branch.size()));
      for (std::int64_t r = w.row_of(k); r < w.row_of(k + 1); ++r) {
        const std::int32_t begin = start[r], end = start[r + 1];
        if (begin == end) continue;
        const std::int32_t latest = col[end - 1];
        check(latest < v, "layered_dag: edges must lead to later vertices (", latest, " to ", v, ")");
        if (latest >= block.back()) block.push_back(v);
        if (!w.joint()) branch.push_back({static_cast<std::int32_t>(r), begin, end});
      }
    }
    block.push_back(static_cast<std::int32_t>(w.vertices));
    if (w.joint()) return;
    branch_start.push_back(static_cast<std::int32_t>(branch.size()));
    std::vector<std::int32_t> owner(static_cast<std::size_t>(mask.rows())), number(owner.size());
    for (std::int64_t k = 0; k < count; ++k)
      for (std::int64_t r = w.row_of(k); r < w.row_of(k + 1); ++r) owner[r] = static_cast<std::int32_t>(w.inputs + k);
    for (std::size_t j = 0; j < branch.size(); ++j) number[branch[j].row] = static_cast<std::int32_t>(j);
    const csr_view t = mask.csc();
    target.resize(static_cast<std::size_t>(t.nnz));
    through.resize(target.size());
    for (std::size_t k = 0; k < target.size(); ++k) {
      target[k] = owner[t.col[k]];
      through[k] = number[t.col[k]];
    }
  }

  dag_view view(const Mask& mask) const {
    const DagWiring& w = *wiring;
    return {mask.csr(),
            mask.csc(),
            w.inputs,
            w.vertices,
            static_cast<std::int64_t>(branch.size()),
            w.joint() ? nullptr : w.row_start.data(),
            branch_start.data(),
            branch.data(),
            target.data(),
            through.data(),
            w.activation.empty() ? nullptr : w.activation.data(),
            w.output.data(),
            static_cast<std::int64_t>(w.output.size())};
  }
};

/// The plan kept with the mask, which serves the wiring that asked first; others get one of their own.
inline std::shared_ptr<const DagPlan> dag_plan(const Mask& mask, const std::shared_ptr<const DagWiring>& wiring) {
  const auto make = [&] { return std::make_shared<const DagPlan>(mask, wiring); };
  const auto& kept = mask.kept(2, make);
  return kept->wiring == wiring ? kept : make();
}

/// The same where the kernels of a GPU read it. Kept with the mask.
struct DagOnDevice {
  std::shared_ptr<const DagPlan> plan;
  Buffer<std::int32_t> row_start, output, block;
  Buffer<VertexActivation> activation;
  dag_view view;
  kernels::dag_levels levels;

  DagOnDevice(const Mask& mask, std::shared_ptr<const DagPlan> of, Device device) : plan(std::move(of)) {
    const DagWiring& w = *plan->wiring;
    const auto lent = [&](const auto& list) {
      return Buffer<std::remove_cvref_t<decltype(list[0])>>(list.data(), list.size(), device);
    };
    row_start = lent(w.row_start), output = lent(w.output), block = lent(plan->block), activation = lent(w.activation);
    view.by_row = mask.csr(device), view.by_column = mask.csc(device);
    view.inputs = w.inputs, view.vertices = w.vertices, view.branches = w.rows();
    view.row_start = w.joint() ? nullptr : row_start.data();
    view.activation = w.activation.empty() ? nullptr : activation.data();
    view.output = output.data(), view.outputs = static_cast<std::int64_t>(w.output.size());
    levels = {block.data(), static_cast<std::int32_t>(plan->block.size()) - 1};
    finish(device);  // streams of other threads may read it
  }
};
inline std::shared_ptr<const DagOnDevice> dag_on_device(const Mask& mask, const std::shared_ptr<const DagPlan>& plan,
                                                        Device device) {
  const auto make = [&] { return std::make_shared<const DagOnDevice>(mask, plan, device); };
  const auto& kept = mask.kept(5, make);
  return kept->plan == plan ? kept : make();
}

/// y = f(x).
inline Var activate(const Var& x, VertexActivation f) {
  switch (f) {
    case VertexActivation::relu:
      return relu(x);
    case VertexActivation::tanh:
      return tanh(x);
    case VertexActivation::sigmoid:
      return sigmoid(x);
    default:
      return x;
  }
}

/// One edge from each of some vertices, of so many: the mask of pick_vertices.
inline Mask vertex_picks(std::span<const std::int32_t> vertices, std::int64_t count) {
  std::vector<std::int32_t> start(vertices.size() + 1);
  std::iota(start.begin(), start.end(), 0);
  return Mask::from_csr(static_cast<std::int64_t>(vertices.size()), count, start, vertices);
}
/// The values of some vertices, as a linear map: of one edge each, so that all that reads traces knows it.
inline Var pick_vertices(const Var& h, const Mask& picks) {
  return sparse_linear(h, Tensor::ones({picks.nnz()}, h.device()), picks);
}

/// The same as a composition of ops, block by block of vertices: for derivatives of derivatives. Every
/// block copies all values before it, so a network of L layers costs L/2 times its values.
inline Var dag_unfused(const Var& x, const Var& values, const Var& bias, const Mask& mask, const DagPlan& plan) {
  const DagWiring& w = *plan.wiring;
  const auto start = mask.row_start(), col = mask.col();
  Var h = x;
  for (std::size_t block = 0; block + 1 < plan.block.size(); ++block) {
    const std::int64_t first = plan.block[block], count = plan.block[block + 1] - first;
    if (count == 0) continue;
    const std::int64_t row = w.row_of(first - w.inputs), rows = w.row_of(first - w.inputs + count) - row;
    const std::int32_t begin = start[row], end = start[row + rows];
    std::vector<std::int32_t> row_starts(start.begin() + row, start.begin() + row + rows + 1);
    for (std::int32_t& s : row_starts) s -= begin;
    const Mask some = Mask::from_csr(
        rows, first, row_starts, col.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
    const Var z = sparse_linear(h, narrow(values, 0, begin, end - begin), some, narrow(bias, 0, row, rows));
    Var next;
    if (w.joint()) {
      if (w.activation.empty()) {
        next = relu(z);
      } else {
        for (const VertexActivation f :
             {VertexActivation::none, VertexActivation::relu, VertexActivation::tanh, VertexActivation::sigmoid}) {
          Tensor chosen = Tensor::zeros({count});
          for (std::int64_t k = 0; k < count; ++k) chosen(k) = w.activation[first - w.inputs + k] == f;
          const Var part = mul(activate(z, f), to(std::move(chosen), z.device()));
          next = next ? add(next, part) : part;
        }
      }
    } else {
      std::vector<std::int32_t> sum_start, sum_col(static_cast<std::size_t>(rows));
      for (std::int64_t k = 0; k <= count; ++k)
        sum_start.push_back(static_cast<std::int32_t>(w.row_of(first - w.inputs + k) - row));
      std::iota(sum_col.begin(), sum_col.end(), 0);
      next = sparse_linear(relu(z), Tensor::ones({rows}, z.device()), Mask::from_csr(count, rows, sum_start, sum_col));
    }
    h = cat({h, next}, 1);
  }
  return pick_vertices(h, vertex_picks(w.output, w.vertices));
}

/// The same value as a node of its own, at which differentiation of what follows can stop.
inline Var doorstep(const Var& x) {
  return record("identity", x.value(), {x}, {},
                [](const Var& dy, const Var&, std::span<const Var>, std::span<Var> dx) { dx[0] = dy; });
}
/// Gradients of x, values and bias that can be differentiated again.
inline void dag_recorded(const Var& dy, std::span<const Var> in, const Mask& mask, const DagPlan& plan,
                         std::span<Var> dx) {
  const Var own[] = {doorstep(in[0]), doorstep(in[1]), doorstep(in[2])};
  const Vars all = grad(dag_unfused(own[0], own[1], own[2], mask, plan), own, {.create_graph = true, .seed = dy});
  std::copy(all.begin(), all.end(), dx.begin());
}

}  // namespace detail

namespace detail {

/// layered_dag on a GPU: one kernel each way.
inline Var dag_on_gpu(const Var& x, const Var& values, const Var& bias, const Mask& mask,
                      const std::shared_ptr<const DagPlan>& plan) {
  const Device device = x.device();
  const auto on_device = dag_on_device(mask, plan, device);
  const dag_view& d = on_device->view;
  const std::int64_t samples = x.shape()[0];
  Tensor y = Tensor::empty({samples, d.outputs}, device), h = Tensor::empty({samples, d.vertices}, device);
  Buffer<unsigned char> positive(d.row_start ? static_cast<std::size_t>(h.ld() * d.branches) : 0, device);
  if constexpr (has_cuda)
    kernels::dag_forward(cuda{runtime::current_stream}, d, on_device->levels, values.value().data(),
                         bias.value().data(), x.value().view(), y.view(), h.view(), positive.data());
  return record("layered_dag", std::move(y), {x, values, bias},
                {{"mask", mask}, {"wiring", std::shared_ptr<const void>(plan->wiring)}},
                [mask, on_device, h = std::move(h), positive = std::move(positive)](
                    const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
                  common_device("backward", dy, in[0], in[1], in[2], h);
                  if (recording()) return dag_recorded(dy, in, mask, *on_device->plan, dx);
                  const dag_view& view = on_device->view;
                  const Device place = dy.device();
                  Tensor to_x = in[0].wants_grad() ? Tensor::empty(in[0].shape(), place) : Tensor(),
                         dz = Tensor::empty({dy.shape()[0], view.branches}, place),
                         to_values = Tensor::empty(in[1].shape(), place), to_bias = Tensor::empty(in[2].shape(), place);
                  if constexpr (has_cuda) {
                    const cuda gpu{runtime::current_stream};
                    kernels::dag_backward(gpu, view, on_device->levels, in[1].value().data(), h.view(), positive.data(),
                                          dy.value().view(), in[0].wants_grad() ? to_x.view() : matrix_view<float>{},
                                          dz.view());
                    kernels::sparse_linear_dw(gpu, view.by_row, {}, dz.view(), h.view(), to_values.data());
                    kernels::column_sums(gpu, dz.view(), nullptr, nullptr, to_bias.data());
                  }
                  if (in[0].wants_grad()) dx[0] = std::move(to_x);
                  dx[1] = std::move(to_values);
                  dx[2] = std::move(to_bias);
                });
}

}  // namespace detail

/// The values of a layered DAG's outputs, from those of its inputs: for every vertex v behind them, in order,
///   h_v = Σ_branches relu(Σ_edges w·h_u + b), or where joint h_v = f_v(Σ_edges w·h_u + b)
/// where branches of v are rows of the mask [branches, vertices], and edge values are in the mask's order. Branches
/// without an edge add relu(b).   x [b, inputs], values [nnz], bias [branches] → [b, outputs]
///
/// Throws if an edge does not lead to a later vertex, or extents do not fit. The mathematics with one ReLU a branch is
/// that of MaskedDeepDAN in Python deepstruct, a branch being (vertex, source layer).
inline Var layered_dag(const Var& x, const Var& values, const Var& bias, const Mask& mask,
                       const std::shared_ptr<const DagWiring>& wiring) {
  check(wiring != nullptr, "layered_dag: needs a wiring (null)");
  const DagWiring& w = *wiring;
  check(w.inputs >= 0 && w.inputs <= w.vertices &&
            (w.joint() ||
             (static_cast<std::int64_t>(w.row_start.size()) == w.vertices - w.inputs + 1 && w.row_start[0] == 0)),
        "layered_dag: the wiring has not one run of branches for every vertex behind the inputs (", w.inputs,
        " inputs of ", w.vertices, " vertices, ", w.row_start.size(), " starts)");
  check(x.shape().rank() == 2 && x.shape()[1] == w.inputs, "layered_dag: x needs a value for every input (x ",
        x.shape(), ", inputs ", w.inputs, ")");
  check(mask.rows() == w.rows() && mask.cols() == w.vertices && values.shape() == Shape{mask.nnz()} &&
            bias.shape() == Shape{mask.rows()},
        "layered_dag: mask, values and bias must fit the wiring (mask ", mask.shape(), " with ", mask.nnz(),
        " edges, values ", values.shape(), ", bias ", bias.shape(), ", wiring ", w.rows(), " branches of ", w.vertices,
        " vertices)");
  const Device device = common_device("layered_dag", x, values, bias);
  const auto plan = detail::dag_plan(mask, wiring);
  const std::int64_t samples = x.shape()[0], outputs = static_cast<std::int64_t>(w.output.size());
  if (samples == 0) return detail::dag_unfused(x, values, bias, mask, *plan);
  if (device != Device::cpu) return detail::dag_on_gpu(x, values, bias, mask, plan);

  const dag_view d = plan->view(mask);
  const bool keep = grad_enabled() && (x.wants_grad() || values.wants_grad() || bias.wants_grad());
  const std::int64_t tiles = kernels::dag_tiles(samples),
                     places = keep ? tiles : std::min<std::int64_t>(tiles, num_threads());
  const std::int64_t room = w.vertices * kernels::dag_tile();
  Tensor y = Tensor::empty({samples, outputs});
  Tensor constant = Tensor::empty({w.joint() ? 0 : w.vertices - w.inputs});
  Buffer<float> h(static_cast<std::size_t>(places * room));
  Buffer<std::int32_t> positive(static_cast<std::size_t>(places * kernels::dag_sign_words(d)));
  if (!w.joint()) kernels::dag_constants(cpu{}, d, bias.value().data(), constant.data());
  kernels::dag_forward(cpu{}, d, values.value().data(), bias.value().data(), constant.data(), x.value().view(),
                       y.view(), h.data(), positive.data(), places);
  return record(
      "layered_dag", std::move(y), {x, values, bias}, {{"mask", mask}, {"wiring", std::shared_ptr<const void>(wiring)}},
      [mask, plan, tile = kernels::dag_tile(), h = std::move(h), positive = std::move(positive)](
          const Var& dy, const Var&, std::span<const Var> in, std::span<Var> dx) {
        common_device("backward", dy, in[0], in[1], in[2]);
        if (recording()) return detail::dag_recorded(dy, in, mask, *plan, dx);
        check(tile == kernels::dag_tile(), "layered_dag: the instruction set changed between forward and backward (",
              tile, " and ", kernels::dag_tile(), " samples a tile)");
        const dag_view view = plan->view(mask);
        const std::int64_t rows = dy.shape()[0], parts = kernels::dag_parts(rows), count = view.vertices - view.inputs;
        const auto scratch = [&](std::int64_t n) { return Buffer<float>(static_cast<std::size_t>(parts * n)); };
        Buffer<float> walk(static_cast<std::size_t>(mask.nnz())),
            g = scratch(view.vertices * kernels::dag_tile()), dw_parts = scratch(mask.nnz()),
            branch_sums = scratch(view.row_start ? view.branches : count),
            vertex_sums = scratch(view.row_start ? count : 0);
        Tensor to_x = in[0].wants_grad() ? Tensor::empty(in[0].shape()) : Tensor(),
               to_values = Tensor::empty(in[1].shape()), to_bias = Tensor::empty(in[2].shape());
        kernels::remap(cpu{}, in[1].value().data(), view.by_column.edge, walk.data(), mask.nnz());
        kernels::dag_backward(cpu{}, view, walk.data(), h.data(), positive.data(), dy.value().view(),
                              in[0].wants_grad() ? to_x.view() : matrix_view<float>{}, g.data(), dw_parts.data(),
                              branch_sums.data(), vertex_sums.data());
        kernels::dag_gradients(cpu{}, view, in[2].value().data(), dw_parts.data(), branch_sums.data(),
                               vertex_sums.data(), parts, to_values.data(), to_bias.data());
        if (in[0].wants_grad()) dx[0] = std::move(to_x);
        dx[1] = std::move(to_values);
        dx[2] = std::move(to_bias);
      });
}

}  // namespace deepstruct
