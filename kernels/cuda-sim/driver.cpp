// A stand-in for the driver's library: the calls that engraft makes through cudarc, on ordinary memory, with kernels
// run by runtime.cpp. It has one device. Everything is done by the time a call returns, also what CUDA does later.
//
// ENGRAFT_CUDA_SIM_INIT, if set, is what cuInit answers.
#include "runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

typedef int Result;
typedef uint64_t Pointer;

// CUresult, as far as it is used here.
enum : Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
};

#define API extern "C" __attribute__((visibility("default"))) Result

static const size_t DEVICE_MEMORY = size_t(1) << 30;
// Bytes on either side of an allocation that nobody may write. AddressSanitizer has its own, and sees reading there too.
#ifdef __SANITIZE_ADDRESS__
static const size_t RED_ZONE = 0;
#else
static const size_t RED_ZONE = 256;
#endif
// What they hold: NaN in every type, and another one than unwritten memory, or copying that there would not be seen.
static unsigned char red(Pointer at) {
    return at % 2 ? 0xff : 0xfd;
}

static std::mutex lock;
static bool initialized;
static std::map<Pointer, size_t> allocations;
static size_t allocated;

// What happened so far; see stand_in.rs.
struct Counts {
    uint64_t copies_up, bytes_up, copies_down, bytes_down;
    uint64_t launches;
    uint64_t allocated, most_allocated;
};
static Counts counts;
extern "C" __attribute__((visibility("default"))) void engraft_cuda_sim_counts(Counts* out) {
    std::lock_guard<std::mutex> locked(lock);
    *out = counts;
    out->allocated = allocated;
}
static char the_context;
static thread_local void* context;

static Result ready() {
    if (!initialized) {
        return NOT_INITIALIZED;
    }
    return context == &the_context ? SUCCESS : INVALID_CONTEXT;
}
#define NEED(condition, error)                                                                               \
    if (!(condition)) {                                                                                      \
        return error;                                                                                        \
    }
#define NEED_CONTEXT()                                                                                       \
    if (Result not_ready = ready()) {                                                                        \
        return not_ready;                                                                                    \
    }

// ---- device and context ------------------------------------------------------------------------------------------

API cuInit(unsigned) {
    if (const char* answer = getenv("ENGRAFT_CUDA_SIM_INIT")) {
        return atoi(answer);
    }
    std::lock_guard<std::mutex> locked(lock);
    initialized = true;
    return SUCCESS;
}
API cuDriverGetVersion(int* version) {
    *version = 12040;
    return SUCCESS;
}
API cuDeviceGetCount(int* count) {
    NEED(initialized, NOT_INITIALIZED);
    *count = 1;
    return SUCCESS;
}
API cuDeviceGet(int* device, int ordinal) {
    NEED(initialized, NOT_INITIALIZED);
    NEED(ordinal == 0, INVALID_DEVICE);
    *device = 0;
    return SUCCESS;
}
API cuDeviceGetName(char* name, int size, int device) {
    NEED(device == 0, INVALID_DEVICE);
    snprintf(name, size_t(size), "engraft cuda-sim (no GPU)");
    return SUCCESS;
}
API cuDeviceGetAttribute(int* value, int attribute, int device) {
    NEED(device == 0, INVALID_DEVICE);
    switch (attribute) {
    case 75: // compute capability, major
        *value = 8;
        break;
    case 76: // and minor
        *value = 0;
        break;
    case 115: // memory pools, and so asynchronous allocation
        *value = 1;
        break;
    default:
        return INVALID_VALUE;
    }
    return SUCCESS;
}
API cuDevicePrimaryCtxRetain(void** out, int device) {
    NEED(initialized, NOT_INITIALIZED);
    NEED(device == 0, INVALID_DEVICE);
    *out = &the_context;
    return SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int) {
    return SUCCESS;
}
API cuCtxSetCurrent(void* to) {
    NEED(to == nullptr || to == &the_context, INVALID_CONTEXT);
    context = to;
    return SUCCESS;
}
API cuCtxGetCurrent(void** out) {
    *out = context;
    return SUCCESS;
}
API cuStreamSynchronize(void*) {
    return ready();
}

// ---- memory ------------------------------------------------------------------------------------------------------

// True if all `size` bytes from `at` lie in one allocation.
static bool inside(Pointer at, size_t size) {
    auto next = allocations.upper_bound(at);
    if (next == allocations.begin()) {
        return false;
    }
    auto& [start, bytes] = *std::prev(next);
    return at - start <= bytes && size <= bytes - (at - start);
}
// Ends the process if a red zone was written.
static void check_red_zones(Pointer at, size_t size, const char* after) {
    auto intact = [](Pointer p) { return *reinterpret_cast<unsigned char*>(p) == red(p); };
    for (size_t i = 0; i < RED_ZONE; i++) {
        if (!intact(at - 1 - i)) {
            sim::fail("%s wrote %zu bytes before an allocation of %zu bytes", after, i + 1, size);
        }
        if (!intact(at + size + i)) {
            sim::fail("%s wrote byte %zu of an allocation of %zu bytes", after, size + i, size);
        }
    }
}

// What is asked for is what is given: a pool that keeps memory for reuse would hide what is written beyond it.
static char the_pool;
API cuDeviceGetDefaultMemPool(void** out, int device) {
    NEED(initialized, NOT_INITIALIZED);
    NEED(device == 0, INVALID_DEVICE);
    *out = &the_pool;
    return SUCCESS;
}
API cuMemPoolSetAttribute(void* pool, int attribute, void*) {
    NEED(pool == &the_pool && attribute == 4, INVALID_VALUE); // how much it keeps
    return SUCCESS;
}
API cuMemAllocAsync(Pointer* out, size_t size, void*) {
    NEED_CONTEXT();
    NEED(size > 0, INVALID_VALUE);
    std::lock_guard<std::mutex> locked(lock);
    NEED(size <= DEVICE_MEMORY - allocated, OUT_OF_MEMORY);
    size_t whole = RED_ZONE + size + RED_ZONE;
    void* block = nullptr;
    NEED(posix_memalign(&block, 256, whole) == 0, OUT_OF_MEMORY);
    // reading what was never written gives NaN
    memset(block, 0xff, whole);
    *out = reinterpret_cast<Pointer>(block) + RED_ZONE;
    for (size_t i = 0; i < RED_ZONE; i++) {
        Pointer before = *out - 1 - i;
        Pointer after = *out + size + i;
        *reinterpret_cast<unsigned char*>(before) = red(before);
        *reinterpret_cast<unsigned char*>(after) = red(after);
    }
    allocations[*out] = size;
    allocated += size;
    counts.most_allocated = std::max<uint64_t>(counts.most_allocated, allocated);
    return SUCCESS;
}
API cuMemFreeAsync(Pointer at, void*) {
    NEED_CONTEXT();
    std::lock_guard<std::mutex> locked(lock);
    auto found = allocations.find(at);
    NEED(found != allocations.end(), INVALID_VALUE);
    check_red_zones(at, found->second, "something");
    allocated -= found->second;
    // whoever reads there later finds NaN
    memset(reinterpret_cast<void*>(at), 0xff, found->second);
    allocations.erase(found);
    free(reinterpret_cast<void*>(at - RED_ZONE));
    return SUCCESS;
}
// Host memory that kernels can reach.
API cuMemHostAlloc(void** out, size_t size, unsigned) {
    NEED_CONTEXT();
    NEED(size > 0, INVALID_VALUE);
    *out = calloc(1, size);
    NEED(*out, OUT_OF_MEMORY);
    return SUCCESS;
}
API cuMemFreeHost(void* at) {
    free(at);
    return SUCCESS;
}
API cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t size, void*) {
    NEED_CONTEXT();
    std::lock_guard<std::mutex> locked(lock);
    NEED(inside(to, size), INVALID_VALUE);
    memcpy(reinterpret_cast<void*>(to), from, size);
    counts.copies_up++;
    counts.bytes_up += size;
    return SUCCESS;
}
API cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t size, void*) {
    NEED_CONTEXT();
    std::lock_guard<std::mutex> locked(lock);
    NEED(inside(from, size), INVALID_VALUE);
    memcpy(to, reinterpret_cast<void*>(from), size);
    counts.copies_down++;
    counts.bytes_down += size;
    return SUCCESS;
}
API cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t size, void*) {
    NEED_CONTEXT();
    std::lock_guard<std::mutex> locked(lock);
    NEED(inside(to, size) && inside(from, size), INVALID_VALUE);
    memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), size);
    return SUCCESS;
}
API cuMemsetD8Async(Pointer at, unsigned char value, size_t size, void*) {
    NEED_CONTEXT();
    std::lock_guard<std::mutex> locked(lock);
    NEED(inside(at, size), INVALID_VALUE);
    memset(reinterpret_cast<void*>(at), value, size);
    return SUCCESS;
}

// ---- modules and launches ----------------------------------------------------------------------------------------

// Shared memory of a block that a launch may ask for, until the function is allowed more.
static const size_t DYNAMIC_SHARED = 48 << 10;
static const size_t MOST_DYNAMIC_SHARED = 163 << 10;

struct Function {
    std::string name;
    const sim::Kernel* kernel;
    size_t dynamic_shared = DYNAMIC_SHARED;
};
typedef std::map<std::string, Function> Module;

// The sizes of the parameters that PTX declares between the brackets of an entry, each as in
//     .param .u64 name        .param .align 4 .b8 name[12]
static std::vector<size_t> parameter_sizes(const std::string& list) {
    std::vector<size_t> sizes;
    const std::string word = ".param ";
    for (size_t at = list.find(word); at != std::string::npos; at = list.find(word, at)) {
        at += word.size();
        std::string one = list.substr(at, list.find(',', at) - at);
        size_t bracket = one.find('[');
        // the type is the last word with a dot before the name
        size_t digits = one.find_first_of("0123456789", one.rfind('.'));
        size_t bits = strtoul(one.c_str() + digits, nullptr, 10);
        size_t many = bracket == std::string::npos ? 1 : strtoul(one.c_str() + bracket + 1, nullptr, 10);
        sizes.push_back(bits / 8 * many);
    }
    return sizes;
}

// The threads of a block that PTX declares between an entry's parameters and its body, as in
//     .maxntid 256, 1, 1
static unsigned most_threads(const std::string& directives) {
    const std::string word = ".maxntid ";
    size_t at = directives.find(word);
    unsigned x = 0, y = 1, z = 1;
    if (at != std::string::npos) {
        sscanf(directives.c_str() + at + word.size(), "%u, %u, %u", &x, &y, &z);
    }
    return x * y * z;
}

// PTX is not executed: its kernels must be those that were compiled in, with the same parameters and threads.
API cuModuleLoadData(Module** out, const void* image) {
    NEED_CONTEXT();
    std::string ptx(static_cast<const char*>(image));
    Module module;
    const std::string word = ".entry ";
    for (size_t at = ptx.find(word); at != std::string::npos; at = ptx.find(word, at)) {
        at += word.size();
        size_t open = ptx.find('(', at);
        size_t close = ptx.find(')', at);
        NEED(open != std::string::npos && close != std::string::npos, INVALID_IMAGE);
        std::string name = ptx.substr(at, open - at);
        const sim::Kernel* kernel = sim::find(name.c_str());
        if (!kernel) {
            fprintf(stderr, "engraft cuda-sim: %s is in the PTX and in no kernel.cu: is it stale?\n", name.c_str());
            return INVALID_IMAGE;
        }
        if (parameter_sizes(ptx.substr(open, close - open)) != kernel->sizes) {
            fprintf(stderr, "engraft cuda-sim: %s has other parameters in the PTX: is it stale?\n", name.c_str());
            return INVALID_IMAGE;
        }
        if (most_threads(ptx.substr(close, ptx.find('{', close) - close)) != kernel->threads) {
            fprintf(stderr, "engraft cuda-sim: %s has other blocks in the PTX: is it stale?\n", name.c_str());
            return INVALID_IMAGE;
        }
        module[name] = Function{name, kernel};
    }
    NEED(!module.empty(), INVALID_IMAGE);
    *out = new Module(module);
    return SUCCESS;
}
API cuModuleUnload(Module* module) {
    delete module;
    return SUCCESS;
}
API cuModuleGetFunction(Function** out, Module* module, const char* name) {
    NEED_CONTEXT();
    auto found = module->find(name);
    NEED(found != module->end(), NOT_FOUND);
    *out = &found->second;
    return SUCCESS;
}
API cuFuncGetParamInfo(Function* function, size_t index, size_t* offset, size_t* size) {
    const std::vector<size_t>& sizes = function->kernel->sizes;
    NEED(index < sizes.size(), INVALID_VALUE);
    *offset = 0; // nobody asks
    *size = sizes[index];
    return SUCCESS;
}
API cuFuncSetAttribute(Function* function, int attribute, int value) {
    NEED(attribute == 8, INVALID_VALUE); // the most dynamic shared memory
    NEED(value >= 0 && size_t(value) <= MOST_DYNAMIC_SHARED, INVALID_VALUE);
    function->dynamic_shared = size_t(value);
    return SUCCESS;
}
API cuLaunchKernel(
    Function* function,
    unsigned grid_x,
    unsigned grid_y,
    unsigned grid_z,
    unsigned block_x,
    unsigned block_y,
    unsigned block_z,
    unsigned dynamic_shared,
    void*,
    void** arguments,
    void**
) {
    NEED_CONTEXT();
    NEED(grid_x > 0 && grid_x < 1u << 31, INVALID_VALUE);
    NEED(grid_y > 0 && grid_y < 1u << 16 && grid_z > 0 && grid_z < 1u << 16, INVALID_VALUE);
    NEED(block_x > 0 && block_y > 0 && block_z > 0, INVALID_VALUE);
    NEED(block_x <= 1024 && block_y <= 1024 && block_z <= 64, INVALID_VALUE);
    NEED(block_x * block_y * block_z <= 1024, INVALID_VALUE);
    NEED(block_x * block_y * block_z <= function->kernel->threads, INVALID_VALUE);
    NEED(dynamic_shared <= function->dynamic_shared, INVALID_VALUE);
    std::lock_guard<std::mutex> locked(lock);
    counts.launches++;
    dim3 grid(grid_x, grid_y, grid_z), block(block_x, block_y, block_z);
    sim::launch(*function->kernel, grid, block, dynamic_shared, arguments);
    for (auto& [at, size] : allocations) {
        check_red_zones(at, size, function->name.c_str());
    }
    return SUCCESS;
}

// ---- messages ----------------------------------------------------------------------------------------------------

API cuGetErrorName(Result error, const char** out) {
    switch (error) {
    case SUCCESS:
        *out = "CUDA_SUCCESS";
        break;
    case INVALID_VALUE:
        *out = "CUDA_ERROR_INVALID_VALUE";
        break;
    case OUT_OF_MEMORY:
        *out = "CUDA_ERROR_OUT_OF_MEMORY";
        break;
    case NOT_INITIALIZED:
        *out = "CUDA_ERROR_NOT_INITIALIZED";
        break;
    case INVALID_DEVICE:
        *out = "CUDA_ERROR_INVALID_DEVICE";
        break;
    case INVALID_IMAGE:
        *out = "CUDA_ERROR_INVALID_IMAGE";
        break;
    case INVALID_CONTEXT:
        *out = "CUDA_ERROR_INVALID_CONTEXT";
        break;
    case NOT_FOUND:
        *out = "CUDA_ERROR_NOT_FOUND";
        break;
    default:
        *out = "an error that the stand-in has no name for";
        break;
    }
    return SUCCESS;
}
API cuGetErrorString(Result error, const char** out) {
    return cuGetErrorName(error, out);
}
