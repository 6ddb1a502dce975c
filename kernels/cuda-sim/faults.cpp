// What the stand-in must see: kernels that are wrong, each run in a process of its own by check.py, which expects it to
// end with what is said here. Without arguments the program lists them.
#include "runtime.h"

#include "cuda.cuh"

#include <cstdio>
#include <cstdlib>
#include <string>

// The driver's calls, as in driver.cpp.
typedef uint64_t Pointer;
extern "C" {
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(void**, int);
int cuCtxSetCurrent(void*);
int cuMemAllocAsync(Pointer*, size_t, void*);
int cuMemFreeAsync(Pointer, void*);
int cuMemcpyHtoDAsync_v2(Pointer, const void*, size_t, void*);
int cuMemcpyDtoHAsync_v2(void*, Pointer, size_t, void*);
int cuModuleLoadData(void**, const void*);
int cuModuleGetFunction(void**, void*, const char*);
int cuLaunchKernel(
    void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**
);
}

// ---- kernels -------------------------------------------------------------------------------------------------------

// Every thread takes its right neighbour's value; all is well.
KERNEL(64, neighbours, float* y) {
    __shared__ float all[64];
    all[threadIdx.x] = (float)threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = all[(threadIdx.x + 1) % 64];
}
KERNEL(64, no_barrier, float* y) {
    __shared__ float all[64];
    all[threadIdx.x] = (float)threadIdx.x;
    y[threadIdx.x] = all[(threadIdx.x + 1) % 64];
}
KERNEL(64, writes_beyond, float* y) {
    y[threadIdx.x + 1] = 1.0f;
}
KERNEL(64, writes_before, float* y) {
    y[(int)threadIdx.x - 1] = 1.0f;
}
KERNEL(64, reads_beyond, float* y) {
    y[threadIdx.x] = y[threadIdx.x + 1];
}
KERNEL(64, shared_beyond, float* y) {
    __shared__ float all[64];
    all[threadIdx.x + 1] = (float)threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = all[threadIdx.x];
}
KERNEL(64, dynamic_beyond, float* y) {
    DYNAMIC_SHARED(float, all);
    all[threadIdx.x + 1] = (float)threadIdx.x;
    y[threadIdx.x] = 0.0f;
}
KERNEL(64, divergent_shuffle, float* y) {
    float v = 1.0f;
    if (threadIdx.x % 2) {
        v = __shfl_xor_sync(0xffffffffu, v, 1);
    }
    y[threadIdx.x] = v;
}
KERNEL(64, two_shuffles, float* y) {
    float v = 1.0f;
    if (threadIdx.x % 2) {
        v = __shfl_xor_sync(0xffffffffu, v, 2);
    } else {
        v = __shfl_xor_sync(0xffffffffu, v, 4);
    }
    y[threadIdx.x] = v;
}
KERNEL(64, absent_lane, float* y) {
    y[threadIdx.x] = threadIdx.x < 16 ? __shfl_xor_sync(0x0000ffffu, 1.0f, 16) : 0.0f;
}
KERNEL(64, divergent_barrier, float* y) {
    y[threadIdx.x] = 1.0f;
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __shfl_xor_sync(0xffffffffu, 1.0f, 1);
        __syncthreads();
    }
}
KERNEL(64, waits_for_ever, float* y) {
    y[threadIdx.x] = 1.0f;
    if (threadIdx.x % 32 < 16) {
        __syncthreads();
    } else {
        __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    }
}
KERNEL(64, deep, float* y) {
    volatile char stack[1 << 20];
    for (size_t i = sizeof stack; i > 0; i -= 64) {
        stack[i - 1] = 1;
    }
    y[threadIdx.x] = (float)stack[63];
}
KERNEL(64, misaligned, float* y) {
    float4 v = *reinterpret_cast<float4*>(y + 1);
    y[threadIdx.x] = v.x;
}
KERNEL(64, unset, float* y) {
    __shared__ float all[64];
    if (threadIdx.x < 63) {
        all[threadIdx.x] = 0.0f;
    }
    __syncthreads();
    y[threadIdx.x] = all[threadIdx.x];
}

// ---- running them --------------------------------------------------------------------------------------------------

static void need(int error, const char* what) {
    if (error) {
        printf("%s gave error %d\n", what, error);
        exit(1);
    }
}
#define NEED(call) need(call, #call)

static void* function(const std::string& name, const char* parameters, const char* threads) {
    std::string ptx =
        ".visible .entry " + name + "(\n\t.param " + parameters + " p\n)\n.maxntid " + threads + ", 1, 1\n{\n}";
    void *module, *found;
    NEED(cuModuleLoadData(&module, ptx.c_str()));
    NEED(cuModuleGetFunction(&found, module, name.c_str()));
    return found;
}
static Pointer values(size_t n) {
    Pointer y;
    NEED(cuMemAllocAsync(&y, n * sizeof(float), nullptr));
    return y;
}
static void print(const float (&got)[64]) {
    for (int i : {0, 63}) {
        got[i] == got[i] ? printf("value %d is %g\n", i, double(got[i])) : printf("value %d is no number\n", i);
    }
}
// Launches a kernel with room for 64 values and prints the first and the last one.
static void run(const char* name) {
    Pointer y = values(64);
    void* arguments[] = {&y};
    unsigned shared = std::string(name) == "dynamic_beyond" ? 256 : 0;
    NEED(cuLaunchKernel(function(name, ".u64", "64"), 1, 1, 1, 64, 1, 1, shared, nullptr, arguments, nullptr));
    float got[64];
    NEED(cuMemcpyDtoHAsync_v2(got, y, sizeof got, nullptr));
    NEED(cuMemFreeAsync(y, nullptr));
    print(got);
}

static void too_many_threads(const char*) {
    Pointer y = values(96);
    void* arguments[] = {&y};
    NEED(cuLaunchKernel(function("neighbours", ".u64", "64"), 1, 1, 1, 96, 1, 1, 0, nullptr, arguments, nullptr));
}
static void too_much_shared(const char*) {
    Pointer y = values(64);
    void* arguments[] = {&y};
    void* f = function("neighbours", ".u64", "64");
    NEED(cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, (48 << 10) + 1, nullptr, arguments, nullptr));
}
static void other_parameters(const char*) {
    function("neighbours", ".u32", "64");
}
static void other_threads(const char*) {
    function("neighbours", ".u64", "128");
}
static void no_such_kernel(const char*) {
    function("nothing", ".u64", "64");
}
static void freed_twice(const char*) {
    Pointer y = values(4);
    NEED(cuMemFreeAsync(y, nullptr));
    NEED(cuMemFreeAsync(y, nullptr));
}
static void copied_beyond(const char*) {
    float from[5] = {};
    NEED(cuMemcpyHtoDAsync_v2(values(4), from, sizeof from, nullptr));
}
static void never_written(const char*) {
    float got[64];
    NEED(cuMemcpyDtoHAsync_v2(got, values(64), sizeof got, nullptr));
    print(got);
}

// A name, in which builds it is seen (p: plain, a: AddressSanitizer, t: ThreadSanitizer), a part of what is printed or
// the signal that ends it, and how it is run.
static const struct {
    const char* name;
    const char* builds;
    const char* says;
    void (*go)(const char*);
} FAULTS[] = {
    {"neighbours", "pat", "value 0 is 1", run},
    {"no_barrier", "p", "value 0 is no number", run}, // thread 0 reads before thread 1 writes
    {"no_barrier", "t", "data race", run},
    {"writes_beyond", "p", "writes_beyond wrote byte 256 of an allocation of 256 bytes", run},
    {"writes_beyond", "a", "heap-buffer-overflow", run},
    {"writes_before", "p", "writes_before wrote 1 bytes before an allocation", run},
    {"writes_before", "a", "heap-buffer-overflow", run},
    {"reads_beyond", "a", "heap-buffer-overflow", run},
    {"shared_beyond", "a", "out of bounds for type", run},
    {"dynamic_beyond", "a", "heap-buffer-overflow", run},
    {"divergent_shuffle", "pat", "deadlock", run},
    {"two_shuffles", "pat", "divergent warp operation", run},
    {"absent_lane", "pat", "which is not in the mask", run},
    {"divergent_barrier", "pat", "divergent __syncthreads", run},
    {"waits_for_ever", "pat", "deadlock", run},
    {"deep", "p", "SIGSEGV", run},
    {"deep", "a", "AddressSanitizer: SEGV", run},
    {"misaligned", "a", "misaligned address", run},
    {"unset", "pt", "value 63 is no number", run},
    {"too_many_threads", "pat", "gave error 1", too_many_threads},
    {"too_much_shared", "pat", "gave error 1", too_much_shared},
    {"other_parameters", "pat", "neighbours has other parameters in the PTX", other_parameters},
    {"other_threads", "pat", "neighbours has other blocks in the PTX", other_threads},
    {"no_such_kernel", "pat", "nothing is in the PTX and in no kernel.cu", no_such_kernel},
    {"freed_twice", "pat", "gave error 1", freed_twice},
    {"copied_beyond", "pat", "gave error 1", copied_beyond},
    {"never_written", "pat", "value 63 is no number", never_written},
};

int main(int many, char** given) {
    if (many == 1) {
        for (auto& f : FAULTS) {
            printf("%s\t%s\t%s\n", f.name, f.builds, f.says);
        }
        return 0;
    }
    void* context;
    NEED(cuInit(0));
    NEED(cuDevicePrimaryCtxRetain(&context, 0));
    NEED(cuCtxSetCurrent(context));
    for (auto& f : FAULTS) {
        if (std::string(f.name) == given[1]) {
            f.go(f.name);
            return 0;
        }
    }
    printf("there is no fault %s\n", given[1]);
    return 1;
}
