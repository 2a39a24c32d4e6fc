// Attention of one token over the keys and values of its sequence, which lie in pages: [page][head][place][width].
#pragma once
#include "basics.hpp"

struct Heads {
    i64 query, kv, width, page;
};

// `count` query heads that share one key head; scores is room for count * (position + 1) floats.
template <class T, int count>
static void attend(const Heads &h, const float *query, const T *keys, const T *values, const i32 *table, i64 head,
                   i64 position, i64 window, float scale, float *scores, float *out) {
    i64 start = window && position >= window ? position + 1 - window : 0, length = position + 1 - start;
    v16 top[count];
    float best[count];
    for (int g = 0; g < count; g++) best[g] = -INFINITY;
    for (i64 j = 0; j < length; j++) {
        i64 place = start + j;
        const T *key = keys + ((table[place / h.page] * h.kv + head) * h.page + place % h.page) * h.width;
        i64 c = 0;
        for (int g = 0; g < count; g++) top[g] = v16{};
        for (; c + 16 <= h.width; c += 16) {
            v16 value = load(key + c);
            for (int g = 0; g < count; g++) top[g] += value * load(query + g * h.width + c);
        }
        for (int g = 0; g < count; g++) {
            float rest = 0;
            for (i64 d = c; d < h.width; d++) rest += up(key[d]) * query[g * h.width + d];
            float score = (sum(top[g]) + rest) * scale;
            scores[g * length + j] = score;
            best[g] = score > best[g] ? score : best[g];
        }
    }
    for (int g = 0; g < count; g++) {
        float *s = scores + g * length;
        v16 total{};
        i64 j = 0;
        for (; j + 16 <= length; j += 16) {
            v16 e = exp_(load(s + j) - best[g]);
            store(s + j, e);
            total += e;
        }
        float rest = 0;
        if (j < length) {
            v16 last = all(-1e30f);
            std::memcpy(&last, s + j, (length - j) * 4);
            last = exp_(last - best[g]);
            std::memcpy(s + j, &last, (length - j) * 4);
            for (i64 k = j; k < length; k++) rest += s[k];
        }
        float share = 1.0f / (sum(total) + rest);
        for (j = 0; j < length; j++) s[j] *= share;
    }
    i64 c = 0;
    for (; c + 64 <= h.width; c += 64) {
        v16 acc[count][4];
        for (int g = 0; g < count; g++)
            for (int n = 0; n < 4; n++) acc[g][n] = v16{};
        for (i64 j = 0; j < length; j++) {
            i64 place = start + j;
            const T *value = values + ((table[place / h.page] * h.kv + head) * h.page + place % h.page) * h.width + c;
            v16 part[4] = {load(value), load(value + 16), load(value + 32), load(value + 48)};
            for (int g = 0; g < count; g++)
                for (int n = 0; n < 4; n++) acc[g][n] += part[n] * scores[g * length + j];
        }
        for (int g = 0; g < count; g++)
            for (int n = 0; n < 4; n++) store(out + g * h.width + c + 16 * n, acc[g][n]);
    }
    for (; c < h.width; c++)
        for (int g = 0; g < count; g++) {
            float acc = 0;
            for (i64 j = 0; j < length; j++) {
                i64 place = start + j;
                acc += up(values[((table[place / h.page] * h.kv + head) * h.page + place % h.page) * h.width + c]) *
                       scores[g * length + j];
            }
            out[g * h.width + c] = acc;
        }
}

// Query heads [first, end) of one token.
template <class T>
static void attend_heads(const Heads &h, const float *query, const T *keys, const T *values, const i32 *table,
                         i64 first, i64 end, i64 position, i64 window, float scale, float *scores, float *out) {
    i64 group = h.query / h.kv;
    for (i64 head = first; head < end;) {
        i64 kv = head / group, left = (kv + 1) * group - head;
        left = left < end - head ? left : end - head;
        const float *q = query + head * h.width;
        float *to = out + head * h.width;
        if (left >= 4) {
            attend<T, 4>(h, q, keys, values, table, kv, position, window, scale, scores, to);
            head += 4;
        } else if (left >= 2) {
            attend<T, 2>(h, q, keys, values, table, kv, position, window, scale, scores, to);
            head += 2;
        } else {
            attend<T, 1>(h, q, keys, values, table, kv, position, window, scale, scores, to);
            head += 1;
        }
    }
}

// Rotation of a head of `width`, in halves, by the angles of its position.
static inline void turn(float *x, const float *cosine, const float *sine, i64 width) {
    i64 half = width / 2, c = 0;
    for (; c + 16 <= half; c += 16) {
        v16 a = load(x + c), b = load(x + c + half);
        store(x + c, a * load(cosine + c) - b * load(sine + c));
        store(x + c + half, b * load(cosine + c + half) + a * load(sine + c + half));
    }
    for (; c < half; c++) {
        float a = x[c], b = x[c + half];
        x[c] = a * cosine[c] - b * sine[c];
        x[c + half] = b * cosine[c + half] + a * sine[c + half];
    }
}
