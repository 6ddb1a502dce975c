// Rotary positions in place: a thread turns one pair of channels; mod.rs has the formula.
#include "cuda.cuh"

KERNEL(
    256,
    rotary_rotate,
    View<float> x,
    const u32* positions,
    const float* cos,
    const float* sin,
    u32 halves,
    u32 back,
    u64 head_dim,
    u64 frequencies,
    u64 rows,
    u64 pairs, // of a row
    Faults faults,
    u64 below
) {
    FOR_EACH(i, j, rows, pairs) {
        u32 position = positions[i];
        if (faults.beyond(position, below)) {
            continue;
        }
        u64 f = j % frequencies;
        float* head = x.row(i) + j / frequencies * head_dim;
        float* first = head + (halves ? f : 2 * f);
        float* second = halves ? first + frequencies : first + 1;
        float c = cos[position * frequencies + f];
        float s = sin[position * frequencies + f];
        s = back ? -s : s;
        float a = *first;
        float b = *second;
        *first = a * c - b * s;
        *second = b * c + a * s;
    }
}
