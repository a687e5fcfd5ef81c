// Adam and AdamW on the CPU in one pass over memory: gradients are scaled (clipping, loss scale), fp32 masters and
// moments updated, and the masters rounded to bf16 while they are still in the cache.
//
// Every element sees the operations of DeepSpeed's vectors (csrc/includes/cpu_adam.h) in their order, so masters and
// moments are the same to the bit as after its clipping, its CPU Adam and its copy of the masters. What is fused is
// written out, and contraction is off (fused_adamw.py), so vectors, remainders and all compilers agree; in DeepSpeed's
// own remainder, fewer elements than a vector holds, the compiler fuses other products, and a last bit may differ.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace {

constexpr int64_t kBlock = 256;  // elements: their 4.5 KiB stay in the L1 cache until the masters are rounded

enum class Decay { kNone, kL2, kDecoupled };

struct Update {
    float* master;
    const void* gradient;
    uint16_t* weights;
    float* exp_avg;
    float* exp_avg_sq;
    int64_t count;
    float scale, beta1, beta2, eps, step_size, bias_correction2, decay;
};

inline float fused(float a, float b, float c) {
#ifdef FP_FAST_FMAF
    return std::fma(a, b, c);
#else
    return a * b + c;
#endif
}

inline float widened(float value) { return value; }

inline float widened(uint16_t bf16) {
    const uint32_t bits = uint32_t(bf16) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// To the nearest, ties to even; a NaN stays one, which adding to its bits could make an infinity of.
inline uint16_t rounded(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return uint16_t((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : nearest);
}

template <typename Gradient, Decay kDecay>
void update(const Update& u, int64_t begin, int64_t end) {
    float* __restrict master = u.master;
    const Gradient* __restrict gradient = static_cast<const Gradient*>(u.gradient);
    float* __restrict exp_avg = u.exp_avg;
    float* __restrict exp_avg_sq = u.exp_avg_sq;
    const float scale = u.scale, beta1 = u.beta1, beta2 = u.beta2, eps = u.eps, decay = u.decay;
    const float step_size = u.step_size, bias_correction2 = u.bias_correction2;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) {
        float w = master[i], g = widened(gradient[i]) * scale;
        if (kDecay == Decay::kL2) g = fused(w, decay, g);
        const float m = fused(g, 1 - beta1, exp_avg[i] * beta1);
        const float v = fused(g * g, 1 - beta2, exp_avg_sq[i] * beta2);
        const float direction = m / fused(std::sqrt(v), bias_correction2, eps);
        if (kDecay == Decay::kDecoupled) w = fused(w, decay, w);
        master[i] = fused(direction, step_size, w);
        exp_avg[i] = m;
        exp_avg_sq[i] = v;
    }
}

// The weights go past the cache: nothing reads them here, and a line need not be fetched before it is overwritten.
void write_weights(const Update& u, int64_t begin, int64_t end) {
    alignas(64) uint16_t block[kBlock];
    const float* __restrict master = u.master + begin;
    const int64_t count = end - begin;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) block[i] = rounded(master[i]);
    uint16_t* out = u.weights + begin;
    int64_t streamed = 0;
#ifdef __SSE2__
    if (reinterpret_cast<uintptr_t>(out) % sizeof(__m128i) == 0)
        for (; streamed + 8 <= count; streamed += 8)
            _mm_stream_si128(reinterpret_cast<__m128i*>(out + streamed),
                             _mm_load_si128(reinterpret_cast<const __m128i*>(block + streamed)));
#endif
    std::memcpy(out + streamed, block + streamed, (count - streamed) * sizeof *out);
}

template <typename Gradient, Decay kDecay>
void update_all(const Update& u, int threads) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t begin = 0; begin < u.count; begin += kBlock) {
            const int64_t end = std::min(begin + kBlock, u.count);
            update<Gradient, kDecay>(u, begin, end);
            if (u.weights) write_weights(u, begin, end);
        }
#ifdef __SSE2__
        _mm_sfence();  // what went past the cache is there for other cores, and for the GPU, once this returns
#endif
    }
}

template <typename Gradient>
void update_all(const Update& u, Decay decay, int threads) {
    switch (decay) {
        case Decay::kNone: return update_all<Gradient, Decay::kNone>(u, threads);
        case Decay::kL2: return update_all<Gradient, Decay::kL2>(u, threads);
        case Decay::kDecoupled: return update_all<Gradient, Decay::kDecoupled>(u, threads);
    }
}

// A beta to the power of a step: the fp32 product that each update of DeepSpeed's multiplies on, made anew from the step,
// so a run that continues has it too. Below 2^-25 it takes nothing from 1.
float power(float beta, int64_t step) {
    float product = 1;
    for (; step > 0 && product > 0x1p-26f; --step) product *= beta;
    return product;
}

}  // namespace

// Updates `count` parameters once, on `threads` threads. `gradient` is bf16 or fp32, `weights` bf16 or null; `step`
// counts from 1; `decoupled`: AdamW, else weight decay is added to the gradient. Nothing may overlap.
extern "C" void fused_adamw(float* master, const void* gradient, uint16_t* weights, float* exp_avg, float* exp_avg_sq,
                            int gradient_is_bf16, int64_t count, float scale, int64_t step, float lr, float beta1,
                            float beta2, float eps, float weight_decay, int bias_correction, int decoupled,
                            int threads) {
    const float bias_correction1 = bias_correction ? 1 - power(beta1, step) : 1;
    const float bias_correction2 = bias_correction ? 1 / std::sqrt(1 - power(beta2, step)) : 1;
    const float step_size = -lr / bias_correction1, factor = decoupled ? -lr * weight_decay : weight_decay;
    const Update u{master, gradient, weights, exp_avg, exp_avg_sq, count, scale, beta1, beta2, eps,
                   step_size, bias_correction2, factor};
    const Decay decay = weight_decay > 0 ? (decoupled ? Decay::kDecoupled : Decay::kL2) : Decay::kNone;
    gradient_is_bf16 ? update_all<uint16_t>(u, decay, threads) : update_all<float>(u, decay, threads);
}
