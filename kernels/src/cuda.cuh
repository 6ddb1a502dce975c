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

// A stored weight or some of its rows and columns, as storage/cuda.rs gives it: by the type of its elements the way to
// decode element (i, j).
struct Stored {
    const void* data;
    // of int8 one for each row, of nf4 the codes of blocks and what they are multiplied by
    const void* scales;
    const float* ranges;
    // elements from row to row; bytes for nf4, and blocks
    u64 stride, blocks;
    // the number of the first element (the first byte for nf4), and of the first row's scale or of the first block
    u64 first, first_scale;
};
struct Int8 {};
struct Nf4 {};

template <class T>
static __device__ inline float at(const Stored& w, u64 i, u64 j, T) {
    return decode(static_cast<const T*>(w.data)[w.first + i * w.stride + j]);
}
static __device__ inline float at(const Stored& w, u64 i, u64 j, Int8) {
    float q = (float)static_cast<const signed char*>(w.data)[w.first + i * w.stride + j];
    return q * static_cast<const float*>(w.scales)[w.first_scale + i];
}
// storage/nf4.rs has these levels, ...
static __device__ inline float nf4_level(u32 code) {
    static const float levels[16] = {
        -1.0f,       -0.6961928f, -0.52507305f, -0.3949175f, -0.28444138f, -0.18477343f, -0.091050036f, 0.0f,
        0.0795803f,  0.1609302f,  0.2461123f,   0.33791524f, 0.44070983f,  0.562617f,    0.72295684f,   1.0f,
    };
    return levels[code];
}
// ... and these steps: of each sign 2^i between 10^(i-7) and 10^(i-6) for i from 0 to 6, with 0 and 1.
static __device__ inline float nf4_step(u32 code) {
    if (code == 127 || code == 255) {
        return code == 127 ? 0.0f : 1.0f;
    }
    u32 k = code > 127 ? code - 128 : 126 - code;
    double unit = 1e-6;
    u32 parts = 1;
    while (k >= parts) {
        k -= parts;
        parts *= 2;
        unit *= 10.0;
    }
    float step = (float)(unit * (0.1 + 0.9 * (double)(2 * k + 1) / (double)(2 * parts)));
    return code > 127 ? step : -step;
}
static __device__ inline float at(const Stored& w, u64 i, u64 j, Nf4) {
    u64 block = w.first_scale + i * w.blocks + j / 64;
    const float* range = w.ranges + block / 256 * 2;
    float scale = range[0] + range[1] * nf4_step(static_cast<const unsigned char*>(w.scales)[block]);
    u32 pair = static_cast<const unsigned char*>(w.data)[w.first + i * w.stride + j / 2];
    return nf4_level(j % 2 ? pair >> 4 : pair & 15) * scale;
}

// What is added to a product: a row, and a matrix; either may be null.
struct Plus {
    const float* bias;
    View<const float> rows;
};
static __device__ inline float plus(const Plus& p, u64 i, u64 j) {
    float v = p.rows ? p.rows.row(i)[j] : 0.0f;
    return p.bias ? v + p.bias[j] : v;
}

// ---- sums ----------------------------------------------------------------------------------------------------------
// Their order is fixed: a butterfly adds the lanes of a warp, and every thread adds the warps in ascending order.

struct Sum {
    template <class T>
    static __device__ T of(T a, T b) {
        return a + b;
    }
};
struct Most {
    static __device__ float of(float a, float b) {
        return fmaxf(a, b);
    }
};

template <class F, class T>
static __device__ inline T warp_fold(T v) {
    for (int step = 16; step > 0; step /= 2) {
        v = F::of(v, __shfl_xor_sync(0xffffffffu, v, step));
    }
    return v;
}
// Blocks that fold are whole warps, and no more of them than this.
#define MOST_WARPS 32

// `of_warp` is shared memory for MOST_WARPS values.
template <class F, class T>
static __device__ inline T block_fold(T v, T* of_warp) {
    v = warp_fold<F>(v);
    if (threadIdx.x % 32 == 0) {
        of_warp[threadIdx.x / 32] = v;
    }
    __syncthreads();
    T all = of_warp[0];
    for (unsigned w = 1; w < blockDim.x / 32; w++) {
        all = F::of(all, of_warp[w]);
    }
    __syncthreads(); // the next fold may now write of_warp
    return all;
}
// The sum of `v` over the block, the same in every thread.
static __device__ inline float block_sum(float v) {
    __shared__ float of_warp[MOST_WARPS];
    return block_fold<Sum>(v, of_warp);
}
static __device__ inline double block_sum(double v) {
    __shared__ double of_warp[MOST_WARPS];
    return block_fold<Sum>(v, of_warp);
}
// The largest `v` of the block, the same in every thread.
static __device__ inline float block_max(float v) {
    __shared__ float of_warp[MOST_WARPS];
    return block_fold<Most>(v, of_warp);
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
    __device__ void report(u32 index) const {
        atomicMax(word, (u64)code << 32 | index);
    }
    // True if there is no such index.
    __device__ bool beyond(u32 index, u64 below) const {
        if (index < below) {
            return false;
        }
        report(index);
        return true;
    }
};
