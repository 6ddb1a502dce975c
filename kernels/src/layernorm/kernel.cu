// Layer normalisation, forward and backward; mod.rs has the formulas.
//
// A block takes a row, then the row gridDim.x further, and so on. The order of every sum is fixed by the shapes: a
// thread adds its own channels in ascending order, a butterfly of shuffles adds the lanes of a warp, and every thread
// adds the warps' sums in ascending order.

typedef unsigned long long u64;

// Threads of a block are whole warps, and no more of them than this.
#define MOST_WARPS 8

static __device__ float warp_sum(float v) {
    for (int step = 16; step > 0; step /= 2) {
        v += __shfl_xor_sync(0xffffffffu, v, step);
    }
    return v;
}

// The sum of `v` over the block, the same in every thread.
static __device__ float block_sum(float v) {
    __shared__ float of_warp[MOST_WARPS];
    v = warp_sum(v);
    if (threadIdx.x % 32 == 0) {
        of_warp[threadIdx.x / 32] = v;
    }
    __syncthreads();
    float sum = 0.0f;
    for (unsigned w = 0; w < blockDim.x / 32; w++) {
        sum += of_warp[w];
    }
    __syncthreads(); // the next sum may now write of_warp
    return sum;
}

// y = x̂ γ + β for s = x + r. `r` may be null; `normed` and `rstd` are both null or both kept.
extern "C" __global__ void __launch_bounds__(32 * MOST_WARPS) layernorm_forward(
    const float* x,
    const float* r,
    const float* gamma,
    const float* beta,
    float eps,
    u64 rows,
    u64 cols,
    float* y,
    float* normed,
    float* rstd
) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float* xs = x + row * cols;
        const float* rs = r ? r + row * cols : r;
        float sum = 0.0f;
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            sum += rs ? xs[j] + rs[j] : xs[j];
        }
        float mean = block_sum(sum) / (float)cols;
        float squares = 0.0f;
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            float d = (rs ? xs[j] + rs[j] : xs[j]) - mean;
            squares += d * d;
        }
        float scale = 1.0f / sqrtf(block_sum(squares) / (float)cols + eps);
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            float hat = ((rs ? xs[j] + rs[j] : xs[j]) - mean) * scale;
            y[row * cols + j] = hat * gamma[j] + beta[j];
            if (normed) {
                normed[row * cols + j] = hat;
            }
        }
        if (rstd && threadIdx.x == 0) {
            rstd[row] = scale;
        }
    }
}

// ds = rstd (g - mean g - x̂ mean(g x̂)) for g = dy γ.
extern "C" __global__ void __launch_bounds__(32 * MOST_WARPS) layernorm_backward(
    const float* dy,
    const float* normed,
    const float* rstd,
    const float* gamma,
    u64 rows,
    u64 cols,
    float* dx
) {
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const float* dys = dy + row * cols;
        const float* hats = normed + row * cols;
        float sum = 0.0f;
        float dots = 0.0f;
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            float g = dys[j] * gamma[j];
            sum += g;
            dots += g * hats[j];
        }
        float mean = block_sum(sum) / (float)cols;
        float slope = block_sum(dots) / (float)cols;
        for (u64 j = threadIdx.x; j < cols; j += blockDim.x) {
            dx[row * cols + j] = rstd[row] * (dys[j] * gamma[j] - mean - hats[j] * slope);
        }
    }
}
