// Drawing a token from a row of logits, by inverting the running sum of its probabilities. A nucleus needs no sorting:
// a token that was drawn from all is kept if what is likelier than it has less than `top_p` in all, else one is drawn
// again, which gives exactly the probabilities of drawing within the nucleus.
#pragma once
#include "basics.hpp"

constexpr i64 BLOCK = 1024;

struct Draw {
    const float *logits;
    const double *numbers;  // uniform in [0, 1)
    i64 tries;
    float heat, top_p;
    i32 token;  // -1: every try fell outside the nucleus
    i32 spare;
};

static inline v16 tail(const float *x, i64 left) {
    if (left >= 16) return load(x);
    v16 value = all(-INFINITY);
    std::memcpy(&value, x, left * 4);
    return value;
}

static inline v16 chance(v16 x, float top, float cool) {
    v16 scaled = (x - top) * cool;
    return scaled > all(-80.0f) ? exp_(scaled) : v16{};
}

static void draw_one(Draw &d, i64 vocabulary, double *blocks) {
    v16 high = all(-INFINITY);
    for (i64 c = 0; c < vocabulary; c += 16) high = larger(high, tail(d.logits + c, vocabulary - c));
    const float top = most(high), cool = 1.0f / d.heat;
    i64 count = (vocabulary + BLOCK - 1) / BLOCK;
    double total = 0;
    for (i64 b = 0; b < count; b++) {
        v16 part{};
        i64 end = (b + 1) * BLOCK < vocabulary ? (b + 1) * BLOCK : vocabulary;
        for (i64 c = b * BLOCK; c < end; c += 16) part += chance(tail(d.logits + c, end - c), top, cool);
        total += blocks[b] = sum(part);
    }
    for (i64 n = 0; n < d.tries; n++) {
        double left = d.numbers[n] * total;
        i64 b = 0;
        while (b + 1 < count && left >= blocks[b]) left -= blocks[b++];
        i64 end = (b + 1) * BLOCK < vocabulary ? (b + 1) * BLOCK : vocabulary, found = -1;
        for (i64 c = b * BLOCK; c < end && left >= 0; c += 16) {
            v16 p = chance(tail(d.logits + c, end - c), top, cool);
            for (i64 lane = 0; lane < 16 && c + lane < end && left >= 0; lane++) {
                if (p[lane] > 0) found = c + lane;
                left -= p[lane];
            }
        }
        if (found < 0) continue;
        d.token = (i32)found;
        if (d.top_p >= 1) return;
        const float mine = d.logits[found];
        double better = 0;
        for (i64 c = 0; c < vocabulary; c += 16) {
            v16 x = tail(d.logits + c, vocabulary - c), p = chance(x, top, cool);
            better += sum(x > all(mine) ? p : v16{});
        }
        if (better < (double)d.top_p * total) return;
    }
    d.token = -1;
}
