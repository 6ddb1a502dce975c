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
