// Owner of the precompiled header that the test executables share.
