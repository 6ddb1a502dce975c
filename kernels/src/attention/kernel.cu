// Attention over packed sequences, no probabilities stored; mod.rs has the formulas.
//
// A warp takes a query and a head (forward, dQ) or a row of keys and a head of keys (dK, dV): its lanes take 32 keys, or
// queries, at a time for the scores and then channels for the sums. Every sum is in ascending order of keys or queries,
// and of the spans.
#include "cuda.cuh"

// Places of keys, channels of a lane at most, warps of a block.
#define SOURCES 8
#define CHANNELS 8
#define WARPS 4
#define THREADS (32 * WARPS)
#define NONE (-__uint_as_float(0x7f800000))

struct Span {
    u32 q, queries; // the first row, and how many
    u32 position, free, bias_position;
    u32 pieces, count; // of its keys
    u32 keys;
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
    u64 head_dim;
    u32 heads, group;
    float scale;
    u32 dropped;
    Dropout drop;
};

static __device__ inline bool sees(const Problem& a, const Span& s, u64 i, u64 j) {
    u64 own = s.position + i;
    return j < s.free || ((own <= j || own - j <= a.before) && (j <= own || j - own <= a.after));
}
static __device__ inline float dot(const float* x, const float* y, u64 n) {
    float sum = 0.0f;
    for (u64 c = 0; c < n; c++) {
        sum += x[c] * y[c];
    }
    return sum;
}
// The row of the bias's table for the i-th query and the j-th key.
static __device__ inline u32 bucket(const Problem& a, const Span& s, u64 i, u64 j) {
    return a.bucket[j + a.zero - s.bias_position - i];
}
// The channels of a head of a row of keys, or of values.
static __device__ inline const float* part(const Problem& a, const View<const float>& kv, u64 row, u32 head) {
    return kv.row(row) + head / a.group * a.head_dim;
}
static __device__ inline float score(const Problem& a, const Span& s, u64 i, u64 j, u32 head, const float* key) {
    float v = dot(a.q.row(s.q + i) + head * a.head_dim, key, a.head_dim) * a.scale;
    return a.bias ? v + a.bias.row(bucket(a, s, i, j))[head] : v;
}
static __device__ inline float kept(const Problem& a, const Span& s, u64 row_key, u32 head, u64 j) {
    return a.dropped ? a.drop.factor(row_key, (u64)head * s.keys + j) : 1.0f;
}

KERNEL(THREADS, attention_forward, const __grid_constant__ Problem a, View<float> o, View<float> lse) {
    __shared__ float of_lane[WARPS][32];
    u32 lane = threadIdx.x % 32;
    float* weights = of_lane[threadIdx.x / 32];
    for (u64 span = blockIdx.y; span < a.count; span += gridDim.y) {
        const Span& s = a.spans[span];
        u32 items = s.queries * a.heads; // cuda.rs has seen to it that this is a u32
        for (u32 n = blockIdx.x * WARPS + threadIdx.x / 32; n < items; n += gridDim.x * WARPS) {
            u64 i = n / a.heads;
            u32 head = n % a.heads;
            u64 key = a.drop.row_key(s.q + i);
            float acc[CHANNELS] = {};
            float top = NONE;
            float sum = 0.0f;
            for (u32 p = 0; p < s.count; p++) {
                Piece piece = a.pieces[s.pieces + p];
                for (u32 base = 0; base < piece.rows; base += 32) {
                    u32 at = base + lane;
                    u64 j = piece.first + at;
                    bool seen = at < piece.rows && sees(a, s, i, j);
                    float v = NONE;
                    if (seen) {
                        v = score(a, s, i, j, head, part(a, a.k[piece.of], piece.row + at, head));
                    }
                    float most = warp_fold<Most>(v);
                    if (most == NONE) {
                        continue; // none of these keys is seen
                    }
                    float next = fmaxf(top, most);
                    float shrink = expf(top - next);
                    float e = seen ? expf(v - next) : 0.0f;
                    sum = sum * shrink + e;
                    top = next;
                    weights[lane] = seen ? e * kept(a, s, key, head, j) : 0.0f;
                    __syncwarp();
                    u32 rows = min(32u, piece.rows - base);
#pragma unroll
                    for (u32 c = 0; c < CHANNELS; c++) {
                        acc[c] *= shrink;
                    }
                    for (u32 t = 0; t < rows; t++) {
                        const float* value = part(a, a.v[piece.of], piece.row + base + t, head);
#pragma unroll
                        for (u32 c = 0; c < CHANNELS; c++) {
                            if (c * 32 + lane < a.head_dim) {
                                acc[c] += weights[t] * value[c * 32 + lane];
                            }
                        }
                    }
                    __syncwarp(); // the weights may now be overwritten
                }
            }
            sum = warp_fold<Sum>(sum);
            float* to = o.row(s.q + i) + head * a.head_dim;
#pragma unroll
            for (u32 c = 0; c < CHANNELS; c++) {
                if (c * 32 + lane < a.head_dim) {
                    to[c * 32 + lane] = sum > 0.0f ? acc[c] / sum : 0.0f;
                }
            }
            if (lse && lane == 0) {
                lse.row(s.q + i)[head] = sum > 0.0f ? top + logf(sum) : NONE;
            }
        }
    }
}

// P, its factor of dropout, and dP for a query and a key that it sees.
struct Pair {
    float p, keep, dp;
};
static __device__ inline Pair
pair(const Problem& a, const Span& s, u64 i, u64 j, u32 head, const Piece& piece, u64 at, const View<const float>& lse,
     const View<const float>& d_o) {
    u64 row = s.q + i;
    float v = score(a, s, i, j, head, part(a, a.k[piece.of], piece.row + at, head));
    Pair x;
    x.p = expf(v - lse.row(row)[head]);
    x.keep = kept(a, s, a.drop.row_key(row), head, j);
    const float* value = part(a, a.v[piece.of], piece.row + at, head);
    x.dp = dot(d_o.row(row) + head * a.head_dim, value, a.head_dim) * x.keep;
    return x;
}

// delta (rows, heads) = rowsum(P ∘ dP), and dQ unless that is null.
KERNEL(
    THREADS,
    attention_backward_queries,
    const __grid_constant__ Problem a,
    View<const float> lse,
    View<const float> d_o,
    float* delta,
    View<float> dq
) {
    __shared__ float of_lane[WARPS][32];
    u32 lane = threadIdx.x % 32;
    float* weights = of_lane[threadIdx.x / 32];
    for (u64 span = blockIdx.y; span < a.count; span += gridDim.y) {
        const Span& s = a.spans[span];
        u32 items = s.queries * a.heads; // cuda.rs has seen to it that this is a u32
        for (u32 n = blockIdx.x * WARPS + threadIdx.x / 32; n < items; n += gridDim.x * WARPS) {
            u64 i = n / a.heads;
            u32 head = n % a.heads;
            float sum = 0.0f;
            for (u32 p = 0; p < s.count; p++) {
                Piece piece = a.pieces[s.pieces + p];
                for (u32 at = lane; at < piece.rows; at += 32) {
                    if (sees(a, s, i, piece.first + at)) {
                        Pair x = pair(a, s, i, piece.first + at, head, piece, at, lse, d_o);
                        sum += x.p * x.dp;
                    }
                }
            }
            sum = warp_fold<Sum>(sum);
            if (lane == 0) {
                delta[(s.q + i) * a.heads + head] = sum;
            }
            if (!dq) {
                continue;
            }
            float acc[CHANNELS] = {};
            for (u32 p = 0; p < s.count; p++) {
                Piece piece = a.pieces[s.pieces + p];
                for (u32 base = 0; base < piece.rows; base += 32) {
                    u32 at = base + lane;
                    bool seen = at < piece.rows && sees(a, s, i, piece.first + at);
                    if (!__any_sync(0xffffffffu, seen)) {
                        continue;
                    }
                    float ds = 0.0f;
                    if (seen) {
                        Pair x = pair(a, s, i, piece.first + at, head, piece, at, lse, d_o);
                        ds = x.p * (x.dp - sum);
                    }
                    weights[lane] = ds * a.scale;
                    __syncwarp();
                    u32 rows = min(32u, piece.rows - base);
                    for (u32 t = 0; t < rows; t++) {
                        const float* k = part(a, a.k[piece.of], piece.row + base + t, head);
#pragma unroll
                        for (u32 c = 0; c < CHANNELS; c++) {
                            if (c * 32 + lane < a.head_dim) {
                                acc[c] += weights[t] * k[c * 32 + lane];
                            }
                        }
                    }
                    __syncwarp(); // the weights may now be overwritten
                }
            }
            float* to = dq.row(s.q + i) + head * a.head_dim;
#pragma unroll
            for (u32 c = 0; c < CHANNELS; c++) {
                if (c * 32 + lane < a.head_dim) {
                    to[c * 32 + lane] = acc[c];
                }
            }
        }
    }
}

// dK and dV, each unless it is null, of `rows` rows of the source `of` from `first` on.
KERNEL(
    THREADS,
    attention_backward_keys,
    const __grid_constant__ Problem a,
    View<const float> lse,
    View<const float> d_o,
    const float* delta,
    u32 of,
    u32 first,
    u32 rows,
    View<float> dk,
    View<float> dv
) {
    __shared__ float of_lane[WARPS][2][32];
    u32 lane = threadIdx.x % 32;
    float* probs = of_lane[threadIdx.x / 32][0];
    float* slopes = of_lane[threadIdx.x / 32][1];
    u32 kv_heads = a.heads / a.group;
    for (u32 n = blockIdx.x * WARPS + threadIdx.x / 32; n < rows * kv_heads; n += gridDim.x * WARPS) {
        u32 row = first + n / kv_heads;
        u32 kv_head = n % kv_heads;
        float of_k[CHANNELS] = {};
        float of_v[CHANNELS] = {};
        for (u64 span = 0; span < a.count; span++) {
            const Span& s = a.spans[span];
            for (u32 p = 0; p < s.count; p++) {
                Piece piece = a.pieces[s.pieces + p];
                if (piece.of != of || row < piece.row || row - piece.row >= piece.rows) {
                    continue;
                }
                u64 at = row - piece.row;
                u64 j = piece.first + at;
                for (u32 head = kv_head * a.group; head < (kv_head + 1) * a.group; head++) {
                    for (u32 base = 0; base < s.queries; base += 32) {
                        u64 i = base + lane;
                        bool seen = i < s.queries && sees(a, s, i, j);
                        if (!__any_sync(0xffffffffu, seen)) {
                            continue;
                        }
                        probs[lane] = 0.0f;
                        slopes[lane] = 0.0f;
                        if (seen) {
                            Pair x = pair(a, s, i, j, head, piece, at, lse, d_o);
                            probs[lane] = x.p * x.keep;
                            slopes[lane] = x.p * (x.dp - delta[(s.q + i) * a.heads + head]) * a.scale;
                        }
                        __syncwarp();
                        u32 queries = min(32u, s.queries - base);
                        for (u32 t = 0; t < queries; t++) {
                            const float* q = a.q.row(s.q + base + t) + head * a.head_dim;
                            const float* d = d_o.row(s.q + base + t) + head * a.head_dim;
#pragma unroll
                            for (u32 c = 0; c < CHANNELS; c++) {
                                if (c * 32 + lane < a.head_dim) {
                                    of_k[c] += slopes[t] * q[c * 32 + lane];
                                    of_v[c] += probs[t] * d[c * 32 + lane];
                                }
                            }
                        }
                        __syncwarp(); // both may now be overwritten
                    }
                }
            }
        }
#pragma unroll
        for (u32 c = 0; c < CHANNELS; c++) {
            u64 channel = c * 32 + lane;
            if (channel < a.head_dim) {
                if (dk) {
                    dk.row(row)[kv_head * a.head_dim + channel] = of_k[c];
                }
                if (dv) {
                    dv.row(row)[kv_head * a.head_dim + channel] = of_v[c];
                }
            }
        }
    }
}

// The gradient of the bias's table: a block for each row and head of it.
KERNEL(
    256,
    attention_backward_bias,
    const __grid_constant__ Problem a,
    View<const float> lse,
    View<const float> d_o,
    const float* delta,
    View<float> table,
    u32 buckets,
    u32 accumulate
) {
    for (u32 n = blockIdx.x; n < buckets * a.heads; n += gridDim.x) {
        u32 b = n / a.heads;
        u32 head = n % a.heads;
        float sum = 0.0f;
        for (u64 span = 0; span < a.count; span++) {
            const Span& s = a.spans[span];
            for (u64 i = threadIdx.x; i < s.queries; i += blockDim.x) {
                for (u32 p = 0; p < s.count; p++) {
                    Piece piece = a.pieces[s.pieces + p];
                    for (u32 at = 0; at < piece.rows; at++) {
                        u64 j = piece.first + at;
                        if (sees(a, s, i, j) && bucket(a, s, i, j) == b) {
                            Pair x = pair(a, s, i, j, head, piece, at, lse, d_o);
                            sum += x.p * (x.dp - delta[(s.q + i) * a.heads + head]);
                        }
                    }
                }
            }
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) {
            table.row(b)[head] = accumulate ? table.row(b)[head] + sum : sum;
        }
    }
}
