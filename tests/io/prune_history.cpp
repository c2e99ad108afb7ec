// A history comes back from a safetensors file; damaged ones are refused.
#include <deepstruct/io/prune_history.hpp>
#include <deepstruct/io/safetensors.hpp>
#include <deepstruct/models/masked_deep_ffn.hpp>
#include <deepstruct/prune/prune.hpp>

#include "support/cases.hpp"

using namespace deepstruct;
using test::require_error;

namespace {

StoredTensor& history_array(StoredTensors& content, std::string_view name) {
  return const_cast<StoredTensor&>(*content.find(name));
}

}  // namespace

TEST_CASE("a stored history is the same history, and goes on") {
  Rng rng(3);
  const MaskedDeepFFN original(9, 3, {8, 5}, {.store = storage::packed}, rng);
  MaskedDeepFFN model = original;
  PruneHistory history;
  REQUIRE(restored_history(stored_history(history)) == history);
  history.record(model, "dicht, ungekürzt\n");
  std::vector<Mask> masks{model.layer_first.mask()};
  for (int k = 0; k < 4; ++k) {
    random_pruning(model, percentage(20), rng);
    history.record(model, k == 1 ? "" : "step");
    masks.push_back(model.layer_first.mask());
  }
  PruneHistory back = restored_history(parse_safetensors(safetensors_bytes(stored_history(history))));
  REQUIRE(back == history);
  for (std::int64_t k = 0; k < history.size(); ++k) {
    REQUIRE(back.label(k) == history.label(k));
    REQUIRE(back.edges(k) == history.edges(k));
    MaskedDeepFFN fresh = original;
    back.replay(fresh, k);
    REQUIRE(fresh.layer_first.mask() == masks[k]);
  }
  random_pruning(model, percentage(20), rng);
  history.record(model);
  back.record(model);
  REQUIRE(back == history);
  StoredTensors among = stored_history(history);
  among.tensors.push_back(stored_values<std::int32_t>("weight", {1, 2}));
  REQUIRE(restored_history(among) == history);
}

TEST_CASE("times of steps are stored where there are any; files without them are read as before") {
  Rng rng(4);
  MaskedLinearLayer layer(6, 4, rng);
  PruneHistory timed, untimed;
  timed.record(layer, "start", 0);
  untimed.record(layer, "start");
  layer.set_mask(Mask::random(4, 6, 0.5, rng));
  timed.record(layer, "pruned");
  untimed.record(layer, "pruned");
  layer.set_mask(Mask::random(4, 6, 0.2, rng));
  timed.record(layer, "pruned", std::int64_t{1} << 40);
  untimed.record(layer, "pruned");
  REQUIRE(stored_history(untimed).find("history.times") == nullptr);
  REQUIRE(restored_history(stored_history(untimed)) == untimed);
  StoredTensors content = stored_history(timed);
  const PruneHistory back = restored_history(parse_safetensors(safetensors_bytes(content)));
  REQUIRE(back == timed);
  REQUIRE(back.time(1) == -1);
  REQUIRE(back.time(2) == std::int64_t{1} << 40);
  history_array(content, "history.times") = stored_values("history.times", std::vector<std::int64_t>{1, 2});
  require_error([&] { restored_history(content); }, {"restored_history: needs a time per step (2 for 3)"});
  std::erase_if(content.tensors, [](const auto& t) { return t.name == "history.times"; });
  REQUIRE(restored_history(content) == untimed);  // what a file of before holds
}

TEST_CASE("a damaged history is an error, whatever its sizes say") {
  Rng rng(5);
  MaskedLinearLayer layer(6, 4, rng);
  PruneHistory history;
  for (int k = 0; k < 3; ++k) {
    history.record(layer, "label");
    layer.set_mask(Mask::random(4, 6, 0.5, rng));
  }
  const StoredTensors good = stored_history(history);
  const auto damaged = [&](auto&& damage, std::initializer_list<const char*> parts) {
    StoredTensors content = good;
    damage(content);
    require_error([&] { restored_history(content); }, parts);
  };
  damaged([](StoredTensors& c) { c.metadata.clear(); }, {"restored_history: holds no history"});
  damaged([](StoredTensors& c) { c.metadata["deepstruct.history"] = "2"; },
          {"restored_history: is of a later version"});
  for (const StoredTensor& t : good.tensors)
    damaged([&](StoredTensors& c) { std::erase_if(c.tensors, [&](const auto& x) { return x.name == t.name; }); },
            {"restored_history: array is missing", t.name.c_str()});
  const auto ends = [&](std::vector<std::int64_t> values, std::initializer_list<const char*> parts) {
    damaged(
        [&](StoredTensors& c) {
          history_array(c, "history.labels.ends") = stored_values("history.labels.ends", values);
        },
        parts);
  };
  ends({5, 10, 14}, {"restored_history: ends do not divide an array (history.labels: 14 of 15)"});
  ends({5, 3, 15}, {"restored_history: ends do not divide an array"});
  ends({-1, 3, 15}, {"restored_history: ends do not divide an array"});
  ends({5, 15}, {"restored_history: arrays do not fit each other"});
  ends({}, {"restored_history: ends do not divide an array"});
  const auto shape = [&](std::int64_t rows, std::int64_t cols, std::initializer_list<const char*> parts) {
    damaged(
        [&](StoredTensors& c) {
          history_array(c, "history.shapes") = stored_values("history.shapes", std::vector<std::int64_t>{rows, cols});
        },
        parts);
  };
  shape(std::int64_t{1} << 62, 4, {"PruneHistory: no mask has this shape"});
  shape(1 << 30, 1 << 30, {"PruneHistory: no mask has this shape"});
  shape(2, 3, {"PruneHistory: a change is outside its layer"});
  damaged([](StoredTensors& c) { history_array(c, "history.full").bytes[0] = std::byte{2}; }, {"neither 0 nor 1"});
  damaged([](StoredTensors& c) { history_array(c, "history.changes").bytes.back() = std::byte{255}; },
          {"PruneHistory: changes are damaged"});
  // A great shape that its changes fit takes no memory: only a model of that shape could be set to it.
  StoredTensors great = good;
  history_array(great, "history.shapes") = stored_values("history.shapes", std::vector<std::int64_t>{1 << 30, 1 << 30});
  history_array(great, "history.full").bytes[0] = std::byte{0};
  const PruneHistory h = restored_history(great);
  REQUIRE(h.size() == 3);
  require_error([&] { h.replay(layer, 0); }, {"replay: the model has other masked layers"});
}
