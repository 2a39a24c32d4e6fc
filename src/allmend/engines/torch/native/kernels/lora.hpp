// Adapters on the rows of a step: out += scale * B (A x), each run of rows with its own A and B.
#pragma once
#include "basics.hpp"

enum Part { QUERY, KEY, VALUE, OUT, GATE, UP, DOWN, PARTS };

struct Low {
    const void *a, *b;  // A [rank][inputs], B transposed [rank][outputs]; floats or bf16
    i64 rank;
};

// A run of rows of a step with one adapter.
struct Route {
    i64 first, end;
    const Low *parts;  // [layer][part]; a rank of 0 is none
    float scale;
    i32 rank;  // largest
    i64 at;    // where its narrow rows begin: [row][three parts][rank]
};

template <class W>
static void shrink_(const Route *routes, i64 count, i64 layer, int part, int slot, const float *x, i64 stride,
                    i64 inputs, float *narrow, int thread, int threads) {
    for (i64 n = 0; n < count; n++) {
        const Route &route = routes[n];
        const Low &low = route.parts[layer * PARTS + part];
        Share rows(low.rank, thread, threads);
        for (i64 r = rows.first; r < rows.end; r++) {
            const W *a = (const W *)low.a + r * inputs;
            for (i64 t = route.first; t < route.end; t++) {
                const float *row = x + t * stride;
                v16 one{}, two{};
                i64 c = 0;
                for (; c + 32 <= inputs; c += 32) {
                    one += load(a + c) * load(row + c);
                    two += load(a + c + 16) * load(row + c + 16);
                }
                float rest = 0;
                for (; c < inputs; c++) rest += up(a[c]) * row[c];
                narrow[route.at + ((t - route.first) * 3 + slot) * route.rank + r] = (sum(one + two) + rest) * route.scale;
            }
        }
    }
}

template <class W, int T>
static inline void widen(const W *b, const float *const (&narrow)[T], i64 rank, i64 outputs, float *const (&out)[T]) {
    i64 c = 0;
    for (; c + 16 <= outputs; c += 16) {
        v16 acc[T];
        for (int t = 0; t < T; t++) acc[t] = load(out[t] + c);
        for (i64 r = 0; r < rank; r++) {
            v16 value = load(b + r * outputs + c);
            for (int t = 0; t < T; t++) acc[t] += value * narrow[t][r];
        }
        for (int t = 0; t < T; t++) store(out[t] + c, acc[t]);
    }
    for (; c < outputs; c++)
        for (int t = 0; t < T; t++) {
            float acc = out[t][c];
            for (i64 r = 0; r < rank; r++) acc += up(b[r * outputs + c]) * narrow[t][r];
            out[t][c] = acc;
        }
}

// For the rows that `mine` names.
template <class W>
static void expand_(const Route *routes, i64 count, i64 layer, int part, int slot, const float *narrow, i64 outputs,
                    float *out, i64 step, Share mine) {
    for (i64 n = 0; n < count; n++) {
        const Route &route = routes[n];
        const Low &low = route.parts[layer * PARTS + part];
        if (!low.rank) continue;
        i64 first = route.first > mine.first ? route.first : mine.first, end = route.end < mine.end ? route.end : mine.end;
        const W *b = (const W *)low.b;
        auto row = [&](i64 t) { return narrow + route.at + ((t - route.first) * 3 + slot) * route.rank; };
        i64 t = first;
        for (; t + 4 <= end; t += 4) {
            const float *from[4] = {row(t), row(t + 1), row(t + 2), row(t + 3)};
            float *to[4] = {out + t * step, out + (t + 1) * step, out + (t + 2) * step, out + (t + 3) * step};
            widen<W, 4>(b, from, low.rank, outputs, to);
        }
        for (; t < end; t++) {
            const float *from[1] = {row(t)};
            float *to[1] = {out + t * step};
            widen<W, 1>(b, from, low.rank, outputs, to);
        }
    }
}
