#include "api/model.h"

#include "api/tokenizer.h"
#include "base/utf8.h"
#include "engine/memory.h"

using namespace gptoss;
using namespace gptoss::api;

namespace {

static_assert(static_cast<int>(model::Tier::Integer) == gptoss_kernel_tier_integer);

model::ModelOptions read_options(const gptoss_model_options* given) {
    const gptoss_model_options in = read_struct(given, "options");
    model::ModelOptions out;
    out.device = in.device;
    switch (enum_value(in.weights)) {
        case gptoss_weight_type_default:
            break;
        case gptoss_weight_type_bf16:
            out.load.dense = WEIGHT_BF16;
            break;
        case gptoss_weight_type_q8:
            out.load.dense = WEIGHT_Q8;
            break;
        default:
            throw Error(Status::InvalidArgument, "options.weights is " + std::to_string(enum_value(in.weights)));
    }
    switch (enum_value(in.kv)) {
        case gptoss_kv_type_default:
        case gptoss_kv_type_f16:
            out.kv_f16 = true;
            break;
        case gptoss_kv_type_f32:
            out.kv_f16 = false;
            break;
        default:
            throw Error(Status::InvalidArgument, "options.kv is " + std::to_string(enum_value(in.kv)));
    }
    switch (enum_value(in.tier)) {
        case gptoss_kernel_tier_default:
            break;
        case gptoss_kernel_tier_exact:
            out.tier = model::Tier::Exact;
            break;
        case gptoss_kernel_tier_coopmat:
            out.tier = model::Tier::Coopmat;
            break;
        case gptoss_kernel_tier_integer:
            out.tier = model::Tier::Integer;
            break;
        default:
            throw Error(Status::InvalidArgument, "options.tier is " + std::to_string(enum_value(in.tier)));
    }
    out.memory_budget = in.memory_budget;
    out.context_length = in.context_length;
    if (in.progress)
        out.load.progress = [call = in.progress, data = in.progress_user_data](uint64_t done, uint64_t total) {
            return call_back(call, data, done, total);
        };
    if (in.log)
        out.log = [call = in.log, data = in.log_user_data](int level, const std::string& message) {
            call_back(call, data, static_cast<gptoss_log_level>(level), printable_line(message).c_str());
        };
    out.warm_up = in.warm_up != 0;
    out.prefix_bytes = in.prefix_cache_bytes;
    if (in.cache_directory) out.cache_directory = in.cache_directory;
    if (in.num_adapters) require(in.adapters, "options.adapters");
    for (size_t i = 0; i < in.num_adapters; i++) {
        require(in.adapters[i], ("options.adapters[" + std::to_string(i) + "]").c_str());
        out.adapters.emplace_back(in.adapters[i]);
    }
    return out;
}

gptoss_weight_type weight_type(uint32_t weight) {
    switch (weight) {
        case WEIGHT_BF16:
            return gptoss_weight_type_bf16;
        case WEIGHT_Q8:
            return gptoss_weight_type_q8;
        default:
            return gptoss_weight_type_default;
    }
}

}  // namespace

gptoss_status gptoss_model_create_from_file(const char* path, gptoss_model_t* model_out) {
    return gptoss_model_create(path, nullptr, model_out);
}

gptoss_status gptoss_model_create(const char* path, const gptoss_model_options* options, gptoss_model_t* model_out) {
    if (model_out) *model_out = nullptr;
    return guard([&] {
        require(path, "path");
        require(model_out, "model_out");
        model::ModelOptions read = read_options(options);
        const io::Checkpoint checkpoint(path);
        auto tokenizer = text::Tokenizer::of_model(checkpoint.tokenizer_path);
        read.message_start = tokenizer->find_special("<|start|>");
        *model_out = new gptoss_model(model::open_model(checkpoint, read), std::move(tokenizer));
    });
}

gptoss_status gptoss_model_estimate_memory(const char* path, const gptoss_model_options* options, size_t context_length,
                                           size_t max_batch_tokens, gptoss_memory_estimate* estimate_out) {
    return guard([&] {
        write_struct(gptoss_memory_estimate{}, estimate_out, "estimate_out");
        require(path, "path");
        const io::Checkpoint checkpoint(path);
        const model::MemoryEstimate e =
            model::estimate_memory(checkpoint, read_options(options), context_length, max_batch_tokens);
        gptoss_memory_estimate estimate{};
        estimate.weight_bytes = e.weights.device;
        estimate.host_weight_bytes = e.weights.host;
        estimate.cache_bytes = e.context.cache;
        estimate.activation_bytes = e.context.activations;
        estimate.staging_bytes = std::max(e.weights.staging, e.context.staging);
        estimate.available_bytes = e.available;
        estimate.fits = e.fits;
        estimate.prefix_cache_bytes = e.prefixes;
        estimate.adapter_bytes = e.adapters;
        write_struct(estimate, estimate_out, "estimate_out");
    });
}

gptoss_status gptoss_model_get_info(gptoss_model_t handle, gptoss_model_info* info_out) {
    return guard([&] {
        write_struct(gptoss_model_info{}, info_out, "info_out");
        const Held held(handle, "model");
        const model::Model& m = *held->model;
        const io::Config& c = m.config;
        gptoss_model_info info{};
        info.num_layers = c.n_layers;
        info.hidden_size = c.hidden;
        info.intermediate_size = c.intermediate;
        info.num_heads = c.n_heads;
        info.num_kv_heads = c.n_kv_heads;
        info.head_size = c.head_dim;
        info.num_experts = c.n_experts;
        info.num_active_experts = c.n_active_experts;
        info.vocabulary_size = c.vocab;
        info.sliding_window = c.window;
        info.max_context_length = c.max_context;
        info.weights = weight_type(m.weights.lm_head.weight);
        info.kv = m.kv_f16 ? gptoss_kv_type_f16 : gptoss_kv_type_f32;
        info.tier = static_cast<gptoss_kernel_tier>(m.tuning.tier());
        info.device = m.device.info().index;
        info.weight_bytes = m.weights.device_bytes;
        info.bytes_per_token = m.weights.bytes_per_token;
        info.host_weight_bytes = m.weights.host_bytes;
        info.num_device_experts = c.n_layers * c.n_experts;
        if (const model::ExpertCache* cache = m.weights.expert_cache()) {
            const model::ExpertCache::Stats experts = cache->stats();
            info.num_device_experts = static_cast<uint32_t>(experts.on_device);
            info.expert_hits = experts.hits;
            info.expert_misses = experts.misses;
        }
        info.num_variants_left_out = m.left_out;
        write_struct(info, info_out, "info_out");
    });
}

gptoss_status gptoss_model_get_tokenizer(gptoss_model_t model, gptoss_tokenizer_t* tokenizer_out) {
    if (tokenizer_out) *tokenizer_out = nullptr;
    return guard([&] {
        const Held held(model, "model");
        require(tokenizer_out, "tokenizer_out");
        *tokenizer_out = new gptoss_tokenizer(held->tokenizer, held->table);
    });
}

gptoss_status gptoss_model_get_max_context_length(gptoss_model_t model, size_t* max_context_length_out) {
    if (max_context_length_out) *max_context_length_out = 0;
    return guard([&] {
        const Held held(model, "model");
        require(max_context_length_out, "max_context_length_out");
        *max_context_length_out = held->model->config.max_context;
    });
}

gptoss_status gptoss_model_retain(gptoss_model_t model) { return gptoss_model::retain(model); }
gptoss_status gptoss_model_release(gptoss_model_t model) { return gptoss_model::release(model); }
