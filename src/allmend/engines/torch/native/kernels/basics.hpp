// Vectors of sixteen floats that any compiler lowers to what the processor has, and the plain functions on them.
// Sums are written out in a fixed order: what is computed for a token is the same, bit for bit, whoever is beside it.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

using i64 = int64_t;
using i32 = int32_t;
using u8 = uint8_t;
using i8 = int8_t;
using bf16 = uint16_t;
typedef float v16 __attribute__((vector_size(64), aligned(4)));
typedef i32 w16 __attribute__((vector_size(64), aligned(4)));
typedef uint32_t x16 __attribute__((vector_size(64), aligned(4)));
typedef bf16 h16 __attribute__((vector_size(32), aligned(2)));

static inline v16 load(const float *at) { return *(const v16 *)at; }
static inline void store(float *at, v16 value) { *(v16 *)at = value; }
static inline v16 load(const bf16 *at) {
    return (v16)(__builtin_convertvector(*(const h16 *)at, x16) << 16);
}
static inline void store(bf16 *at, v16 value) {  // nearest, ties to even
    x16 bits = (x16)value;
    *(h16 *)at = __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, h16);
}
static inline float up(float value) { return value; }
static inline float up(bf16 value) {
    uint32_t bits = (uint32_t)value << 16;
    float made;
    std::memcpy(&made, &bits, 4);
    return made;
}
static inline void put(float *at, float value) { *at = value; }
static inline void put(bf16 *at, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    *at = (bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
static inline v16 all(float value) { return value - v16{}; }
static inline v16 larger(v16 a, v16 b) { return a > b ? a : b; }
static inline float sum(v16 a) {
    typedef float v8 __attribute__((vector_size(32)));
    typedef float v4 __attribute__((vector_size(16)));
    v8 e = __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
    v4 f = __builtin_shufflevector(e, e, 0, 1, 2, 3) + __builtin_shufflevector(e, e, 4, 5, 6, 7);
    return (f[0] + f[2]) + (f[1] + f[3]);
}
static inline float most(v16 a) {
    float found = a[0];
    for (int lane = 1; lane < 16; lane++) found = a[lane] > found ? a[lane] : found;
    return found;
}

// exp in single precision: argument reduced by multiples of ln 2, then a polynomial (relative error about 1e-7).
static inline v16 exp_(v16 x) {
    x = x < all(-87.0f) ? all(-87.0f) : x;
    x = x > all(88.0f) ? all(88.0f) : x;
    v16 scaled = x * 1.44269504088896341f;
    w16 n = __builtin_convertvector(scaled + (scaled < v16{} ? all(-0.5f) : all(0.5f)), w16);
    v16 whole = __builtin_convertvector(n, v16);
    v16 r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    v16 p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (v16)((n + 127) << 23);
}

// kind 0: SiLU, kind 1: GELU in its tanh form.
static inline v16 activation(v16 x, int kind) {
    if (kind == 0) return x / (1.0f + exp_(-x));
    v16 inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    v16 t = 1.0f - 2.0f / (exp_(2.0f * inner) + 1.0f);
    return 0.5f * x * (1.0f + t);
}

// Sum over squares of `width` floats.
static inline float squares(const float *x, i64 width) {
    v16 total{};
    i64 c = 0;
    for (; c + 16 <= width; c += 16) total += load(x + c) * load(x + c);
    float rest = 0;
    for (; c < width; c++) rest += x[c] * x[c];
    return sum(total) + rest;
}

// out = x / root mean square of x * weight; out may be x.
static inline void norm(const float *x, const float *weight, i64 width, float eps, float *out) {
    float root = 1.0f / std::sqrt(squares(x, width) / (float)width + eps);
    i64 c = 0;
    for (; c + 16 <= width; c += 16) store(out + c, load(x + c) * root * load(weight + c));
    for (; c < width; c++) out[c] = x[c] * root * weight[c];
}

// The share of `count` pieces that this thread does.
struct Share {
    i64 first, end;
    Share(i64 count, int thread, int threads) : first(count * thread / threads), end(count * (thread + 1) / threads) {}
};
