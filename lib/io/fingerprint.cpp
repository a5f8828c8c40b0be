#include "io/fingerprint.h"

#include <vector>

namespace gptoss::io {

namespace {

class Hash {  // 64-bit FNV-1a
  public:
    void add(const void* data, size_t size) {
        for (size_t i = 0; i < size; i++) value = (value ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
    }
    template <typename... T>
    void add_all(const T&... values) {
        (add(&values, sizeof values), ...);
    }
    void add(const Matrix& m) {
        add_all(m.type, m.rows, m.cols);
        std::vector<std::byte> row(m.row_bytes());
        m.read(m.rows / 2, 1, row.data());
        add(row.data(), row.size());
    }
    void add(const Experts& e) {
        add_all(e.n_experts, e.rows, e.cols);
        std::vector<std::byte> row(e.row_bytes());
        e.read(e.n_experts / 2, e.rows / 2, 1, row.data(), row.data() + e.blocks_per_row() * 16);
        add(row.data(), row.size());
    }

    uint64_t value = 0xcbf29ce484222325u;
};

void add(Hash& hash, const Config& c) {
    hash.add_all(c.n_layers, c.hidden, c.intermediate, c.n_heads, c.n_kv_heads, c.head_dim, c.n_experts,
                 c.n_active_experts, c.vocab, c.window, c.max_context, c.norm_eps, c.swiglu_limit, c.swiglu_alpha,
                 c.rope_theta, c.rope_factor, c.rope_beta_fast, c.rope_beta_slow, c.rope_original_context);
    hash.add_all(c.rope_truncate);
    for (const bool sliding : c.sliding) hash.add_all(sliding);
}

}  // namespace

uint64_t fingerprint(const Checkpoint& checkpoint) {
    Hash hash;
    add(hash, checkpoint.config);
    for (const Matrix* m : {&checkpoint.embedding, &checkpoint.final_norm, &checkpoint.lm_head}) hash.add(*m);
    for (const LayerTensors& layer : checkpoint.layers) {
        for (const Matrix* m :
             {&layer.attn_norm, &layer.q, &layer.k, &layer.v, &layer.q_bias, &layer.k_bias, &layer.v_bias, &layer.sinks,
              &layer.out, &layer.out_bias, &layer.mlp_norm, &layer.router, &layer.router_bias, &layer.down_bias})
            hash.add(*m);
        for (const Matrix& m : layer.gate_up_bias) hash.add(m);
        hash.add(layer.gate_up);
        hash.add(layer.down);
    }
    return hash.value;
}

}  // namespace gptoss::io
