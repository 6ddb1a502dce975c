#include "../cuda_sim.h"

#include "../../src/matmul/kernel.cu"

ENGRAFT_SIM_EXPORT(matmul_times_transposed_f32)
ENGRAFT_SIM_EXPORT(matmul_times_transposed_bf16)
ENGRAFT_SIM_EXPORT(matmul_times_transposed_f16)
ENGRAFT_SIM_EXPORT(matmul_times_f32)
ENGRAFT_SIM_EXPORT(matmul_times_bf16)
ENGRAFT_SIM_EXPORT(matmul_times_f16)
ENGRAFT_SIM_EXPORT(matmul_transposed_times)
