// Elementwise chains of a decoder layer, each in one pass over memory, for float and bf16 (arithmetic in float).
// Compiled on first use where a C++ compiler is there; `chains.py` has the same functions in torch.
// Rows are independent and go to threads in equal shares, so results do not depend on timing.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

using bf16 = uint16_t;
using i64 = int64_t;

static inline float up(float value) { return value; }
static inline float up(bf16 value) { return std::bit_cast<float>((uint32_t)value << 16); }
static inline void put(float *place, float value) { *place = value; }
static inline void put(bf16 *place, float value) {  // nearest, ties to even
    uint32_t bits = std::bit_cast<uint32_t>(value);
    *place = (bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// exp in single precision: argument reduced by multiples of ln 2, then a polynomial (relative error about 1e-7).
static inline float exp_(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = __builtin_rintf(x * 1.44269504088896341f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * std::bit_cast<float>(((int32_t)n + 127) << 23);
}

struct Act {
    float value, slope;
};

// kind 0: SiLU, kind 1: GELU in its tanh form.
static inline Act act(float x, int kind) {
    if (kind == 0) {
        float s = 1.0f / (1.0f + exp_(-x));
        return {x * s, s * (1.0f + x * (1.0f - s))};
    }
    const float c = 0.7978845608028654f, k = 0.044715f;
    float inner = c * (x + k * x * x * x);
    float t = 1.0f - 2.0f / (exp_(2.0f * inner) + 1.0f);
    float slope = 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * c * (1.0f + 3.0f * k * x * x);
    return {0.5f * x * (1.0f + t), slope};
}

#define ROWS(n) _Pragma("omp parallel for schedule(static) num_threads(threads)") for (i64 row = 0; row < (n); row++)

static inline float inverse_root(const float *x, i64 width, float eps) {
    float sum = 0;
    for (i64 c = 0; c < width; c++) sum += x[c] * x[c];
    return 1.0f / std::sqrt(sum / width + eps);
}

// resid_out = resid + [norm(delta) * post or delta]; out = norm(resid_out) * next.
template <class T>
static void add_norm(int threads, i64 rows, i64 width, float eps, const T *resid, const T *delta, const float *post,
                     T *resid_out, float *root_post, const float *next, T *out, i64 out_step, float *root_next) {
    ROWS(rows) {
        float x[width], d[width];
        for (i64 c = 0; c < width; c++) x[c] = up(resid[row * width + c]);
        if (delta) {
            for (i64 c = 0; c < width; c++) d[c] = up(delta[row * width + c]);
            if (post) {
                float root = root_post[row] = inverse_root(d, width, eps);
                for (i64 c = 0; c < width; c++) d[c] *= root * post[c];
            }
            T *to = resid_out + row * width;
            for (i64 c = 0; c < width; c++) put(to + c, x[c] + d[c]);
            for (i64 c = 0; c < width; c++) x[c] = up(to[c]);
        }
        if (next) {
            float root = root_next[row] = inverse_root(x, width, eps);
            T *to = out + row * out_step;
            for (i64 c = 0; c < width; c++) put(to + c, x[c] * root * next[c]);
        }
    }
}

// out = add + gradient of (norm(x) * weight) for dy.
template <class T>
static void norm_grad(int threads, i64 rows, i64 width, const T *dy, i64 dy_step, const T *x, const float *root,
                      const float *weight, const T *add, T *out, i64 out_step) {
    ROWS(rows) {
        float unit[width], g[width];
        float r = root[row], dot = 0;
        for (i64 c = 0; c < width; c++) {
            unit[c] = up(x[row * width + c]) * r;
            g[c] = up(dy[row * dy_step + c]) * weight[c];
        }
        for (i64 c = 0; c < width; c++) dot += unit[c] * g[c];
        dot /= width;
        T *to = out + row * out_step;
        if (add)
            for (i64 c = 0; c < width; c++) put(to + c, up(add[row * width + c]) + r * (g[c] - unit[c] * dot));
        else
            for (i64 c = 0; c < width; c++) put(to + c, r * (g[c] - unit[c] * dot));
    }
}

template <class T>
static void glu(int threads, i64 rows, i64 width, int kind, const T *both, T *out, i64 out_step) {
    ROWS(rows) {
        const T *gate = both + row * 2 * width, *lift = gate + width;
        T *to = out + row * out_step;
        if (kind == 0)
            for (i64 c = 0; c < width; c++) put(to + c, act(up(gate[c]), 0).value * up(lift[c]));
        else
            for (i64 c = 0; c < width; c++) put(to + c, act(up(gate[c]), 1).value * up(lift[c]));
    }
}

template <class T, int kind>
static inline void glu_grad_row(i64 width, const T *__restrict gate, const T *__restrict lift, const T *__restrict d,
                                T *__restrict dgate, T *__restrict dlift, T *__restrict again) {
    // None of these overlap; without being told, the compiler gives up on vector registers here.
#pragma omp simd
    for (i64 c = 0; c < width; c++) {
        float g = up(gate[c]), u = up(lift[c]), dy = up(d[c]);
        Act a = act(g, kind);
        put(dgate + c, dy * u * a.slope);
        put(dlift + c, dy * a.value);
        put(again + c, a.value * u);
    }
}

template <class T>
static void glu_grad(int threads, i64 rows, i64 width, int kind, const T *both, const T *dy, T *dboth, i64 dboth_step,
                     T *again) {
    ROWS(rows) {
        const T *gate = both + row * 2 * width;
        T *to = dboth + row * dboth_step;
        if (kind == 0)
            glu_grad_row<T, 0>(width, gate, gate + width, dy + row * width, to, to + width, again + row * width);
        else
            glu_grad_row<T, 1>(width, gate, gate + width, dy + row * width, to, to + width, again + row * width);
    }
}

// (tokens, kv * per * width) to (count * kv, per * length, width): normed, rotated; index -1 gives zeros.
template <class T>
static void gather_heads(int threads, i64 count, i64 length, i64 kv, i64 per, i64 width, const T *from, i64 from_step,
                         const i64 *index, const i64 *position, const float *cosine, const float *sine,
                         const float *norm, float eps, T *out) {
    i64 half = width / 2;
    ROWS(count * length) {
        i64 n = row / length, i = row % length, token = index[row];
        for (i64 head = 0; head < kv * per; head++) {
            T *to = out + (((n * kv + head / per) * per + head % per) * length + i) * width;
            if (token < 0) {
                std::memset(to, 0, width * sizeof(T));
                continue;
            }
            const T *source = from + token * from_step + head * width;
            if (!cosine) {
                std::memcpy(to, source, width * sizeof(T));
                continue;
            }
            float x[width];
            for (i64 c = 0; c < width; c++) x[c] = up(source[c]);
            if (norm) {
                float root = inverse_root(x, width, eps);
                for (i64 c = 0; c < width; c++) x[c] *= root * norm[c];
            }
            const float *co = cosine + position[token] * width, *si = sine + position[token] * width;
            for (i64 c = 0; c < half; c++) {
                put(to + c, x[c] * co[c] - x[c + half] * si[c]);
                put(to + c + half, x[c + half] * co[c + half] + x[c] * si[c + half]);
            }
        }
    }
}

// The way back without rotation: (count * kv, per * length, width) to rows of `out`.
template <class T>
static void scatter_heads(int threads, i64 count, i64 length, i64 kv, i64 per, i64 width, const T *from,
                          const i64 *index, T *out, i64 out_step) {
    ROWS(count * length) {
        i64 n = row / length, i = row % length, token = index[row];
        if (token < 0) continue;
        for (i64 head = 0; head < kv * per; head++)
            std::memcpy(out + token * out_step + head * width,
                        from + (((n * kv + head / per) * per + head % per) * length + i) * width, width * sizeof(T));
    }
}

// Keys that several queries' groups share: sums in float. Threads divide places, so no two write one token.
template <class T>
static void add_heads(int threads, i64 count, i64 length, i64 kv, i64 width, const T *from, const i64 *index,
                      float *sum, i64 sum_step) {
    ROWS(length) {
        for (i64 n = 0; n < count; n++) {
            i64 token = index[n * length + row];
            if (token < 0) continue;
            for (i64 head = 0; head < kv; head++) {
                const T *source = from + ((n * kv + head) * length + row) * width;
                float *to = sum + token * sum_step + head * width;
                for (i64 c = 0; c < width; c++) to[c] += up(source[c]);
            }
        }
    }
}

// In place: gradient after rotation to gradient before norm and rotation; `before` are the values before both.
template <class T>
static void heads_grad(int threads, i64 tokens, i64 heads, i64 width, T *grad, i64 grad_step, const T *before,
                       i64 before_step, const i64 *position, const float *cosine, const float *sine,
                       const float *norm, float eps) {
    i64 half = width / 2;
    ROWS(tokens) {
        const float *co = cosine + position[row] * width, *si = sine + position[row] * width;
        float g[width], d[width], x[width];
        for (i64 head = 0; head < heads; head++) {
            T *place = grad + row * grad_step + head * width;
            for (i64 c = 0; c < width; c++) g[c] = up(place[c]);
            for (i64 c = 0; c < half; c++) {
                d[c] = g[c] * co[c] + g[c + half] * si[c + half];
                d[c + half] = g[c + half] * co[c + half] - g[c] * si[c];
            }
            if (norm) {
                const T *source = before + row * before_step + head * width;
                for (i64 c = 0; c < width; c++) x[c] = up(source[c]);
                float root = inverse_root(x, width, eps), dot = 0;
                for (i64 c = 0; c < width; c++) {
                    x[c] *= root;
                    d[c] *= norm[c];
                    dot += x[c] * d[c];
                }
                dot /= width;
                for (i64 c = 0; c < width; c++) d[c] = root * (d[c] - x[c] * dot);
            }
            for (i64 c = 0; c < width; c++) put(place + c, d[c]);
        }
    }
}

// In place: scores to probabilities. Query `row % length` stands at `first_query` + that, key j at `first_key` + j.
template <class T>
static void softmax(int threads, i64 rows, i64 length, i64 keys, i64 first_query, i64 first_key, i64 window,
                    float scale, T *scores) {
    ROWS(rows) {
        T *s = scores + row * keys;
        i64 stands = first_query + row % length - first_key;
        i64 end = stands + 1 < keys ? stands + 1 : keys, start = window && stands >= window ? stands + 1 - window : 0;
        start = start < end ? start : end;  // a padding query may see nothing
        float e[keys], most = -INFINITY, sum = 0;
        for (i64 j = start; j < end; j++) {
            e[j] = up(s[j]) * scale;
            most = e[j] > most ? e[j] : most;
        }
        for (i64 j = start; j < end; j++) {
            e[j] = exp_(e[j] - most);
            sum += e[j];
        }
        float share = 1.0f / sum;
        for (i64 j = 0; j < start; j++) put(s + j, 0.0f);
        for (i64 j = start; j < end; j++) put(s + j, e[j] * share);
        for (i64 j = end; j < keys; j++) put(s + j, 0.0f);
    }
}

// In place in `grad`: gradient of the probabilities to gradient of the unscaled scores.
template <class T>
static void softmax_grad(int threads, i64 rows, i64 keys, float scale, const T *share, T *grad) {
    ROWS(rows) {
        const T *p = share + row * keys;
        T *g = grad + row * keys;
        float dot = 0;
        for (i64 j = 0; j < keys; j++) dot += up(p[j]) * up(g[j]);
        for (i64 j = 0; j < keys; j++) put(g + j, scale * up(p[j]) * (up(g[j]) - dot));
    }
}

// Quantised weights, `size` of them a group, times their group's scale.
template <class T>
static void unpack8(int threads, i64 rows, i64 groups, i64 size, const int8_t *codes, const bf16 *scale, T *out,
                    i64 out_step) {
    ROWS(rows) {
        const int8_t *from = codes + row * groups * size;
        T *to = out + row * out_step;
        for (i64 g = 0; g < groups; g++, from += size, to += size) {
            float s = up(scale[row * groups + g]);
            for (i64 j = 0; j < size; j++) put(to + j, from[j] * s);
        }
    }
}

// The low half bytes are the group's first half, the high ones its second.
template <class T>
static void unpack4(int threads, i64 rows, i64 groups, i64 size, const uint8_t *codes, const bf16 *scale,
                    const float *values, T *out, i64 out_step) {
    const i64 half = size / 2;
    ROWS(rows) {
        const uint8_t *from = codes + row * groups * half;
        T *to = out + row * out_step;
        float known[16];
        for (int j = 0; j < 16; j++) known[j] = values[j];
        for (i64 g = 0; g < groups; g++, from += half, to += size) {
            float s = up(scale[row * groups + g]);
            for (i64 j = 0; j < half; j++) put(to + j, known[from[j] & 15] * s);
            for (i64 j = 0; j < half; j++) put(to + half + j, known[from[j] >> 4] * s);
        }
    }
}

#define BOTH(name, parameters, arguments)                                                   \
    extern "C" void name##_f32 parameters(float) { name<float> arguments; }                 \
    extern "C" void name##_bf16 parameters(bf16) { name<bf16> arguments; }

#define P1(T) (int t, i64 a, i64 b, float e, const T *c, const T *d, const float *f, T *g, float *h, const float *i, \
               T *j, i64 k, float *l)
BOTH(add_norm, P1, (t, a, b, e, c, d, f, g, h, i, j, k, l))
#define P2(T) (int t, i64 a, i64 b, const T *c, i64 d, const T *e, const float *f, const float *g, const T *h, T *i, \
               i64 j)
BOTH(norm_grad, P2, (t, a, b, c, d, e, f, g, h, i, j))
#define P3(T) (int t, i64 a, i64 b, int c, const T *d, T *e, i64 f)
BOTH(glu, P3, (t, a, b, c, d, e, f))
#define P4(T) (int t, i64 a, i64 b, int c, const T *d, const T *e, T *f, i64 g, T *h)
BOTH(glu_grad, P4, (t, a, b, c, d, e, f, g, h))
#define P5(T) (int t, i64 a, i64 b, i64 c, i64 d, i64 e, const T *f, i64 g, const i64 *h, const i64 *i, \
               const float *j, const float *k, const float *l, float m, T *n)
BOTH(gather_heads, P5, (t, a, b, c, d, e, f, g, h, i, j, k, l, m, n))
#define P6(T) (int t, i64 a, i64 b, i64 c, i64 d, i64 e, const T *f, const i64 *g, T *h, i64 i)
BOTH(scatter_heads, P6, (t, a, b, c, d, e, f, g, h, i))
#define P7(T) (int t, i64 a, i64 b, i64 c, i64 d, const T *e, const i64 *f, float *g, i64 h)
BOTH(add_heads, P7, (t, a, b, c, d, e, f, g, h))
#define P8(T) (int t, i64 a, i64 b, i64 c, T *d, i64 e, const T *f, i64 g, const i64 *h, const float *i, \
               const float *j, const float *k, float l)
BOTH(heads_grad, P8, (t, a, b, c, d, e, f, g, h, i, j, k, l))
#define P9(T) (int t, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f, float g, T *h)
BOTH(softmax, P9, (t, a, b, c, d, e, f, g, h))
#define P10(T) (int t, i64 a, i64 b, float c, const T *d, T *e)
BOTH(softmax_grad, P10, (t, a, b, c, d, e))
#define P11(T) (int t, i64 a, i64 b, i64 c, const int8_t *d, const bf16 *e, T *f, i64 g)
BOTH(unpack8, P11, (t, a, b, c, d, e, f, g))
#define P12(T) (int t, i64 a, i64 b, i64 c, const uint8_t *d, const bf16 *e, const float *f, T *g, i64 h)
BOTH(unpack4, P12, (t, a, b, c, d, e, f, g, h))
