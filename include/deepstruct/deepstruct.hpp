// deepstruct: sparse and structured neural networks in C++20. The umbrella header: the standard library only. One
// include more are networks from graphs, graph.hpp (a seventh of a first program's compilation), convolution, pooling
// and batch norm, images.hpp (a fourteenth), Tensor ↔ Eigen, core/eigen.hpp (Eigen would be a tenth), the check of new
// rules, autograd/gradcheck.hpp, and models made ready to answer, nn/inference.hpp.
#pragma once

#include "version.hpp"

#include "core/mask.hpp"

#include "autograd/backward.hpp"
#include "autograd/trace.hpp"

#include "ops/loss.hpp"

#include "nn/layers.hpp"
#include "nn/masked_linear.hpp"

#include "train/loop.hpp"
#include "train/schedule.hpp"

#include "models/masked_deep_ffn.hpp"

#include "prune/prune.hpp"
