// Mixtures of outputs; mod.rs has the formulas. A warp takes a group of a row.
#include "cuda.cuh"

// Groups of a launch, from the matrix's group `from` on: their first columns and widths.
#define GROUPS 128
struct Groups {
    u32 first[GROUPS];
    u32 width[GROUPS];
};

// Runs over rows i and groups g, a warp for each.
#define FOR_EACH_GROUP(i, g, rows, count)                                                                    \
    for (u64 i = blockIdx.y; i < (rows); i += gridDim.y)                                                     \
        for (u64 g = blockIdx.x * (u64)(blockDim.x / 32) + threadIdx.x / 32; g < (count);                    \
             g += (u64)gridDim.x * (blockDim.x / 32))

KERNEL(
    256,
    mixture_dots,
    View<const float> a,
    View<const float> b,
    const __grid_constant__ Groups groups,
    u64 from,
    View<float> s,
    u64 rows,
    u64 count
) {
    FOR_EACH_GROUP(i, g, rows, count) {
        const float* as = a.row(i) + groups.first[g];
        const float* bs = b.row(i) + groups.first[g];
        float sum = 0.0f;
        for (u32 k = threadIdx.x % 32; k < groups.width[g]; k += 32) {
            sum += as[k] * bs[k];
        }
        sum = warp_fold<Sum>(sum);
        if (threadIdx.x % 32 == 0) {
            s.row(i)[from + g] = sum;
        }
    }
}
KERNEL(
    256,
    mixture_spread,
    View<const float> x,
    View<const float> p,
    const __grid_constant__ Groups groups,
    u64 from,
    View<float> y,
    u64 rows,
    u64 count
) {
    FOR_EACH_GROUP(i, g, rows, count) {
        for (u32 k = threadIdx.x % 32; k < groups.width[g]; k += 32) {
            u64 j = groups.first[g] + k;
            y.row(i)[j] = x.row(i)[j] * p.row(i)[from + g];
        }
    }
}

// A thread takes the columns that one softmax has in common.
KERNEL(256, mixture_softmax, View<const float> s, View<float> p, u64 stride, u64 rows, u64 groups) {
    FOR_EACH(i, first, rows, stride) {
        const float* ss = s.row(i);
        float* ps = p.row(i);
        float top = -__uint_as_float(0x7f800000);
        for (u64 k = first; k < groups; k += stride) {
            top = fmaxf(top, ss[k]);
        }
        float sum = 0.0f;
        for (u64 k = first; k < groups; k += stride) {
            ps[k] = expf(ss[k] - top);
            sum += ps[k];
        }
        for (u64 k = first; k < groups; k += stride) {
            ps[k] /= sum;
        }
    }
}
KERNEL(
    256,
    mixture_softmax_backward,
    View<const float> dp,
    View<const float> p,
    View<float> ds,
    u64 stride,
    u64 rows,
    u64 groups
) {
    FOR_EACH(i, first, rows, stride) {
        float sum = 0.0f;
        for (u64 k = first; k < groups; k += stride) {
            sum += p.row(i)[k] * dp.row(i)[k];
        }
        for (u64 k = first; k < groups; k += stride) {
            ds.row(i)[k] = p.row(i)[k] * (dp.row(i)[k] - sum);
        }
    }
}
