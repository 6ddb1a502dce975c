// Dropout of a matrix in place; mod.rs has the formula, cuda.cuh the numbers.
#include "cuda.cuh"

KERNEL(256, dropout_apply, View<float> y, Dropout drop, u64 rows, u64 cols) {
    for (u64 i = blockIdx.y; i < rows; i += gridDim.y) {
        u64 key = drop.row_key(i);
        for (u64 j = blockIdx.x * (u64)blockDim.x + threadIdx.x; j < cols; j += (u64)gridDim.x * blockDim.x) {
            y.row(i)[j] *= drop.factor(key, j);
        }
    }
}
