// Pruning: criteria, budgets, distributions, patterns, schedules, lottery tickets, structured pruning, learnable masks.
// Includes the umbrella header; brain damage and brain surgery need Eigen.
#pragma once

#include "deepstruct.hpp"

#include "prune/bias.hpp"
#include "prune/connect.hpp"
#include "prune/distribution.hpp"
#include "prune/first_order.hpp"
#include "prune/fisher.hpp"
#include "prune/grasp.hpp"
#include "prune/history.hpp"
#include "prune/iterative.hpp"
#include "prune/lottery.hpp"
#include "prune/movement.hpp"
#include "prune/obc.hpp"
#include "prune/obd.hpp"
#include "prune/obs.hpp"
#include "prune/obs_layerwise.hpp"
#include "prune/pattern.hpp"
#include "prune/prune_layers.hpp"
#include "prune/sensitivity.hpp"
#include "prune/sparsity_controller.hpp"
#include "prune/structured.hpp"
#include "prune/synflow.hpp"
#include "prune/target.hpp"
#include "prune/wanda.hpp"
