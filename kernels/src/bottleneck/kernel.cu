// The bottleneck, forward and backward: two narrow products with something element by element in between, which stays
// in shared memory; mod.rs has the formulas.
//
// A block of 256 threads takes some rows, then those gridDim.x times as many further. A product is made in tiles of 64
// columns: a thread has one column and up to four rows, and adds in ascending order of the depth.
#include "activation/curves.cuh"

#define TILE 64
#define DEPTH 32
#define LANES 4
#define EACH 4
#define THREADS (TILE * LANES)
// Rows of a block at most.
#define ROWS (LANES * EACH)

struct Slices {
    float a[ROWS][DEPTH + 1];
    float w[DEPTH][TILE + 1];
};

// sum[e] += the products of row `lane * EACH + e` of a with column n0 + tx of w, over the whole depth k. ALONG: the depth
// is the fast index of w, which is n x k; otherwise w is k x n. Rows of a from `rows` on are zero.
template <bool ALONG>
static __device__ inline void multiply(
    Slices& slices,
    const float* a,
    u64 a_stride,
    u64 rows,
    const View<const float>& w,
    u64 n,
    u64 k,
    u64 n0,
    float* sum
) {
    u32 tx = threadIdx.x % TILE;
    u32 lane = threadIdx.x / TILE;
    for (u64 k0 = 0; k0 < k; k0 += DEPTH) {
        for (u32 e = threadIdx.x; e < ROWS * DEPTH; e += THREADS) {
            u64 row = e / DEPTH;
            u64 at = k0 + e % DEPTH;
            slices.a[row][e % DEPTH] = row < rows && at < k ? a[row * a_stride + at] : 0.0f;
        }
        for (u32 e = threadIdx.x; e < TILE * DEPTH; e += THREADS) {
            u32 column = ALONG ? e / DEPTH : e % TILE;
            u32 depth = ALONG ? e % DEPTH : e / TILE;
            u64 j = n0 + column;
            u64 p = k0 + depth;
            slices.w[depth][column] = j < n && p < k ? (ALONG ? w.row(j)[p] : w.row(p)[j]) : 0.0f;
        }
        __syncthreads();
#pragma unroll 4
        for (u32 p = 0; p < DEPTH; p++) {
            float v = slices.w[p][tx];
#pragma unroll
            for (u32 e = 0; e < EACH; e++) {
                sum[e] += slices.a[lane * EACH + e][p] * v;
            }
        }
        __syncthreads(); // the slices, and what they were taken from, may now be overwritten
    }
}

// Rows first.. of `to` (.., c) = the `rows` rows of hidden (.., b) times w + ..; see `multiply`.
template <bool ALONG>
static __device__ inline void widen(
    Slices& slices,
    const float* hidden,
    u64 rows,
    const View<const float>& w,
    const Plus& added,
    const View<float>& to,
    u64 first,
    u64 c,
    u64 b
) {
    for (u64 n0 = 0; n0 < c; n0 += TILE) {
        float sum[EACH] = {};
        multiply<ALONG>(slices, hidden, b, rows, w, c, b, n0, sum);
        u64 j = n0 + threadIdx.x % TILE;
#pragma unroll
        for (u32 e = 0; e < EACH; e++) {
            u64 i = threadIdx.x / TILE * EACH + e;
            if (i < rows && j < c) {
                to.row(first + i)[j] = sum[e] + plus(added, first + i, j);
            }
        }
    }
}

// narrow (m, b) = x times the first matrix + bias, and y (m, c) = f(narrow) times the second + ..
KERNEL(
    THREADS,
    bottleneck_forward,
    u32 curve,
    View<const float> x,
    View<const float> down,
    const float* down_bias,
    View<const float> up,
    Plus added,
    View<float> a,
    View<float> y,
    u64 m,
    u64 c,
    u64 b,
    u64 rows // of a block: hidden has room for so many times b
) {
    __shared__ Slices slices;
    DYNAMIC_SHARED(float, hidden);
    u32 tx = threadIdx.x % TILE;
    u32 lane = threadIdx.x / TILE;
    for (u64 first = blockIdx.x * rows; first < m; first += gridDim.x * rows) {
        u64 own = min(rows, m - first);
        for (u64 n0 = 0; n0 < b; n0 += TILE) {
            float sum[EACH] = {};
            multiply<true>(slices, x.row(first), x.stride, own, down, b, c, n0, sum);
            u64 j = n0 + tx;
#pragma unroll
            for (u32 e = 0; e < EACH; e++) {
                u64 i = lane * EACH + e;
                if (i < own && j < b) {
                    float v = down_bias ? sum[e] + down_bias[j] : sum[e];
                    a.row(first + i)[j] = v;
                    hidden[i * b + j] = value(curve, v);
                }
            }
        }
        __syncthreads(); // what is hidden is read by others
        widen<true>(slices, hidden, own, up, added, y, first, c, b);
    }
}

// da (m, b) = dy times `up` ∘ f'(a), and dx (m, c) = da times `down` + .., unless dx is null.
KERNEL(
    THREADS,
    bottleneck_backward,
    u32 curve,
    View<const float> dy,
    View<const float> down,
    View<const float> up,
    Plus added,
    View<const float> a,
    View<float> da,
    View<float> dx,
    u64 m,
    u64 c,
    u64 b,
    u64 rows
) {
    __shared__ Slices slices;
    DYNAMIC_SHARED(float, hidden);
    u32 tx = threadIdx.x % TILE;
    u32 lane = threadIdx.x / TILE;
    for (u64 first = blockIdx.x * rows; first < m; first += gridDim.x * rows) {
        u64 own = min(rows, m - first);
        for (u64 n0 = 0; n0 < b; n0 += TILE) {
            float sum[EACH] = {};
            multiply<false>(slices, dy.row(first), dy.stride, own, up, b, c, n0, sum);
            u64 j = n0 + tx;
#pragma unroll
            for (u32 e = 0; e < EACH; e++) {
                u64 i = lane * EACH + e;
                if (i < own && j < b) {
                    float v = sum[e] * derivative(curve, a.row(first + i)[j]);
                    da.row(first + i)[j] = v;
                    hidden[i * b + j] = v;
                }
            }
        }
        if (!dx) {
            continue;
        }
        __syncthreads(); // what is hidden is read by others
        widen<false>(slices, hidden, own, down, added, dx, first, c, b);
    }
}
