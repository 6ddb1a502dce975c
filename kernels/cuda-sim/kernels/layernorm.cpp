#include "../cuda_sim.h"

#include "../../src/layernorm/kernel.cu"

ENGRAFT_SIM_EXPORT(layernorm_forward)
ENGRAFT_SIM_EXPORT(layernorm_backward)
