// Opens the region that every CPU runs: 16-byte vectors. Close it with end.hpp.
namespace deepstruct::kernels::baseline {
