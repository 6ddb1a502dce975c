// The non-linearities of activation/mod.rs and their derivatives, one value at a time.
#pragma once
#include "cuda.cuh"

// In the order of Activation.
enum Curve {
    GELU,
    GELU_TANH,
    GELU_10,
    QUICK_GELU,
    RELU,
    RELU_6,
    RELU_2,
    LEAKY_RELU,
    SILU,
    MISH,
    SIGMOID,
    TANH,
    LAPLACE,
    SOFT_EXP,
    LINEAR,
};

// 1 / sqrt(2 pi), sqrt(1/2).
#define DENSITY 0.3989423f
#define ROOT_HALF 0.70710678f
// 2 sqrt(2 / pi): 0.5 (1 + tanh u) is sigmoid(2 u).
#define SLOPE 1.595769f
#define CUBIC 0.044715f
#define LAPLACE_MU 0.707107f
#define LAPLACE_SIGMA 0.282095f
#define SOFT_EXP_BOUND 5.0f
#define SOFT_EXP_RATE 0.636f

static __device__ inline float sigmoid(float x) {
    return 1.0f / (1.0f + expf(-x));
}
// The normal distribution.
static __device__ inline float normal(float x) {
    return 0.5f * erfcf(-x * ROOT_HALF);
}
static __device__ inline float density(float x) {
    return expf(-0.5f * x * x) * DENSITY;
}
// With e = exp x and n = e (e + 2): tanh(log(1 + e)) = n / (n + 2).
static __device__ inline float mish_tanh(float e) {
    float n = e * (e + 2.0f);
    return n / (n + 2.0f);
}
// exp x where Mish needs it: beyond 20 its tanh is 1.
static __device__ inline float mish_exp(float x) {
    return expf(fminf(fmaxf(x, -104.0f), 20.0f));
}

static __device__ inline float value(u32 curve, float x) {
    switch (curve) {
    case GELU:
        return x * normal(x);
    case GELU_TANH:
        return x * sigmoid((x * x * (SLOPE * CUBIC) + SLOPE) * x);
    case GELU_10:
        return fminf(fmaxf(x * normal(x), -10.0f), 10.0f);
    case QUICK_GELU:
        return x * sigmoid(1.702f * x);
    case RELU:
        return x < 0.0f ? 0.0f : x;
    case RELU_6:
        return x < 0.0f ? 0.0f : x > 6.0f ? 6.0f : x;
    case RELU_2:
        return x < 0.0f ? 0.0f : x * x;
    case LEAKY_RELU:
        return x > 0.0f ? x : 0.01f * x;
    case SILU:
        return x * sigmoid(x);
    case MISH:
        return x * mish_tanh(mish_exp(x));
    case SIGMOID:
        return sigmoid(x);
    case TANH:
        return tanhf(x);
    case LAPLACE:
        return normal((x - LAPLACE_MU) * (1.0f / LAPLACE_SIGMA));
    case SOFT_EXP:
        return expf(atanf(x * (1.0f / SOFT_EXP_BOUND)) * (SOFT_EXP_BOUND * SOFT_EXP_RATE));
    default:
        return x;
    }
}

static __device__ inline float derivative(u32 curve, float x) {
    switch (curve) {
    case GELU_10:
        if (x >= 10.0f) {
            return 0.0f; // where the value is cut
        }
        // fallthrough
    case GELU:
        return normal(x) + x * density(x);
    case GELU_TANH: {
        float v = fminf(fmaxf(x, -30.0f), 30.0f); // beyond, the tanh is 1 or -1
        float square = v * v;
        float u = (square * (SLOPE * CUBIC) + SLOPE) * v;
        float s = sigmoid(u);
        return s + v * s * sigmoid(-u) * (square * (3.0f * SLOPE * CUBIC) + SLOPE);
    }
    case QUICK_GELU: {
        float s = sigmoid(1.702f * x);
        return s + 1.702f * x * s * sigmoid(-1.702f * x);
    }
    case RELU:
        return x > 0.0f ? 1.0f : 0.0f;
    case RELU_6:
        return x > 0.0f && x < 6.0f ? 1.0f : 0.0f;
    case RELU_2:
        return x < 0.0f ? 0.0f : 2.0f * x;
    case LEAKY_RELU:
        return x > 0.0f ? 1.0f : 0.01f;
    case SILU: {
        float s = sigmoid(x);
        return s + x * s * sigmoid(-x);
    }
    case MISH: {
        float e = mish_exp(x);
        float n = e * (e + 2.0f);
        float t = mish_tanh(e);
        // 1 - t², without cancellation
        float rest = (t + 1.0f) * 2.0f / (n + 2.0f);
        return t + fminf(fmaxf(x, -104.0f), 20.0f) * (e / (e + 1.0f)) * rest;
    }
    case SIGMOID:
        return sigmoid(x) * sigmoid(-x);
    case TANH:
        return 4.0f * sigmoid(2.0f * x) * sigmoid(-2.0f * x);
    case LAPLACE:
        return density((x - LAPLACE_MU) * (1.0f / LAPLACE_SIGMA)) * (1.0f / LAPLACE_SIGMA);
    case SOFT_EXP: {
        float u = fminf(fmaxf(x * (1.0f / SOFT_EXP_BOUND), -1e18f), 1e18f); // whose square is a number
        return value(SOFT_EXP, x) * SOFT_EXP_RATE / (1.0f + u * u);
    }
    default:
        return 1.0f;
    }
}
