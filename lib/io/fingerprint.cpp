#include "io/fingerprint.h"

#include <vector>

#include "base/hash.h"

namespace gptoss::io {

namespace {

template <typename... T>
void add_all(Hash& hash, const T&... values) {
    (hash.add(&values, sizeof values), ...);
}

void add(Hash& hash, const Matrix& m) {
    add_all(hash, m.type, m.rows, m.cols);
    std::vector<std::byte> row(m.row_bytes());
    m.read(m.rows / 2, 1, row.data());
    hash.add(row.data(), row.size());
}

void add(Hash& hash, const Experts& e) {
    add_all(hash, e.n_experts, e.rows, e.cols);
    std::vector<std::byte> row(e.row_bytes());
    e.read(e.n_experts / 2, e.rows / 2, 1, row.data(), row.data() + e.blocks_per_row() * 16);
    hash.add(row.data(), row.size());
}

void add(Hash& hash, const Config& c) {
    add_all(hash, c.n_layers, c.hidden, c.intermediate, c.n_heads, c.n_kv_heads, c.head_dim, c.n_experts,
            c.n_active_experts, c.vocab, c.window, c.max_context, c.norm_eps, c.swiglu_limit, c.swiglu_alpha,
            c.rope_theta, c.rope_factor, c.rope_beta_fast, c.rope_beta_slow, c.rope_original_context);
    add_all(hash, c.rope_truncate, c.rope_attention_factor);
    for (const bool sliding : c.sliding) add_all(hash, sliding);
}

}  // namespace

uint64_t fingerprint(const Checkpoint& checkpoint) {
    Hash hash;
    add(hash, checkpoint.config);
    for (const Matrix* m : {&checkpoint.embedding, &checkpoint.final_norm, &checkpoint.lm_head}) add(hash, *m);
    for (const LayerTensors& layer : checkpoint.layers) {
        for (const Matrix* m :
             {&layer.attn_norm, &layer.q, &layer.k, &layer.v, &layer.q_bias, &layer.k_bias, &layer.v_bias, &layer.sinks,
              &layer.out, &layer.out_bias, &layer.mlp_norm, &layer.router, &layer.router_bias, &layer.down_bias})
            add(hash, *m);
        for (const Matrix& m : layer.gate_up_bias) add(hash, m);
        add(hash, layer.gate_up);
        add(hash, layer.down);
    }
    return hash.value();
}

}  // namespace gptoss::io
