// Losses of every value by itself, in double precision; mod.rs has the formulas. There are few values: their sum is one
// block's.
#include "cuda.cuh"

// In the order of Loss.
enum Loss { SQUARED_ERROR, BINARY_CROSS_ENTROPY };

KERNEL(
    1024,
    pointwise_loss_forward,
    u32 loss,
    View<const float> z,
    View<const float> targets,
    double by,
    float* out,
    u64 rows,
    u64 cols
) {
    double sum = 0.0;
    for (u64 i = 0; i < rows; i++) {
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            double v = (double)z.row(i)[j];
            double y = (double)targets.row(i)[j];
            sum += loss == SQUARED_ERROR ? (v - y) * (v - y)
                                         : (v > 0.0 ? v : 0.0) - v * y + log1p(exp(-fabs(v)));
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        *out = (float)(sum * by);
    }
}
KERNEL(
    256,
    pointwise_loss_backward,
    u32 loss,
    const float* dloss,
    double by,
    View<const float> z,
    View<const float> targets,
    View<float> dz,
    u64 rows,
    u64 cols
) {
    FOR_EACH(i, j, rows, cols) {
        double v = (double)z.row(i)[j];
        double y = (double)targets.row(i)[j];
        double slope = loss == SQUARED_ERROR ? 2.0 * (v - y) : 1.0 / (1.0 + exp(-v)) - y;
        dz.row(i)[j] = (float)(slope * ((double)*dloss * by));
    }
}
