// Every kernel on small and awkward shapes against plain loops in double precision, for the sanitizers: check.py
// compiles this file with each of them. The threads of a block take their turns in ascending, descending and shuffled
// order.
#include "runtime.h"

#include "include/cuda_bf16.h"
#include "include/cuda_fp16.h"

#include <cstdio>
#include <cstdlib>
#include <string>

typedef unsigned long long u64;
typedef std::vector<float> Floats;

static int failures;

template <class... A>
static void run(const std::string& name, unsigned blocks, unsigned threads, A... values) {
    const sim::Kernel* kernel = sim::find(name.c_str());
    if (!kernel || kernel->sizes != std::vector<size_t>{sizeof(A)...}) {
        printf("%s: no such kernel, or other parameters\n", name.c_str());
        exit(1);
    }
    void* arguments[] = {&values...};
    sim::launch(*kernel, blocks, threads, arguments);
}

static void expect(const char* what, const Floats& got, const Floats& want) {
    double largest = 1e-3;
    for (float w : want) {
        largest = std::fmax(largest, std::fabs(w));
    }
    for (size_t i = 0; i < want.size(); i++) {
        // written so that NaN fails
        if (!(std::fabs(got[i] - want[i]) <= 2e-5 * largest)) {
            printf("%s: element %zu of %zu is %g, not %g\n", what, i, want.size(), got[i], want[i]);
            failures++;
            return;
        }
    }
}

static Floats noise(size_t n) {
    static uint32_t state = 1;
    Floats v(n);
    for (float& x : v) {
        state = state * 1664525u + 1013904223u;
        x = float(state >> 8) / float(1 << 23) - 1.0f;
    }
    return v;
}

// ---- layer normalisation -----------------------------------------------------------------------------------------

static void layernorm(size_t rows, size_t cols, unsigned blocks, unsigned threads, bool residual, bool keep) {
    Floats x = noise(rows * cols), r = noise(rows * cols), gamma = noise(cols), beta = noise(cols);
    Floats y(rows * cols), hat(rows * cols), scale(rows), dx(rows * cols);
    Floats y_want(rows * cols), hat_want(rows * cols), scale_want(rows), dx_want(rows * cols);
    const float eps = 1e-5f;
    const Floats& dy = r;
    for (size_t i = 0; i < rows; i++) {
        double mean = 0, square = 0, m1 = 0, m2 = 0;
        auto s = [&](size_t j) { return x[i * cols + j] + (residual ? double(r[i * cols + j]) : 0.0); };
        for (size_t j = 0; j < cols; j++) {
            mean += s(j) / double(cols);
        }
        for (size_t j = 0; j < cols; j++) {
            square += (s(j) - mean) * (s(j) - mean) / double(cols);
        }
        double rstd = 1.0 / std::sqrt(square + eps);
        scale_want[i] = float(rstd);
        for (size_t j = 0; j < cols; j++) {
            double h = (s(j) - mean) * rstd, g = double(dy[i * cols + j]) * gamma[j];
            hat_want[i * cols + j] = float(h);
            y_want[i * cols + j] = float(h * gamma[j] + beta[j]);
            m1 += g / double(cols);
            m2 += g * h / double(cols);
        }
        for (size_t j = 0; j < cols; j++) {
            double h = (s(j) - mean) * rstd, g = double(dy[i * cols + j]) * gamma[j];
            dx_want[i * cols + j] = float(rstd * (g - m1 - h * m2));
        }
    }
    const float* in = x.data();
    const float* added = residual ? r.data() : nullptr;
    const float *pg = gamma.data(), *pb = beta.data();
    float* kept_hat = keep ? hat.data() : nullptr;
    float* kept_scale = keep ? scale.data() : nullptr;
    const u64 r64 = rows, c64 = cols;
    float* py = y.data();
    run("layernorm_forward", blocks, threads, in, added, pg, pb, eps, r64, c64, py, kept_hat, kept_scale);
    expect("layernorm_forward y", y, y_want);
    if (keep) {
        expect("layernorm_forward normed", hat, hat_want);
        expect("layernorm_forward rstd", scale, scale_want);
    }
    const float *pdy = dy.data(), *ph = hat_want.data(), *ps = scale_want.data();
    run("layernorm_backward", blocks, threads, pdy, ph, ps, pg, r64, c64, dx.data());
    expect("layernorm_backward", dx, dx_want);
}

// ---- the matrix products -----------------------------------------------------------------------------------------

// Rounding is not what is tested: whatever bits come out are the stored weight.
static float store(float v, float& w) {
    return w = v;
}
static float store(float v, __nv_bfloat16& w) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    w.bits = uint16_t(bits >> 16);
    return __bfloat162float(w);
}
static float store(float v, __half& w) {
    // |v| < 1: sign, and enough of the fraction below an exponent of -1 (values under one half become one half)
    float fraction = std::fmax(std::fabs(v) * 2.0f - 1.0f, 0.0f);
    w.bits = uint16_t((v < 0 ? 0x8000 : 0) | 14 << 10 | int(fraction * 1023.0f));
    return __half2float(w);
}

template <class A, class B>
static void product(
    const std::string& name,
    bool a_along,
    bool b_along,
    size_t m,
    size_t n,
    size_t k,
    unsigned blocks,
    bool biased,
    bool accumulate
) {
    Floats ra = noise(m * k), rb = noise(k * n), bias = noise(n), c = noise(m * n), want(m * n);
    std::vector<A> a(m * k);
    std::vector<B> b(k * n);
    for (size_t i = 0; i < a.size(); i++) {
        ra[i] = store(ra[i], a[i]);
    }
    for (size_t i = 0; i < b.size(); i++) {
        rb[i] = store(rb[i], b[i]);
    }
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = biased ? bias[j] : 0.0;
            for (size_t p = 0; p < k; p++) {
                sum += double(ra[a_along ? i * k + p : p * m + i]) * rb[b_along ? j * k + p : p * n + j];
            }
            want[i * n + j] = float(sum + (accumulate ? c[i * n + j] : 0.0));
        }
    }
    const float* added = biased ? bias.data() : nullptr;
    const A* pa = a.data();
    const B* pb = b.data();
    run(name, blocks, 256, pa, pb, added, int(accumulate), c.data(), u64(m), u64(n), u64(k));
    expect(name.c_str(), c, want);
}
template <class W>
static void products(const std::string& stored, size_t m, size_t n, size_t k, unsigned blocks) {
    product<float, W>("matmul_times_transposed_" + stored, true, true, m, n, k, blocks, true, false);
    product<float, W>("matmul_times_" + stored, true, false, m, n, k, blocks, false, false);
}

int main() {
    for (unsigned seed : {0, 1, 7}) {
        sim::set_seed(seed);
        layernorm(1, 1, 1, 32, true, true);
        layernorm(3, 33, 2, 64, false, true); // a block takes a second row
        layernorm(2, 130, 2, 128, true, false);
        for (bool accumulate : {false, true}) {
            product<float, float>("matmul_transposed_times", false, false, 5, 67, 17, 2, false, accumulate);
            product<float, float>("matmul_transposed_times", false, false, 3, 2, 0, 1, false, accumulate);
        }
        products<float>("f32", 65, 66, 18, 3); // four tiles: a block takes a second one
        products<__nv_bfloat16>("bf16", 1, 65, 33, 2);
        products<__half>("f16", 7, 1, 5, 1);
    }
    if (failures) {
        printf("%d comparisons failed\n", failures);
        return 1;
    }
    printf("every kernel agrees with the plain loops\n");
    return 0;
}
