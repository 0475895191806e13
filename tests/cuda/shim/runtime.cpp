// Runs the blocks of a launch one after the other, and the threads of a block as fibers that change over at barriers.
//
// Shared memory is filled with NaN before each block. In checked mode every access of a kernel is looked at: it must lie in
// an argument's array, in shared memory or on the thread's own stack, and two threads may not touch one word, one of them
// writing, unless a barrier lies between them. Blocks have no barrier between them.
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

extern char __start_shared_memory[] __attribute__((weak));
extern char __stop_shared_memory[] __attribute__((weak));

namespace {

struct dim3 {
    unsigned x, y, z;
};

const size_t STACK = 256 << 10;
const int WARP = 32;

// Counts the threads that have arrived; its generation goes up each time it opens.
struct Barrier {
    int arrived = 0;
    unsigned long generation = 0;
};

struct Fiber {
    ucontext_t start;
    jmp_buf resume;
    char *stack = nullptr;
    int thread = 0;
    bool started = false, done = false;
    Barrier *waits_for = nullptr;
    unsigned long generation = 0;
};

dim3 index_[4];  // gridDim, blockDim, blockIdx, threadIdx
std::vector<Fiber> fibers;
Fiber *running = nullptr;
jmp_buf scheduler;
long block = -1;
Barrier block_barrier;
std::vector<Barrier> warp_barriers;
const size_t EXCHANGED = 24;  // bytes a thread
std::vector<unsigned char> exchanged;
void (*body)(void **);
void **arguments;
std::string error;

// Notes the fault. A thread does not go on after one: its next access might end the process.
void fail(const char *what, const void *where = nullptr, const std::string &more = "") {
    char text[160];
    snprintf(text, sizeof text, "%s at %p by block %ld thread %d", what, where, block, running ? running->thread : -1);
    error = text + more;
    if (running) _longjmp(scheduler, 1);
}

void change_to_scheduler() {
    if (!_setjmp(running->resume)) _longjmp(scheduler, 1);
}

void run_fiber() {
    body(arguments);
    running->done = true;
    _longjmp(scheduler, 1);
}

int alive(int warp, unsigned mask) {
    int count = 0;
    for (const Fiber &fiber : fibers) {
        const bool counted = warp < 0 || (fiber.thread / WARP == warp && mask >> fiber.thread % WARP & 1);
        count += counted && !fiber.done;
    }
    return count;
}

void wait_at(Barrier &barrier, int expected) {
    const unsigned long generation = barrier.generation;
    if (++barrier.arrived >= expected) {
        barrier.arrived = 0;
        ++barrier.generation;
        return;
    }
    while (barrier.generation == generation) {
        running->waits_for = &barrier;
        running->generation = generation;
        change_to_scheduler();
    }
}

// ---------------------------------------------------------------- the checker

struct Range {
    const char *first, *last;
};

// When a thread touched a word: its block, and the generations of the block's and of its warp's barrier.
struct Moment {
    long block = -1;
    int thread = -1;
    unsigned long block_generation = 0, warp_generation = 0;
};

struct Word {
    Moment write, read;
    bool read_by_several = false;  // threads, since the last barrier
};

bool checked = false;
std::vector<Range> arrays;
std::unordered_map<uintptr_t, Word> words;

Moment now() {
    return {block, running->thread, block_barrier.generation, warp_barriers[running->thread / WARP].generation};
}

// Whether what happened at `then` is over, for every thread, at `at`.
bool ordered(const Moment &then, const Moment &at, bool shared) {
    if (then.block < 0) return true;
    if (then.block != at.block) return shared;  // each block has its own shared memory
    if (then.thread == at.thread || then.block_generation != at.block_generation) return true;
    return then.thread / WARP == at.thread / WARP && then.warp_generation != at.warp_generation;
}

void check_access(void *address, size_t size, bool write) {
    if (!checked || !running) return;
    char *first = static_cast<char *>(address), *last = first + size;
    if (first >= running->stack && last <= running->stack + STACK) return;
    if (first >= (char *)index_ && last <= (char *)(index_ + 4)) return;
    const bool shared = first >= __start_shared_memory && last <= __stop_shared_memory;
    if (!shared) {
        bool inside = false;
        for (const Range &range : arrays) inside = inside || (first >= range.first && last <= range.last);
        if (!inside) return fail(write ? "write out of bounds" : "read out of bounds", address);
    }
    const Moment at = now();
    // Arrays are read and written by their elements: words of 4 bytes, or single bytes in arrays of bytes.
    const int width = size < 4 ? 1 : 4;
    for (uintptr_t key = (uintptr_t)first; key < (uintptr_t)last; key += width) {
        Word &word = words[key];
        const auto against = [](const Moment &other) {
            return ", against block " + std::to_string(other.block) + " thread " + std::to_string(other.thread);
        };
        if (!ordered(word.write, at, shared))
            fail(write ? "race write/write" : "race read/write", address, against(word.write));
        if (write) {
            Moment read = word.read;
            if (word.read_by_several && read.block_generation == at.block_generation) read.thread = -1;
            if (!ordered(read, at, shared)) fail("race write after read", address, against(word.read));
            word.write = at;
            word.read_by_several = false;
            word.read = Moment();
        } else {
            const bool same_phase = word.read.block == at.block && word.read.block_generation == at.block_generation;
            word.read_by_several = same_phase && (word.read_by_several || word.read.thread != at.thread);
            word.read = at;
        }
    }
}

}  // namespace

extern "C" {

const dim3 *cpu_index(int which) { return &index_[which]; }
int cpu_lane() { return running->thread % WARP; }
void cpu_syncthreads() { wait_at(block_barrier, alive(-1, 0)); }

void cpu_exchange(unsigned mask, void *value, size_t size, int lane) {
    const int warp = running->thread / WARP;
    Barrier &barrier = warp_barriers[warp];
    memcpy(&exchanged[EXCHANGED * running->thread], value, size);
    wait_at(barrier, alive(warp, mask));
    memcpy(value, &exchanged[EXCHANGED * (warp * WARP + lane % WARP)], size);
    wait_at(barrier, alive(warp, mask));
}

// The values of all lanes of a whole warp.
void cpu_gather(const void *value, size_t size, void *all) {
    const int warp = running->thread / WARP;
    memcpy(&exchanged[EXCHANGED * running->thread], value, size);
    wait_at(warp_barriers[warp], WARP);
    for (int lane = 0; lane < WARP; ++lane)
        memcpy(static_cast<char *>(all) + size * lane, &exchanged[EXCHANGED * (warp * WARP + lane)], size);
    wait_at(warp_barriers[warp], WARP);
}

const char *cpu_error() { return error.c_str(); }

// The arrays of the next launch; on: whether accesses are checked.
void cpu_arrays(int on, int count, char **first, const size_t *sizes) {
    checked = on;
    arrays.clear();
    for (int i = 0; i < count; ++i) arrays.push_back({first[i], first[i] + sizes[i]});
}

// schedule 0: threads and blocks in order; 1: in reverse; from 2 on: shuffled with that seed, odd ones warp by warp.
int cpu_launch(const unsigned *grid, const unsigned *block_size, int schedule, void (*kernel)(void **), void **values) {
    index_[0] = {grid[0], grid[1], grid[2]};
    index_[1] = {block_size[0], block_size[1], block_size[2]};
    body = kernel;
    arguments = values;
    error.clear();
    words.clear();
    const int threads = block_size[0] * block_size[1] * block_size[2], warps = (threads + WARP - 1) / WARP;
    if ((int)fibers.size() < threads) {
        const size_t before = fibers.size();
        fibers.resize(threads);
        for (size_t i = before; i < fibers.size(); ++i)
            fibers[i].stack = (char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    for (Fiber &fiber : fibers) fiber.done = true;

    std::mt19937 random(schedule);
    std::vector<long> blocks((size_t)grid[0] * grid[1] * grid[2]);
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = i;
    std::vector<int> order(threads), warp_order(warps);
    for (int i = 0; i < threads; ++i) order[i] = i;
    for (int i = 0; i < warps; ++i) warp_order[i] = i;
    if (schedule == 1) {
        std::reverse(blocks.begin(), blocks.end());
        std::reverse(order.begin(), order.end());
    }
    if (schedule > 1) std::shuffle(blocks.begin(), blocks.end(), random);

    for (long b : blocks) {
        block = b;
        index_[2] = {unsigned(b % grid[0]), unsigned(b / grid[0] % grid[1]), unsigned(b / grid[0] / grid[1])};
        if (__start_shared_memory) memset(__start_shared_memory, 0xFF, __stop_shared_memory - __start_shared_memory);
        block_barrier = Barrier();
        warp_barriers.assign(warps, Barrier());
        exchanged.assign(EXCHANGED * warps * WARP, 0);
        for (int i = 0; i < threads; ++i) {
            Fiber &fiber = fibers[i];
            fiber.thread = i;
            fiber.started = fiber.done = false;
            fiber.waits_for = nullptr;
        }
        int left = threads;
        while (left) {
            bool moved = false;
            const auto step = [&](int i) {
                Fiber &fiber = fibers[i];
                if (!error.empty() || fiber.done || (fiber.waits_for && fiber.waits_for->generation == fiber.generation)) return false;
                fiber.waits_for = nullptr;
                running = &fiber;
                index_[3] = {i % block_size[0], i / block_size[0] % block_size[1], i / block_size[0] / block_size[1]};
                if (!_setjmp(scheduler)) {
                    if (fiber.started) _longjmp(fiber.resume, 1);
                    fiber.started = true;
                    getcontext(&fiber.start);
                    fiber.start.uc_stack.ss_sp = fiber.stack;
                    fiber.start.uc_stack.ss_size = STACK;
                    fiber.start.uc_link = nullptr;
                    makecontext(&fiber.start, run_fiber, 0);
                    setcontext(&fiber.start);
                }
                left -= fiber.done;
                running = nullptr;
                return moved = true;
            };
            if (schedule > 1) {
                std::shuffle(order.begin(), order.end(), random);
                std::shuffle(warp_order.begin(), warp_order.end(), random);
            }
            if (schedule > 1 && schedule % 2) {
                // One warp runs as far as it can before the next one starts.
                for (int warp : warp_order)
                    for (bool again = true; again;) {
                        again = false;
                        for (int i : order)
                            if (i / WARP == warp) again |= step(i);
                    }
            } else
                for (int i : order) step(i);
            if (!moved) fail("barrier that not all threads reach");
            if (!error.empty()) return 1;
        }
        if (block_barrier.arrived) {
            fail("threads left at a barrier");
            return 1;
        }
    }
    return 0;
}

// ---------------------------------------------------------------- the compiler's hooks

void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
#define HOOKS(size)                                                                  \
    void __tsan_read##size(void *p) { check_access(p, size, false); }                \
    void __tsan_write##size(void *p) { check_access(p, size, true); }                \
    void __tsan_unaligned_read##size(void *p) { check_access(p, size, false); }      \
    void __tsan_unaligned_write##size(void *p) { check_access(p, size, true); }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
void __tsan_read_range(void *p, size_t size) { check_access(p, size, false); }
void __tsan_write_range(void *p, size_t size) { check_access(p, size, true); }
void *__tsan_memcpy(void *to, const void *from, size_t size) {
    check_access(const_cast<void *>(from), size, false);
    check_access(to, size, true);
    return memcpy(to, from, size);
}
void *__tsan_memset(void *to, int value, size_t size) {
    check_access(to, size, true);
    return memset(to, value, size);
}
}
