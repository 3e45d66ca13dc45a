# Read by CMake as llama.cpp's project begins (CMAKE_PROJECT_llama.cpp_INCLUDE in the Makefile): its library for its own
# command-line programs is half of what compiles, and nothing here uses it. llama-cpp-python forces the cache variable of
# this name to ON, so no -D in CMAKE_ARGS can say this.
set(LLAMA_BUILD_COMMON OFF)
