// Softmax cross-entropy over the rows of an example: a block for each column of each example; mod.rs has the formulas.
#include "cuda.cuh"

#define IGNORED 0xffffffffu

// The rows of an example, from `first` on, inside a matrix of `rows`; what does not fit there is reported.
struct Example {
    u64 first, rows;
    u32 target;
};
static __device__ Example example(
    u64 e,
    u64 k,
    u64 columns,
    const u32* lengths,
    const u32* targets,
    u64 examples,
    u64 rows,
    const Faults& length,
    const Faults& row
) {
    u64 first = 0;
    for (u64 i = 0; i < e; i++) {
        first += lengths[i];
    }
    u64 end = first + lengths[e];
    if (e + 1 == examples && end != rows) {
        length.report((u32)end);
    }
    Example of = {first, lengths[e], targets[e * columns + k]};
    if (end > rows) {
        of.rows = first < rows ? rows - first : 0;
    }
    if (of.target != IGNORED && row.beyond(of.target, of.rows)) {
        of.target = IGNORED;
    }
    return of;
}

// The probabilities, and what each column of each example adds to the loss.
KERNEL(
    256,
    cross_entropy_of_rows_forward,
    View<const float> z,
    const u32* lengths,
    const u32* targets,
    View<float> probs,
    double* losses,
    u64 examples,
    u64 columns,
    u64 rows,
    Faults length,
    Faults row
) {
    for (u64 n = blockIdx.x; n < examples * columns; n += gridDim.x) {
        u64 k = n % columns;
        Example of = example(n / columns, k, columns, lengths, targets, examples, rows, length, row);
        if (of.target == IGNORED) {
            for (u64 i = threadIdx.x; i < of.rows; i += blockDim.x) {
                probs.row(of.first + i)[k] = 0.0f;
            }
            if (threadIdx.x == 0) {
                losses[n] = 0.0;
            }
            continue;
        }
        float top = -__uint_as_float(0x7f800000);
        for (u64 i = threadIdx.x; i < of.rows; i += blockDim.x) {
            top = fmaxf(top, z.row(of.first + i)[k]);
        }
        top = block_max(top);
        double sum = 0.0;
        for (u64 i = threadIdx.x; i < of.rows; i += blockDim.x) {
            float e = expf(z.row(of.first + i)[k] - top);
            probs.row(of.first + i)[k] = e;
            sum += (double)e;
        }
        sum = block_sum(sum);
        float by = (float)(1.0 / sum);
        for (u64 i = threadIdx.x; i < of.rows; i += blockDim.x) {
            probs.row(of.first + i)[k] *= by;
        }
        if (threadIdx.x == 0) {
            losses[n] = log(sum) - (double)(z.row(of.first + of.target)[k] - top);
        }
    }
}
KERNEL(
    256,
    cross_entropy_of_rows_backward,
    const float* dloss,
    float by,
    View<const float> probs,
    const u32* lengths,
    const u32* targets,
    View<float> dz,
    u64 examples,
    u64 columns,
    u64 rows,
    Faults length,
    Faults row
) {
    for (u64 n = blockIdx.x; n < examples * columns; n += gridDim.x) {
        u64 k = n % columns;
        Example of = example(n / columns, k, columns, lengths, targets, examples, rows, length, row);
        for (u64 i = threadIdx.x; i < of.rows; i += blockDim.x) {
            float right = i == of.target ? 1.0f : 0.0f; // a target that is ignored is no row
            dz.row(of.first + i)[k] = (probs.row(of.first + i)[k] - right) * (*dloss * by);
        }
    }
}
