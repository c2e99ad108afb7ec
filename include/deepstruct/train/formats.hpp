// The data formats that need no library: IDX, CSV, NPY.
#pragma once

#include "csv.hpp"
#include "idx.hpp"
#include "npy.hpp"
