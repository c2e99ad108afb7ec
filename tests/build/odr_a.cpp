// One of two translation units that include the umbrella and are linked into every test executable:
// a function that is not inline, or a variable defined in a header, fails the link.
#include <deepstruct/deepstruct.hpp>

int odr_a();
int odr_a() { return DEEPSTRUCT_VERSION_MAJOR; }
