// What the bytes of a checkpoint do to the model: those that are no weights are refused, and any that differ make
// another model.
#include <gptoss.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>

#include "../unit/io_helpers.h"
#include "reference.h"
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

namespace {

// tiny, with its tensors and its config changed by f.
struct ChangedTiny {
    template <typename F>
    explicit ChangedTiny(const F& f) {
        io::test::SafetensorsFile file = io::test::SafetensorsFile::load(golden("tiny/model.safetensors"));
        nlohmann::json config = nlohmann::json::parse(io::test::read_bytes(golden("tiny/config.json")));
        f(file, config);
        io::test::close_gaps(file);
        directory.write("config.json", config.dump());
        directory.write("model.safetensors", file.bytes());
    }
    std::shared_ptr<const model::Model> load(model::ModelOptions options = {}) {
        options.log = [this](int, const std::string& line) { log += line + "\n"; };
        return test::load(directory.path(), options);
    }

    io::test::TempDirectory directory;
    std::string log;
};

std::vector<float> tiny_logits(const std::shared_ptr<const model::Model>& model) {
    auto tokens = read_array<uint32_t>(golden("tiny/tokens.u32"));
    tokens.resize(40);
    model::Sequence context(model, 0, 64);
    context.append(tokens);
    return logits_of(context);
}

// What the log says that quantizing cost.
double logged_error(const std::string& log) {
    const std::string before = "quantized to MXFP4, with an error of ";
    const size_t at = log.find(before);
    REQUIRE(at != log.npos);
    return std::stod(log.substr(at + before.size()));
}

}  // namespace

TEST_CASE("weights: tiny with its experts in BF16 is tiny, since quantizing them again loses nothing") {
    const auto tiny = load(golden("tiny"));
    const auto expected = tiny_logits(tiny);
    ChangedTiny changed([](auto& file, auto& config) {
        io::test::dequantize_experts(file);
        config.erase("quantization_config");
    });
    const auto model = changed.load();
    CHECK(relative_l2(tiny_logits(model), expected) <= 1e-6);
    CHECK(model->weights.device_bytes == tiny->weights.device_bytes);
    CHECK(logged_error(changed.log) == 0);
    const auto positions = read_array<uint32_t>(golden("tiny/positions.u32"));
    model::Sequence context(model, 0, 64);
    CHECK(relative_l2(logits_at(context, read_array<uint32_t>(golden("tiny/tokens.u32")), positions),
                      read_array<float>(golden("tiny/logits.f32"))) <= 3e-3);
}

TEST_CASE("weights: random experts in BF16 cost what MXFP4 costs, and the log says how much") {
    std::mt19937 random(11);
    std::normal_distribution<float> normal(0, 0.02f);
    ChangedTiny changed(
        [&](auto& file, auto&) { io::test::replace_experts(file, [&](float) { return normal(random); }); });
    const auto model = changed.load();
    const double error = logged_error(changed.log);
    MESSAGE("a relative error of " << error);
    // by the definition of MXFP4, from the file
    const io::Checkpoint checkpoint(changed.directory.path());
    double lost = 0, squares = 0;
    for (const io::LayerTensors& layer : checkpoint.layers)
        for (const io::Experts* experts : {&layer.gate_up, &layer.down})
            for (uint64_t e = 0; e < experts->n_experts; e++) {
                static const float fp4[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
                std::vector<std::byte> blocks(experts->rows * experts->cols / 2), scales(blocks.size() / 16);
                experts->read(e, 0, experts->rows, blocks.data(), scales.data());
                const auto quantized = [&](uint64_t at) {
                    const auto code = std::to_integer<unsigned>(blocks[at / 2]) >> at % 2 * 4 & 15;
                    return std::ldexp(code & 8 ? -fp4[code & 7] : fp4[code & 7],
                                      std::to_integer<int>(scales[at / 32]) - 127);
                };
                for (uint64_t r = 0; r < experts->rows; r++)
                    for (uint64_t c = 0; c < experts->cols; c++) {
                        std::byte bytes[2];
                        const auto& part = experts->parts[0];
                        part.file->read(part.offset + ((e * experts->cols + c) * experts->rows + r) * 2, bytes, 2);
                        float value;
                        io::to_f32(io::DType::BF16, bytes, 1, &value);
                        lost += std::pow(double{value} - quantized(r * experts->cols + c), 2);
                        squares += double{value} * value;
                    }
            }
    CHECK(error == doctest::Approx(std::sqrt(lost / squares)).epsilon(0.006));  // three digits are logged
    CHECK(error > 0.08);                                                        // of a normal distribution, with 4 bits
    CHECK(error < 0.13);
    // and the model is the one of these weights
    auto tokens = read_array<uint32_t>(golden("tiny/tokens.u32"));
    tokens.resize(40);
    const uint32_t last[] = {39};
    CHECK(relative_l2(tiny_logits(model), reference_logits(checkpoint, tokens, last).logits) <= 3e-3);
}

TEST_CASE("weights: unquantized experts with a value that is no number are refused by name") {
    ChangedTiny changed([](auto& file, auto&) {
        int n = 0;
        io::test::replace_experts(file, [&](float stored) { return n++ == 70000 ? NAN : stored; });
    });
    check_refused(Status::IoError, "mlp.experts.gate_up_proj' holds NaN", [&] { changed.load(); });
}

TEST_CASE("weights: with tied embeddings lm_head is the embedding, in the same memory") {
    const auto untied = [](auto& file, auto&) {
        io::test::put_tensor(
            file, "lm_head.weight", "BF16", {512, 96},
            file.data.substr(file.header["model.embed_tokens.weight"]["data_offsets"][0], 512 * 96 * 2));
    };
    const auto tied = [](auto& file, auto& config) {
        file.header.erase("lm_head.weight");
        config["tie_word_embeddings"] = true;
    };
    ChangedTiny one(tied), two(untied);
    for (const uint32_t dense : {UINT32_MAX, uint32_t{WEIGHT_Q8}}) {
        const auto model = one.load({.load = {.dense = dense}}), other = two.load({.load = {.dense = dense}});
        CHECK(tiny_logits(model) == tiny_logits(other));
        CHECK(model->weights.device_bytes + 512 * 96 <= other->weights.device_bytes);
    }
}

TEST_CASE("weights: a vocabulary of any size, also with tied embeddings") {
    const auto tiny = load(golden("tiny"));
    auto expected = tiny_logits(tiny);
    for (const uint64_t vocab : {uint64_t{511}, uint64_t{449}}) {
        CAPTURE(vocab);
        ChangedTiny changed([&](auto& file, auto& config) {
            for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
                io::test::put_tensor(file, name, "BF16", {vocab, 96},
                                     file.data.substr(file.header[name]["data_offsets"][0], vocab * 96 * 2));
            config["vocab_size"] = vocab;
        });
        auto tokens = read_array<uint32_t>(golden("tiny/tokens.u32"));
        tokens.resize(40);
        for (uint32_t& token : tokens) token %= 449;
        model::Sequence context(changed.load(), 0, 64), whole(tiny, 0, 64);
        context.append(tokens);
        whole.append(tokens);
        auto got = logits_of(context), of_all = logits_of(whole);
        REQUIRE(got.size() == vocab);
        of_all.resize(vocab);
        CHECK(relative_l2(got, of_all) <= 1e-6);
    }
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
