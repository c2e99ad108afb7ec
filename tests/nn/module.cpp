// The walks over modules: order, dotted names, const and non-const models.
#include <deepstruct/nn/layers.hpp>
#include <deepstruct/nn/masked_linear.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using Names = std::vector<std::string>;

namespace {

struct Leaf {
  Param w{Tensor::ones({2})};
  Param b{Tensor::ones({3})};
  static auto fields(auto& m) { return std::tuple{Field{"w", m.w}, Field{"b", m.b}}; }
};
struct Tree {
  Leaf first;
  std::vector<Leaf> many{Leaf{}, Leaf{}};
  std::tuple<Leaf, Param> pair{Leaf{}, Tensor::ones({4})};
  std::optional<Leaf> maybe;
  std::variant<Leaf, Param, ReLU> either;
  Param own{Tensor::ones({1})};
  static auto fields(auto& m) {
    return std::tuple{Field{"first", m.first}, Field{"many", m.many},     Field{"pair", m.pair},
                      Field{"maybe", m.maybe}, Field{"either", m.either}, Field{"own", m.own}};
  }
};

template <class Part>
Names names_of(auto& model) {
  Names names;
  each<Part>(model, [&](const std::string& name, auto&) { names.push_back(name); });
  return names;
}

}  // namespace

TEST_CASE("each_param walks structs, vectors, tuples, optionals and variants with dotted names") {
  Tree tree;
  const Names expected{"first.w",  "first.b",  "many.0.w", "many.0.b", "many.1.w", "many.1.b",
                       "pair.0.w", "pair.0.b", "pair.1",   "either.w", "either.b", "own"};
  REQUIRE(names_of<Param>(tree) == expected);
  REQUIRE(state_names(tree) == expected);
  REQUIRE(parameter_count(tree) == 4 * 5 + 4 + 5 + 1);

  tree.maybe = Leaf{};
  tree.either = Param(Tensor::ones({2}));
  REQUIRE(names_of<Param>(tree) == Names{"first.w", "first.b", "many.0.w", "many.0.b", "many.1.w", "many.1.b",
                                         "pair.0.w", "pair.0.b", "pair.1", "maybe.w", "maybe.b", "either", "own"});
  tree.either = ReLU();
  tree.many.clear();
  REQUIRE(names_of<Param>(tree) ==
          Names{"first.w", "first.b", "pair.0.w", "pair.0.b", "pair.1", "maybe.w", "maybe.b", "own"});
}

TEST_CASE("each finds parts of any type, also the model itself") {
  Tree tree;
  tree.maybe = Leaf{};
  REQUIRE(names_of<Leaf>(tree) == Names{"first", "many.0", "many.1", "pair.0", "maybe", "either"});
  REQUIRE(names_of<ReLU>(tree).empty());
  REQUIRE(names_of<Tree>(tree) == Names{""});
  Leaf leaf;
  REQUIRE(names_of<Leaf>(leaf) == Names{""});
  REQUIRE(names_of<Param>(leaf) == Names{"w", "b"});
}

TEST_CASE("a walk hands out the parts themselves, const ones of a const model") {
  Tree tree;
  int count = 0;
  each_param(tree, [&](Param& p) {
    p.mutable_value()(0) = static_cast<float>(++count);
    p.slot("seen");
  });
  REQUIRE(count == 12);
  REQUIRE(tree.first.w.value()(0) == 1);
  REQUIRE(tree.many[1].b.value()(0) == 6);
  REQUIRE(tree.own.value()(0) == 12);
  REQUIRE(tree.own.has_slot("seen"));

  const Tree& fixed = tree;
  std::vector<const Param*> found;
  each_param(fixed, [&](const std::string&, auto& p) {
    static_assert(std::is_same_v<decltype(p), const Param&>);
    found.push_back(&p);
  });
  REQUIRE(found.size() == 12);
  REQUIRE(found.front() == &tree.first.w);
  REQUIRE(found.back() == &tree.own);
}

TEST_CASE("what merely converts to a part is none: a soft mask is state, but no parameter") {
  MaskedLinearLayer layer(3, 2);
  layer.set_soft_mask(Tensor::full({2, 3}, 0.5f));
  const MaskedLinearLayer& fixed = layer;
  REQUIRE(parameter_count(fixed) == 2 * 3 + 2);
  REQUIRE(names_of<Param>(fixed) == Names{"weight", "bias"});
  REQUIRE(names_of<Param>(layer) == Names{"weight", "bias"});
  REQUIRE(state_names(fixed) == Names{"weight", "bias", "_mask"});
}

TEST_CASE("clear_grad forgets every gradient") {
  Leaf leaf;
  backward(add(sum(leaf.w), sum(leaf.b)));
  REQUIRE(leaf.w.has_grad());
  REQUIRE(leaf.b.has_grad());
  clear_grad(leaf);
  REQUIRE_FALSE(leaf.w.has_grad());
  REQUIRE_FALSE(leaf.b.has_grad());
}

TEST_CASE("copies of a model are independent") {
  Tree tree;
  Tree copy = tree;
  each_param(copy, [](Param& p) { p.mutable_value()(0) = 5; });
  each_param(tree, [](const Param& p) { REQUIRE(p.value()(0) == 1); });
}

TEST_CASE("trace lists every op of a model with the names of its parameters") {
  Rng rng(1);
  const Sequential net{Linear(3, 4, rng), ReLU(), Linear(4, 2, rng)};
  const Tensor x = Tensor::uniform({5, 3}, -1, 1, rng);
  const auto steps = trace(net, x);
  REQUIRE(!steps.empty());
  const Tensor traced = steps.back().value.value(),
               fused = net(x).value();  // the bias is added last or first: not the same bits
  for (std::int64_t i = 0; i < 5; ++i)
    for (std::int64_t o = 0; o < 2; ++o) REQUIRE(std::abs(traced(i, o) - fused(i, o)) < 1e-6f);
  Names names;
  for (const Step& s : steps)
    if (!s.name.empty()) names.push_back(std::string(s.name));
  std::sort(names.begin(), names.end());
  for (const char* wanted : {"0.weight", "0.bias", "2.weight", "2.bias"})
    REQUIRE(std::count(names.begin(), names.end(), wanted) == 1);
}
