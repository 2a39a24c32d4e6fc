// One step of a decoder: some tokens of many sequences, through all layers, in one call and one team of threads.
// Phases that need all of the one before are divided by barriers; within a phase threads own rows or tiles.
#include <omp.h>

#include <cstdlib>
#include <vector>

#include "attention.hpp"
#include "draw.hpp"
#include "lora.hpp"
#include "matmul.hpp"

struct Layer {
    Matrix qkv, out, gate_up, down;
    const float *norm_first, *norm_second, *norm_attended, *norm_fed, *norm_query, *norm_key;
    const float *cosine, *sine;  // [position][width]
    void *keys, *values;         // [page][head][place][width]
    i64 window;                  // 0: all
    float scale, spare;
};

struct Model {
    i64 layers, hidden, inner, vocabulary;
    Heads heads;
    i32 act, half_cache, half_lora, head_kind;
    float eps, embed_scale;
    const Layer *layer;
    const Matrix *head;
    const void *embedding;  // [vocabulary][hidden]; the head's own matrix where it is null
    i32 half_embedding, spare;
    const float *norm_final;
};

struct Step {
    i64 tokens, kept;
    const i32 *token, *position, *table_at;  // of each token; where its sequence's pages begin in `tables`
    const i64 *slot;                         // page * page size + place, where its key and value go
    const i32 *tables;
    const i32 *keep;  // which tokens' logits are wanted
    const u8 *wanted;  // of each kept token: whether all of its logits are
    const Route *routes;
    i64 route_count, narrow_size, longest;
    float *logits;  // [kept][step]
    i64 logits_step;
    i32 *best;
    float *best_value;
    i32 threads, spare;
};

// Memory for the rows of a step, kept from step to step.
struct Room {
    std::vector<char *> blocks;
    std::vector<size_t> sizes;
    size_t next = 0;
    template <class T>
    T *take(i64 count) {
        size_t bytes = ((size_t)count * sizeof(T) + 127) / 64 * 64;
        if (next == blocks.size()) blocks.push_back(nullptr), sizes.push_back(0);
        if (sizes[next] < bytes) {
            std::free(blocks[next]);
            blocks[next] = (char *)std::aligned_alloc(64, bytes);
            sizes[next] = blocks[next] ? bytes : 0;
            if (blocks[next]) std::memset(blocks[next], 0, bytes);
        }
        return (T *)blocks[next++];
    }
    ~Room() {
        for (char *block : blocks) std::free(block);
    }
};

static i64 padded(i64 columns) { return (columns + 63) / 64 * 64; }

static void embed(const Model &m, i32 token, float *out) {
    if (m.embedding) {
        for (i64 c = 0; c < m.hidden; c++)
            out[c] = m.embed_scale * (m.half_embedding ? up(((const bf16 *)m.embedding)[(i64)token * m.hidden + c])
                                                       : ((const float *)m.embedding)[(i64)token * m.hidden + c]);
        return;
    }
    const Matrix &w = *m.head;
    i64 tile = token / 16, lane = token % 16, groups = (w.columns + GROUP[w.kind] - 1) / GROUP[w.kind];
    for (i64 c = 0; c < m.hidden; c++) {
        float value = 0;
        if (w.kind == F32) value = ((const float *)w.data)[(tile * groups + c) * 16 + lane];
        if (w.kind == BF16) value = up(((const bf16 *)w.data)[((tile * groups + c / 2) * 16 + lane) * 2 + c % 2]);
        if (w.kind == I8)
            value = ((i32)w.data[(tile * groups + c / 64) * 1024 + (c % 64 / 4 * 16 + lane) * 4 + c % 4] - 128) *
                    up(w.scale[(tile * groups + c / 64) * 16 + lane]);
        if (w.kind == I4) {
            i64 in = c % 32, block = in / 8, place = (lane * 4 + in % 4);
            u8 both = w.data[(tile * groups + c / 32) * 256 + block * 64 + place];
            value = ((i32)(in / 4 % 2 ? both >> 4 : both & 15) - 8) * up(w.scale[(tile * groups + c / 32) * 16 + lane]);
        }
        out[c] = m.embed_scale * value;
    }
}

template <class KV, class W>
static void run(const Model &m, const Step &s, Room &room) {
    const i64 T = s.tokens, H = m.hidden, I = m.inner, d = m.heads.width;
    const i64 Q = m.heads.query * d, K = m.heads.kv * d, wide = padded(std::max(std::max(Q, H), I));
    const i64 most = padded(std::max(Q + 2 * K, std::max(2 * I, H)) + 16), rows = std::max(T, s.kept);
    room.next = 0;
    float *resid = room.take<float>(T * H), *big = room.take<float>(T * most);
    Rows x{room.take<float>(rows * wide), room.take<bf16>(rows * wide), room.take<i8>(rows * wide),
           room.take<float>(rows * (wide / 32)), room.take<i32>(rows * (wide / 32)), wide};
    float *narrow = room.take<float>(s.narrow_size + 1);
    float *scores = room.take<float>((i64)s.threads * 4 * (s.longest + 16));
    Best *bests = room.take<Best>((i64)s.threads * (s.kept + 1));
    const Route *routes = s.routes;

#pragma omp parallel num_threads(s.threads)
    {
        const int me = omp_get_thread_num(), crew = omp_get_num_threads();
        const Share mine(T, me, crew);
        auto shrink = [&](i64 l, int part, int slot, i64 inputs) {
            shrink_<W>(routes, s.route_count, l, part, slot, x.plain, x.stride, inputs, narrow, me, crew);
        };
        auto expand = [&](i64 l, int part, int slot, i64 outputs, i64 offset) {
            expand_<W>(routes, s.route_count, l, part, slot, narrow, outputs, big + offset, most, mine);
        };
        // resid += big (after a norm, where there is one); the next matrix's rows from it.
        auto add = [&](const float *post, const float *next, int kind) {
            for (i64 t = mine.first; t < mine.end; t++) {
                float *r = resid + t * H, *b = big + t * most;
                if (post) norm(b, post, H, m.eps, b);
                for (i64 c = 0; c < H; c++) r[c] += b[c];
                if (!next) continue;
                norm(r, next, H, m.eps, x.plain + t * wide);
                x.fill(t, H, kind);
            }
        };
        for (i64 t = mine.first; t < mine.end; t++) {
            embed(m, s.token[t], resid + t * H);
            norm(resid + t * H, m.layer[0].norm_first, H, m.eps, x.plain + t * wide);
            x.fill(t, H, m.layer[0].qkv.kind);
        }
#pragma omp barrier
        for (i64 l = 0; l < m.layers; l++) {
            const Layer &y = m.layer[l];
            KV *keys = (KV *)y.keys, *values = (KV *)y.values;
            multiply(y.qkv, x, T, big, most, me, crew);
            shrink(l, QUERY, 0, H), shrink(l, KEY, 1, H), shrink(l, VALUE, 2, H);
#pragma omp barrier
            expand(l, QUERY, 0, Q, 0), expand(l, KEY, 1, K, Q), expand(l, VALUE, 2, K, Q + K);
            for (i64 t = mine.first; t < mine.end; t++) {
                float *q = big + t * most, *k = q + Q, *v = k + K;
                const float *co = y.cosine + (i64)s.position[t] * d, *si = y.sine + (i64)s.position[t] * d;
                for (i64 h = 0; h < m.heads.query + m.heads.kv; h++) {
                    const float *weight = h < m.heads.query ? y.norm_query : y.norm_key;
                    if (weight) norm(q + h * d, weight, d, m.eps, q + h * d);
                    turn(q + h * d, co, si, d);
                }
                i64 page = s.slot[t] / m.heads.page, place = s.slot[t] % m.heads.page;
                for (i64 h = 0; h < m.heads.kv; h++) {
                    i64 at = ((page * m.heads.kv + h) * m.heads.page + place) * d;
                    for (i64 c = 0; c < d; c++) put(keys + at + c, k[h * d + c]), put(values + at + c, v[h * d + c]);
                }
            }
#pragma omp barrier
            i64 group = m.heads.query / m.heads.kv, piece = T >= 2 * crew ? group : (group + crew - 1) / crew;
            piece = piece < 4 ? piece : 4;
            i64 pieces = (m.heads.query + piece - 1) / piece;
            for (i64 n = me; n < T * pieces; n += crew) {
                i64 t = n / pieces, first = n % pieces * piece;
                i64 end = first + piece < m.heads.query ? first + piece : m.heads.query;
                attend_heads<KV>(m.heads, big + t * most, keys, values, s.tables + s.table_at[t], first, end,
                                 s.position[t], y.window, y.scale, scores + (i64)me * 4 * (s.longest + 16),
                                 x.plain + t * wide);
            }
#pragma omp barrier
            for (i64 t = mine.first; t < mine.end; t++) x.fill(t, Q, y.out.kind);
#pragma omp barrier
            multiply(y.out, x, T, big, most, me, crew);
            shrink(l, OUT, 0, Q);
#pragma omp barrier
            expand(l, OUT, 0, H, 0);
            add(y.norm_attended, y.norm_second, y.gate_up.kind);
#pragma omp barrier
            multiply(y.gate_up, x, T, big, most, me, crew);
            shrink(l, GATE, 0, H), shrink(l, UP, 1, H);
#pragma omp barrier
            expand(l, GATE, 0, I, 0), expand(l, UP, 1, I, I);
            for (i64 t = mine.first; t < mine.end; t++) {
                const float *gate = big + t * most, *lift = gate + I;
                float *to = x.plain + t * wide;
                for (i64 c = 0; c < I; c += 16) {
                    i64 left = I - c;
                    if (left >= 16) {
                        store(to + c, activation(load(gate + c), m.act) * load(lift + c));
                        continue;
                    }
                    v16 g{}, u{};
                    std::memcpy(&g, gate + c, left * 4);
                    std::memcpy(&u, lift + c, left * 4);
                    g = activation(g, m.act) * u;
                    std::memcpy(to + c, &g, left * 4);
                }
                x.fill(t, I, y.down.kind);
            }
#pragma omp barrier
            multiply(y.down, x, T, big, most, me, crew);
            shrink(l, DOWN, 0, I);
#pragma omp barrier
            expand(l, DOWN, 0, H, 0);
            bool last = l + 1 == m.layers;
            add(y.norm_fed, last ? nullptr : m.layer[l + 1].norm_first, last ? 0 : m.layer[l + 1].qkv.kind);
#pragma omp barrier
        }
        Share kept(s.kept, me, crew);
        for (i64 n = kept.first; n < kept.end; n++) {
            norm(resid + (i64)s.keep[n] * H, m.norm_final, H, m.eps, x.plain + n * wide);
            x.fill(n, H, m.head->kind);
        }
        Best *own = bests + (i64)me * s.kept;
        for (i64 n = 0; n < s.kept; n++) own[n] = {all(-INFINITY), w16{}};
#pragma omp barrier
        multiply(*m.head, x, s.kept, s.logits, s.logits_step, me, crew, own, s.wanted);
#pragma omp barrier
#pragma omp single
        for (i64 n = 0; n < s.kept; n++) {
            float value = -INFINITY;
            i32 place = 0;
            for (int other = 0; other < crew; other++)
                for (int lane = 0; lane < 16; lane++) {
                    float v = bests[other * s.kept + n].value[lane];
                    i32 p = bests[other * s.kept + n].place[lane];
                    if (v > value || (v == value && p < place)) value = v, place = p;
                }
            s.best[n] = place, s.best_value[n] = value;
        }
    }
}

extern "C" {
void *room_new() { return new Room; }

void draw(Draw *draws, i64 count, i64 vocabulary, int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<double> blocks((vocabulary + BLOCK - 1) / BLOCK);
#pragma omp for schedule(dynamic, 1)
        for (i64 n = 0; n < count; n++) draw_one(draws[n], vocabulary, blocks.data());
    }
}

void room_free(void *room) { delete (Room *)room; }

void step(const Model *m, const Step *s, void *room) {
    Room &r = *(Room *)room;
    if (m->half_cache)
        m->half_lora ? run<bf16, bf16>(*m, *s, r) : run<bf16, float>(*m, *s, r);
    else
        m->half_lora ? run<float, bf16>(*m, *s, r) : run<float, float>(*m, *s, r);
}
}
