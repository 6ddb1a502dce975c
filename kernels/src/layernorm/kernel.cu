// Layer normalisation, forward and backward; mod.rs has the formulas.
//
// A block takes a row, then the row gridDim.x further, and so on. A thread adds its own channels in ascending order,
// block_sum those of all threads.
#include "cuda.cuh"

#define THREADS 256

// y = x̂ γ + β for s = x ∘ f + r. `r` and `beta` may be null; `normed` and `rstd` are both null or both kept. Without
// `centred` the mean is taken to be 0; without `dropped` f is 1.
KERNEL(
    THREADS,
    layernorm_forward,
    View<const float> x,
    View<const float> r,
    const float* gamma,
    const float* beta,
    float eps,
    u32 centred,
    u32 dropped,
    Dropout drop,
    u64 rows,
    u64 cols,
    View<float> y,
    View<float> normed,
    float* rstd
) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float* xs = x.row(row);
        const float* rs = r ? r.row(row) : nullptr;
        float* ys = y.row(row);
        u64 key = drop.row_key(row);
        float sum = 0.0f;
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            float s = dropped ? xs[j] * drop.factor(key, j) : xs[j];
            s = rs ? s + rs[j] : s;
            ys[j] = s; // read again by this thread alone
            sum += s;
        }
        float mean = centred ? block_sum(sum) / (float)cols : 0.0f;
        float squares = 0.0f;
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            float d = ys[j] - mean;
            squares += d * d;
        }
        float scale = 1.0f / sqrtf(block_sum(squares) / (float)cols + eps);
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            float hat = (ys[j] - mean) * scale;
            ys[j] = beta ? hat * gamma[j] + beta[j] : hat * gamma[j];
            if (normed) {
                normed.row(row)[j] = hat;
            }
        }
        if (rstd && threadIdx.x == 0) {
            rstd[row] = scale;
        }
    }
}

// ds = rstd (g - mean g - x̂ mean(g x̂)) for g = dy γ, and dx = ds ∘ f unless that is null.
KERNEL(
    THREADS,
    layernorm_backward,
    View<const float> dy,
    View<const float> normed,
    const float* rstd,
    const float* gamma,
    u32 centred,
    Dropout drop,
    u64 rows,
    u64 cols,
    View<float> ds,
    View<float> dx
) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float* dys = dy.row(row);
        const float* hats = normed.row(row);
        u64 key = drop.row_key(row);
        float sum = 0.0f;
        float dots = 0.0f;
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            float g = dys[j] * gamma[j];
            sum += g;
            dots += g * hats[j];
        }
        float mean = centred ? block_sum(sum) / (float)cols : 0.0f;
        float slope = block_sum(dots) / (float)cols;
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            float d = rstd[row] * (dys[j] * gamma[j] - mean - hats[j] * slope);
            ds.row(row)[j] = d;
            if (dx) {
                dx.row(row)[j] = d * drop.factor(key, j);
            }
        }
    }
}
