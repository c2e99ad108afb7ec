// The io room: files that need a library beyond Eigen and the standard one. Link deepstruct::io.
#pragma once

#include "io/gzip.hpp"
#include "io/kernel_table.hpp"
#include "io/safetensors.hpp"
