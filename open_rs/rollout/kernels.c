/* What lies between the matrix products of a decoding step of Llama-like models, in float32.

   Compiled for one model: HEAD (size of a head), QUERIES (query heads of a key-value head), LANES
   (floats of a vector, a divisor of every size). A row's numbers depend on that row alone: every sum
   has an order of its own that neither the other rows nor the number of threads can change. */

#include <math.h>
#include <stdint.h>

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define LOAD(address) (*(const vec *)(address))
#define STORE(address) (*(vec *)(address))
#define PARTS (HEAD / LANES)
#define TILED(count) (((count) + LANES - 1) / LANES * LANES)
#define APART __attribute__((noinline)) /* one machine code for every caller: the same bits */

static inline float sum_of(vec v) {
    float part[LANES];
    STORE(part) = v;
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int lane = 0; lane < width; lane++) part[lane] += part[lane + width];
    return part[0];
}

static inline vec choose(ivec first, vec yes, vec no) {
    return (vec)((first & (ivec)yes) | (~first & (ivec)no));
}

/* e^x, relative error 1e-7; x counts as -87 below and as 87 above. Cephes' expf: 2^n times a
   polynomial of what is left. */
static inline vec exp_of(vec x) {
    const float rounding = 12582912.0f; /* 1.5 * 2^23: its last bits hold n */
    const vec bound = (vec){0} + 87.0f;
    x = choose(x < -bound, -bound, choose(x > bound, bound, x));
    vec shifted = x * 1.44269504f + rounding;
    vec n = shifted - rounding;
    x = x - n * 0.693359375f;
    x = x + n * 2.12194440e-4f;
    vec p = x * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * x + 8.3334519073e-3f;
    p = p * x + 4.1665795894e-2f;
    p = p * x + 1.6666665459e-1f;
    p = p * x + 5.0000001201e-1f;
    p = p * x * x + x + 1.0f;
    ivec power = ((ivec)shifted << 23) + (127 << 23);
    return p * (vec)power;
}

/* scores [QUERIES, width] of the first `count` keys, rounded up to whole tiles; what lies beyond
   `count` means nothing. */
APART static void score(const float *queries, const float *keys, int64_t count, float *scores,
                        int64_t width) {
    for (int64_t at = 0; at < count; at += LANES, keys += HEAD * LANES) {
        vec total[QUERIES] = {{0}};
        for (int i = 0; i < HEAD; i++)
            for (int a = 0; a < QUERIES; a++)
                total[a] += queries[a * HEAD + i] * LOAD(keys + i * LANES);
        for (int a = 0; a < QUERIES; a++) STORE(scores + a * width + at) = total[a];
    }
}

/* totals [QUERIES, HEAD] += weights [QUERIES, width] x the first `count` values [count, HEAD]. */
APART static void weigh(const float *weights, int64_t width, const float *values, int64_t count,
                        float *totals) {
    vec total[QUERIES][PARTS];
    for (int a = 0; a < QUERIES; a++)
        for (int c = 0; c < PARTS; c++) total[a][c] = LOAD(totals + a * HEAD + c * LANES);
    for (int64_t at = 0; at < count; at++, values += HEAD)
        for (int a = 0; a < QUERIES; a++)
            for (int c = 0; c < PARTS; c++)
                total[a][c] += weights[a * width + at] * LOAD(values + c * LANES);
    for (int a = 0; a < QUERIES; a++)
        for (int c = 0; c < PARTS; c++) STORE(totals + a * HEAD + c * LANES) = total[a][c];
}

/* The largest of the first `count` scores and `largest`, by lane; the rest of the last tile becomes
   `count`'s smallest. */
static inline vec largest_of(float *scores, int64_t count, vec largest) {
    for (int64_t at = 0; at < count; at += LANES) {
        for (int64_t past = count - at; past < LANES; past++) scores[at + past] = -INFINITY;
        vec next = LOAD(scores + at);
        largest = choose(next > largest, next, largest);
    }
    return largest;
}

/* weights [width] = e^(scores - largest); returns their sum. */
APART static float weights_of(float *scores, int64_t before, int64_t own, int64_t width,
                              float *largest_score) {
    vec none = (vec){0} - INFINITY;
    vec lanes = largest_of(scores + TILED(before), own, largest_of(scores, before, none));
    float largest = lanes[0];
    for (int lane = 1; lane < LANES; lane++)
        largest = lanes[lane] > largest ? lanes[lane] : largest;
    vec total = {0};
    for (int64_t at = 0; at < width; at += LANES) {
        vec weight = exp_of(LOAD(scores + at) - largest);
        STORE(scores + at) = weight;
        total += weight;
    }
    *largest_score = largest;
    return sum_of(total);
}

/* out [QUERIES, HEAD]: attention of the query heads of one key-value head, scaled already, over
   `before` keys and values and then `own` ones. Keys lie in tiles [HEAD, LANES]. logsumexps
   [QUERIES], if asked for: the logarithm of the sum of e^score. */
APART static void attend(const float *queries, const float *keys, const float *values,
                         int64_t before, const float *own_keys, const float *own_values,
                         int64_t own, float *out, float *logsumexps) {
    int64_t width = TILED(before) + TILED(own);
    float scores[QUERIES * width];
    float sums[QUERIES], largest[QUERIES];
    score(queries, keys, before, scores, width);
    score(queries, own_keys, own, scores + TILED(before), width);
    for (int a = 0; a < QUERIES; a++)
        sums[a] = weights_of(scores + a * width, before, own, width, largest + a);
    for (int i = 0; i < QUERIES * HEAD; i++) out[i] = 0.0f;
    weigh(scores, width, values, before, out);
    weigh(scores + TILED(before), width, own_values, own, out);
    for (int a = 0; a < QUERIES; a++)
        for (int i = 0; i < HEAD; i++) out[a * HEAD + i] /= sums[a];
    if (logsumexps)
        for (int a = 0; a < QUERIES; a++) logsumexps[a] = largest[a] + logf(sums[a]);
}

/* out [HEAD] = the rotary embedding of x, times `scale`; cosines and sines [HEAD / 2]. */
static inline void rotate(const float *x, const float *cosines, const float *sines, float scale,
                          float *out) {
    for (int i = 0; i < HEAD / 2; i++) {
        float first = x[i], second = x[i + HEAD / 2];
        out[i] = (first * cosines[i] - second * sines[i]) * scale;
        out[i + HEAD / 2] = (second * cosines[i] + first * sines[i]) * scale;
    }
}

/* out [HEAD] = x / root mean square * weight, or x where there is no weight. */
static inline const float *normed(const float *x, const float *weight, float eps, float *out) {
    if (!weight) return x;
    vec squares = {0};
    for (int c = 0; c < PARTS; c++) squares += LOAD(x + c * LANES) * LOAD(x + c * LANES);
    float factor = 1.0f / sqrtf(sum_of(squares) / HEAD + eps);
    for (int i = 0; i < HEAD; i++) out[i] = x[i] * factor * weight[i];
    return out;
}

/* One layer's attention of `rows` tokens, some of which may belong to one sequence. qkv [rows,
   (heads * QUERIES + 2 * heads) * HEAD]; rotary [positions, HEAD]: cosines, then sines; sequences and
   positions [rows]. What follows is by sequence: the keys and values before its own are those of a
   prompt, wherever they are (tiles [heads, HEAD, LANES] and [heads, HEAD] `prompt_strides` tokens
   apart by head); its own begin `offsets` tokens after `keys` (in tiles) and `values`, `stride`
   tokens apart by head, and those of these tokens are added to them before any token attends. out
   [rows, heads * QUERIES * HEAD]; logsumexps [rows, heads * QUERIES], or none. */
void attention(int64_t rows, int64_t heads, const float *qkv, const float *rotary, float scale,
               const float *query_norm, const float *key_norm, float eps, const int64_t *sequences,
               const int64_t *positions, const int64_t *prompt_lengths,
               const int64_t *prompt_strides, const int64_t *prompt_keys,
               const int64_t *prompt_values, float *keys, float *values, const int64_t *offsets,
               int64_t stride, float *out, float *logsumexps) {
    int64_t query_size = heads * QUERIES * HEAD, size = query_size + 2 * heads * HEAD;
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t task = 0; task < heads * rows; task++) {
            int64_t head = task / rows, row = task % rows, one = sequences[row];
            int64_t at = positions[row] - prompt_lengths[one];
            const float *cosines = rotary + positions[row] * HEAD, *sines = cosines + HEAD / 2;
            const float *k = qkv + row * size + query_size + head * HEAD, *v = k + heads * HEAD;
            float *own_keys = keys + (offsets[one] + head * stride) * HEAD;
            float *own_values = values + (offsets[one] + head * stride) * HEAD;
            float scratch[HEAD], key[HEAD];
            rotate(normed(k, key_norm, eps, scratch), cosines, sines, 1.0f, key);
            float *tile = own_keys + at / LANES * LANES * HEAD + at % LANES;
            for (int i = 0; i < HEAD; i++) tile[i * LANES] = key[i];
            for (int i = 0; i < HEAD; i++) own_values[at * HEAD + i] = v[i];
        }
#pragma omp for schedule(dynamic, 8)
        for (int64_t task = 0; task < heads * rows; task++) {
            int64_t head = task / rows, row = task % rows, one = sequences[row];
            int64_t before = prompt_lengths[one], own = positions[row] - before + 1;
            const float *cosines = rotary + positions[row] * HEAD, *sines = cosines + HEAD / 2;
            const float *q = qkv + row * size + head * QUERIES * HEAD;
            float queries[QUERIES * HEAD], scratch[HEAD];
            for (int a = 0; a < QUERIES; a++)
                rotate(normed(q + a * HEAD, query_norm, eps, scratch), cosines, sines, scale,
                       queries + a * HEAD);
            int64_t of_head = head * prompt_strides[one] * HEAD;
            int64_t of_own = (offsets[one] + head * stride) * HEAD;
            attend(queries, (const float *)prompt_keys[one] + of_head,
                   (const float *)prompt_values[one] + of_head, before, keys + of_own,
                   values + of_own, own, out + row * query_size + head * QUERIES * HEAD,
                   logsumexps ? logsumexps + (row * heads + head) * QUERIES : 0);
        }
    }
}

/* out [rows, size] = x / root mean square * weight. */
void rms_norm(int64_t rows, int64_t size, const float *x, const float *weight, float eps,
              float *out) {
#pragma omp parallel for schedule(static) if (rows * size > 32768)
    for (int64_t row = 0; row < rows; row++) {
        const float *in = x + row * size;
        vec squares = {0};
        for (int64_t i = 0; i < size; i += LANES) squares += LOAD(in + i) * LOAD(in + i);
        float factor = 1.0f / sqrtf(sum_of(squares) / size + eps);
        for (int64_t i = 0; i < size; i += LANES)
            STORE(out + row * size + i) = LOAD(in + i) * factor * LOAD(weight + i);
    }
}

/* out [rows, size] = silu(gate) * up, of x [rows, 2, size]. */
void silu_product(int64_t rows, int64_t size, const float *x, float *out) {
#pragma omp parallel for schedule(static) if (rows * size > 32768)
    for (int64_t row = 0; row < rows; row++) {
        const float *gate = x + row * 2 * size, *up = gate + size;
        for (int64_t i = 0; i < size; i += LANES) {
            vec g = LOAD(gate + i);
            STORE(out + row * size + i) = g / (1.0f + exp_of(-g)) * LOAD(up + i);
        }
    }
}

/* The sum of e^(scores - largest) over up to LANES * 64 scores; what lies beyond `size` adds
   nothing that counts. */
static inline vec sum_near(const float *scores, int64_t size, float largest) {
    vec total = {0};
    int64_t at = 0;
    for (; at + LANES <= size; at += LANES) total += exp_of(LOAD(scores + at) - largest);
    if (at < size) {
        float last[LANES];
        for (int lane = 0; lane < LANES; lane++)
            last[lane] = at + lane < size ? scores[at + lane] : -INFINITY;
        total += exp_of(LOAD(last) - largest);
    }
    return total;
}

/* out [rows] = log softmax(scores [rows, size])[chosen]. */
void log_probs(int64_t rows, int64_t size, const float *scores, const int64_t *chosen,
               float *out) {
#pragma omp parallel for schedule(static) if (rows * size > 32768)
    for (int64_t row = 0; row < rows; row++) {
        const float *in = scores + row * size;
        float largest = in[0];
        for (int64_t i = 1; i < size; i++) largest = in[i] > largest ? in[i] : largest;
        vec total = {0};
        for (int64_t at = 0; at < size; at += LANES * 64)
            total += sum_near(in + at, size - at < LANES * 64 ? size - at : LANES * 64, largest);
        out[row] = in[chosen[row]] - largest - logf(sum_of(total));
    }
}
