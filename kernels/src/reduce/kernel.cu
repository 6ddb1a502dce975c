// Sums by columns, dot products and the sum of sums; mod.rs has the formulas.
#include "cuda.cuh"

// Columns of a block, and rows that it takes at a time.
#define SIDE 32

// y = the sums of the columns of a, or of a ∘ b unless that is null. A thread adds every SIDE-th row in ascending order,
// then the first row of threads adds the others' sums in ascending order.
KERNEL(
    SIDE* SIDE,
    reduce_columns,
    View<const float> a,
    View<const float> b,
    float* y,
    u32 accumulate,
    u64 rows,
    u64 cols
) {
    __shared__ float sums[SIDE][SIDE + 1];
    u32 tx = threadIdx.x % SIDE;
    u32 ty = threadIdx.x / SIDE;
    for (u64 first = blockIdx.x * (u64)SIDE; first < cols; first += gridDim.x * (u64)SIDE) {
        u64 j = first + tx;
        float sum = 0.0f;
        for (u64 i = ty; i < rows && j < cols; i += SIDE) {
            sum += b ? a.row(i)[j] * b.row(i)[j] : a.row(i)[j];
        }
        sums[ty][tx] = sum;
        __syncthreads();
        if (ty == 0 && j < cols) {
            float total = 0.0f;
            for (u32 t = 0; t < SIDE; t++) {
                total += sums[t][tx];
            }
            y[j] = accumulate ? y[j] + total : total;
        }
        __syncthreads(); // the sums may now be overwritten
    }
}

// As many pairs as a launch takes.
#define PAIRS 128
struct Pair {
    const float* a;
    const float* b;
    u64 n;
};
struct Pairs {
    Pair pair[PAIRS];
};
// A block for each pair: the sum of its products. Those that are left over are null.
KERNEL(1024, reduce_dots, const __grid_constant__ Pairs pairs, double* out) {
    for (u32 n = blockIdx.x; n < PAIRS && pairs.pair[n].a; n += gridDim.x) {
        const Pair& p = pairs.pair[n];
        double sum = 0.0;
        for (u64 i = threadIdx.x; i < p.n; i += blockDim.x) {
            sum += (double)p.a[i] * (double)p.b[i];
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) {
            out[n] = sum;
        }
    }
}

// y = by times the sum of x, for a block.
KERNEL(1024, reduce_total, const double* x, u64 n, double by, float* y) {
    double sum = 0.0;
    for (u64 i = threadIdx.x; i < n; i += blockDim.x) {
        sum += x[i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        *y = (float)(sum * by);
    }
}
