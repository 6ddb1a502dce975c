// C (m, n) = A B + .., for the three products of mod.rs and all ways a weight is stored.
//
// A block of 256 threads takes a tile of 64 x 64 values of C, then the tile gridDim.x further, and so on. It goes
// through the depth k in steps of 16, with the two slices it needs in shared memory; each thread holds 4 x 4 sums. A
// value of C is one thread's sum in ascending order of the depth: the same on every run.
#include "cuda.cuh"

#define TILE 64
#define DEPTH 16
#define SIDE 16
#define EACH (TILE / SIDE)
#define THREADS (SIDE * SIDE)

// Slices of A and B, depth first. The odd row length keeps a column's elements in different banks.
struct Slices {
    float a[DEPTH][TILE + 1];
    float b[DEPTH][TILE + 1];
};

// Copies lines line0.. of a matrix at depths depth0.., zero beyond its edges, where `get(row, column)` gives elements.
// ALONG: the depth is the fast index in memory, `lines` x `depth`; otherwise the matrix is `depth` x `lines`. Neighbouring
// threads read neighbouring values.
template <bool ALONG, class Get>
static __device__ void load(float (*to)[TILE + 1], Get get, u64 lines, u64 depth, u64 line0, u64 depth0) {
#pragma unroll
    for (unsigned step = 0; step < TILE * DEPTH; step += THREADS) {
        unsigned e = step + threadIdx.x;
        unsigned i = ALONG ? e / DEPTH : e % TILE;
        unsigned p = ALONG ? e % DEPTH : e / TILE;
        u64 line = line0 + i;
        u64 depth_at = depth0 + p;
        float v = 0.0f;
        if (line < lines && depth_at < depth) {
            v = ALONG ? get(line, depth_at) : get(depth_at, line);
        }
        to[p][i] = v;
    }
}

template <bool A_ALONG, bool B_ALONG, class T>
static __device__ void multiply(
    Slices& slices,
    const View<const float>& a,
    const Stored& b,
    const Plus& added,
    const View<float>& c,
    u64 m,
    u64 n,
    u64 k
) {
    auto of_a = [&](u64 i, u64 j) { return a.row(i)[j]; };
    auto of_b = [&](u64 i, u64 j) { return at(b, i, j, T()); };
    unsigned tx = threadIdx.x % SIDE;
    unsigned ty = threadIdx.x / SIDE;
    u64 across = (n + TILE - 1) / TILE;
    u64 tiles = (m + TILE - 1) / TILE * across;
    for (u64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        u64 i0 = tile / across * TILE;
        u64 j0 = tile % across * TILE;
        float sum[EACH][EACH] = {};
        for (u64 p0 = 0; p0 < k; p0 += DEPTH) {
            load<A_ALONG>(slices.a, of_a, m, k, i0, p0);
            load<B_ALONG>(slices.b, of_b, n, k, j0, p0);
            __syncthreads();
#pragma unroll 4
            for (int p = 0; p < DEPTH; p++) {
                float av[EACH];
                float bv[EACH];
#pragma unroll
                for (int e = 0; e < EACH; e++) {
                    av[e] = slices.a[p][ty + e * SIDE];
                    bv[e] = slices.b[p][tx + e * SIDE];
                }
#pragma unroll
                for (int r = 0; r < EACH; r++) {
#pragma unroll
                    for (int s = 0; s < EACH; s++) {
                        sum[r][s] += av[r] * bv[s];
                    }
                }
            }
            __syncthreads(); // the slices may now be overwritten
        }
#pragma unroll
        for (int r = 0; r < EACH; r++) {
#pragma unroll
            for (int s = 0; s < EACH; s++) {
                u64 i = i0 + ty + r * SIDE;
                u64 j = j0 + tx + s * SIDE;
                if (i < m && j < n) {
                    c.row(i)[j] = sum[r][s] + plus(added, i, j);
                }
            }
        }
    }
}

#define PRODUCT(NAME, A_ALONG, B_ALONG, T)                                                                   \
    KERNEL(                                                                                                  \
        THREADS, NAME, View<const float> a, Stored b, Plus added, View<float> c, u64 m, u64 n, u64 k         \
    ) {                                                                                                      \
        __shared__ Slices slices;                                                                            \
        multiply<A_ALONG, B_ALONG, T>(slices, a, b, added, c, m, n, k);                                      \
    }
#define PRODUCTS(NAME, B_ALONG)                                                                              \
    PRODUCT(NAME##_f32, true, B_ALONG, float)                                                                \
    PRODUCT(NAME##_bf16, true, B_ALONG, __nv_bfloat16)                                                       \
    PRODUCT(NAME##_f16, true, B_ALONG, __half)                                                               \
    PRODUCT(NAME##_int8, true, B_ALONG, Int8)                                                                \
    PRODUCT(NAME##_nf4, true, B_ALONG, Nf4)

// y = x Wᵀ: W is n x k
PRODUCTS(matmul_times_transposed, true)
// y = x W: W is k x n
PRODUCTS(matmul_times, false)
// G = dyᵀ x: dy is k x m, x is k x n
PRODUCT(matmul_transposed_times, false, false, float)
