// Networks for images: convolution, dense or with a mask, pooling, batch norm. Includes the umbrella header.
#pragma once

#include "deepstruct.hpp"

#include "nn/batch_norm.hpp"
#include "nn/conv.hpp"
#include "nn/pool.hpp"
