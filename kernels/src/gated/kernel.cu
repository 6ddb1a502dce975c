// Gated products, element by element; mod.rs has the formulas.
#include "activation/curves.cuh"

KERNEL(
    256,
    gated_forward,
    u32 curve,
    View<const float> a,
    View<const float> b,
    View<float> y,
    u64 rows,
    u64 cols
) {
    FOR_EACH(i, j, rows, cols) {
        y.row(i)[j] = value(curve, a.row(i)[j]) * b.row(i)[j];
    }
}
KERNEL(
    256,
    gated_backward,
    u32 curve,
    View<const float> dy,
    View<const float> a,
    View<const float> b,
    View<float> da,
    View<float> db,
    u64 rows,
    u64 cols
) {
    FOR_EACH(i, j, rows, cols) {
        float d = dy.row(i)[j];
        float x = a.row(i)[j];
        da.row(i)[j] = d * b.row(i)[j] * derivative(curve, x);
        db.row(i)[j] = d * value(curve, x);
    }
}
