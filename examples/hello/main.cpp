// Hello, sparse world: build a masked network, prune it, train a step, pack it. The fifteen lines of the README.
#include <deepstruct/deepstruct.hpp>

#include <iostream>

namespace ds = deepstruct;

int main() {
  ds::manual_seed(1);
  ds::MaskedDeepFFN model(784, 10, {300, 100});              // deepstruct.sparse.MaskedDeepFFN(784, 10, [300, 100])
  ds::prune_network_by_saliency(model, ds::percentage(90));  // the smallest 90 % of all weights

  const ds::Tensor x = ds::Tensor::normal({128, 784});                         // a batch of 128 samples
  const std::vector<std::int32_t> target = std::vector<std::int32_t>(128, 3);  // and their classes
  ds::Adam optimizer{.lr = 1e-3};
  for (int step = 0; step < 5; ++step) {
    const ds::Var loss = ds::cross_entropy(model(x), target);
    ds::backward(loss);
    optimizer.step(model);  // also clears the gradients
    std::cout << "step " << step << "  loss " << loss.item() << '\n';
  }

  const ds::MaskedDeepFFN small = ds::pack(model);  // pruned weights are gone from memory, file and time
  std::cout << ds::parameter_count(model) << " numbers before, " << ds::parameter_count(small) << " packed\n";
}
