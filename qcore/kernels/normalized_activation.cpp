// Training's passes over activations, fused, for CPUs: batch normalization, the sum with a shortcut, and clipping with
// rounding, forward and backward. Built by native.py; the formulas are those of formulas.py.
//
// Tensors are (rows, channels), contiguous: images in channels-last layout, rows = N x height x width. Values are float
// or bfloat16; everything is computed in float, sums are gathered in double. For a number of threads, results are the
// same from run to run.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct bfloat16 {
    uint16_t bits;
};

inline float read(float value) { return value; }

inline float read(bfloat16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline void write(float *place, float value) { *place = value; }

inline void write(bfloat16 *place, float value) {  // to nearest, ties to even; what is no number stays none
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const uint32_t none = 0u - static_cast<uint32_t>(value != value);  // all ones for NaN, so that no branch is needed
    place->bits = static_cast<uint16_t>(rounded | (none & 0x7fc0));
}

// What a value is clipped to, and the step it is then rounded to; a step of 0 leaves it as it is.
struct Clip {
    float low, high, step;
};

constexpr float INTEGERS_ONLY = 12582912.0f;  // 1.5 x 2^23: a float of this size has no fraction, so adding it rounds

template <bool ROUNDED>
inline float clipped(float z, const Clip &clip) {
    const float inside = z < clip.low ? clip.low : (z > clip.high ? clip.high : z);
    // Divided, not multiplied by the inverse: values of bfloat16 lie halfway between two levels often.
    return ROUNDED ? ((inside / clip.step + INTEGERS_ONLY) - INTEGERS_ONLY) * clip.step : inside;
}

// Rows are walked in tiles of so many, with every channel's factors repeated for each: loops stay long, and so
// vectorized, for networks of few channels too.
struct Tiles {
    int64_t rows, channels, rows_a_tile, length, count;

    Tiles(int64_t rows, int64_t channels) : rows(rows), channels(channels) {
        rows_a_tile = channels >= 256 ? 1 : 256 / channels;
        length = rows_a_tile * channels;
        count = (rows + rows_a_tile - 1) / rows_a_tile;
    }
    std::vector<float> repeated(const float *by_channel) const {
        std::vector<float> tile(length);
        for (int64_t i = 0; i < length; ++i) tile[i] = by_channel[i % channels];
        return tile;
    }
    int64_t size(int64_t tile) const {
        const int64_t left = (rows - tile * rows_a_tile) * channels;
        return left < length ? left : length;
    }
    // Tiles `first` to `last` are thread number `thread`'s.
    void share(int thread, int threads, int64_t &first, int64_t &last) const {
        first = count * thread / threads;
        last = count * (thread + 1) / threads;
    }
};

constexpr int64_t TILES_A_SUM = 64;  // so many are summed in float before double takes over

// Sums a channel: a float for every element of a tile, gathered in double now and then.
struct Sums {
    std::vector<float> recent;
    std::vector<double> total;

    explicit Sums(const Tiles &tiles) : recent(tiles.length, 0.0f), total(tiles.channels, 0.0) {}
    void gather(const Tiles &tiles) {
        for (int64_t i = 0; i < tiles.length; ++i) {
            total[i % tiles.channels] += recent[i];
            recent[i] = 0.0f;
        }
    }
};

template <typename Walk>
void walk(const Tiles &tiles, int64_t first, int64_t last, std::vector<Sums *> sums, Walk &&one) {
    for (int64_t tile = first; tile < last; ++tile) {
        one(tile * tiles.length, tiles.size(tile));
        if ((tile - first) % TILES_A_SUM == TILES_A_SUM - 1 || tile == last - 1)
            for (Sums *each : sums) each->gather(tiles);
    }
}

// Sums of x - shift and of its square, by channel.
template <typename T>
void sum(const T *x, const Tiles &tiles, const float *shift, double *first_moment, double *second_moment, int threads) {
    const std::vector<float> shifts = tiles.repeated(shift);
    std::vector<double> parts(static_cast<size_t>(2 * threads) * tiles.channels);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; ++thread) {
        int64_t first, last;
        tiles.share(thread, threads, first, last);
        Sums ones(tiles), squares(tiles);
        float *one = ones.recent.data(), *square = squares.recent.data();
        const float *by = shifts.data();
        walk(tiles, first, last, {&ones, &squares}, [&](int64_t start, int64_t size) {
            const T *from = x + start;
#pragma omp simd
            for (int64_t i = 0; i < size; ++i) {
                const float value = read(from[i]) - by[i];
                one[i] += value;
                square[i] += value * value;
            }
        });
        for (int64_t c = 0; c < tiles.channels; ++c) {
            parts[(2 * thread) * tiles.channels + c] = ones.total[c];
            parts[(2 * thread + 1) * tiles.channels + c] = squares.total[c];
        }
    }
    for (int64_t c = 0; c < tiles.channels; ++c) {
        first_moment[c] = second_moment[c] = 0.0;
        for (int thread = 0; thread < threads; ++thread) {
            first_moment[c] += parts[(2 * thread) * tiles.channels + c];
            second_moment[c] += parts[(2 * thread + 1) * tiles.channels + c];
        }
    }
}

template <typename T, bool ROUNDED, bool RESIDUAL>
void normalize_tile(const T *__restrict x, const T *__restrict residual, T *__restrict y,
                    const float *__restrict center, const float *__restrict scale, const float *__restrict shift,
                    const Clip clip, int64_t size) {
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) {
        float z = (read(x[i]) - center[i]) * scale[i] + shift[i];
        if (RESIDUAL) z += read(residual[i]);
        write(y + i, clipped<ROUNDED>(z, clip));
    }
}

template <typename T, bool ROUNDED, bool RESIDUAL>
void normalize(const T *x, const T *residual, T *y, const Tiles &tiles, const std::vector<float> &centers,
               const std::vector<float> &scales, const std::vector<float> &shifts, const Clip clip, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t tile = 0; tile < tiles.count; ++tile) {
        const int64_t start = tile * tiles.length;
        normalize_tile<T, ROUNDED, RESIDUAL>(x + start, RESIDUAL ? residual + start : nullptr, y + start,
                                             centers.data(), scales.data(), shifts.data(), clip, tiles.size(tile));
    }
}

// (x - center) * scale + shift. Where a batch's mean is the center, it is taken off first: in a shift of
// bias - mean * scale, large values would cancel and leave rounding.
template <typename T>
void normalize_any(const T *x, const T *residual, T *y, const Tiles &tiles, const float *center, const float *scale,
                   const float *shift, const Clip clip, int threads) {
    const std::vector<float> centers = tiles.repeated(center), scales = tiles.repeated(scale),
                             shifts = tiles.repeated(shift);
    if (clip.step > 0) {
        if (residual) normalize<T, true, true>(x, residual, y, tiles, centers, scales, shifts, clip, threads);
        else normalize<T, true, false>(x, residual, y, tiles, centers, scales, shifts, clip, threads);
    } else {
        if (residual) normalize<T, false, true>(x, residual, y, tiles, centers, scales, shifts, clip, threads);
        else normalize<T, false, false>(x, residual, y, tiles, centers, scales, shifts, clip, threads);
    }
}

template <typename T>
void forward(const T *x, const T *residual, T *y, int64_t rows, int64_t channels, const float *weight,
             const float *bias, float *running_mean, float *running_var, float momentum, float epsilon, float *mean,
             float *inverse_deviation, float low, float high, float step, int threads) {
    const Tiles tiles(rows, channels);
    std::vector<double> first(channels), second(channels);
    sum(x, tiles, running_mean, first.data(), second.data(), threads);
    std::vector<float> scale(channels);
    for (int64_t c = 0; c < channels; ++c) {
        const double offset = first[c] / rows;
        double variance = second[c] / rows - offset * offset;
        variance = variance < 0 ? 0 : variance;
        mean[c] = static_cast<float>(running_mean[c] + offset);
        inverse_deviation[c] = static_cast<float>(1 / std::sqrt(variance + epsilon));
        running_mean[c] += static_cast<float>(momentum * offset);
        running_var[c] += momentum * static_cast<float>(variance * rows / (rows > 1 ? rows - 1 : 1) - running_var[c]);
        scale[c] = weight[c] * inverse_deviation[c];
    }
    normalize_any(x, residual, y, tiles, mean, scale.data(), bias, Clip{low, high, step}, threads);
}

template <typename T, bool RESIDUAL>
void backward(const T *gradient, const T *x, const T *residual, T *of_residual, T *of_x, int64_t rows,
              int64_t channels, const float *weight, const float *bias, const float *mean,
              const float *inverse_deviation, float *of_weight, float *of_bias, float *of_clip, float low, float high,
              int threads) {
    const Tiles tiles(rows, channels);
    std::vector<float> scale(channels);
    for (int64_t c = 0; c < channels; ++c) scale[c] = weight[c] * inverse_deviation[c];
    const std::vector<float> scales = tiles.repeated(scale.data()), biases = tiles.repeated(bias),
                             means = tiles.repeated(mean);
    std::vector<double> parts(static_cast<size_t>(threads) * (2 * channels + 2));
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; ++thread) {
        int64_t first, last;
        tiles.share(thread, threads, first, last);
        Sums passed(tiles), products(tiles);
        float *sum_of = passed.recent.data(), *product = products.recent.data();
        const float *by = scales.data(), *plus = biases.data(), *center = means.data();
        double above = 0, below = 0;
        walk(tiles, first, last, {&passed, &products}, [&](int64_t start, int64_t size) {
            const T *from = x + start, *given = gradient + start, *other = RESIDUAL ? residual + start : nullptr;
            T *masked = RESIDUAL ? of_residual + start : nullptr;
            float over = 0, under = 0;
#pragma omp simd reduction(+ : over, under)
            for (int64_t i = 0; i < size; ++i) {
                const float value = read(from[i]) - center[i], g = read(given[i]);
                float z = value * by[i] + plus[i];
                if (RESIDUAL) z += read(other[i]);
                over += z >= high ? g : 0.0f;
                under += z <= low ? g : 0.0f;
                const float inside = z >= high || z <= low ? 0.0f : g;
                if (RESIDUAL) write(masked + i, inside);
                sum_of[i] += inside;
                product[i] += inside * value;
            }
            above += over;
            below += under;
        });
        double *part = parts.data() + static_cast<size_t>(thread) * (2 * channels + 2);
        for (int64_t c = 0; c < channels; ++c) {
            part[c] = passed.total[c];
            part[channels + c] = products.total[c];
        }
        part[2 * channels] = above;
        part[2 * channels + 1] = below;
    }
    std::vector<double> sums(2 * channels + 2, 0.0);
    for (int thread = 0; thread < threads; ++thread)
        for (int64_t i = 0; i < 2 * channels + 2; ++i) sums[i] += parts[static_cast<size_t>(thread) * (2 * channels + 2) + i];
    of_clip[0] = static_cast<float>(sums[2 * channels]);
    of_clip[1] = static_cast<float>(sums[2 * channels + 1]);
    std::vector<float> by_value(channels), constant(channels);
    for (int64_t c = 0; c < channels; ++c) {
        const double slope = sums[channels + c] * inverse_deviation[c];
        of_bias[c] = static_cast<float>(sums[c]);
        of_weight[c] = static_cast<float>(slope);
        const double factor = -static_cast<double>(scale[c]) * inverse_deviation[c] * slope / rows;
        by_value[c] = static_cast<float>(factor);
        constant[c] = static_cast<float>(-scale[c] * sums[c] / rows);
    }
    const std::vector<float> factors = tiles.repeated(by_value.data()), constants = tiles.repeated(constant.data());
    const float *by = scales.data(), *plus = biases.data(), *center = means.data(), *factor = factors.data(),
                *more = constants.data();
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t tile = 0; tile < tiles.count; ++tile) {
        const int64_t start = tile * tiles.length, size = tiles.size(tile);
        const T *from = x + start, *given = (RESIDUAL ? of_residual : gradient) + start;
        T *to = of_x + start;
#pragma omp simd
        for (int64_t i = 0; i < size; ++i) {
            const float value = read(from[i]) - center[i];
            float g = read(given[i]);
            if (!RESIDUAL) {
                const float z = value * by[i] + plus[i];
                g = z >= high || z <= low ? 0.0f : g;
            }
            write(to + i, g * by[i] + value * factor[i] + more[i]);
        }
    }
}

constexpr int64_t BLOCK = 1024;
enum : uint8_t { BELOW = 0, INSIDE = 1, ABOVE = 2 };

// y = clipped and rounded a + b, and for every value a byte that says where it lay.
template <typename T, bool SUM>
void clip_block(const T *__restrict a, const T *__restrict b, T *__restrict y, uint8_t *__restrict where,
                const Clip clip, int64_t size) {
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) {
        float z = read(a[i]);
        if (SUM) z += read(b[i]);
        write(y + i, clipped<true>(z, clip));
        where[i] = static_cast<uint8_t>(INSIDE + (z >= clip.high) - (z <= clip.low));
    }
}

template <typename T, bool SUM>
void clip_forward(const T *a, const T *b, T *y, uint8_t *where, int64_t count, const Clip clip, int threads) {
    const int64_t blocks = (count + BLOCK - 1) / BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t start = block * BLOCK, size = count - start < BLOCK ? count - start : BLOCK;
        clip_block<T, SUM>(a + start, SUM ? b + start : nullptr, y + start, where + start, clip, size);
    }
}

struct Beyond {
    float above, below;
};

template <typename T>
Beyond pass_block(const T *__restrict gradient, const uint8_t *__restrict where, T *__restrict passed, int64_t size) {
    float above = 0, below = 0;
#pragma omp simd reduction(+ : above, below)
    for (int64_t i = 0; i < size; ++i) {
        const float g = read(gradient[i]);
        const float place = where[i];  // GCC 12 vectorizes the sums wrongly where integers are compared
        const bool over = place > INSIDE, under = place < INSIDE;
        above += over ? g : 0.0f;
        below += under ? g : 0.0f;
        write(passed + i, over || under ? 0.0f : g);
    }
    return {above, below};
}

template <typename T>
void clip_backward(const T *gradient, const uint8_t *where, T *passed, int64_t count, float *of_clip, int threads) {
    const int64_t blocks = (count + BLOCK - 1) / BLOCK;
    std::vector<double> parts(static_cast<size_t>(2 * threads));
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int thread = 0; thread < threads; ++thread) {
        double above = 0, below = 0;
        for (int64_t block = blocks * thread / threads; block < blocks * (thread + 1) / threads; ++block) {
            const int64_t start = block * BLOCK, size = count - start < BLOCK ? count - start : BLOCK;
            const Beyond found = pass_block<T>(gradient + start, where + start, passed + start, size);
            above += found.above;
            below += found.below;
        }
        parts[2 * thread] = above;
        parts[2 * thread + 1] = below;
    }
    double above = 0, below = 0;
    for (int thread = 0; thread < threads; ++thread) {
        above += parts[2 * thread];
        below += parts[2 * thread + 1];
    }
    of_clip[0] = static_cast<float>(above);
    of_clip[1] = static_cast<float>(below);
}

}  // namespace

#define FOR_TYPE(SUFFIX, T)                                                                                           \
    extern "C" void batch_norm_clip_forward_##SUFFIX(                                                                 \
        const T *x, const T *residual, T *y, int64_t rows, int64_t channels, const float *weight, const float *bias,   \
        float *running_mean, float *running_var, float momentum, float epsilon, float *mean, float *deviation,         \
        float low, float high, float step, int threads) {                                                              \
        forward<T>(x, residual, y, rows, channels, weight, bias, running_mean, running_var, momentum, epsilon, mean,   \
                   deviation, low, high, step, threads);                                                               \
    }                                                                                                                  \
    extern "C" void batch_norm_clip_evaluate_##SUFFIX(                                                                 \
        const T *x, const T *residual, T *y, int64_t rows, int64_t channels, const float *scale, const float *shift,   \
        float low, float high, float step, int threads) {                                                              \
        const std::vector<float> uncentered(channels, 0.0f);                                                           \
        normalize_any<T>(x, residual, y, Tiles(rows, channels), uncentered.data(), scale, shift,                       \
                         Clip{low, high, step}, threads);                                                              \
    }                                                                                                                  \
    extern "C" void batch_norm_clip_backward_##SUFFIX(                                                                 \
        const T *gradient, const T *x, const T *residual, T *of_residual, T *of_x, int64_t rows, int64_t channels,     \
        const float *weight, const float *bias, const float *mean, const float *deviation, float *of_weight,           \
        float *of_bias, float *of_clip, float low, float high, int threads) {                                          \
        if (residual)                                                                                                  \
            backward<T, true>(gradient, x, residual, of_residual, of_x, rows, channels, weight, bias, mean, deviation, \
                              of_weight, of_bias, of_clip, low, high, threads);                                        \
        else                                                                                                           \
            backward<T, false>(gradient, x, residual, of_residual, of_x, rows, channels, weight, bias, mean,           \
                               deviation, of_weight, of_bias, of_clip, low, high, threads);                            \
    }                                                                                                                  \
    extern "C" void clip_forward_##SUFFIX(const T *a, const T *b, T *y, uint8_t *where, int64_t count, float low,      \
                                          float high, float step, int threads) {                                       \
        const Clip clip{low, high, step};                                                                              \
        if (b) clip_forward<T, true>(a, b, y, where, count, clip, threads);                                            \
        else clip_forward<T, false>(a, b, y, where, count, clip, threads);                                             \
    }                                                                                                                  \
    extern "C" void clip_backward_##SUFFIX(const T *gradient, const uint8_t *where, T *passed, int64_t count,          \
                                           float *of_clip, int threads) {                                              \
        clip_backward<T>(gradient, where, passed, count, of_clip, threads);                                            \
    }

FOR_TYPE(float32, float)
FOR_TYPE(bfloat16, bfloat16)
