// What the kernels share. NVRTC reads it for the GPU, and g++ for the stand-in of cuda-sim.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef ENGRAFT_SIM
// A kernel: how many threads its blocks have at most, its name, its parameters. All kernels have different names.
#define KERNEL(THREADS, NAME, ...) extern "C" __global__ void __launch_bounds__(THREADS) NAME(__VA_ARGS__)
// Shared memory of the size that the launch says.
#define DYNAMIC_SHARED(TYPE, NAME) extern __shared__ TYPE NAME[]
#endif

// A matrix, or a part of one: the first element, and elements from row to row. Null: there is none.
template <class T>
struct View {
    T* data;
    u64 stride;
    __device__ T* row(u64 i) const {
        return data + i * stride;
    }
    __device__ explicit operator bool() const {
        return data != nullptr;
    }
};

// Runs over all elements (i, j), in any launch: neighbouring threads take neighbouring columns.
#define FOR_EACH(i, j, rows, cols)                                                                           \
    for (u64 i = blockIdx.y; i < (rows); i += gridDim.y)                                                     \
        for (u64 j = blockIdx.x * (u64)blockDim.x + threadIdx.x; j < (cols); j += (u64)gridDim.x * blockDim.x)

// ---- stored values -------------------------------------------------------------------------------------------------

static __device__ inline float decode(float v) {
    return v;
}
static __device__ inline float decode(__nv_bfloat16 v) {
    return __bfloat162float(v);
}
static __device__ inline float decode(__half v) {
    return __half2float(v);
}

// ---- sums ----------------------------------------------------------------------------------------------------------
// Their order is fixed: a butterfly adds the lanes of a warp, and every thread adds the warps in ascending order.

static __device__ inline float warp_sum(float v) {
    for (int step = 16; step > 0; step /= 2) {
        v += __shfl_xor_sync(0xffffffffu, v, step);
    }
    return v;
}

// Blocks that sum are whole warps, and no more of them than this.
#define MOST_WARPS 32

// The sum of `v` over the block, the same in every thread.
static __device__ inline float block_sum(float v) {
    __shared__ float of_warp[MOST_WARPS];
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) {
        of_warp[threadIdx.x / 32] = v;
    }
    __syncthreads();
    float sum = 0.0f;
    for (unsigned w = 0; w < blockDim.x / 32; w++) {
        sum += of_warp[w];
    }
    __syncthreads(); // the next sum may now write of_warp
    return sum;
}
// ---- dropout -------------------------------------------------------------------------------------------------------

// The numbers of src/dropout/mod.rs: a hash of the key, the row and the column.
struct Dropout {
    u32 key0, key1;
    u32 threshold;
    float scale;

    static __device__ u64 mix(u64 x) {
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
        return x ^ (x >> 31);
    }
    // What, with a column, decides an element of this row.
    __device__ u64 row_key(u64 row) const {
        return mix(((u64)key1 << 32 | key0) ^ row * 0x9e3779b97f4a7c15ull);
    }
    __device__ static u32 hash(u64 row_key, u32 col) {
        u32 s = ((col * 0x9e3779b9u ^ (u32)row_key) + (u32)(row_key >> 32)) * 747796405u + 2891336453u;
        u32 w = ((s >> ((s >> 28) + 4)) ^ s) * 277803737u;
        return (w >> 22) ^ w;
    }
    // 0 or 1 / (1 - p).
    __device__ float factor(u64 row_key, u64 col) const {
        return hash(row_key, (u32)col) < threshold ? 0.0f : scale;
    }
};

// ---- faults --------------------------------------------------------------------------------------------------------

// Where a launch reports an index that names nothing: cuda.rs turns that into an error when the host next waits.
struct Faults {
    u64* word;
    u32 code;
    // True if there is no such index.
    __device__ bool beyond(u32 index, u64 below) const {
        if (index < below) {
            return false;
        }
        atomicMax(word, (u64)code << 32 | index);
        return true;
    }
};
