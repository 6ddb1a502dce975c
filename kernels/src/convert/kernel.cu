// Between f32 and bf16, element by element.
#include "cuda.cuh"

KERNEL(256, convert_narrow, View<const float> x, View<__nv_bfloat16> y, u64 rows, u64 cols) {
    FOR_EACH(i, j, rows, cols) {
        y.row(i)[j] = __float2bfloat16_rn(x.row(i)[j]);
    }
}
KERNEL(256, convert_widen, View<const __nv_bfloat16> x, View<float> y, u64 rows, u64 cols) {
    FOR_EACH(i, j, rows, cols) {
        y.row(i)[j] = decode(x.row(i)[j]);
    }
}
