// CUDA C on the processor: what a kernel sees when g++ compiles it.
//
// Every CUDA thread is a fiber; barriers and warp operations suspend it until the others arrive. The build includes this
// header before a kernel.cu, which itself knows nothing of it. A function or a type that is missing here is a compile
// error: add it when a kernel needs it. There are no atomics on floats, because no kernel may need them: the order of
// every sum is fixed.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <math.h>
#include <utility>

#define ENGRAFT_SIM

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __restrict__ __restrict
#ifdef ENGRAFT_SIM_PLAIN_SHARED
// AddressSanitizer puts red zones around variables only if they are in no section of their own.
#define __shared__ static
#else
// In one section, so that the runtime can fill it with NaN before every block. gcc ignores the attribute inside a
// template: declare shared memory in the kernel itself.
#define __shared__ static __attribute__((section("engraft_sim_shared")))
#endif
#define DYNAMIC_SHARED(TYPE, NAME) TYPE* NAME = static_cast<TYPE*>(sim::dynamic_shared)

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
extern void* dynamic_shared;

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
// The lanes of `mask` for which `predicate` holds.
inline unsigned ballot(unsigned mask, bool predicate, const char* where) {
    Shuffle<bool> mine{predicate, 0, false};
    warp_operation(mask, where, &mine, [](void** arguments, unsigned lanes) {
        unsigned votes = 0;
        for (unsigned lane = 0; lane < 32; lane++) {
            votes |= unsigned(lanes >> lane & 1 && static_cast<Shuffle<bool>*>(arguments[lane])->value) << lane;
        }
        for (unsigned lane = 0; lane < 32; lane++) {
            if (lanes >> lane & 1) {
                static_cast<Shuffle<bool>*>(arguments[lane])->source = votes;
            }
        }
    });
    return mine.source;
}

// A kernel by name, callable with the array of pointers to arguments that cuLaunchKernel takes.
typedef void (*Entry)(void** arguments);
struct Registration {
    Registration(const char* name, unsigned threads, Entry entry, const size_t* sizes, size_t count);
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

// Declares a kernel, makes it known to the stand-in driver, and begins its definition.
#define KERNEL(THREADS, NAME, ...)                                                                           \
    static void NAME(__VA_ARGS__);                                                                           \
    static sim::Registration registration_##NAME(                                                            \
        #NAME, THREADS, sim::Export<NAME>::entry, sim::Export<NAME>::sizes, sim::Export<NAME>::count         \
    );                                                                                                       \
    static void NAME(__VA_ARGS__)

#define ENGRAFT_SIM_TEXT_OF(x) #x
#define ENGRAFT_SIM_TEXT(x) ENGRAFT_SIM_TEXT_OF(x)
#define ENGRAFT_SIM_HERE __FILE__ ":" ENGRAFT_SIM_TEXT(__LINE__)

#define threadIdx (sim::current->index)
#define blockIdx (sim::block)
#define blockDim (sim::block_size)
#define gridDim (sim::grid_size)

// ---- barriers and warp operations ------------------------------------------------------------------------------------

#define __syncthreads() sim::barrier(ENGRAFT_SIM_HERE)
#define __syncwarp(...)                                                                                      \
    sim::warp_operation(sim::mask_of(__VA_ARGS__), ENGRAFT_SIM_HERE, nullptr, [](void**, unsigned) {})
#define __shfl_sync(mask, value, source) sim::shuffle(mask, value, (source) & 31u, ENGRAFT_SIM_HERE)
#define __shfl_xor_sync(mask, value, with)                                                                   \
    sim::shuffle(mask, value, (sim::current->lane ^ (with)) & 31u, ENGRAFT_SIM_HERE)
// beyond the warp's end a lane reads its own value
#define __shfl_down_sync(mask, value, by)                                                                    \
    sim::shuffle(mask, value, sim::inside(sim::current->lane + (by)), ENGRAFT_SIM_HERE)
#define __shfl_up_sync(mask, value, by)                                                                      \
    sim::shuffle(mask, value, sim::inside(sim::current->lane - (by)), ENGRAFT_SIM_HERE)
#define __ballot_sync(mask, predicate) sim::ballot(mask, predicate, ENGRAFT_SIM_HERE)
#define __any_sync(mask, predicate) (sim::ballot(mask, predicate, ENGRAFT_SIM_HERE) != 0)
#define __all_sync(mask, predicate) (sim::ballot(mask, !(predicate), ENGRAFT_SIM_HERE) == 0)

namespace sim {
inline unsigned mask_of(unsigned mask = 0xffffffffu) {
    return mask;
}
inline unsigned inside(unsigned lane) {
    return lane < 32 ? lane : current->lane;
}
} // namespace sim

// ---- arithmetic ------------------------------------------------------------------------------------------------------

inline float __uint_as_float(unsigned bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
inline unsigned __float_as_uint(float f) {
    unsigned bits;
    memcpy(&bits, &f, 4);
    return bits;
}
inline float __int_as_float(int bits) {
    return __uint_as_float(unsigned(bits));
}
inline int __float_as_int(float f) {
    return int(__float_as_uint(f));
}
inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
inline float __expf(float x) {
    return expf(x);
}
inline float __logf(float x) {
    return logf(x);
}
// this processor's compiler is not told to fuse a multiply with an add
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fadd_rn(float a, float b) {
    return a + b;
}
// c and the products of four pairs of bytes with a sign
inline int __dp4a(int a, int b, int c) {
    for (int x = 0; x < 32; x += 8) {
        c += int8_t(a >> x) * int8_t(b >> x);
    }
    return c;
}
inline float __fdividef(float a, float b) {
    return a / b;
}
template <class T>
T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
    return a < b ? b : a;
}
template <class T>
T __ldg(const T* at) {
    return *at;
}
// On integers alone; fibers of one thread of the system take turns, so that it is one step.
template <class T>
T atomicMax(T* at, T v) {
    static_assert(T(0.5) == T(0), "the order of sums of floats is fixed");
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    __atomic_store_n(at, max(old, v), __ATOMIC_RELAXED);
    return old;
}

// ---- vectors, aligned as the GPU needs them --------------------------------------------------------------------------

#define ENGRAFT_SIM_VECTORS(T, NAME)                                                                         \
    struct alignas(2 * sizeof(T)) NAME##2 {                                                                  \
        T x, y;                                                                                              \
    };                                                                                                       \
    struct alignas(4 * sizeof(T)) NAME##4 {                                                                  \
        T x, y, z, w;                                                                                        \
    };                                                                                                       \
    inline NAME##2 make_##NAME##2(T x, T y) {                                                                \
        return {x, y};                                                                                       \
    }                                                                                                        \
    inline NAME##4 make_##NAME##4(T x, T y, T z, T w) {                                                      \
        return {x, y, z, w};                                                                                 \
    }
ENGRAFT_SIM_VECTORS(float, float)
ENGRAFT_SIM_VECTORS(int, int)
ENGRAFT_SIM_VECTORS(unsigned, uint)
