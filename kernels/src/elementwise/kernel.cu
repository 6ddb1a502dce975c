// Copies, sums and products of matrices of one shape; mod.rs has the formulas.
#include "cuda.cuh"

KERNEL(256, elementwise_copy, View<const float> x, View<float> y, u64 rows, u64 cols) {
    FOR_EACH(i, j, rows, cols) {
        y.row(i)[j] = x.row(i)[j];
    }
}
KERNEL(
    256, elementwise_add, View<const float> a, View<const float> b, View<float> y, u64 rows, u64 cols
) {
    FOR_EACH(i, j, rows, cols) {
        y.row(i)[j] = a.row(i)[j] + b.row(i)[j];
    }
}
KERNEL(256, elementwise_axpy, float s, View<const float> x, View<float> y, u64 rows, u64 cols) {
    FOR_EACH(i, j, rows, cols) {
        y.row(i)[j] += s * x.row(i)[j];
    }
}
KERNEL(256, elementwise_scale, float s, View<float> y, u64 rows, u64 cols) {
    FOR_EACH(i, j, rows, cols) {
        y.row(i)[j] *= s;
    }
}
// v has a value for each column, or one for all of them.
KERNEL(
    256,
    elementwise_mul_row,
    View<const float> x,
    const float* v,
    u32 one,
    View<float> y,
    u64 rows,
    u64 cols
) {
    FOR_EACH(i, j, rows, cols) {
        y.row(i)[j] = x.row(i)[j] * v[one ? 0 : j];
    }
}
