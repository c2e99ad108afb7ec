// What kill_while_saving.sh kills: saves one checkpoint after the other, or says whether a file is a whole one.
//   save_in_a_loop save FILE   goes on after the checkpoint that is there, until it is killed
//   save_in_a_loop check FILE  prints the number of the checkpoint; exit code 1 unless it is whole
#include <deepstruct/io/checkpoint.hpp>
#include <deepstruct/train/optimizer.hpp>

#include <iostream>

using namespace deepstruct;

namespace {

/// Checkpoint `number` of a network of a third of a million weights: all of its values are that number.
struct Run {
  MaskedDeepFFN model;
  Adam adam;
  std::int64_t number = 0;

  Run() : model(make()) { set(0); }
  static MaskedDeepFFN make() {
    Rng rng(1);
    return {784, 10, {300, 100, 50}, {.store = storage::packed}, rng};
  }
  void set(std::int64_t to) {
    number = adam.steps = to;
    each_param(model, [&](Param& p) {
      const Tensor value = Tensor::full(p.shape(), static_cast<float>(to));
      p.set_value(value);
      p.slot("exp_avg") = value;
    });
  }
  void save(const std::filesystem::path& path) const {
    save_checkpoint(path, model, Field{"optimizer", adam}, Field{"number", number});
  }
  /// Throws unless the file is whole and of one piece.
  void load(const std::filesystem::path& path) {
    load_checkpoint(path, model, Field{"optimizer", adam}, Field{"number", number});
    check(adam.steps == number, "check: two checkpoints are mixed (", adam.steps, " and ", number, ")");
    const auto all = [&](const Tensor& t) {
      t.for_each([&](std::int64_t i, float x) {
        check(x == static_cast<float>(number), "check: two checkpoints are mixed (", x, " at ", i, ", ", number, ")");
      });
    };
    each_param(model, [&](const Param& p) {
      all(p.value());
      for (const Param::Slot& s : p.slots()) all(s.value);
    });
  }
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return std::cerr << "save_in_a_loop save|check FILE\n", 2;
  const std::string what = arguments[1];
  const std::filesystem::path path = arguments[2];
  try {
    Run run;
    if (what == "check" || std::filesystem::exists(path)) run.load(path);
    if (what == "check") return std::cout << run.number << '\n', 0;
    for (;;) {
      run.set((run.number + 1) % 10'000'000);
      run.save(path);
    }
  } catch (const Error& e) {
    return std::cerr << e.what() << '\n', 1;
  }
}
