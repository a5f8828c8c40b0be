#include "engine/embed.h"

#include <cstring>
#include <vector>

#include "api/common.h"
#include "api/model.h"

using namespace gptoss;
using namespace gptoss::api;

static_assert(static_cast<int>(model::Pooling::Mean) == gptoss_pooling_mean);

gptoss_status gptoss_model_embed(gptoss_model_t model, size_t num_texts, const uint32_t* tokens,
                                 const size_t* num_tokens, const gptoss_embedding_options* options,
                                 float* embeddings_out) {
    return guard([&] {
        const Held held(model, "model");
        const gptoss_embedding_options in = read_struct(options, "options");
        const int pooling = enum_value(in.pooling);
        if (pooling < 0 || pooling > gptoss_pooling_mean)
            throw Error(Status::InvalidArgument,
                        "options.pooling is " + std::to_string(pooling) + ", which is no value of enum gptoss_pooling");
        if (num_texts == 0) return;
        require(tokens, "tokens");
        require(num_tokens, "num_tokens");
        require(embeddings_out, "embeddings_out");
        std::vector<std::span<const uint32_t>> texts;
        for (size_t i = 0; i < num_texts; i++) {
            texts.push_back({tokens, num_tokens[i]});
            tokens += num_tokens[i];
        }
        embed(held->model, texts, static_cast<model::Pooling>(pooling), in.unnormalized == 0, embeddings_out);
    });
}

gptoss_status gptoss_model_unembed(gptoss_model_t model, size_t num_states, const float* states, float* logits_out) {
    return guard([&] {
        const Held held(model, "model");
        if (num_states == 0) return;
        require(states, "states");
        require(logits_out, "logits_out");
        unembed(*held->model, {states, num_states * held->model->config.hidden}, logits_out);
    });
}
