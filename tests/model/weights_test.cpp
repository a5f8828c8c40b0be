// What the bytes of a checkpoint do to the model: those that are no weights are refused, and any that differ make
// another model.
#include <gptoss.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "../unit/io_helpers.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

// A synthetic checkpoint in which a test changes bytes.
struct Damaged {
    SyntheticCheckpoint synthetic{Shape{}, 1};
    std::string path = synthetic.path() + "/model.safetensors";
    const io::test::SafetensorsFile good = io::test::SafetensorsFile::load(path);

    // Writes the file with these bytes in the middle of a tensor.
    void put(const std::string& tensor, const std::string& bytes) const {
        io::test::SafetensorsFile file = good;
        file.data.replace(middle(tensor), bytes.size(), bytes);
        std::ofstream(path, std::ios::binary) << file.bytes();
    }
    size_t middle(const std::string& tensor) const {
        const auto& span = good.header.at(tensor).at("data_offsets");
        const size_t begin = span[0], end = span[1];
        return begin + (end - begin) / 64 * 32;
    }
};

const std::string layer = "model.layers.1.";

}  // namespace

TEST_CASE("weights: models that differ in one byte anywhere have other fingerprints") {
    const Damaged checkpoint;
    const uint64_t fingerprint = small_model()->fingerprint;
    CHECK(load(checkpoint.synthetic.path())->fingerprint == fingerprint);
    std::vector<uint64_t> all = {fingerprint};
    for (const std::string& tensor :
         {std::string("model.embed_tokens.weight"), layer + "input_layernorm.weight", layer + "self_attn.v_proj.weight",
          layer + "self_attn.k_proj.bias", layer + "self_attn.sinks", layer + "mlp.router.weight",
          layer + "mlp.experts.gate_up_proj_blocks", layer + "mlp.experts.down_proj_scales",
          layer + "mlp.experts.gate_up_proj_bias", std::string("lm_head.weight")}) {
        CAPTURE(tensor);
        const char bit = 1;
        checkpoint.put(tensor,
                       std::string(1, static_cast<char>(checkpoint.good.data[checkpoint.middle(tensor)] ^ bit)));
        all.push_back(load(checkpoint.synthetic.path())->fingerprint);
        CHECK(std::count(all.begin(), all.end(), all.back()) == 1);
    }
}

TEST_CASE("weights: NaN and infinite values are refused by the tensor's name") {
    const Damaged checkpoint;
    const std::string bf16_nan("\xc0\x7f", 2), bf16_infinity("\x80\xff", 2), scale_nan("\xff", 1);
    struct {
        std::string tensor, bytes;
    } const cases[] = {{"model.embed_tokens.weight", bf16_nan},
                       {layer + "self_attn.q_proj.weight", bf16_infinity},
                       {layer + "input_layernorm.weight", bf16_nan},
                       {layer + "self_attn.v_proj.bias", bf16_nan},
                       {layer + "self_attn.sinks", bf16_nan},
                       {layer + "mlp.router.weight", bf16_nan},
                       {layer + "mlp.experts.gate_up_proj_bias", bf16_infinity},
                       {layer + "mlp.experts.down_proj_bias", bf16_nan},
                       {layer + "mlp.experts.gate_up_proj_scales", scale_nan},
                       {layer + "mlp.experts.down_proj_scales", scale_nan},
                       {"lm_head.weight", bf16_nan}};
    for (const auto& [tensor, bytes] : cases) {
        CAPTURE(tensor);
        checkpoint.put(tensor, bytes);
        std::string name = tensor;
        if (name.ends_with("_scales")) name.replace(name.size() - 7, 7, "_blocks");  // which the experts go by
        check_refused(Status::IoError, "tensor '" + name + "' holds NaN", [&] { load(checkpoint.synthetic.path()); });
        check_refused(Status::IoError, checkpoint.path,
                      [&] { load(checkpoint.synthetic.path(), {.load = {.dense = WEIGHT_Q8}}); });
    }
    // far beyond what a block of 8 bits can say, and nothing special in the file's own type
    checkpoint.put("lm_head.weight", std::string("\x00\x50", 2));
    CHECK_NOTHROW(load(checkpoint.synthetic.path()));
    check_refused(Status::IoError, "'lm_head.weight' holds values up to 8",
                  [&] { load(checkpoint.synthetic.path(), {.load = {.dense = WEIGHT_Q8}}); });

    const io::test::TempDirectory directory;
    io::test::GgufFile gguf = io::test::GgufFile::load(golden("tiny-q8.gguf"));
    gguf.tensor("output.weight").data.replace(34 * 3, 2, std::string("\x00\x7e", 2));
    check_refused(Status::IoError, "'output.weight' holds NaN", [&] { load(directory.write("m.gguf", gguf.bytes())); });
}

TEST_CASE("what the files name as eos_token_id ends an answer") {
    const SyntheticCheckpoint synthetic(Shape{}, 1);
    gptoss_model_options options{};
    options.struct_size = sizeof options;
    options.device = std::getenv("GPTOSS_TEST_DEVICE");
    struct Answer {
        std::vector<uint32_t> tokens;
        gptoss_stop_reason reason;
    };
    const auto generate = [&] {
        Answer answer{};
        gptoss_model_t model = nullptr;
        gptoss_context_t context = nullptr;
        REQUIRE(gptoss_model_create(synthetic.path().c_str(), &options, &model) == gptoss_status_success);
        REQUIRE(gptoss_context_create(model, 0, 0, &context) == gptoss_status_success);
        const uint32_t prompt[] = {1, 2, 3};
        REQUIRE(gptoss_context_append_tokens(context, 3, prompt) == gptoss_status_success);
        gptoss_generate_options how{};
        how.struct_size = sizeof how;
        how.max_tokens = 6;
        how.user_data = &answer.tokens;
        how.callback = [](void* tokens, uint32_t token) {
            static_cast<std::vector<uint32_t>*>(tokens)->push_back(token);
            return 0;
        };
        size_t n = 0;
        CHECK(gptoss_context_generate(context, nullptr, &how, &n, &answer.reason) == gptoss_status_success);
        CHECK(n == answer.tokens.size());
        gptoss_context_release(context);
        gptoss_model_release(model);
        return answer;
    };
    const Answer free = generate();
    CHECK(free.reason == gptoss_stop_reason_max_tokens);
    REQUIRE(free.tokens.size() == 6);
    const uint32_t eos = free.tokens[2];
    const auto end = std::find(free.tokens.begin(), free.tokens.end(), eos) + 1;
    uint32_t unseen = 0;  // a second one, which does not come
    while (std::find(free.tokens.begin(), free.tokens.end(), unseen) != free.tokens.end()) unseen++;
    std::ofstream(synthetic.path() + "/generation_config.json")
        << "{\"eos_token_id\":[" << unseen << "," << eos << "]}";
    const Answer stopped = generate();
    CHECK(stopped.reason == gptoss_stop_reason_stop_token);
    CHECK(stopped.tokens == std::vector<uint32_t>(free.tokens.begin(), end));
}
