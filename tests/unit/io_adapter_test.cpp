// Files of adapters: the golden ones, and ones that are damaged, hostile, or ask for what this library does not apply.
#include "io/adapter.h"

#include <algorithm>

#include "io_helpers.h"

using namespace gptoss;
using namespace gptoss::io;
using namespace gptoss::io::test;

namespace {

// Of golden/tiny
Config tiny() { return Checkpoint(golden("tiny")).config; }

// A PEFT directory that a test changes.
struct Peft {
    explicit Peft(const std::string& form = "attention")
        : config(nlohmann::json::parse(read_bytes(golden("adapters/" + form + "/adapter_config.json")))),
          model(SafetensorsFile::load(golden("adapters/" + form + "/adapter_model.safetensors"))) {}

    std::vector<LoraTensors> pairs() const {
        const TempDirectory directory;
        directory.write("adapter_config.json", config.dump());
        directory.write("adapter_model.safetensors", model.bytes());
        return AdapterFiles(directory.path(), tiny()).pairs();
    }
    void check_refused(std::initializer_list<std::string> words) const {
        io::test::check_refused([&] { pairs(); }, words);
    }
    // Gives a tensor another name.
    void rename(const std::string& from, const std::string& to) {
        model.header[to] = model.header.at(from);
        model.header.erase(from);
    }
    nlohmann::json config;
    SafetensorsFile model;
};

const std::string kLayer = "base_model.model.model.layers.0.";
const std::string kQA = kLayer + "self_attn.q_proj.lora_A.weight", kQB = kLayer + "self_attn.q_proj.lora_B.weight";

const LoraTensors& find(const std::vector<LoraTensors>& pairs, uint32_t layer, LoraTarget target) {
    return *std::find_if(pairs.begin(), pairs.end(),
                         [&](const LoraTensors& p) { return p.layer == layer && p.target == target; });
}

}  // namespace

TEST_CASE("adapter: the golden forms") {
    const Config c = tiny();
    const AdapterFiles attention(golden("adapters/attention"), c), experts(golden("adapters/experts"), c),
        each(golden("adapters/per-expert/adapter_model.safetensors"), c);
    CHECK(attention.pairs().size() == 16);
    CHECK(std::all_of(attention.pairs().begin(), attention.pairs().end(),
                      [](const LoraTensors& p) { return p.rank == 4 && p.scale == 2 && p.n_experts == 1; }));
    CHECK(experts.pairs().size() == 4 * 2 + 2 * 2);
    for (const uint32_t layer : {0, 1, 2, 3}) {
        for (const LoraTarget target : {LoraTarget::GateUp, LoraTarget::Down}) {
            const LoraTensors& p = find(experts.pairs(), layer, target);
            CHECK(p.n_experts == 8);
            CHECK(p.rank == 4);
            CHECK(p.scale == 4);  // 8 over the root of 4
            CHECK(p.fused);
            CHECK(p.rows == (target == LoraTarget::Down ? 96 : 128));
        }
    }
    CHECK(each.pairs().size() == 4 * 8 * 2);
    CHECK(std::is_sorted(each.pairs().begin(), each.pairs().end(),
                         [](const LoraTensors& a, const LoraTensors& b) { return a.layer < b.layer; }));
}

TEST_CASE("adapter: ranks and scales by pattern") {
    Peft peft;
    peft.config["alpha_pattern"] = {{"k_proj", 5}, {R"(layers\.[12]\.self_attn\.q_proj)", 12}};
    peft.config["rank_pattern"] = {{"nothing", 9}};
    const auto pairs = peft.pairs();
    CHECK(find(pairs, 0, LoraTarget::Q).scale == 2);
    CHECK(find(pairs, 1, LoraTarget::Q).scale == 3);
    CHECK(find(pairs, 3, LoraTarget::K).scale == 1.25f);
    // the first that matches counts, in the order of the file
    const std::string text = R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8,
        "alpha_pattern": {"v_proj": 1, "layers.0.self_attn.v_proj": 2, "^model\\..*o_proj": 6},
        "rank_pattern": {"o_proj": 16}})";
    const PeftConfig config(text.data(), text.size(), "config");
    CHECK(config.scale_of("model.layers.0.self_attn.v_proj") == 0.25f);
    CHECK(config.scale_of("model.layers.0.self_attn.av_proj") == 2);  // no part of a name
    CHECK(config.rank_of("model.layers.1.self_attn.o_proj") == 16);
    CHECK(config.scale_of("model.layers.1.self_attn.o_proj") == 0.375f);

    peft.config["rank_pattern"] = {{"q_proj", 8}};
    peft.check_refused({"q_proj.lora_A", "rank 4", "adapter_config.json says 8"});
    peft.config["rank_pattern"] = {{"(q_proj", 4}};
    peft.check_refused({"adapter_config.json", "'(q_proj'", "no regular expression"});
    peft.config["rank_pattern"] = {{"(([a-z.0-9_]+)+)+[XY]", 4}};
    peft.check_refused({"adapter_config.json", "takes too many steps"});
}

TEST_CASE("adapter: what is not applied is refused by name") {
    const auto refuse = [](const char* field, const nlohmann::json& value) {
        CAPTURE(field);
        Peft peft;
        peft.config[field] = value;
        peft.check_refused({"adapter_config.json", field});
    };
    refuse("peft_type", "IA3");
    refuse("use_dora", true);
    refuse("modules_to_save", {"lm_head"});
    refuse("bias", "all");
    refuse("lora_bias", true);
    refuse("fan_in_fan_out", true);
    refuse("layer_replication", {{0, 2}});
    refuse("trainable_token_indices", {1, 2});
    refuse("alora_invocation_tokens", {5});
    refuse("use_qalora", true);
    refuse("init_lora_weights", "pissa_niter_4");
    const auto misplaced = [](const std::string& name, const std::string& words) {
        CAPTURE(name);
        Peft peft;
        peft.rename(kQA, name);
        peft.check_refused({"adapter_model.safetensors", "cannot be applied", words});
    };
    misplaced(kLayer + "self_attn.q_proj.lora_magnitude_vector", "DoRA");
    misplaced("base_model.model.lm_head.lora_A.weight", "lm_head");
    misplaced("base_model.model.model.embed_tokens.lora_embedding_A", "embedding");
    misplaced(kLayer + "mlp.router.lora_A.weight", "router");
    misplaced(kLayer + "self_attn.q_proj.base_layer.bias", "biases");
    misplaced(kLayer + "self_attn.w_proj.lora_A.weight", "no such matrix");
    misplaced("base_model.model.model.layers.self_attn.q_proj.lora_A.weight", "no such matrix");
    misplaced("base_model.model.model.modules_to_save.weight", "modules");
}

TEST_CASE("adapter: hostile files") {
    SUBCASE("ranks of 0 and 10,000") {
        for (const uint64_t rank : {0, 10000}) {
            CAPTURE(rank);
            Peft peft;
            peft.config["r"] = rank;
            peft.check_refused({"adapter_config.json", "expected 1 to 4096"});
            peft.config["r"] = 4;
            peft.model.header = nlohmann::json::object();
            peft.model.header[kQA] = {{"dtype", "BF16"}, {"shape", {rank, 96}}, {"data_offsets", {0, rank * 192}}};
            peft.model.header[kQB] = {
                {"dtype", "BF16"}, {"shape", {512, rank}}, {"data_offsets", {rank * 192, rank * (192 + 1024)}}};
            peft.model.data.assign(rank * (192 + 1024), '\0');
            peft.check_refused({kQA, "rank " + std::to_string(rank)});
        }
    }
    SUBCASE("a half is missing") {
        Peft peft;
        peft.rename(kQB, "base_model.model.model.layers.0.self_attn.q_proj.lora_C.weight");
        peft.check_refused({"lora_C"});
        peft = Peft();
        peft.rename(kQA, "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight");
        peft.check_refused({"has no other half", "q_proj"});
    }
    SUBCASE("another model's shapes") {
        Peft peft;
        peft.model.header[kQA]["shape"] = {96, 4};
        peft.check_refused({kQA, "(96, 4)", "(512, 4)", "expected (rank, 96) and (512, rank)"});
        peft = Peft();
        peft.model.header[kQA]["shape"] = {384};
        peft.check_refused({kQA, "expected (rank, 96)"});
        Peft experts("experts");
        const std::string first = kLayer + "mlp.experts.base_layer.lora_A.weight";
        experts.model.header[first]["shape"] = {96, 32};
        experts.check_refused({first, "8 * rank"});
        // swapped: what a model has whose experts are stored the other way round
        std::swap(experts.model.header[first], experts.model.header[kLayer + "mlp.experts.lora_A.weight"]);
        experts.check_refused({"mlp.experts", "are not of this model"});
        for (const char* other : {"base_model.model.model.layers.4.self_attn.q_proj",
                                  "base_model.model.model.layers.4294967295.self_attn.q_proj"}) {
            Peft layers;
            layers.rename(kQA, other + std::string(".lora_A.weight"));
            layers.rename(kQB, other + std::string(".lora_B.weight"));
            layers.check_refused({"the model has 4"});
        }
        Peft each("per-expert");
        for (const char* half : {"A", "B"})
            each.rename(kLayer + "mlp.experts.down_projs.7.lora_" + half + ".weight",
                        kLayer + "mlp.experts.down_projs.8.lora_" + half + ".weight");
        each.check_refused({"expert 8", "the model has 8"});
    }
    SUBCASE("twice the same") {
        Peft peft;
        peft.rename("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight",
                    "model.layers.0.self_attn.q_proj.lora_A.weight");
        peft.check_refused({"are of the same matrix"});
        // fused experts and experts one by one
        Peft experts("experts");
        for (const char* half : {"A", "B"})
            experts.rename("base_model.model.model.layers.1.self_attn.v_proj.lora_" + std::string(half) + ".weight",
                           kLayer + "mlp.experts.down_projs.3.lora_" + half + ".weight");
        experts.model.header[kLayer + "mlp.experts.down_projs.3.lora_A.weight"]["shape"] = {6, 64};
        experts.model.header[kLayer + "mlp.experts.down_projs.3.lora_B.weight"]["shape"] = {96, 6};
        const size_t end = experts.model.data.size();
        experts.model.header[kLayer + "mlp.experts.down_projs.3.lora_B.weight"]["data_offsets"] = {end, end + 1152};
        experts.model.data.append(1152, '\0');
        experts.config["rank_pattern"] = {{"down_projs.3", 6}};
        io::test::check_refused([&] { experts.pairs(); }, {});  // whatever is seen first
    }
    SUBCASE("broken texts") {
        const TempDirectory directory;
        const auto refused = [&](std::initializer_list<std::string> words) {
            io::test::check_refused([&] { AdapterFiles(directory.path(), tiny()); }, words);
        };
        refused({"has no adapter_config.json"});
        for (const char* text : {"", "[", "[]", "{}", "null", R"({"peft_type": 3})", R"({"peft_type": "LORA"})",
                                 R"({"peft_type": "LORA", "r": "4", "lora_alpha": 8})",
                                 R"({"peft_type": "LORA", "r": 4, "lora_alpha": 1e99})",
                                 R"({"peft_type": "LORA", "r": 4, "r": 4, "lora_alpha": 8})"}) {
            CAPTURE(text);
            directory.write("adapter_config.json", text);
            refused({"adapter_config.json"});
        }
        directory.write("adapter_config.json", R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8})");
        refused({"has no adapter_model.safetensors"});
        directory.write("adapter_model.bin", "x");
        refused({"adapter_model.bin", "save the adapter as safetensors"});
        for (const std::string& bytes :
             {std::string(), std::string("\x01\0\0\0\0\0\0", 7), raw<uint64_t>(1ull << 60) + "{}",
              raw<uint64_t>(UINT64_MAX) + "{}", raw<uint64_t>(9 << 20) + std::string(9 << 20, ' '),
              SafetensorsFile::bytes("{}", "")}) {
            directory.write("adapter_model.safetensors", bytes);
            refused({"adapter_model.safetensors"});
        }
    }
    SUBCASE("types that hold no weights") {
        Peft peft;
        peft.model.header[kQA]["dtype"] = "I16";
        peft.check_refused({kQA, "I16", "expected F32, F16 or BF16"});
    }
    SUBCASE("a scale that is no number") {
        Peft peft;
        peft.config["lora_alpha"] = -3e38;
        peft.config["alpha_pattern"] = {{"q_proj", nullptr}};
        peft.check_refused({"adapter_config.json"});
    }
}

TEST_CASE("adapter: GGUF") {
    GgufFile file;
    const auto add = [&](const std::string& name, const std::vector<uint64_t>& dimensions) {
        uint64_t n = 1;
        for (const uint64_t d : dimensions) n *= d;
        file.tensors.push_back({name, dimensions, 0, std::string(n * 4, '\0')});
    };
    file.set("general.type", 8, gguf_string("adapter"));
    file.set("general.architecture", 8, gguf_string("gpt-oss"));
    file.set("adapter.type", 8, gguf_string("lora"));
    file.set("adapter.lora.alpha", 6, raw(12.0f));
    add("blk.1.attn_output.weight.lora_a", {512, 3});
    add("blk.1.attn_output.weight.lora_b", {3, 96});
    add("blk.2.ffn_up_exps.weight.lora_a", {96, 2, 8});
    add("blk.2.ffn_up_exps.weight.lora_b", {2, 64, 8});
    const TempDirectory directory;
    const auto pairs = [&](const GgufFile& of) {
        return AdapterFiles(directory.write("adapter.gguf", of.bytes()), tiny()).pairs();
    };
    const auto good = pairs(file);
    REQUIRE(good.size() == 2);
    CHECK(good[0].scale == 4);
    CHECK(good[1].scale == 6);
    CHECK(good[1].first_row == 1);
    CHECK(good[1].row_step == 2);
    CHECK(good[1].n_experts == 8);

    const auto refused = [&](const auto& change, std::initializer_list<std::string> words) {
        GgufFile changed = file;
        change(changed);
        io::test::check_refused([&] { pairs(changed); }, words);
    };
    refused([](GgufFile& f) { f.set("general.type", 8, gguf_string("model")); }, {"general.type is 'model'"});
    refused([](GgufFile& f) { f.set("general.architecture", 8, gguf_string("llama")); }, {"'llama'"});
    refused([](GgufFile& f) { f.set("adapter.type", 8, gguf_string("control")); }, {"adapter.type"});
    refused([](GgufFile& f) { f.set("adapter.alora.invocation_tokens", 4, raw(3u)); }, {"adapter.alora"});
    refused([](GgufFile& f) { f.set("adapter.lora.alpha", 6, raw(NAN)); }, {"adapter.lora.alpha"});
    refused([](GgufFile& f) { f.tensors.pop_back(); }, {"ffn_up_exps", "no other half"});
    refused([](GgufFile& f) { f.tensors.clear(); }, {"no low-rank tensors"});
    refused([](GgufFile& f) { f.tensors[0].name = "blk.1.attn_output.weight.lora_c"; },
            {"lora_c", "cannot be applied"});
    refused([](GgufFile& f) { f.tensors[0].name = "output.weight.lora_a"; }, {"output"});
    refused([](GgufFile& f) { f.tensors[0].name = "blk.1.ffn_gate_inp.weight.lora_a"; }, {"router"});
    refused([](GgufFile& f) { f.tensors[0].name = "blk.1.attn_norm.weight"; }, {"norms"});
    refused([](GgufFile& f) { f.tensors[1].name = f.tensors[0].name; }, {"listed twice"});
    refused([](GgufFile& f) { f.tensors[2].dimensions = {96, 16}; }, {"ffn_up_exps", "not of this model"});
    refused([](GgufFile& f) { f.tensors[0].dimensions = {3, 512}; }, {"attn_output", "not of this model"});
}
