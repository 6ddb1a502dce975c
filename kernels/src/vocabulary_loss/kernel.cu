// A linear layer with softmax cross-entropy, beside its products; mod.rs has the formulas. What is summed over a row is
// summed in double precision.
#include "cuda.cuh"

#define NONE (-__uint_as_float(0x7f800000))

// What a row has met so far.
struct Running {
    double sum; // of exp(z - top)
    double all; // of z, where that counts
    float top;
    float at; // the logit at the label
};

// The logits z (rows, n) of the outputs from `first` on become exponentials above what is the row's largest logit from now
// on, times `factors`, if `writes`; dx, unless null, is rescaled to the same. A block for each row.
KERNEL(
    256,
    vocabulary_loss_exponentials,
    View<float> z,
    const float* bias,
    const float* factors,
    const u32* labels,
    Running* running,
    View<float> dx,
    u64 rows,
    u64 first,
    u64 n,
    u64 cols,
    u32 writes,
    u32 smooths,
    Faults faults,
    u64 outputs
) {
    for (u64 i = blockIdx.x; i < rows; i += gridDim.x) {
        float* row = z.row(i);
        auto logit = [&](u64 j) { return bias ? row[j] + bias[first + j] : row[j]; };
        Running run = first == 0 ? Running{0.0, 0.0, NONE, 0.0f} : running[i];
        u64 label = labels[i];
        if (label >= first && label - first < n) {
            run.at = logit(label - first);
        }
        float most = NONE;
        double all = 0.0;
        for (u64 j = threadIdx.x; j < n; j += blockDim.x) {
            most = fmaxf(most, logit(j));
            all += smooths ? (double)logit(j) : 0.0;
        }
        float top = fmaxf(block_max(most), run.top);
        float by = top == NONE ? 1.0f : expf(run.top - top);
        double sum = 0.0;
        for (u64 j = threadIdx.x; j < n; j += blockDim.x) {
            float e = top == NONE ? 0.0f : expf(logit(j) - top);
            sum += (double)e;
            if (writes) {
                row[j] = factors ? e * factors[first + j] : e;
            }
        }
        // between the barriers of these sums every thread has read what the first one writes
        run.sum = run.sum * (double)by + block_sum(sum);
        run.all += block_sum(all);
        run.top = top;
        if (dx && first > 0 && by != 1.0f) {
            for (u64 c = threadIdx.x; c < cols; c += blockDim.x) {
                dx.row(i)[c] *= by;
            }
        }
        if (threadIdx.x == 0) {
            running[i] = run;
            faults.beyond(labels[i], outputs);
        }
    }
}

// The loss of each row, and, unless they are null, what hits and the sums' logarithms.
KERNEL(
    256,
    vocabulary_loss_finish,
    const Running* running,
    u64 rows,
    double smoothing,
    double outputs,
    float* losses,
    float* hits,
    float* lse
) {
    for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < rows; i += (u64)gridDim.x * blockDim.x) {
        Running run = running[i];
        double loss = log(run.sum) + ((double)run.top - (double)run.at);
        if (smoothing > 0.0) {
            loss += smoothing * ((double)run.at - run.all / outputs);
        }
        losses[i] = (float)loss;
        if (hits) {
            hits[i] = run.at >= run.top ? 1.0f : 0.0f;
        }
        if (lse) {
            lse[i] = (float)(log(run.sum) + (double)run.top);
        }
    }
}

// dx = dx / sum - share W_label + shared, which may be null.
#define SUBTRACT(NAME, T)                                                                                    \
    KERNEL(                                                                                                  \
        256,                                                                                                 \
        NAME,                                                                                                \
        const Running* running,                                                                              \
        const u32* labels,                                                                                   \
        Stored w,                                                                                            \
        float share,                                                                                         \
        const float* shared,                                                                                 \
        View<float> dx,                                                                                      \
        u64 rows,                                                                                            \
        u64 cols,                                                                                            \
        u64 outputs                                                                                          \
    ) {                                                                                                      \
        FOR_EACH(i, j, rows, cols) {                                                                         \
            float of_label = labels[i] < outputs ? at(w, labels[i], j, T()) : 0.0f;                          \
            float v = dx.row(i)[j] * (float)(1.0 / running[i].sum) - of_label * share;                       \
            dx.row(i)[j] = shared ? v + shared[j] : v;                                                       \
        }                                                                                                    \
    }
SUBTRACT(vocabulary_loss_subtract_f32, float)
SUBTRACT(vocabulary_loss_subtract_bf16, __nv_bfloat16)
SUBTRACT(vocabulary_loss_subtract_f16, __half)
SUBTRACT(vocabulary_loss_subtract_int8, Int8)
SUBTRACT(vocabulary_loss_subtract_nf4, Nf4)

// The logits z (rows, n) of the outputs from `first` on become dloss (softmax z - of_label onehot - of_all).
KERNEL(
    256,
    vocabulary_loss_slopes,
    View<float> z,
    const float* bias,
    const u32* labels,
    const float* lse,
    const float* dloss,
    float of_label,
    float of_all,
    u64 rows,
    u64 first,
    u64 n
) {
    FOR_EACH(i, j, rows, n) {
        float v = bias ? z.row(i)[j] + bias[first + j] : z.row(i)[j];
        float slope = (expf(v - lse[i]) - of_all) * *dloss;
        z.row(i)[j] = labels[i] == first + j ? slope - *dloss * of_label : slope;
    }
}
