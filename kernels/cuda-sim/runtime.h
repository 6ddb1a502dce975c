// What the stand-in driver and the C++ tests ask of the fiber runtime.
#pragma once
#include "cuda_sim.h"

#include <vector>

namespace sim {

struct Kernel {
    Entry entry;
    std::vector<size_t> sizes; // of its parameters, in bytes
};

// Null if no kernel of that name is exported.
const Kernel* find(const char* name);

// Runs every block of the grid, one after the other; one launch at a time in the whole process.
void launch(const Kernel& kernel, dim3 grid, dim3 size, void** arguments);

// The order in which the threads of a block get their turn: 0 ascending, 1 descending, others shuffled. It starts as
// ENGRAFT_CUDA_SIM_SEED.
void set_seed(unsigned seed);

} // namespace sim
