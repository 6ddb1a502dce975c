// What the kernels of attention share: the launch's problem, what a query sees, and the two products of a tile.
#pragma once
#include "cuda.cuh"

// Places of keys.
#define SOURCES 8
#define TILE 64
#define DEPTH 16
#define SIDE 16
#define EACH (TILE / SIDE)
#define THREADS (SIDE * SIDE)
#define NONE (-__uint_as_float(0x7f800000))

struct Span {
    u32 q, queries; // the first row, and how many
    u32 position, free, bias_position;
    u32 pieces, count; // of its keys
    u32 keys;
    u32 tiles; // the number of its first tile of queries
};
// Keys from the number `first` on: rows of keys and values of `of`.
struct Piece {
    u32 first, of, row, rows;
};
struct Problem {
    View<const float> q;
    View<const float> k[SOURCES];
    View<const float> v[SOURCES];
    View<const float> bias; // null: none
    const u32* bucket;
    u64 zero;
    const Span* spans;
    const Piece* pieces;
    u64 count; // of spans
    u64 before, after;
    u32 heads, group;
    u32 head_dim;
    float scale;
    Dropout drop; // its threshold 0: nothing is dropped
};

// The numbers of the keys that a query sees: those below `free`, and those from `first` to `last`.
struct Seen {
    u32 free, first, last;
    __device__ bool operator()(u32 j) const {
        return j < free || (first <= j && j <= last);
    }
};
// What the i-th query sees of the span's keys; nothing if there is no such query.
static __device__ inline Seen seen_by(const Problem& a, const Span& s, u32 i) {
    if (i >= s.queries || s.keys == 0) {
        return {0, 1, 0};
    }
    u32 own = s.position + i; // cuda.rs has seen to it that this is a u32
    u32 first = own > a.before ? own - (u32)a.before : 0;
    u64 last = a.after < s.keys ? own + a.after : s.keys;
    return {min(s.free, s.keys), first, (u32)min(last, (u64)s.keys - 1)};
}
// Whether some query of a tile may see some key from the number j on, of `n`.
static __device__ inline bool meet(const Problem& a, const Span& s, u32 i, u32 j, u32 n) {
    Seen first = seen_by(a, s, i);
    Seen last = seen_by(a, s, min(i + TILE, s.queries) - 1);
    return j < first.free || (first.first < j + n && last.last >= j && last.first <= last.last);
}

// Slices of two factors, depth first. The odd row length keeps a column's elements in different banks.
struct Slices {
    float a[DEPTH][TILE + 1];
    float b[DEPTH][TILE + 1];
};
// What a block holds, for C x SIDE channels of the second product.
template <int C>
struct Room {
    union {
        Slices slices;
        float values[DEPTH][C * SIDE];
    };
    float weights[TILE][TILE + 1];
    // the channels of a head of each row of a tile; null: there is none
    const float* q[TILE];
    const float* d_o[TILE];
    const float* k[TILE];
    const float* v[TILE];
};

static __device__ inline u32 tx() {
    return threadIdx.x % SIDE;
}
static __device__ inline u32 ty() {
    return threadIdx.x / SIDE;
}
static __device__ inline void load(float (*to)[TILE + 1], const float* const* lines, u32 from, u32 depth) {
#pragma unroll
    for (u32 step = 0; step < TILE * DEPTH; step += THREADS) {
        u32 i = (step + threadIdx.x) / DEPTH;
        u32 p = (step + threadIdx.x) % DEPTH;
        const float* line = lines[i];
        to[p][i] = line && from + p < depth ? line[from + p] : 0.0f;
    }
}
// sum[r][c]: the product of line ty + r SIDE of `a` and line tx + c SIDE of `b`.
static __device__ inline void
dots(Slices& slices, const float* const* a, const float* const* b, u32 depth, float (&sum)[EACH][EACH]) {
#pragma unroll
    for (u32 e = 0; e < EACH * EACH; e++) {
        sum[e / EACH][e % EACH] = 0.0f;
    }
    for (u32 p0 = 0; p0 < depth; p0 += DEPTH) {
        load(slices.a, a, p0, depth);
        load(slices.b, b, p0, depth);
        __syncthreads();
#pragma unroll 4
        for (u32 p = 0; p < DEPTH; p++) {
            float av[EACH];
            float bv[EACH];
#pragma unroll
            for (u32 e = 0; e < EACH; e++) {
                av[e] = slices.a[p][ty() + e * SIDE];
                bv[e] = slices.b[p][tx() + e * SIDE];
            }
#pragma unroll
            for (u32 e = 0; e < EACH * EACH; e++) {
                sum[e / EACH][e % EACH] += av[e / EACH] * bv[e % EACH];
            }
        }
        __syncthreads(); // the slices may now be overwritten
    }
}
// sum[r][c] += the weights' row ty + r SIDE times the lines' column tx + c SIDE, counted from `first` on.
template <int C>
static __device__ inline void
add_weighted(Room<C>& room, const float* const* lines, u32 first, u32 width, float (&sum)[EACH][C]) {
    for (u32 j0 = 0; j0 < TILE; j0 += DEPTH) {
#pragma unroll
        for (u32 step = 0; step < DEPTH * C * SIDE; step += THREADS) {
            u32 j = (step + threadIdx.x) / (C * SIDE);
            u32 c = (step + threadIdx.x) % (C * SIDE);
            const float* line = lines[j0 + j];
            room.values[j][c] = line && first + c < width ? line[first + c] : 0.0f;
        }
        __syncthreads();
#pragma unroll 4
        for (u32 j = 0; j < DEPTH; j++) {
            float w[EACH];
#pragma unroll
            for (u32 r = 0; r < EACH; r++) {
                w[r] = room.weights[ty() + r * SIDE][j0 + j];
            }
#pragma unroll
            for (u32 c = 0; c < C; c++) {
                float v = room.values[j][tx() + c * SIDE];
#pragma unroll
                for (u32 r = 0; r < EACH; r++) {
                    sum[r][c] += w[r] * v;
                }
            }
        }
        __syncthreads(); // the values, and after the last ones the weights, may now be overwritten
    }
}
// Writes such sums, times `by` of their row, into the rows that there are.
template <int C, class By>
static __device__ inline void
store(const View<float>& to, u64 row, u32 rows, u32 head, u32 first, u32 width, By by, float (&sum)[EACH][C]) {
#pragma unroll
    for (u32 r = 0; r < EACH; r++) {
#pragma unroll
        for (u32 c = 0; c < C; c++) {
            u32 channel = first + tx() + c * SIDE;
            if (ty() + r * SIDE < rows && channel < width) {
                to.row(row + ty() + r * SIDE)[(u64)head * width + channel] = sum[r][c] * by(r);
            }
        }
    }
}
// A value of each of 16 neighbouring threads, those of one row of a tile, folded.
template <class F>
static __device__ inline float row_fold(float v) {
    for (int step = SIDE / 2; step > 0; step /= 2) {
        v = F::of(v, __shfl_xor_sync(0xffffffffu, v, step));
    }
    return v;
}

template <int C>
static __device__ inline void set_queries(Room<C>& room, const Problem& a, const View<const float>& d_o, const Span& s,
                                          u32 i, u32 head) {
    if (threadIdx.x < TILE) {
        bool there = i + threadIdx.x < s.queries;
        u64 row = (u64)s.q + i + threadIdx.x;
        u64 channel = (u64)head * a.head_dim;
        room.q[threadIdx.x] = there ? a.q.row(row) + channel : nullptr;
        room.d_o[threadIdx.x] = there && d_o ? d_o.row(row) + channel : nullptr;
    }
}
// The key in a row of `of`, for the queries' head.
template <int C>
static __device__ inline void set_key(Room<C>& room, const Problem& a, u32 of, u64 row, u32 head, bool there) {
    u64 channel = (u64)(head / a.group) * a.head_dim;
    room.k[threadIdx.x] = there ? a.k[of].row(row) + channel : nullptr;
    room.v[threadIdx.x] = there ? a.v[of].row(row) + channel : nullptr;
}
// A span's keys from the number j on.
template <int C>
static __device__ inline void set_keys(Room<C>& room, const Problem& a, const Span& s, u32 j, u32 head) {
    if (threadIdx.x < TILE) {
        Piece piece = {};
        u32 at = j + threadIdx.x;
        bool there = false;
        for (u32 p = 0; p < s.count && !there; p++) {
            piece = a.pieces[s.pieces + p];
            there = piece.first <= at && at - piece.first < piece.rows;
        }
        set_key(room, a, piece.of, (u64)piece.row + (at - piece.first), head, there);
    }
}
// Scaled, and the bias added.
static __device__ inline float score(const Problem& a, const Span& s, u32 i, u32 j, u32 head, float product) {
    float v = product * a.scale;
    return a.bias ? v + a.bias.row(a.bucket[j + a.zero - s.bias_position - i])[head] : v;
}
static __device__ inline float kept(const Problem& a, const Span& s, u64 row_key, u32 head, u32 j) {
    return a.drop.threshold ? a.drop.factor(row_key, (u64)head * s.keys + j) : 1.0f;
}
