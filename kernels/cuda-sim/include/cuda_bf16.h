// The part of NVIDIA's header of this name that the kernels use, for cuda_sim.h.
#pragma once
#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
    uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 v) {
    uint32_t wide = uint32_t(v.bits) << 16;
    float f;
    memcpy(&f, &wide, 4);
    return f;
}
// To the nearest, of two that are equally near the even one; NaN stays NaN.
inline __nv_bfloat16 __float2bfloat16_rn(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return {0x7fff};
    }
    return {uint16_t((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}
