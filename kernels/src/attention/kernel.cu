// Attention over packed sequences, no probabilities stored; mod.rs has the formulas.
//
// A block of 256 threads takes a tile of 64 queries of a span and a head (forward, dQ) and goes through the keys in tiles
// of 64, or it takes 64 rows of keys and goes through all queries that see them (dK, dV). A tile of scores is a thread's
// 4 x 4 sums over slices of the channels in shared memory; as weights it lies in shared memory for the second product,
// whose sums stay in registers, for at most 128 channels of a head: blocks share the others. Every sum has an order that
// is fixed by the span: channels, keys and queries ascending, 64 keys at a time where exponentials are summed, and spans
// in their order. What other sequences lie in a tile of keys does not matter.
#include "attention/tiles.cuh"

// The pieces of work of a span for one block: tiles of queries, of one head, for some channels.
#define FOR_TILES(a, C)                                                                                      \
    for (u32 span = blockIdx.y; span < a.count; span += gridDim.y)                                           \
        for (u32 item = blockIdx.x, groups = (a.head_dim + C * SIDE - 1) / (C * SIDE);                       \
             item < (a.spans[span].queries + TILE - 1) / TILE * a.heads * groups;                            \
             item += gridDim.x)

template <int C>
static __device__ inline void forward(Room<C>& room, const Problem& a, const View<float>& o, const View<float>& lse) {
    FOR_TILES(a, C) {
        const Span& s = a.spans[span];
        u32 channel = item % groups * (C * SIDE);
        u32 head = item / groups % a.heads;
        u32 i0 = item / groups / a.heads * TILE;
        set_queries(room, a, View<const float>{}, s, i0, head);
        Seen seen[EACH];
        u64 row_key[EACH];
        float top[EACH];
        float sum[EACH];
        float acc[EACH][C] = {};
#pragma unroll
        for (u32 r = 0; r < EACH; r++) {
            u32 i = i0 + ty() + r * SIDE;
            seen[r] = seen_by(a, s, i);
            row_key[r] = a.drop.row_key((u64)s.q + i);
            top[r] = NONE;
            sum[r] = 0.0f;
        }
        for (u32 j0 = 0; j0 < s.keys; j0 += TILE) {
            if (!meet(a, s, i0, j0, TILE)) {
                continue;
            }
            set_keys(room, a, s, j0, head);
            __syncthreads();
            float x[EACH][EACH];
            dots(room.slices, room.q, room.k, a.head_dim, x);
#pragma unroll
            for (u32 r = 0; r < EACH; r++) {
                u32 i = i0 + ty() + r * SIDE;
                float most = NONE;
#pragma unroll
                for (u32 c = 0; c < EACH; c++) {
                    u32 j = j0 + tx() + c * SIDE;
                    x[r][c] = seen[r](j) ? score(a, s, i, j, head, x[r][c]) : NONE;
                    most = fmaxf(most, x[r][c]);
                }
                float next = fmaxf(top[r], row_fold<Most>(most));
                float base = next == NONE ? 0.0f : next; // nothing is seen so far
                float shrink = expf(top[r] - base);
                float part = 0.0f;
#pragma unroll
                for (u32 c = 0; c < EACH; c++) {
                    u32 j = j0 + tx() + c * SIDE;
                    float e = expf(x[r][c] - base);
                    part += e;
                    room.weights[ty() + r * SIDE][tx() + c * SIDE] = e * kept(a, s, row_key[r], head, j);
                }
                sum[r] = sum[r] * shrink + row_fold<Sum>(part);
                top[r] = next;
#pragma unroll
                for (u32 c = 0; c < C; c++) {
                    acc[r][c] *= shrink;
                }
            }
            add_weighted(room, room.v, channel, a.head_dim, acc);
        }
        u32 rows = min(s.queries - i0, (u32)TILE);
        // what sees no keys is 0
        auto by = [&](u32 r) { return sum[r] > 0.0f ? 1.0f / sum[r] : 0.0f; };
        store(o, (u64)s.q + i0, rows, head, channel, a.head_dim, by, acc);
        if (lse && channel == 0 && tx() == 0) {
#pragma unroll
            for (u32 r = 0; r < EACH; r++) {
                if (ty() + r * SIDE < rows) {
                    lse.row((u64)s.q + i0 + ty() + r * SIDE)[head] = top[r] + logf(sum[r]);
                }
            }
        }
    }
}

// What the backward kernels share.
struct Back {
    View<const float> lse;
    View<const float> d_o;
    float* delta; // rowsum(P ∘ dP), (rows, heads)
};
// Of the bias: a tile of queries and a head has the sums of dS by distance, then by bucket.
struct OfBias {
    float* distances; // null: they are not asked for
    u64 stride;
    float* buckets;
    u64 count, length; // of buckets, and of `bucket`
};

// delta, and dQ unless that is null.
template <int C>
static __device__ inline void
backward_queries(Room<C>& room, const Problem& a, const Back& b, const View<float>& dq, const OfBias& bias) {
    FOR_TILES(a, C) {
        const Span& s = a.spans[span];
        u32 channel = item % groups * (C * SIDE);
        u32 head = item / groups % a.heads;
        u32 i0 = item / groups / a.heads * TILE;
        u32 rows = min(s.queries - i0, (u32)TILE);
        set_queries(room, a, b.d_o, s, i0, head);
        u64 own = ((u64)s.tiles + i0 / TILE) * a.heads + head;
        float* distances = bias.distances && channel == 0 ? bias.distances + own * bias.stride : nullptr;
        if (distances) {
            for (u64 t = threadIdx.x; t < bias.stride; t += THREADS) {
                distances[t] = 0.0f;
            }
        }
        Seen seen[EACH];
        u64 row_key[EACH];
        float lse[EACH];
        float delta[EACH] = {};
        float acc[EACH][C] = {};
#pragma unroll
        for (u32 r = 0; r < EACH; r++) {
            u32 i = i0 + ty() + r * SIDE;
            seen[r] = seen_by(a, s, i);
            row_key[r] = a.drop.row_key((u64)s.q + i);
            lse[r] = i < s.queries ? b.lse.row((u64)s.q + i)[head] : 0.0f;
        }
#pragma unroll 1
        for (u32 pass = 0; pass < (dq || bias.distances ? 2u : 1u); pass++) {
            for (u32 j0 = 0; j0 < s.keys; j0 += TILE) {
                if (!meet(a, s, i0, j0, TILE)) {
                    continue;
                }
                set_keys(room, a, s, j0, head);
                __syncthreads();
                float x[EACH][EACH];
                float dp[EACH][EACH];
                dots(room.slices, room.q, room.k, a.head_dim, x);
                dots(room.slices, room.d_o, room.v, a.head_dim, dp);
#pragma unroll
                for (u32 e = 0; e < EACH * EACH; e++) {
                    u32 r = e / EACH;
                    u32 c = e % EACH;
                    u32 i = i0 + ty() + r * SIDE;
                    u32 j = j0 + tx() + c * SIDE;
                    float p = seen[r](j) ? expf(score(a, s, i, j, head, x[r][c]) - lse[r]) : 0.0f;
                    float of_p = dp[r][c] * kept(a, s, row_key[r], head, j);
                    if (pass == 0) {
                        delta[r] += p * of_p;
                    } else {
                        room.weights[ty() + r * SIDE][tx() + c * SIDE] = p * (of_p - delta[r]);
                    }
                }
                if (pass == 0) {
                    continue;
                }
                add_weighted(room, room.k, channel, a.head_dim, acc);
                // dS along a diagonal: the next tile of keys overlaps half of these distances
                if (distances && threadIdx.x < 2 * TILE - 1) {
                    float along = 0.0f;
                    for (u32 r = 0; r < TILE; r++) {
                        u32 c = threadIdx.x + r - (TILE - 1); // wraps below zero
                        along += c < TILE ? room.weights[r][c] : 0.0f;
                    }
                    distances[j0 + threadIdx.x] += along;
                }
            }
            if (pass == 0) {
#pragma unroll
                for (u32 r = 0; r < EACH; r++) {
                    delta[r] = row_fold<Sum>(delta[r]);
                    if (channel == 0 && tx() == 0 && ty() + r * SIDE < rows) {
                        b.delta[((u64)s.q + i0 + ty() + r * SIDE) * a.heads + head] = delta[r];
                    }
                }
            }
        }
        if (dq) {
            store(dq, (u64)s.q + i0, rows, head, channel, a.head_dim, [&](u32) { return a.scale; }, acc);
        }
        if (distances) {
            __syncthreads();
            // the number t is that of the distance t - 63 from the first query
            u64 nearest = a.zero - s.bias_position - i0 - (TILE - 1); // may wrap
            for (u32 bucket = threadIdx.x; bucket < bias.count; bucket += THREADS) {
                float sum = 0.0f;
                for (u32 t = 0; t < s.keys + TILE - 1; t++) {
                    u64 at = nearest + t;
                    if (at < bias.length && a.bucket[at] == bucket) {
                        sum += distances[t];
                    }
                }
                bias.buckets[own * bias.count + bucket] = sum;
            }
        }
    }
}

// dK and dV of rows of keys of one place, unless they are null.
template <int C>
static __device__ inline void backward_keys(
    Room<C>& room,
    const Problem& a,
    const Back& b,
    u32 of,
    u32 first,
    u32 rows,
    const View<float>& dk,
    const View<float>& dv
) {
    u32 groups = (a.head_dim + C * SIDE - 1) / (C * SIDE);
    u32 kv_heads = a.heads / a.group;
    for (u32 item = blockIdx.x; item < (rows + TILE - 1) / TILE * kv_heads * groups; item += gridDim.x) {
        u32 channel = item % groups * (C * SIDE);
        u32 kv_head = item / groups % kv_heads;
        u32 row0 = first + item / groups / kv_heads * TILE;
        u32 end = min(row0 + TILE, first + rows);
        float of_k[EACH][C] = {};
        float of_v[EACH][C] = {};
        for (u32 span = 0; span < a.count; span++) {
            const Span& s = a.spans[span];
            for (u32 p = 0; p < s.count; p++) {
                Piece piece = a.pieces[s.pieces + p];
                u32 from = max(row0, piece.row);
                u32 to = min(end, piece.row + piece.rows);
                if (piece.of != of || from >= to) {
                    continue;
                }
                u32 j0 = piece.first + row0 - piece.row; // wraps if the piece begins inside the tile
                if (threadIdx.x < TILE) {
                    u32 row = row0 + threadIdx.x;
                    set_key(room, a, of, row, kv_head * a.group, from <= row && row < to);
                }
                for (u32 head = kv_head * a.group; head < (kv_head + 1) * a.group; head++) {
                    for (u32 i0 = 0; i0 < s.queries; i0 += TILE) {
                        if (!meet(a, s, i0, j0 + from - row0, to - from)) {
                            continue;
                        }
                        set_queries(room, a, b.d_o, s, i0, head);
                        __syncthreads();
                        float x[EACH][EACH];
                        float dp[EACH][EACH];
                        dots(room.slices, room.k, room.q, a.head_dim, x);
                        dots(room.slices, room.v, room.d_o, a.head_dim, dp);
#pragma unroll
                        for (u32 c = 0; c < EACH; c++) {
                            u32 i = i0 + tx() + c * SIDE;
                            u64 row = (u64)s.q + i;
                            bool there = i < s.queries;
                            Seen seen = seen_by(a, s, i);
                            float lse = there ? b.lse.row(row)[head] : 0.0f;
                            float delta = there ? b.delta[row * a.heads + head] : 0.0f;
                            u64 row_key = a.drop.row_key(row);
#pragma unroll
                            for (u32 r = 0; r < EACH; r++) {
                                u32 key = ty() + r * SIDE;
                                bool of_piece = from <= row0 + key && row0 + key < to;
                                u32 j = j0 + key;
                                float v = of_piece && seen(j) ? score(a, s, i, j, head, x[r][c]) - lse : NONE;
                                float p = expf(v);
                                float keep = kept(a, s, row_key, head, j);
                                room.weights[key][tx() + c * SIDE] = p * keep;
                                dp[r][c] = p * (dp[r][c] * keep - delta);
                            }
                        }
                        if (dv) {
                            add_weighted(room, room.d_o, channel, a.head_dim, of_v);
                        }
                        if (!dk) {
                            continue;
                        }
#pragma unroll
                        for (u32 e = 0; e < EACH * EACH; e++) {
                            room.weights[ty() + e / EACH * SIDE][tx() + e % EACH * SIDE] = dp[e / EACH][e % EACH];
                        }
                        add_weighted(room, room.q, channel, a.head_dim, of_k);
                    }
                }
            }
        }
        if (dv) {
            store(dv, row0, end - row0, kv_head, channel, a.head_dim, [](u32) { return 1.0f; }, of_v);
        }
        if (dk) {
            store(dk, row0, end - row0, kv_head, channel, a.head_dim, [&](u32) { return a.scale; }, of_k);
        }
    }
}

#define OF_QUERIES(C, CHANNELS)                                                                              \
    KERNEL(                                                                                                  \
        THREADS,                                                                                             \
        attention_forward_##CHANNELS,                                                                        \
        const __grid_constant__ Problem a,                                                                   \
        View<float> o,                                                                                       \
        View<float> lse                                                                                      \
    ) {                                                                                                      \
        __shared__ Room<C> room;                                                                             \
        forward(room, a, o, lse);                                                                            \
    }                                                                                                        \
    KERNEL(                                                                                                  \
        THREADS,                                                                                             \
        attention_backward_queries_##CHANNELS,                                                               \
        const __grid_constant__ Problem a,                                                                   \
        Back b,                                                                                              \
        View<float> dq,                                                                                      \
        OfBias bias                                                                                          \
    ) {                                                                                                      \
        __shared__ Room<C> room;                                                                             \
        backward_queries(room, a, b, dq, bias);                                                              \
    }
#define OF_KEYS(C, CHANNELS)                                                                                 \
    KERNEL(                                                                                                  \
        THREADS,                                                                                             \
        attention_backward_keys_##CHANNELS,                                                                  \
        const __grid_constant__ Problem a,                                                                   \
        Back b,                                                                                              \
        u32 of,                                                                                              \
        u32 first,                                                                                           \
        u32 rows,                                                                                            \
        View<float> dk,                                                                                      \
        View<float> dv                                                                                       \
    ) {                                                                                                      \
        __shared__ Room<C> room;                                                                             \
        backward_keys(room, a, b, of, first, rows, dk, dv);                                                  \
    }
OF_QUERIES(2, 32)
OF_QUERIES(4, 64)
OF_QUERIES(8, 128)
OF_KEYS(2, 32)
OF_KEYS(4, 64)

// The gradient of the table: the sums of all tiles of queries, in their order.
KERNEL(256, attention_backward_bias, OfBias bias, u64 tiles, u32 heads, View<float> to, u32 accumulate) {
    u64 n = blockIdx.x * (u64)blockDim.x + threadIdx.x;
    for (; n < bias.count * heads; n += (u64)gridDim.x * blockDim.x) {
        u64 bucket = n / heads;
        u64 head = n % heads;
        float sum = 0.0f;
        for (u64 tile = 0; tile < tiles; tile++) {
            sum += bias.buckets[(tile * heads + head) * bias.count + bucket];
        }
        float* at = to.row(bucket) + head;
        *at = accumulate ? *at + sum : sum;
    }
}
