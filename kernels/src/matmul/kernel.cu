// C (m, n) = A B + .., for the three products of mod.rs and all ways a weight is stored.
//
// A block of 256 threads takes a tile of 64 x 64 values of C, then the tile gridDim.x further, and so on. It goes
// through the depth k in steps of 16, with the two slices it needs in shared memory; each thread holds 4 x 4 sums. A
// value of C is one thread's sum in ascending order of the depth: the same on every run.
#include "mma.cuh"

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

// ---- the same on tensor cores, where products may be rounded to bf16 ----------------------------------------------------
//
// A block of four warps takes a tile of 64 x 64 values of C, each warp 32 x 32 of them. Slices of 32 deep lie in shared
// memory as bf16, line by line, twice: while warps multiply one, the next one is on its way to registers. A value of C is
// one thread's sum over the depth in steps of 16.
#define STEP 32
#define PAIRS (STEP / 2)
// Words from line to line: lines that are read together fall on different banks.
#define LINE (PAIRS + 4)
#define WARPS 4
// Pairs of a slice that a thread takes.
#define FETCHED (TILE * PAIRS / (32 * WARPS))

struct Tiles {
    alignas(16) u32 a[2][TILE][LINE];
    alignas(16) u32 b[2][TILE][LINE];
};
// The line and the pair that a thread takes as its n-th of a slice.
template <bool ALONG>
static __device__ inline uint2 taken(u32 n) {
    u32 e = n * (32 * WARPS) + threadIdx.x;
    return ALONG ? make_uint2(e / PAIRS, e % PAIRS) : make_uint2(e % TILE, e / TILE);
}
template <bool ALONG, class Get>
static __device__ inline void fetch(u32 (&to)[FETCHED], Get get, u64 lines, u64 depth, u64 line0, u64 depth0) {
#pragma unroll
    for (u32 n = 0; n < FETCHED; n++) {
        uint2 place = taken<ALONG>(n);
        u64 line = line0 + place.x;
        u64 p = depth0 + 2 * place.y;
        float low = 0.0f;
        float high = 0.0f;
        if (line < lines && p < depth) {
            low = ALONG ? get(line, p) : get(p, line);
            if (p + 1 < depth) {
                high = ALONG ? get(line, p + 1) : get(p + 1, line);
            }
        }
        to[n] = pack_bf16(low, high);
    }
}
template <bool ALONG>
static __device__ inline void put(u32 (*to)[LINE], const u32 (&from)[FETCHED]) {
#pragma unroll
    for (u32 n = 0; n < FETCHED; n++) {
        uint2 place = taken<ALONG>(n);
        to[place.x][place.y] = from[n];
    }
}

template <bool A_ALONG, bool B_ALONG, class W>
static __device__ void multiply_bf16(
    Tiles& tiles,
    const View<const float>& a,
    const Stored& b,
    const Plus& added,
    const View<float>& c,
    u64 m,
    u64 n,
    u64 k
) {
    // tiles of 16 x 8 of a warp
    constexpr u32 DOWN = 2;
    constexpr u32 ACROSS = 4;
    auto of_a = [&](u64 i, u64 j) { return a.row(i)[j]; };
    auto of_b = [&](u64 i, u64 j) { return at(b, i, j, W()); };
    u32 lane = threadIdx.x % 32;
    u32 row0 = threadIdx.x / 32 % 2 * 32;
    u32 col0 = threadIdx.x / 64 * 32;
    u64 across = (n + TILE - 1) / TILE;
    u64 count = (m + TILE - 1) / TILE * across;
    u32 turn = 0;
    for (u64 tile = blockIdx.x; tile < count; tile += gridDim.x) {
        u64 i0 = tile / across * TILE;
        u64 j0 = tile % across * TILE;
        float sum[DOWN][ACROSS][4] = {};
        u32 next_a[FETCHED];
        u32 next_b[FETCHED];
        fetch<A_ALONG>(next_a, of_a, m, k, i0, 0);
        fetch<B_ALONG>(next_b, of_b, n, k, j0, 0);
        for (u64 p0 = 0; p0 < k; p0 += STEP, turn ^= 1) {
            put<A_ALONG>(tiles.a[turn], next_a);
            put<B_ALONG>(tiles.b[turn], next_b);
            // what is put in the next turn was read in front of this barrier
            __syncthreads();
            fetch<A_ALONG>(next_a, of_a, m, k, i0, p0 + STEP);
            fetch<B_ALONG>(next_b, of_b, n, k, j0, p0 + STEP);
#pragma unroll
            for (u32 half = 0; half < PAIRS; half += PAIRS / 2) {
                u32 left[DOWN][4];
                u32 right[ACROSS / 2][4]; // of two tiles each
#pragma unroll
                for (u32 d = 0; d < DOWN; d++) {
                    ldmatrix_x4(left[d], &tiles.a[turn][row0 + d * 16 + lane % 16][half + lane / 16 * 4]);
                }
#pragma unroll
                for (u32 e = 0; e < ACROSS / 2; e++) {
                    u32 line = col0 + e * 16 + lane / 16 * 8 + lane % 8;
                    ldmatrix_x4(right[e], &tiles.b[turn][line][half + lane / 8 % 2 * 4]);
                }
#pragma unroll
                for (u32 d = 0; d < DOWN; d++) {
#pragma unroll
                    for (u32 e = 0; e < ACROSS; e++) {
                        mma_bf16(sum[d][e], left[d], right[e / 2][e % 2 * 2], right[e / 2][e % 2 * 2 + 1]);
                    }
                }
            }
        }
#pragma unroll
        for (u32 d = 0; d < DOWN; d++) {
#pragma unroll
            for (u32 e = 0; e < ACROSS; e++) {
#pragma unroll
                for (u32 x = 0; x < 4; x++) {
                    u64 i = i0 + row0 + d * 16 + lane / 4 + x / 2 * 8;
                    u64 j = j0 + col0 + e * 8 + lane % 4 * 2 + x % 2;
                    if (i < m && j < n) {
                        c.row(i)[j] = sum[d][e][x] + plus(added, i, j);
                    }
                }
            }
        }
    }
}

#define PRODUCT_BF16(NAME, A_ALONG, B_ALONG, W)                                                              \
    KERNEL(                                                                                                  \
        32 * WARPS, NAME, View<const float> a, Stored b, Plus added, View<float> c, u64 m, u64 n, u64 k      \
    ) {                                                                                                      \
        __shared__ Tiles tiles;                                                                              \
        multiply_bf16<A_ALONG, B_ALONG, W>(tiles, a, b, added, c, m, n, k);                                  \
    }
#define PRODUCTS_BF16(NAME, B_ALONG)                                                                         \
    PRODUCT_BF16(NAME##_f32, true, B_ALONG, float)                                                           \
    PRODUCT_BF16(NAME##_bf16, true, B_ALONG, __nv_bfloat16)                                                  \
    PRODUCT_BF16(NAME##_f16, true, B_ALONG, __half)                                                          \
    PRODUCT_BF16(NAME##_int8, true, B_ALONG, Int8)                                                           \
    PRODUCT_BF16(NAME##_nf4, true, B_ALONG, Nf4)
PRODUCTS_BF16(matmul_mma_times_transposed, true)
PRODUCTS_BF16(matmul_mma_times, false)
PRODUCT_BF16(matmul_mma_transposed_times, false, false, float)
