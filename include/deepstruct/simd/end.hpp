// Closes the instruction-set region that a *_begin.hpp opened.
}  // namespace
#if defined(DEEPSTRUCT_REGION_OPTIONS) && defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#elif defined(DEEPSTRUCT_REGION_OPTIONS) && defined(__x86_64__) && defined(__GNUC__)
#pragma GCC pop_options
#endif
#undef DEEPSTRUCT_REGION_OPTIONS
