// The version of deepstruct, three numbers; CMake reads them from this file.
#pragma once

#define DEEPSTRUCT_VERSION_MAJOR 0
#define DEEPSTRUCT_VERSION_MINOR 1
#define DEEPSTRUCT_VERSION_PATCH 0
