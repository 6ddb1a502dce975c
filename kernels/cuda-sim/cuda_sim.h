// CUDA C on the processor: what a kernel sees when g++ compiles it.
//
// Every CUDA thread is a fiber; barriers and warp operations suspend it until the others arrive. This header is
// included before a kernel.cu, which itself knows nothing of it. A barrier, a shuffle or a type that is missing here
// is a compile error: add it when a kernel needs it. There are no atomics, because no kernel may need them: the order
// of every sum is fixed.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#ifdef ENGRAFT_SIM_PLAIN_SHARED
// AddressSanitizer puts red zones around variables only if they are in no section of their own.
#define __shared__ static
#else
// In one section, so that the runtime can fill it with NaN before every block. gcc ignores the attribute inside a
// template: declare shared memory in the kernel itself.
#define __shared__ static __attribute__((section("engraft_sim_shared")))
#endif

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace sim {

// The running CUDA thread and where it is.
struct Thread {
    uint3 index;
    unsigned lane;
    unsigned warp;
};
extern Thread* current;
extern uint3 block;
extern dim3 block_size;
extern dim3 grid_size;

// Prints what is wrong, and in which thread, and ends the process.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Waits for every thread of the block that has not returned. `where` is the call's file and line.
void barrier(const char* where);

// Waits for the lanes of `mask`; the last to arrive runs `operation` once over the arguments of all of them.
typedef void (*WarpOperation)(void** arguments, unsigned lanes);
void warp_operation(unsigned mask, const char* where, void* argument, WarpOperation operation);

template <class T>
struct Shuffle {
    T value;
    unsigned source;
    T result;
};

template <class T>
T shuffle(unsigned mask, T value, unsigned source, const char* where) {
    Shuffle<T> mine{value, source, value};
    warp_operation(mask, where, &mine, [](void** arguments, unsigned lanes) {
        for (unsigned lane = 0; lane < 32; lane++) {
            if (lanes >> lane & 1) {
                auto* to = static_cast<Shuffle<T>*>(arguments[lane]);
                if (!(lanes >> to->source & 1)) {
                    fail("lane %u shuffles from lane %u, which is not in the mask", lane, to->source);
                }
                to->result = static_cast<Shuffle<T>*>(arguments[to->source])->value;
            }
        }
    });
    return mine.result;
}

// A kernel by name, callable with the array of pointers to arguments that cuLaunchKernel takes.
typedef void (*Entry)(void** arguments);
struct Registration {
    Registration(const char* name, Entry entry, const size_t* sizes, size_t count);
};
template <class... A, size_t... I>
void apply(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}
template <auto kernel>
struct Export;
template <class... A, void (*kernel)(A...)>
struct Export<kernel> {
    static constexpr size_t sizes[] = {sizeof(A)...};
    static constexpr size_t count = sizeof...(A);
    static void entry(void** arguments) {
        apply(kernel, arguments, std::index_sequence_for<A...>{});
    }
};

} // namespace sim

// Makes a kernel known to the stand-in driver.
#define ENGRAFT_SIM_EXPORT(kernel)                                                                           \
    static sim::Registration registration_##kernel(                                                          \
        #kernel, sim::Export<kernel>::entry, sim::Export<kernel>::sizes, sim::Export<kernel>::count          \
    );

#define ENGRAFT_SIM_TEXT_OF(x) #x
#define ENGRAFT_SIM_TEXT(x) ENGRAFT_SIM_TEXT_OF(x)
#define ENGRAFT_SIM_HERE __FILE__ ":" ENGRAFT_SIM_TEXT(__LINE__)

#define threadIdx (sim::current->index)
#define blockIdx (sim::block)
#define blockDim (sim::block_size)
#define gridDim (sim::grid_size)
#ifdef ENGRAFT_SIM_WITHOUT_BARRIER
// For check.py, which must see the tests fail when the barrier on that line is missing.
#define __syncthreads()                                                                                      \
    (__LINE__ == ENGRAFT_SIM_WITHOUT_BARRIER ? (void)0 : sim::barrier(ENGRAFT_SIM_HERE))
#else
#define __syncthreads() sim::barrier(ENGRAFT_SIM_HERE)
#endif
#define __shfl_xor_sync(mask, value, with)                                                                   \
    sim::shuffle(mask, value, (sim::current->lane ^ (with)) & 31u, ENGRAFT_SIM_HERE)
