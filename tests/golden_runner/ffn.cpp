// models.ffn: MaskedDeepFFN, with full and packed storage.
#include "masked_model.hpp"

#include "deepstruct/models/masked_deep_ffn.hpp"

namespace golden {

void run_ffn(Case& c) {
  if (c.text("model") != "MaskedDeepFFN") throw NoRunner{"no runner for model " + c.text("model")};
  const ds::Shape in = to_shape(c["size_input"]);
  const auto hidden = c["hidden_layers"].get<std::vector<std::int64_t>>();
  const auto out = c["size_output"].get<std::int64_t>();
  std::int64_t before = in.size();
  for (std::int64_t width : hidden) before = to_shape(Json{before, width})[1];
  to_shape(Json{before, out});
  ds::MaskedDeepFFN model(in, out, hidden, {.use_layer_norm = c["use_layer_norm"].get<bool>()});
  load_state(c, model);
  check_model(c, model);
}

}  // namespace golden
