// Tensor cores: products of tiles of bf16 with sums in f32 (PTX ISA, "mma.sync.aligned.m16n8k16").
#pragma once
#include "cuda.cuh"

#ifdef ENGRAFT_SIM
#include "mma_sim.h"
#else
// Two values, rounded to the nearest; the first is the lower half.
static __device__ inline u32 pack_bf16(float low, float high) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
// Four matrices of 8 x 8: lanes 8 n to 8 n + 7 say where the lines of the n-th one are, of 16 bytes each in shared memory;
// lane l gets elements 2 (l % 4) and the next of line l / 4 of each of them.
static __device__ inline void ldmatrix_x4(u32 (&to)[4], const u32* line) {
    u32 at = (u32)__cvta_generic_to_shared(line);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(at)
                 : "memory");
}
// sum (16 x 8) += a (16 x 16) b (16 x 8), b by its two halves of the depth.
static __device__ inline void mma_bf16(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif
