// Weights times the rows of a step. A weight lies in tiles of sixteen output rows, so that a vector holds one input of
// sixteen rows; two tiles times a few tokens stay in registers. Weights are read once a step: that is what decoding
// on a processor costs.
//
//   F32   [tile][input][16]                         BF16  [tile][input/2][16][2]
//   I8    [tile][input/4][16][4], value + 128, a scale for 64 inputs of a row
//   I4    two blocks of [16][4] in the halves of 64 bytes, value + 8, a scale for 32 inputs of a row
//
// For I8 and I4 the row of a step is rounded to eight bits as well, with a scale for each group, so that products are
// whole numbers; groups are summed in float.
#pragma once
#include "basics.hpp"

enum Kind { F32 = 0, BF16 = 1, I8 = 2, I4 = 3 };
constexpr i64 GROUP[4] = {1, 2, 64, 32};

struct Matrix {
    i32 kind, spare;
    i64 rows, columns;  // columns are filled up to a multiple of the group
    const u8 *data;
    const bf16 *scale;  // [tile][group][16]
    const float *bias;
};

// Rows of a step in the form that a matrix multiplies.
struct Rows {
    float *plain;  // [token][columns]
    bf16 *half;
    i8 *eight;
    float *scale;  // [token][groups]
    i32 *shift;    // what the offset of the weights adds, negated
    i64 stride;    // of all of them, in columns

    void fill(i64 token, i64 columns, int kind) const;
};

inline void Rows::fill(i64 token, i64 columns, int kind) const {
    float *x = plain + token * stride;
    i64 group = GROUP[kind], padded = (columns + group - 1) / group * group;
    for (i64 c = columns; c < padded; c++) x[c] = 0;
    if (kind == BF16) {
        bf16 *to = half + token * stride;
        i64 c = 0;
        for (; c + 16 <= padded; c += 16) store(to + c, load(x + c));
        for (; c < padded; c++) put(to + c, x[c]);
    }
    if (kind < I8) return;
    i64 groups = padded / group;
    i8 *to = eight + token * stride;
    typedef i8 b16 __attribute__((vector_size(16), aligned(1)));
    for (i64 g = 0; g < groups; g++) {
        v16 top{};
        for (i64 c = 0; c < group; c += 16) {
            v16 value = load(x + g * group + c);
            top = larger(top, value < v16{} ? -value : value);
        }
        float step = most(top) / 127.0f, back = step > 0 ? 1.0f / step : 0.0f;
        w16 total{};
        for (i64 c = 0; c < group; c += 16) {
            v16 value = load(x + g * group + c) * back;
            w16 whole = __builtin_convertvector(value + (value < v16{} ? all(-0.5f) : all(0.5f)), w16);
            total += whole;
            *(b16 *)(to + g * group + c) = __builtin_convertvector(whole, b16);
        }
        i32 added = 0;
        for (int lane = 0; lane < 16; lane++) added += total[lane];
        scale[token * (stride / 32) + g] = step;
        shift[token * (stride / 32) + g] = -(kind == I8 ? 128 : 8) * added;
    }
}

// acc += four products of unsigned times signed bytes, in each of sixteen lanes.
static inline w16 products(w16 acc, const u8 *weights, i32 x) {
#if defined(__AVX512VNNI__) && !defined(PORTABLE)
    return (w16)_mm512_dpbusd_epi32((__m512i)acc, _mm512_loadu_si512(weights), _mm512_set1_epi32(x));
#else
    i8 b[4];
    std::memcpy(b, &x, 4);
    for (int lane = 0; lane < 16; lane++)
        acc[lane] += weights[lane * 4] * b[0] + weights[lane * 4 + 1] * b[1] + weights[lane * 4 + 2] * b[2] +
                     weights[lane * 4 + 3] * b[3];
    return acc;
#endif
}

static inline v16 pairs(v16 acc, const bf16 *weights, uint32_t x) {
#if defined(__AVX512BF16__) && !defined(PORTABLE)
    return (v16)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_loadu_si512(weights), (__m512bh)_mm512_set1_epi32((i32)x));
#else
    x16 both;
    std::memcpy(&both, weights, 64);
    float low = up((bf16)x), high = up((bf16)(x >> 16));
    return acc + (v16)(both << 16) * low + (v16)(both & 0xffff0000u) * high;
#endif
}

// R tiles times T tokens.
template <int kind, int R, int T>
static inline void block(const Matrix &m, i64 tile, const Rows &x, i64 token, v16 (&acc)[R][T]) {
    const i64 group = GROUP[kind], groups = (m.columns + group - 1) / group, stride = x.stride;
    for (int r = 0; r < R; r++)
        for (int t = 0; t < T; t++) acc[r][t] = v16{};
    if constexpr (kind == F32) {
        const float *w = (const float *)m.data + tile * groups * 16;
        for (i64 k = 0; k < groups; k++) {
            v16 value[R];
            for (int r = 0; r < R; r++) value[r] = load(w + (r * groups + k) * 16);
            for (int t = 0; t < T; t++)
                for (int r = 0; r < R; r++) acc[r][t] += value[r] * x.plain[(token + t) * stride + k];
        }
    } else if constexpr (kind == BF16) {
        const bf16 *w = (const bf16 *)m.data + tile * groups * 32;
        for (i64 k = 0; k < groups; k++)
            for (int t = 0; t < T; t++) {
                uint32_t both;
                std::memcpy(&both, x.half + (token + t) * stride + 2 * k, 4);
                for (int r = 0; r < R; r++) acc[r][t] = pairs(acc[r][t], w + (r * groups + k) * 32, both);
            }
    } else {
        const i64 bytes = kind == I8 ? group * 16 : group * 8;
        const u8 *w = m.data + tile * groups * bytes;
        const bf16 *s = m.scale + tile * groups * 16;
        for (i64 g = 0; g < groups; g++) {
            w16 whole[R][T];
            for (int t = 0; t < T; t++)
                for (int r = 0; r < R; r++) whole[r][t] = x.shift[(token + t) * (stride / 32) + g] - w16{};
#pragma GCC unroll 2
            for (i64 k = 0; k < group / 4; k += kind == I8 ? 1 : 2) {
                const i8 *place = x.eight + token * stride + g * group + 4 * k;
                if constexpr (kind == I8) {
                    for (int t = 0; t < T; t++) {
                        i32 four;
                        std::memcpy(&four, place + t * stride, 4);
                        for (int r = 0; r < R; r++)
                            whole[r][t] = products(whole[r][t], w + (r * groups + g) * bytes + k * 64, four);
                    }
                } else {
                    alignas(64) u8 low[R][64], high[R][64];
                    for (int r = 0; r < R; r++) {
                        typedef u8 b64 __attribute__((vector_size(64), aligned(1)));
                        b64 both = *(const b64 *)(w + (r * groups + g) * bytes + k * 32);
                        *(b64 *)low[r] = both & 15;
                        *(b64 *)high[r] = both >> 4;
                    }
                    for (int t = 0; t < T; t++) {
                        i32 four, next;
                        std::memcpy(&four, place + t * stride, 4);
                        std::memcpy(&next, place + t * stride + 4, 4);
                        for (int r = 0; r < R; r++)
                            whole[r][t] = products(products(whole[r][t], low[r], four), high[r], next);
                    }
                }
            }
            for (int r = 0; r < R; r++) {
                v16 scale = load(s + (r * groups + g) * 16);
                for (int t = 0; t < T; t++)
                    acc[r][t] += __builtin_convertvector(whole[r][t], v16) * (scale * x.scale[(token + t) * (stride / 32) + g]);
            }
        }
    }
}

// The best row of each token so far, in sixteen lanes.
struct Best {
    v16 value;
    w16 place;
};

template <int kind, int R, int T>
static inline void tiles(const Matrix &m, i64 tile, const Rows &x, i64 token, float *out, i64 step, Best *best,
                         const u8 *wanted) {
    v16 acc[R][T];
    block<kind, R, T>(m, tile, x, token, acc);
    const w16 lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int r = 0; r < R; r++) {
        i64 row = (tile + r) * 16;
        v16 bias = m.bias ? load(m.bias + row) : v16{};
        for (int t = 0; t < T; t++) {
            v16 value = acc[r][t] + bias;
            if (!wanted || wanted[token + t]) store(out + (token + t) * step + row, value);
            if (best) {
                w16 place = lanes + (i32)row;
                Best &b = best[token + t];
                w16 better = (value > b.value) & (place < (i32)m.rows);
                b.place = better ? place : b.place;
                b.value = better ? value : b.value;
            }
        }
    }
}

template <int kind, int R>
static void stripe(const Matrix &m, i64 tile, const Rows &x, i64 tokens, float *out, i64 step, Best *best,
                   const u8 *wanted) {
    constexpr int many = kind < I8 ? 8 : 4;
    i64 token = 0;
    for (; token + many <= tokens; token += many) tiles<kind, R, many>(m, tile, x, token, out, step, best, wanted);
    if constexpr (many == 8)
        for (; token + 4 <= tokens; token += 4) tiles<kind, R, 4>(m, tile, x, token, out, step, best, wanted);
    switch (tokens - token) {
        case 3: return tiles<kind, R, 3>(m, tile, x, token, out, step, best, wanted);
        case 2: return tiles<kind, R, 2>(m, tile, x, token, out, step, best, wanted);
        case 1: return tiles<kind, R, 1>(m, tile, x, token, out, step, best, wanted);
    }
}

template <int kind>
static void multiply_(const Matrix &m, const Rows &x, i64 tokens, float *out, i64 step, int thread, int threads,
                      Best *best, const u8 *wanted) {
    i64 tiles = (m.rows + 15) / 16;
    Share pairs((tiles + 1) / 2, thread, threads);
    for (i64 pair = pairs.first; pair < pairs.end; pair++) {
        if (2 * pair + 2 <= tiles)
            stripe<kind, 2>(m, 2 * pair, x, tokens, out, step, best, wanted);
        else
            stripe<kind, 1>(m, 2 * pair, x, tokens, out, step, best, wanted);
    }
}

// This thread's rows of out[token][row] = m x[token] + bias; rows are filled up to a multiple of sixteen.
static void multiply(const Matrix &m, const Rows &x, i64 tokens, float *out, i64 step, int thread, int threads,
                     Best *best = nullptr, const u8 *wanted = nullptr) {
    switch (m.kind) {
        case F32: return multiply_<F32>(m, x, tokens, out, step, thread, threads, best, wanted);
        case BF16: return multiply_<BF16>(m, x, tokens, out, step, thread, threads, best, wanted);
        case I8: return multiply_<I8>(m, x, tokens, out, step, thread, threads, best, wanted);
        case I4: return multiply_<I4>(m, x, tokens, out, step, thread, threads, best, wanted);
    }
}
