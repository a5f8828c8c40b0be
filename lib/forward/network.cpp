#include "forward/network.h"

#include <utility>

#include "base/hash.h"

namespace gptoss::model {

namespace {

template <typename... T>
void add_all(Hash& hash, const T&... values) {
    (hash.add(&values, sizeof values), ...);
}

// Tells models apart whose contexts have other keys and values: another config, other weights anywhere, or weights
// converted to another type.
uint64_t fingerprint_of(const io::Config& c, const Weights& weights) {
    Hash hash;
    add_all(hash, c.n_layers, c.hidden, c.intermediate, c.n_heads, c.n_kv_heads, c.head_dim, c.n_experts,
            c.n_active_experts, c.vocab, c.window, c.max_context, c.norm_eps, c.swiglu_limit, c.swiglu_alpha,
            c.rope_theta, c.rope_factor, c.rope_beta_fast, c.rope_beta_slow, c.rope_original_context, c.rope_truncate,
            c.rope_attention_factor);
    for (const bool sliding : c.sliding) add_all(hash, sliding);
    add_all(hash, weights.contents, weights.lm_head.weight, weights.layers[0].qkv.weight);
    return hash.value();
}

}  // namespace

Network::Network(std::shared_ptr<vk::Gpu> on, const io::Checkpoint& checkpoint, bool f16, const Tuning& shapes,
                 const LoadOptions& load, Room room)
    : gpu(std::move(on)),
      device(gpu->device),
      pipelines(gpu->pipelines),
      config(checkpoint.config),
      kv_f16(f16),
      tuning(shapes),
      weights(load_weights(device, pipelines, checkpoint, load, room)),
      fingerprint(fingerprint_of(config, weights)),
      kernels(gpu->pipelines) {}

}  // namespace gptoss::model
