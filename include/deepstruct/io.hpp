// The io room: files that need a library beyond Eigen and the standard one. Link deepstruct::io.
#pragma once

#include "io/checkpoint.hpp"
#include "io/dot.hpp"
#include "io/edge_list.hpp"
#include "io/graphml.hpp"
#include "io/gzip.hpp"
#include "io/kernel_table.hpp"
#include "io/layered_graph.hpp"
#include "io/model_file.hpp"
#include "io/prune_history.hpp"
#include "io/safetensors.hpp"
#include "io/state_dict.hpp"
