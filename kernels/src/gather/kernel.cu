// Rows by index, and the sums of rows by index; mod.rs has the formulas.
#include "cuda.cuh"

template <class T>
static __device__ void gather(
    const Stored& table,
    const u32* index,
    u32 accumulate,
    const View<float>& y,
    u64 rows,
    u64 cols,
    const Faults& faults,
    u64 below
) {
    FOR_EACH(i, j, rows, cols) {
        if (!faults.beyond(index[i], below)) {
            float old = accumulate ? y.row(i)[j] : 0.0f;
            y.row(i)[j] = old + at(table, index[i], j, T());
        }
    }
}

#define GATHER(NAME, T)                                                                                      \
    KERNEL(                                                                                                  \
        256,                                                                                                 \
        NAME,                                                                                                \
        Stored table,                                                                                        \
        const u32* index,                                                                                    \
        u32 accumulate,                                                                                      \
        View<float> y,                                                                                       \
        u64 rows,                                                                                            \
        u64 cols,                                                                                            \
        Faults faults,                                                                                       \
        u64 below                                                                                            \
    ) {                                                                                                      \
        gather<T>(table, index, accumulate, y, rows, cols, faults, below);                                   \
    }
GATHER(gather_rows_f32, float)
GATHER(gather_rows_bf16, __nv_bfloat16)
GATHER(gather_rows_f16, __half)
GATHER(gather_rows_int8, Int8)
GATHER(gather_rows_nf4, Nf4)

// A thread takes a column and adds all its rows in order: several may go to one.
KERNEL(
    256,
    gather_scatter,
    View<const float> dy,
    const u32* index,
    View<float> table,
    u64 rows,
    u64 cols,
    Faults faults,
    u64 below
) {
    FOR_EACH(all, j, 1, cols) {
        for (u64 i = 0; i < rows; i++) {
            if (!faults.beyond(index[i], below)) {
                table.row(index[i])[j] += dy.row(i)[j];
            }
        }
    }
}
