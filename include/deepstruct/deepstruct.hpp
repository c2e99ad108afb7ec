// deepstruct: sparse and structured neural networks in C++20. The umbrella header; it needs Eigen and the standard library only.
#pragma once

#include "version.hpp"
