#include <deepstruct/kernels/elementwise.hpp>
namespace deepstruct::kernels{void f(const volatile void**p){int i=0;p[i++]=(const volatile void*)(&baseline::map<fn::exp>);}}