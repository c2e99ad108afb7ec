// Networks from graphs and graphs from networks: generators, layered graphs, their metrics and pictures, the models
// made of them, the way back, and what can be done with networks as graphs. Includes the umbrella header. The spectral
// gap is one include more, graph/spectrum.hpp, since it needs Eigen.
#pragma once

#include "deepstruct.hpp"

#include "graph/acyclic.hpp"
#include "graph/betweenness.hpp"
#include "graph/labeled_dag.hpp"
#include "graph/metrics.hpp"
#include "graph/paths.hpp"
#include "graph/power_law.hpp"
#include "graph/random_graphs.hpp"
#include "graph/small_world_sigma.hpp"
#include "graph/svg.hpp"

#include "models/scalable.hpp"

#include "transform/compact_graph.hpp"
#include "transform/diff.hpp"
#include "transform/orders.hpp"
#include "transform/topology_distance.hpp"

#include "prune/history.hpp"
