// Products in 8-bit integers; mod.rs has the formulas. Four pairs of bytes are multiplied and added up in one instruction
// (dp4a). The sums are exact, so that their order does not matter; q is kept 128 too large, and stands here without that.
#include "cuda.cuh"

#define TILE 64
#define WORDS 8 // of four numbers of the depth
#define SIDE 16
#define EACH (TILE / SIDE)
#define THREADS (SIDE * SIDE)
// A row counts as if its largest value were at least this.
#define TINY 1e-30f
// Added to a number within 127.5 of 0, it leaves the nearest integer (of two, the even one) + 128 as the lowest byte.
#define ROUND (12582912.0f + 128.0f)

struct MostBits {
    static __device__ u32 of(u32 a, u32 b) {
        return max(a, b);
    }
};

// Rows of x (rows, cols), times `by` unless that is null, to bytes `stride` apart and scales. A block for each row.
KERNEL(
    256,
    matmul_int8_quantize_rows,
    View<const float> x,
    const float* by,
    unsigned char* q,
    float* scales,
    u64 rows,
    u64 cols,
    u64 stride
) {
    __shared__ u32 of_warp[MOST_WARPS];
    for (u64 i = blockIdx.x; i < rows; i += gridDim.x) {
        // no multiply is fused with an add, so that all devices round alike
        auto value = [&](u64 j) { return by ? __fmul_rn(x.row(i)[j], by[j]) : x.row(i)[j]; };
        u32 most = 0;
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            most = max(most, __float_as_uint(value(j)) & 0x7fffffffu);
        }
        // as bits, positive numbers have the order of their values, and what is not finite lies above
        most = block_fold<MostBits>(most, of_warp);
        bool finite = most < 0x7f800000u;
        float top = fmaxf(__uint_as_float(most), TINY);
        float factor = 127.0f / top;
        for (u64 j = threadIdx.x; j < stride; j += blockDim.x) {
            u32 bits = 128;
            if (finite && j < cols) {
                bits = __float_as_uint(__fadd_rn(__fmul_rn(value(j), factor), ROUND));
            }
            q[i * stride + j] = (unsigned char)bits;
        }
        if (threadIdx.x == 0) {
            scales[i] = finite ? top / 127.0f : __uint_as_float(0x7fc00000);
        }
    }
}

// Slices, depth first. The odd row length keeps a column's elements in different banks.
struct Slices {
    int a[WORDS][TILE + 1];
    int b[WORDS][TILE + 1];
};

// C (m, n) = scales[i] of_cols[j] (A B) + ..; without scales of columns these are 1. ALONG: B is n x k, else k x n; its rows
// are b_row bytes apart, those of A a_row words.
template <bool ALONG>
static __device__ void multiply(
    Slices& slices,
    const u32* a,
    u64 a_row,
    const float* scales,
    const signed char* b,
    u64 b_row,
    const float* of_cols,
    const Plus& added,
    const View<float>& c,
    u64 m,
    u64 n,
    u64 k
) {
    u32 tx = threadIdx.x % SIDE;
    u32 ty = threadIdx.x / SIDE;
    u64 across = (n + TILE - 1) / TILE;
    u64 tiles = (m + TILE - 1) / TILE * across;
    for (u64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        u64 i0 = tile / across * TILE;
        u64 j0 = tile % across * TILE;
        int sum[EACH][EACH] = {};
        for (u64 p0 = 0; p0 < k; p0 += 4 * WORDS) {
#pragma unroll
            for (u32 step = 0; step < TILE * WORDS; step += THREADS) {
                u32 e = step + threadIdx.x;
                u64 i = i0 + e / WORDS;
                u64 p = p0 / 4 + e % WORDS;
                slices.a[e % WORDS][e / WORDS] = i < m && p < a_row ? (int)(a[i * a_row + p] ^ 0x80808080u) : 0;
                u32 line = ALONG ? e / WORDS : e % TILE;
                u32 word = ALONG ? e % WORDS : e / TILE;
                u32 four = 0;
#pragma unroll
                for (u32 x = 0; x < 4; x++) {
                    u64 j = j0 + line;
                    u64 at = p0 + 4 * word + x;
                    if (j < n && at < k) {
                        four |= (u32)(unsigned char)b[ALONG ? j * b_row + at : at * b_row + j] << 8 * x;
                    }
                }
                slices.b[word][line] = (int)four;
            }
            __syncthreads();
#pragma unroll
            for (u32 p = 0; p < WORDS; p++) {
#pragma unroll
                for (u32 e = 0; e < EACH * EACH; e++) {
                    int& s = sum[e / EACH][e % EACH];
                    s = __dp4a(slices.a[p][ty + e / EACH * SIDE], slices.b[p][tx + e % EACH * SIDE], s);
                }
            }
            __syncthreads(); // the slices may now be overwritten
        }
#pragma unroll
        for (u32 e = 0; e < EACH * EACH; e++) {
            u64 i = i0 + ty + e / EACH * SIDE;
            u64 j = j0 + tx + e % EACH * SIDE;
            if (i < m && j < n) {
                float scale = of_cols ? scales[i] * of_cols[j] : scales[i];
                c.row(i)[j] = (float)sum[e / EACH][e % EACH] * scale + plus(added, i, j);
            }
        }
    }
}

#define PRODUCT(NAME, ALONG)                                                                                 \
    KERNEL(                                                                                                  \
        THREADS,                                                                                             \
        NAME,                                                                                                \
        const u32* a,                                                                                        \
        u64 a_row,                                                                                           \
        const float* scales,                                                                                 \
        const signed char* b,                                                                                \
        u64 b_row,                                                                                           \
        const float* of_cols,                                                                                \
        Plus added,                                                                                          \
        View<float> c,                                                                                       \
        u64 m,                                                                                               \
        u64 n,                                                                                               \
        u64 k                                                                                                \
    ) {                                                                                                      \
        __shared__ Slices slices;                                                                            \
        multiply<ALONG>(slices, a, a_row, scales, b, b_row, of_cols, added, c, m, n, k);                     \
    }
// y = x Wᵀ: W is n x k
PRODUCT(matmul_int8_times_transposed, true)
// y = x W: W is k x n
PRODUCT(matmul_int8_times, false)
