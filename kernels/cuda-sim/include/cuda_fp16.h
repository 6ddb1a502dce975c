// The part of NVIDIA's header of this name that the kernels use, for cuda_sim.h. Not every compiler has a half type in
// C++, so the bits are taken apart by hand.
#pragma once
#include <cmath>
#include <cstdint>

struct __half {
    uint16_t bits;
};

inline float __half2float(__half v) {
    float sign = v.bits >> 15 ? -1.0f : 1.0f;
    int exponent = v.bits >> 10 & 31;
    float fraction = float(v.bits & 1023) / 1024.0f;
    if (exponent == 31) {
        return fraction == 0.0f ? sign * INFINITY : NAN;
    }
    return exponent == 0 ? sign * ldexpf(fraction, -14) : sign * ldexpf(1.0f + fraction, exponent - 15);
}
