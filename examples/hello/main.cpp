// Hello, sparse world: build a masked network, prune it, train some steps, pack it, and see what that was worth. The
// fifteen lines of the README, and a dense network that trains beside it.
#include <deepstruct/deepstruct.hpp>
#include <deepstruct/io/report_card.hpp>

#include <iostream>

namespace ds = deepstruct;

int main() {
  ds::manual_seed(1);
  ds::MaskedDeepFFN dense(784, 10, {300, 100});              // deepstruct.sparse.MaskedDeepFFN(784, 10, [300, 100])
  ds::MaskedDeepFFN model = dense;                           // a copy shares nothing
  ds::prune_network_by_saliency(model, ds::percentage(90));  // the smallest 90 % of all weights

  const ds::Tensor x = ds::Tensor::normal({128, 784});       // a batch of 128 samples
  const auto target = ds::Indices::full(ds::Shape{128}, 3);  // and their classes
  for (ds::MaskedDeepFFN* net : {&dense, &model}) {
    ds::Adam optimizer{.lr = 1e-3};
    for (int step = 0; step < 5; ++step) {
      const ds::Var loss = ds::cross_entropy((*net)(x), target);
      ds::backward(loss);
      optimizer.step(*net);  // also clears the gradients
      std::cout << (net == &dense ? "dense" : "pruned") << ", step " << step << "  loss " << loss.item() << '\n';
    }
  }

  const ds::MaskedDeepFFN small = ds::pack(model);  // pruned weights are gone from memory, file and time
  std::cout << ds::parameter_count(model) << " numbers before, " << ds::parameter_count(small) << " packed\n\n";
  ds::report(dense, small, ds::Dataset(x, target, 10), {.before = "dense", .after = "packed"}).write(std::cout);
}
