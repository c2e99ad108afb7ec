// The families that have a runner; one source file each.
#pragma once

#include "harness.hpp"

namespace golden {

void run_elementwise(Case&);    // ops.unary, ops.binary
void run_reduction(Case&);      // ops.reductions
void run_shape(Case&);          // ops.shape
void run_nn(Case&);             // ops.nn
void run_conv(Case&);           // ops.nn: convolution
void run_pool(Case&);           // ops.nn: pooling and batch norm
void run_scheduler(Case&);      // ops.schedulers
void run_initialiser(Case&);    // ops.initialisers
void run_optimizer(Case&);      // ops.optimizers
void run_masked_linear(Case&);  // masked_linear
void run_ffn(Case&);            // models.ffn
void run_dan(Case&);            // models.dan
void run_scalable(Case&);       // scalable
void run_pruning(Case&);        // pruning
void run_obs_layerwise(Case&);  // pruning: one layer by optimal brain surgeon
void run_generators(Case&);     // graph.generators
void run_graphml(Case&);        // graph.graphml
void run_layer_index(Case&);    // graph.layer_index
void run_graph_api(Case&);      // graph.api
void run_labeled_dag(Case&);    // graph.labeled_dag
void run_transform(Case&);      // transform

}  // namespace golden
