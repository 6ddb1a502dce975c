// Runs the threads of a block as fibers on one thread of the operating system.
//
// ThreadSanitizer must not instrument this file: it is told about the fibers below, and about what barriers order.
#include "runtime.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

// ---- the sanitizers ----------------------------------------------------------------------------------------------

#ifdef ENGRAFT_SIM_TSAN
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* object);
void __tsan_release(void* object);
}
static void acquire(void* object) {
    __tsan_acquire(object);
}
static void release(void* object) {
    __tsan_release(object);
}
#else
static void acquire(void*) {}
static void release(void*) {}
#endif

#ifdef __SANITIZE_ADDRESS__
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, size_t* old_size);
}
#endif

// ---- switching stacks --------------------------------------------------------------------------------------------

#if defined(__x86_64__) && !defined(ENGRAFT_SIM_UCONTEXT)

struct Context {
    void* stack_pointer = nullptr;
};

// Saves what a called function must preserve, changes stacks, and restores the same of the other fiber.
extern "C" void engraft_sim_switch(void** from, void* to);
asm(R"(
    .text
    .globl engraft_sim_switch
    .hidden engraft_sim_switch
    .type engraft_sim_switch, @function
engraft_sim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size engraft_sim_switch, .-engraft_sim_switch
)");

static void prepare(Context& context, char* stack, size_t size, void (*entry)()) {
    // What the switch pops: six registers and the address it returns to. Above them lies the return address that
    // `entry` finds, where a call would have put it: 8 bytes off a multiple of 16.
    void** top = reinterpret_cast<void**>(stack + size) - 3;
    top[0] = nullptr;
    top[-1] = reinterpret_cast<void*>(entry);
    std::fill(top - 7, top - 1, nullptr);
    context.stack_pointer = top - 7;
}
static void exchange(Context& from, Context& to) {
    engraft_sim_switch(&from.stack_pointer, to.stack_pointer);
}

#else // any other processor: slower, because the C library also saves the signal mask

#include <ucontext.h>

struct Context {
    ucontext_t state;
};
static void prepare(Context& context, char* stack, size_t size, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = size;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}
static void exchange(Context& from, Context& to) {
    swapcontext(&from.state, &to.state);
}

#endif

// ---- state -------------------------------------------------------------------------------------------------------

// All shared memory, from the linker; absent if no kernel has any.
extern char __start_engraft_sim_shared[] __attribute__((weak));
extern char __stop_engraft_sim_shared[] __attribute__((weak));

namespace sim {

enum class State { Ready, AtBarrier, InWarpOperation, Returned };

struct Fiber : Thread {
    Context context;
    char* stack = nullptr;
    State state = State::Returned;
    const char* where = "";
    void* tsan = nullptr;
    void* fake_stack = nullptr;
};

// What ThreadSanitizer names the orderings of a barrier by. One barrier and the next have different names: a thread
// that is slow to leave must not be taken to have seen what a fast one did on its way to the next.
struct Orderings {
    char names[2];
    unsigned passed = 0;
    void* name() {
        return &names[passed % 2];
    }
};

// A warp operation that waits for lanes. Operations over disjoint masks may wait at the same time.
struct Pending {
    unsigned mask = 0;
    unsigned arrived = 0;
    const char* where = nullptr;
    Orderings orderings;
};
struct Warp {
    unsigned lanes = 0; // that exist
    void* arguments[32] = {};
    Pending pending[32]; // by the lowest lane of the mask
};

static const size_t STACK = 256 << 10;
static const unsigned MOST_THREADS = 1024;

Thread* current;
uint3 block;
dim3 block_size;
dim3 grid_size;
void* dynamic_shared;

static std::mutex one_launch;
static std::vector<Fiber> fibers; // never shrinks; the first `count` belong to this launch
static std::vector<Warp> warps;
static std::vector<unsigned> order;
static unsigned count;
static unsigned live;
static unsigned at_barrier;
static const char* barrier_where;
static Orderings barrier_orderings;
static Entry body;
static void** body_arguments;
static Context scheduler;
// The scheduler as the sanitizers know it.
[[maybe_unused]] static void* scheduler_tsan;
[[maybe_unused]] static const void* scheduler_stack;
[[maybe_unused]] static size_t scheduler_stack_size;
static char block_starts;
static char block_ends;

static unsigned seed() {
    static unsigned value = [] {
        const char* text = getenv("ENGRAFT_CUDA_SIM_SEED");
        return text ? unsigned(strtoul(text, nullptr, 10)) : 0u;
    }();
    return value;
}

void fail(const char* format, ...) {
    fprintf(stderr, "engraft cuda-sim: ");
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    if (current) {
        const uint3& t = current->index;
        fprintf(stderr, " (block %u,%u,%u thread %u,%u,%u)", block.x, block.y, block.z, t.x, t.y, t.z);
    }
    fprintf(stderr, "\n");
    abort();
}

// ---- fibers ------------------------------------------------------------------------------------------------------

static void to_scheduler(Fiber& fiber) {
#ifdef ENGRAFT_SIM_TSAN
    __tsan_switch_to_fiber(scheduler_tsan, 1);
#endif
#ifdef __SANITIZE_ADDRESS__
    // a null tells it that this stack is done with
    void** keep = fiber.state == State::Returned ? nullptr : &fiber.fake_stack;
    __sanitizer_start_switch_fiber(keep, scheduler_stack, scheduler_stack_size);
#endif
    exchange(fiber.context, scheduler);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fiber.fake_stack, nullptr, nullptr);
#endif
}

static void to_fiber(Fiber& fiber) {
    current = &fiber;
#ifdef ENGRAFT_SIM_TSAN
    __tsan_switch_to_fiber(fiber.tsan, 1);
#endif
#ifdef __SANITIZE_ADDRESS__
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, fiber.stack, STACK);
#endif
    exchange(scheduler, fiber.context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
    current = nullptr;
}

static void open_barrier() {
    for (unsigned i = 0; i < count; i++) {
        if (fibers[i].state == State::AtBarrier) {
            fibers[i].state = State::Ready;
        }
    }
    at_barrier = 0;
    barrier_where = nullptr;
    barrier_orderings.passed++;
}

// The first function of every fiber.
static void thread_main() {
    Fiber& fiber = *static_cast<Fiber*>(current);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
    acquire(&block_starts);
    body(body_arguments);
    release(&block_ends);
    fiber.state = State::Returned;
    live--;
    // as on a GPU, a thread that has returned is not waited for
    if (live > 0 && at_barrier == live) {
        open_barrier();
    }
    to_scheduler(fiber);
    fail("a thread that had returned ran again");
}

// For tests, which must fail where a barrier is missing: the end of one's file and line, or null.
static const char* left_out = getenv("ENGRAFT_CUDA_SIM_WITHOUT_BARRIER");

void barrier(const char* where) {
    Fiber& fiber = *static_cast<Fiber*>(current);
    if (left_out) {
        size_t from = strlen(where) - std::min(strlen(where), strlen(left_out));
        if (strcmp(where + from, left_out) == 0) {
            return;
        }
    }
    if (barrier_where && strcmp(barrier_where, where) != 0) {
        fail("divergent __syncthreads: %s and %s", barrier_where, where);
    }
    void* ordering = barrier_orderings.name();
    release(ordering);
    fiber.where = where;
    barrier_where = where;
    at_barrier++;
    if (at_barrier == live) {
        open_barrier();
    } else {
        fiber.state = State::AtBarrier;
        to_scheduler(fiber);
    }
    acquire(ordering);
}

void warp_operation(unsigned mask, const char* where, void* argument, WarpOperation operation) {
    Fiber& fiber = *static_cast<Fiber*>(current);
    Warp& warp = warps[fiber.warp];
    fiber.where = where;
    if (!(mask >> fiber.lane & 1)) {
        fail("%s: the mask %08x does not name the calling lane %u", where, mask, fiber.lane);
    }
    if (mask & ~warp.lanes) {
        fail("%s: the mask %08x names lanes that this block does not have", where, mask);
    }
    Pending& pending = warp.pending[__builtin_ctz(mask)];
    if (pending.arrived && (pending.mask != mask || strcmp(pending.where, where) != 0)) {
        fail("divergent warp operation: %s and %s", pending.where, where);
    }
    pending.mask = mask;
    pending.where = where;
    pending.arrived |= 1u << fiber.lane;
    warp.arguments[fiber.lane] = argument;
    void* ordering = pending.orderings.name();
    release(ordering);
    if (pending.arrived != mask) {
        fiber.state = State::InWarpOperation;
        to_scheduler(fiber);
        acquire(ordering);
        return;
    }
    acquire(ordering);
    operation(warp.arguments, mask);
    release(ordering);
    pending.arrived = 0;
    pending.orderings.passed++;
    for (unsigned lane = 0; lane < 32; lane++) {
        if (mask >> lane & 1) {
            fibers[fiber.warp * 32 + lane].state = State::Ready;
        }
    }
}

// ---- blocks ------------------------------------------------------------------------------------------------------

// Nothing can run: says who waits where.
[[noreturn]] static void deadlock() {
    const char* barrier = "-";
    const char* operation = "-";
    for (unsigned i = 0; i < count; i++) {
        if (fibers[i].state == State::AtBarrier) {
            barrier = fibers[i].where;
            current = &fibers[i];
        }
    }
    for (unsigned i = 0; i < count; i++) {
        if (fibers[i].state == State::InWarpOperation) {
            operation = fibers[i].where;
            current = &fibers[i];
        }
    }
    fail(
        "deadlock: %u of %u threads wait at the barrier %s, others in the warp operation %s",
        at_barrier,
        live,
        barrier,
        operation
    );
}

static void run_block(size_t dynamic) {
    // reading shared memory that this block has not written gives NaN
    if (__start_engraft_sim_shared) {
        memset(__start_engraft_sim_shared, 0xff, __stop_engraft_sim_shared - __start_engraft_sim_shared);
    }
    memset(dynamic_shared, 0xff, dynamic);
    live = count;
    at_barrier = 0;
    barrier_where = nullptr;
    release(&block_starts);
    for (unsigned i = 0; i < count; i++) {
        Fiber& fiber = fibers[i];
        fiber.state = State::Ready;
        fiber.index.x = i % block_size.x;
        fiber.index.y = i / block_size.x % block_size.y;
        fiber.index.z = i / (block_size.x * block_size.y);
        fiber.lane = i % 32;
        fiber.warp = i / 32;
        prepare(fiber.context, fiber.stack, STACK, thread_main);
    }
    while (live > 0) {
        bool progress = false;
        for (unsigned i : order) {
            if (fibers[i].state == State::Ready) {
                to_fiber(fibers[i]);
                progress = true;
            }
        }
        if (!progress) {
            deadlock();
        }
    }
    acquire(&block_ends);
}

static char* new_stack() {
    size_t guard = size_t(sysconf(_SC_PAGESIZE));
    void* at = mmap(nullptr, guard + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    // stacks grow down: one that overflows faults here rather than write over its neighbour
    if (at == MAP_FAILED || mprotect(at, guard, PROT_NONE) != 0) {
        fail("no memory for the stacks of a block's threads");
    }
    return static_cast<char*>(at) + guard;
}

static void set_order() {
    order.resize(count);
    for (unsigned i = 0; i < count; i++) {
        order[i] = i;
    }
    if (seed() == 1) {
        std::reverse(order.begin(), order.end());
    }
    if (seed() > 1) {
        uint32_t state = seed();
        for (unsigned i = count - 1; i > 0; i--) {
            state = state * 1664525u + 1013904223u;
            std::swap(order[i], order[(state >> 8) % (i + 1)]);
        }
    }
}

void launch(const Kernel& kernel, dim3 grid, dim3 size, size_t dynamic, void** arguments) {
    std::lock_guard<std::mutex> lock(one_launch);
    count = size.x * size.y * size.z;
    if (count == 0 || count > MOST_THREADS) {
        fail("a block of %u threads", count);
    }
    block_size = size;
    grid_size = grid;
    body = kernel.entry;
    body_arguments = arguments;
    while (fibers.size() < count) {
        Fiber fiber;
        fiber.stack = new_stack();
#ifdef ENGRAFT_SIM_TSAN
        fiber.tsan = __tsan_create_fiber(0);
#endif
        fibers.push_back(fiber);
    }
#ifdef ENGRAFT_SIM_TSAN
    scheduler_tsan = __tsan_get_current_fiber();
#endif
    warps.assign((count + 31) / 32, Warp{});
    for (unsigned i = 0; i < count; i++) {
        warps[i / 32].lanes |= 1u << i % 32;
    }
    set_order();
    // a block of its own for every launch, so that AddressSanitizer knows where it ends
    std::unique_ptr<void, void (*)(void*)> shared(aligned_alloc(128, (dynamic + 127) / 128 * 128), free);
    dynamic_shared = shared.get();
    for (block.z = 0; block.z < grid.z; block.z++) {
        for (block.y = 0; block.y < grid.y; block.y++) {
            for (block.x = 0; block.x < grid.x; block.x++) {
                run_block(dynamic);
            }
        }
    }
}

// ---- the kernels -------------------------------------------------------------------------------------------------

// A function's static, because registrations run before main in no particular order.
static std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}
Registration::Registration(
    const char* name, unsigned threads, Entry entry, const size_t* sizes, size_t count
) {
    Kernel kernel{entry, threads, std::vector<size_t>(sizes, sizes + count)};
    if (!kernels().emplace(name, kernel).second) {
        fail("two kernels are called %s", name);
    }
}
const Kernel* find(const char* name) {
    auto found = kernels().find(name);
    return found == kernels().end() ? nullptr : &found->second;
}

} // namespace sim
