// What the stand-in driver asks of the fiber runtime.
#pragma once
#include "cuda_sim.h"

#include <vector>

namespace sim {

struct Kernel {
    Entry entry;
    unsigned threads; // of a block, at most
    std::vector<size_t> sizes; // of its parameters, in bytes
};

// Null if there is no kernel of that name.
const Kernel* find(const char* name);

// Runs every block of the grid, one after the other; one launch at a time in the whole process.
// `dynamic` bytes of shared memory come on top of what the kernel declares. The threads of a block get their turn in the
// order that ENGRAFT_CUDA_SIM_SEED says: 0 ascending, 1 descending, others shuffled.
void launch(const Kernel& kernel, dim3 grid, dim3 size, size_t dynamic, void** arguments);

} // namespace sim
