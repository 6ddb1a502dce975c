// The tensor cores' operations of mma.cuh: what each lane gives and gets is that of PTX, lane by lane.
#pragma once
#include "cuda_sim.h"

#include <cuda_bf16.h>

inline unsigned pack_bf16(float low, float high) {
    return unsigned(__float2bfloat16_rn(high).bits) << 16 | __float2bfloat16_rn(low).bits;
}

namespace sim {

struct Lines {
    unsigned* to;
    const unsigned* line;
};
inline void ldmatrix_x4(unsigned (&to)[4], const unsigned* line, const char* where) {
    if (uintptr_t(line) % 16) {
        fail("%s: ldmatrix of a line that is not aligned to 16 bytes", where);
    }
    Lines mine{to, line};
    warp_operation(0xffffffffu, where, &mine, [](void** arguments, unsigned) {
        for (unsigned matrix = 0; matrix < 4; matrix++) {
            for (unsigned lane = 0; lane < 32; lane++) {
                const unsigned* from = static_cast<Lines*>(arguments[8 * matrix + lane / 4])->line;
                static_cast<Lines*>(arguments[lane])->to[matrix] = from[lane % 4];
            }
        }
    });
}

struct Factors {
    float* sum;
    const unsigned* a;
    unsigned b[2];
};
inline float half_of(unsigned pair, unsigned which) {
    return __bfloat162float({uint16_t(pair >> 16 * which)});
}
inline void mma_bf16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, const char* where) {
    Factors mine{sum, a, {b0, b1}};
    warp_operation(0xffffffffu, where, &mine, [](void** arguments, unsigned) {
        float a[16][16];
        float b[16][8];
        for (unsigned lane = 0; lane < 32; lane++) {
            const auto* of = static_cast<Factors*>(arguments[lane]);
            for (unsigned e = 0; e < 8; e++) {
                a[lane / 4 + 8 * (e / 2 % 2)][2 * (lane % 4) + e % 2 + 8 * (e / 4)] = half_of(of->a[e / 2], e % 2);
            }
            for (unsigned e = 0; e < 4; e++) {
                b[2 * (lane % 4) + e % 2 + 8 * (e / 2)][lane / 4] = half_of(of->b[e / 2], e % 2);
            }
        }
        for (unsigned lane = 0; lane < 32; lane++) {
            for (unsigned e = 0; e < 4; e++) {
                float& sum = static_cast<Factors*>(arguments[lane])->sum[e];
                for (unsigned k = 0; k < 16; k++) {
                    sum += a[lane / 4 + 8 * (e / 2)][k] * b[k][2 * (lane % 4) + e % 2];
                }
            }
        }
    });
}

} // namespace sim

#define ldmatrix_x4(to, line) sim::ldmatrix_x4(to, line, ENGRAFT_SIM_HERE)
#define mma_bf16(sum, a, b0, b1) sim::mma_bf16(sum, a, b0, b1, ENGRAFT_SIM_HERE)
