// Non-linearities element by element; curves.cuh has them.
#include "activation/curves.cuh"

KERNEL(256, activation_forward, u32 curve, View<const float> x, View<float> y, u64 rows, u64 cols) {
    FOR_EACH(i, j, rows, cols) {
        y.row(i)[j] = value(curve, x.row(i)[j]);
    }
}
// d *= f'(x)
KERNEL(256, activation_backward, u32 curve, View<const float> x, View<float> d, u64 rows, u64 cols) {
    FOR_EACH(i, j, rows, cols) {
        d.row(i)[j] *= derivative(curve, x.row(i)[j]);
    }
}
