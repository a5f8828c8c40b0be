#include "io/config.h"

#include "io_helpers.h"

using namespace gptoss;
using namespace gptoss::io;
using namespace gptoss::io::test;
using nlohmann::json;

namespace {

json tiny() { return json::parse(read_bytes(golden("tiny/config.json"))); }
json original() { return json::parse(read_bytes(golden("tiny-original/config.json"))); }

Config parse_text(const std::string& text) { return parse_config(text.data(), text.size(), "dir/config.json"); }
Config parse(const json& config) { return parse_text(config.dump()); }

void check_field_refused(const char* field, const json& value) {
    CAPTURE(field);
    json config = tiny();
    config[field] = value;
    check_refused([&] { parse(config); }, {"dir/config.json", field});
}

}  // namespace

TEST_CASE("config.json: the fields of both layouts") {
    const Config a = parse(tiny()), b = parse(original());
    CHECK(a.n_experts == b.n_experts);
    CHECK(a.n_active_experts == b.n_active_experts);
    CHECK(a.sliding == b.sliding);
    CHECK(b.max_context == 131072);  // 4096 stretched by 32
    CHECK(b.rope_beta_fast == 32);
    CHECK(b.rope_beta_slow == 1);
    CHECK_FALSE(b.rope_truncate);
    CHECK(a.eos_tokens == std::vector{511u});
    CHECK(b.eos_tokens.empty());
    json config = tiny();
    config["eos_token_id"] = {200, 3};
    CHECK(parse(config).eos_tokens == std::vector{200u, 3u});
    config["eos_token_id"] = nullptr;
    CHECK(parse(config).eos_tokens.empty());
    config["layer_types"] = {"full_attention", "full_attention", "sliding_attention", "full_attention"};
    CHECK(parse(config).sliding == std::vector{false, false, true, false});
    config.erase("layer_types");
    CHECK(parse(config).sliding == std::vector{true, false, true, false});
    config.erase("model_type");
    CHECK(parse(config).n_layers == 4);  // architectures is enough
}

TEST_CASE("config.json: every form of the rotary embedding") {
    json config = tiny(), rope = config["rope_scaling"];
    config.erase("rope_scaling");
    CHECK(parse(config).rope_factor == 32);  // gpt-oss's default
    config["rope_scaling"] = nullptr;
    CHECK(parse(config).rope_factor == 1);
    config.erase("rope_scaling");
    config.erase("rope_theta");
    rope["rope_theta"] = 10000;
    rope["factor"] = 8.5;
    config["rope_parameters"] = rope;  // as transformers 5 writes it
    CHECK(parse(config).rope_theta == 10000);
    CHECK(parse(config).rope_factor == 8.5f);
    CHECK_FALSE(parse(config).rope_truncate);
    rope.erase("truncate");
    config["rope_parameters"] = rope;
    CHECK(parse(config).rope_truncate);
    rope["attention_factor"] = 0.1 * std::log(8.5) + 1;
    config["rope_parameters"] = rope;
    CHECK(parse(config).rope_factor == 8.5f);
    CHECK(parse(config).rope_attention_factor == 1);
    rope["attention_factor"] = 1.0;
    config["rope_parameters"] = rope;
    CHECK(parse(config).rope_attention_factor == static_cast<float>(1 / (0.1 * std::log(8.5) + 1)));
    rope.erase("attention_factor");
    rope["mscale"] = 1.5;
    config["rope_parameters"] = rope;
    check_refused([&] { parse(config); }, {"dir/config.json", "rope_parameters", "mscale_all_dim", "is missing"});
    rope["mscale_all_dim"] = 0.5;
    config["rope_parameters"] = rope;
    const double log_factor = 0.1 * std::log(8.5);
    CHECK(parse(config).rope_attention_factor ==
          doctest::Approx((1.5 * log_factor + 1) / (0.5 * log_factor + 1) / (log_factor + 1)));
    config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 500}};
    CHECK(parse(config).rope_factor == 1);
    CHECK(parse(config).rope_theta == 500);
    config["rope_parameters"] = {{"rope_type", "llama3"}};
    check_refused([&] { parse(config); }, {"dir/config.json", "rope_type", "'llama3'", "'yarn'"});
    config["rope_parameters"] = {{"rope_type", "yarn"}};
    check_refused([&] { parse(config); }, {"dir/config.json", "\"factor\" is missing"});
    config["rope_parameters"] = 5;
    check_refused([&] { parse(config); }, {"dir/config.json", "rope_parameters is 5"});
}

TEST_CASE("config.json: rope_parameters of each type of layer") {
    json config = tiny(), rope = config["rope_scaling"];
    rope["factor"] = 8.5;
    rope["rope_theta"] = 10000;
    config.erase("rope_scaling");
    config.erase("rope_theta");
    config["rope_parameters"] = {{"full_attention", rope}, {"sliding_attention", rope}};
    const Config c = parse(config);
    CHECK(c.rope_factor == 8.5f);
    CHECK(c.rope_theta == 10000);
    CHECK_FALSE(c.rope_truncate);
    config["rope_parameters"]["sliding_attention"]["rope_theta"] = 20000;
    check_refused([&] { parse(config); }, {"dir/config.json", "rope_parameters", "differs", "sliding_attention"});
    config["rope_parameters"] = {{"full_attention", rope}};
    check_refused([&] { parse(config); }, {"dir/config.json", "rope_parameters", "\"sliding_attention\" is missing"});
    config["rope_parameters"] = {{"full_attention", rope}, {"sliding_attention", rope}, {"rope_theta", 1}};
    check_refused([&] { parse(config); }, {"dir/config.json", "rope_parameters", "nothing beside"});
    // in a form that nobody has used yet, and which would be plain RoPE if it were not looked at
    for (const char* name : {"yarn", "some_attention", "low_freq_factor"}) {
        config["rope_parameters"] = {{name, rope}};
        check_refused([&] { parse(config); }, {"dir/config.json", name, "does not know"});
    }
    rope["partial_rotary_factor"] = 0.5;
    config["rope_parameters"] = rope;
    check_refused([&] { parse(config); }, {"dir/config.json", "partial_rotary_factor is 0.5: expected 1"});
}

TEST_CASE("config.json: an activation or a quantization that the kernels do not have is refused") {
    check_field_refused("hidden_act", "gelu");
    check_field_refused("hidden_act", 1);
    const auto refused = [](const json& quantization, const char* name) {
        json config = tiny();
        config["quantization_config"] = quantization;
        check_refused([&] { parse(config); }, {"dir/config.json", name, "MXFP4", "openai/gpt-oss-20b"});
    };
    refused({{"quant_method", "gptq"}}, "'gptq'");
    refused({{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}, "'bitsandbytes'");
    refused({{"load_in_4bit", true}}, "unnamed");
    refused({{"bits", 4}, {"group_size", 32}}, "MLX");
    json config = tiny();
    config["quantization_config"] = nullptr;
    CHECK(parse(config).n_layers == 4);
}

TEST_CASE("config.json: text that is no config") {
    for (const char* text : {"", " ", "{", "[]", "null", "7", "\"x\"", "{\"a\":}", "{\"a\":1}x", "\xff\xfe{}",
                             "{\"\xc3\x28\":1}", "{\"rope_theta\":1e999}"}) {
        CAPTURE(text);
        check_refused([&] { parse_text(text); }, {"dir/config.json: is not"});
    }
    check_refused([&] { parse_text("{}"); }, {"dir/config.json", "not a gpt-oss model"});
    check_refused([&] { parse_text("{\"a\":1,\"a\":2}"); }, {"dir/config.json", "'a' appears twice"});
    for (const char* bracket : {"[", "{\"a\":"}) {
        std::string deep = "{\"a\":";
        for (int i = 0; i < 100000; i++) deep += bracket;
        check_refused([&] { parse_text(deep); }, {"dir/config.json", "deep"});
    }
}

TEST_CASE("config.json: another architecture is refused by its name") {
    check_field_refused("model_type", "llama");
    check_field_refused("model_type", 3);
    check_field_refused("tie_word_embeddings", "no");
    json config = tiny();
    config.erase("model_type");
    config["architectures"] = {"Qwen3MoeForCausalLM"};
    check_refused([&] { parse(config); }, {"dir/config.json", "architectures", "Qwen3MoeForCausalLM"});
    config.erase("architectures");
    check_refused([&] { parse(config); }, {"dir/config.json", "not a gpt-oss model"});
}

TEST_CASE("config.json: a missing, mistyped, negative or absurd size is refused by its name") {
    for (const char* field :
         {"num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
          "num_local_experts", "num_experts_per_tok", "vocab_size", "sliding_window"}) {
        CAPTURE(field);
        json config = tiny();
        config.erase(field);
        config.erase("experts_per_token");  // the same under another name
        check_refused([&] { parse(config); }, {"dir/config.json", field, "is missing"});
        for (const json& value : {json(-1), json("96"), json(1.5), json(true), json(json::array({96})),
                                  json(4294967296), json(18446744073709551615u), json(1e300)}) {
            CAPTURE(value.dump());
            check_field_refused(field, value);
        }
    }
    auto refused = [](const char* field, const json& value, const char* name) {
        CAPTURE(field);
        CAPTURE(value.dump());
        json config = tiny();
        config[field] = value;
        if (std::string(field) == "num_hidden_layers") config.erase("layer_types");
        check_refused([&] { parse(config); }, {"dir/config.json", name, "expected"});
    };
    for (const json& absurd : {json(0), json(4294967295u)}) {
        refused("num_hidden_layers", absurd, "the number of layers");
        refused("hidden_size", absurd, "hidden_size");
        refused("intermediate_size", absurd, "intermediate_size");
        refused("num_attention_heads", absurd, "attention heads");
        refused("num_key_value_heads", absurd, "key-value heads");
        refused("num_local_experts", absurd, "experts");
        refused("num_experts_per_tok", absurd, "experts per token");
        refused("vocab_size", absurd, "vocab_size");
        refused("sliding_window", absurd, "sliding_window");
        refused("max_position_embeddings", absurd, "longest context");
        refused("head_dim", absurd, "head_dim");
    }
    refused("hidden_size", 100, "hidden_size");
    refused("intermediate_size", 33, "intermediate_size");
    refused("head_dim", 128, "head_dim");
    refused("num_key_value_heads", 3, "key-value heads");
    refused("num_key_value_heads", 16, "key-value heads");
    refused("num_experts_per_tok", 9, "experts per token");
    // what kernels have no room for
    refused("num_attention_heads", 130, "attention heads");  // two key-value heads
    refused("num_local_experts", 1025, "experts");
    refused("vocab_size", 65535 * 64 + 1, "vocab_size");
    json config = tiny();
    config["num_local_experts"] = 64;
    config["num_experts_per_tok"] = config["experts_per_token"] = 33;
    check_refused([&] { parse(config); }, {"dir/config.json", "experts per token", "1 to 32"});
}

TEST_CASE("config.json: constants that no model can have are refused by their name") {
    for (const json& value : {json(0), json(-1e-5), json(2), json("1e-5"), json(1e300)})
        check_field_refused("rms_norm_eps", value);
    for (const json& value : {json(0), json(-7), json(1e30), json(json::object())})
        check_field_refused("swiglu_limit", value);
    for (const json& value : {json(0), json(1), json(-150000), json(1e30)}) check_field_refused("rope_theta", value);
    for (const json& value : {json("x"), json(-1), json(1.5), json(json::array({"x"}))})
        check_field_refused("eos_token_id", value);
    for (const json& value : {json(5), json(json::array({"full_attention"})),
                              json(json::array({"full_attention", "full_attention", 1, "full_attention"}))})
        check_field_refused("layer_types", value);
    auto rope_refused = [](const char* field, const json& value, const char* name) {
        CAPTURE(value.dump());
        json config = tiny();
        config["rope_scaling"][field] = value;
        check_refused([&] { parse(config); }, {"dir/config.json", name});
    };
    for (const json& value : {json(0), json(0.5), json(-32), json(1e30), json("32")})
        rope_refused("factor", value, "factor");
    for (const json& value : {json(0), json(-1), json(32), json(33), json(1e300)})
        rope_refused("beta_slow", value, "beta_slow");
    for (const json& value : {json(0), json(-1), json(1.5), json(4294967295u)})
        rope_refused("original_max_position_embeddings", value, "original");
    for (const json& value : {json(0), json(-1), json(1e30), json("32")}) {
        json config = original();
        config["rope_scaling_factor"] = value;
        check_refused([&] { parse(config); }, {"dir/config.json", "factor"});
    }
    rope_refused("truncate", 1, "truncate");
    rope_refused("attention_factor", 0, "attention factor");
    rope_refused("rope_type", 1, "rope_type");
}

TEST_CASE("check_config refuses numbers that are not finite") {
    Config good = parse(tiny());
    check_config(good, "x");
    for (float bad : {NAN, INFINITY, -INFINITY})
        for (auto field : {&Config::norm_eps, &Config::swiglu_limit, &Config::swiglu_alpha, &Config::rope_theta,
                           &Config::rope_factor, &Config::rope_beta_fast, &Config::rope_beta_slow}) {
            Config c = good;
            c.*field = bad;
            check_refused([&] { check_config(c, "x.gguf"); }, {"x.gguf: ", "expected"});
        }
}
