// Softmax cross-entropy: a block for each row of logits; mod.rs has the formulas.
#include "cuda.cuh"

#define IGNORED 0xffffffffu

// The probabilities, and what each row adds to the loss.
KERNEL(
    256,
    cross_entropy_forward,
    View<const float> z,
    const u32* labels,
    View<float> probs,
    double* losses,
    u64 rows,
    u64 classes,
    Faults faults
) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float* zs = z.row(row);
        float* ps = probs.row(row);
        u32 label = labels[row];
        if (label == IGNORED || faults.beyond(label, classes)) {
            for (u64 j = threadIdx.x; j < classes; j += blockDim.x) {
                ps[j] = 0.0f;
            }
            if (threadIdx.x == 0) {
                losses[row] = 0.0;
            }
            continue;
        }
        float top = -__uint_as_float(0x7f800000);
        for (u64 j = threadIdx.x; j < classes; j += blockDim.x) {
            top = fmaxf(top, zs[j]);
        }
        top = block_max(top);
        double sum = 0.0;
        for (u64 j = threadIdx.x; j < classes; j += blockDim.x) {
            ps[j] = expf(zs[j] - top);
            sum += (double)ps[j];
        }
        sum = block_sum(sum);
        float by = (float)(1.0 / sum);
        for (u64 j = threadIdx.x; j < classes; j += blockDim.x) {
            ps[j] *= by;
        }
        if (threadIdx.x == 0) {
            losses[row] = log(sum) - (double)(zs[label] - top);
        }
    }
}
KERNEL(
    256,
    cross_entropy_backward,
    const float* dloss,
    View<const float> probs,
    const u32* labels,
    View<float> dz,
    u64 rows,
    u64 classes,
    Faults faults
) {
    FOR_EACH(i, j, rows, classes) {
        u32 label = labels[i];
        bool there = label != IGNORED && !faults.beyond(label, classes);
        dz.row(i)[j] = (probs.row(i)[j] - (there && label == j ? 1.0f : 0.0f)) * *dloss;
    }
}
