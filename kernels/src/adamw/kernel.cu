// AdamW: all weights in one launch; mod.rs has the formula.
#include "cuda.cuh"

// A weight, its gradient and its state, and what a step multiplies by.
struct Part {
    float* w;
    const float* g;
    float* m;
    float* v;
    u64 n;
    float grad, keep, lr, root, eps, beta2, new1, new2;
};

// As many as fit into the parameters of a launch.
#define PARTS 48
struct Parts {
    Part part[PARTS];
};

// A row of blocks takes a part, then the one gridDim.y further; those that are left over have no elements.
KERNEL(256, adamw_step, const __grid_constant__ Parts parts) {
    for (u32 p = blockIdx.y; p < PARTS; p += gridDim.y) {
        const Part& part = parts.part[p];
        for (u64 i = blockIdx.x * (u64)blockDim.x + threadIdx.x; i < part.n; i += (u64)gridDim.x * blockDim.x) {
            float g = part.g[i] * part.grad;
            float m = part.m[i];
            m = m + part.new1 * (g - m);
            float v = part.v[i] * part.beta2 + part.new2 * g * g;
            part.w[i] = part.w[i] * part.keep - part.lr * m / (sqrtf(v) / part.root + part.eps);
            part.m[i] = m;
            part.v[i] = v;
        }
    }
}
