// Damaged GGUF files.
#include "io/gguf.h"

#include "io_helpers.h"

using namespace gptoss;
using namespace gptoss::io;
using namespace gptoss::io::test;

namespace {

constexpr uint32_t u8_type = 0, u32_type = 4, i32_type = 5, f32_type = 6, bool_type = 7, string_type = 8,
                   array_type = 9, u64_type = 10;

Config parse(const std::string& bytes) {
    const Gguf gguf = Gguf::parse(
        [&](uint64_t at, std::byte* out, size_t n) {
            REQUIRE(at + n <= bytes.size());
            std::memcpy(out, bytes.data() + at, n);
        },
        bytes.size(), "m.gguf", is_model_key);
    check_gguf_architecture(gguf);
    TensorTable table("m.gguf");
    table.add(gguf_tensors(gguf), nullptr);
    return parse_gguf_config(gguf, table.find("token_embd.weight"));
}

void check_bytes_refused(const std::string& bytes, std::initializer_list<std::string> words) {
    check_refused([&] { parse(bytes); }, words);
}

GgufFile tiny() { return GgufFile::load(golden("tiny-bf16.gguf")); }

// The file as a checkpoint, which checks its tensors too.
void check_checkpoint_refused(const GgufFile& file, std::initializer_list<std::string> words) {
    TempDirectory directory;
    const std::string path = directory.write("m.gguf", file.bytes());
    check_refused([&] { Checkpoint checkpoint(path); }, words);
}

std::string head(uint32_t version, uint64_t n_tensors, uint64_t n_metadata) {
    return "GGUF" + raw(version) + raw(n_tensors) + raw(n_metadata);
}

}  // namespace

TEST_CASE("gguf: a rewritten file, of either version, is the same model") {
    for (uint32_t version : {2, 3}) {
        GgufFile file = tiny();
        file.version = version;
        const Config c = parse(file.bytes());
        CHECK(c.n_layers == 4);
        CHECK(c.vocab == 512);
        CHECK(c.eos_tokens == std::vector{511u});
        CHECK(c.rope_factor == 32);
        CHECK_FALSE(c.rope_truncate);
    }
}

TEST_CASE("gguf: a file cut anywhere is refused") {
    const std::string bytes = tiny().bytes();
    const size_t header_end = bytes.find("blk.3.ffn_down_exps.bias") + 60;
    for (size_t n = 0; n < header_end; n += n < 200 ? 1 : 13)
        check_bytes_refused(bytes.substr(0, n), {"m.gguf: truncated"});
    // Past the header only the checks of the tensors' spans can tell.
    for (size_t n : {header_end, bytes.size() / 2, bytes.size() - 40000, bytes.size() - 4096})
        check_bytes_refused(bytes.substr(0, n), {"m.gguf: truncated", "tensor"});
}

TEST_CASE("gguf: a false signature, version or count is refused") {
    check_bytes_refused("GGUG" + std::string(100, '\0'), {"m.gguf", "not a GGUF file"});
    for (uint32_t version : {0u, 1u, 4u, 0x03000000u, UINT32_MAX})
        check_bytes_refused(head(version, 0, 0), {"m.gguf", "version"});
    for (uint64_t n : {uint64_t{1} << 60, UINT64_MAX, uint64_t{1} << 17}) {
        check_bytes_refused(head(3, n, 0), {"m.gguf", "tensors are too many"});
        check_bytes_refused(head(3, 0, n), {"m.gguf", "metadata entries are too many"});
    }
    check_bytes_refused(head(3, 0, 1), {"m.gguf: truncated", "metadata key"});
    check_bytes_refused(head(3, 1, 0), {"m.gguf: truncated", "tensor's name"});
    check_bytes_refused(head(3, 0, 0), {"m.gguf", "general.architecture"});
}

TEST_CASE("gguf: damaged metadata is refused by its key") {
    auto refused = [](const std::string& entry, std::initializer_list<std::string> words) {
        check_bytes_refused(head(3, 0, 1) + entry, words);
    };
    for (uint64_t n : {uint64_t{1} << 60, UINT64_MAX, uint64_t{1000}})
        refused(raw(n) + "key", {"m.gguf: truncated", "metadata key"});
    refused(raw(uint64_t{1 << 17}) + std::string(1 << 18, 'x'), {"m.gguf", "metadata key", "too long"});
    refused(gguf_string("some.key") + raw(13u) + std::string(64, '\0'), {"m.gguf", "'some.key'", "unknown type 13"});
    refused(gguf_string("some.key") + raw(UINT32_MAX), {"m.gguf", "'some.key'", "unknown type"});
    for (uint64_t n : {uint64_t{1} << 60, UINT64_MAX, UINT64_MAX - 8}) {
        refused(gguf_string("some.key") + raw(string_type) + raw(n) + "abc", {"m.gguf: truncated", "'some.key'"});
        refused(gguf_string("general.architecture") + raw(string_type) + raw(n) + "gpt-oss",
                {"m.gguf: truncated", "'general.architecture'"});
        for (uint32_t element : {u8_type, f32_type, string_type, array_type, u64_type})
            refused(gguf_string("an.array") + raw(array_type) + raw(element) + raw(n) + std::string(64, '\0'),
                    {"m.gguf: truncated", "'an.array'", "array"});
    }
    refused(gguf_string("an.array") + raw(array_type) + raw(77u) + raw(uint64_t{1}),
            {"m.gguf", "'an.array'", "type 77"});
    std::string nested = gguf_string("an.array");
    for (int i = 0; i < 1000; i++) nested += raw(array_type) + (i ? raw(uint64_t{1}) : "");
    refused(nested + std::string(64, '\0'), {"m.gguf", "'an.array'", "nested"});
    // A key and a string may hold anything, but not the message.
    refused(gguf_string("\x1b[31m\xff") + raw(13u), {"'?[31m?'"});
    GgufFile file = tiny();
    file.metadata.push_back(file.metadata[0]);
    check_bytes_refused(file.bytes(), {"m.gguf", "appears twice"});
}

TEST_CASE("gguf: arrays and keys that are not the model's are skipped") {
    GgufFile file = tiny();
    file.set("x.words", array_type, raw(string_type) + raw(uint64_t{2}) + gguf_string("a") + gguf_string(""));
    file.set(
        "x.nested", array_type,
        raw(array_type) + raw(uint64_t{2}) + raw(u8_type) + raw(uint64_t{1}) + "x" + raw(u64_type) + raw(uint64_t{0}));
    file.set("x.flag", bool_type, "\x01");
    file.set("x.text", string_type, gguf_string(std::string(1 << 20, 'x')));
    file.set("gpt-oss.array", array_type, raw(u32_type) + raw(uint64_t{1}) + raw(7u));
    CHECK(parse(file.bytes()).n_layers == 4);
}

TEST_CASE("gguf: signed integers and arrays of one value a layer are read") {
    GgufFile file = tiny();
    file.set("gpt-oss.block_count", i32_type, raw(int32_t{4}));
    file.set("gpt-oss.embedding_length", 11, raw(int64_t{96}));
    file.set("gpt-oss.attention.sliding_window", 1, raw(int8_t{127}));
    file.set("gpt-oss.attention.head_count_kv", array_type,
             raw(i32_type) + raw(uint64_t{4}) + raw(2) + raw(2) + raw(2) + raw(2));
    file.set("gpt-oss.attention.sliding_window_pattern", array_type,
             raw(bool_type) + raw(uint64_t{4}) + std::string("\x01\x00\x00\x01", 4));
    const Config c = parse(file.bytes());
    CHECK(c.n_layers == 4);
    CHECK(c.hidden == 96);
    CHECK(c.window == 127);
    CHECK(c.n_kv_heads == 2);
    CHECK(c.sliding == std::vector{true, false, false, true});
    file.set("gpt-oss.attention.sliding_window_pattern", u32_type, raw(4u));
    CHECK(parse(file.bytes()).sliding == std::vector{true, true, true, false});
    file.set("gpt-oss.attention.sliding_window_pattern", array_type, raw(bool_type) + raw(uint64_t{1}) + "\x01");
    check_bytes_refused(file.bytes(), {"m.gguf", "sliding_window_pattern", "1 elements"});
}

TEST_CASE("gguf: what would change results is honoured or refused") {
    GgufFile file = tiny();
    CHECK(parse(file.bytes()).rope_attention_factor == 1);
    file.set("gpt-oss.rope.scaling.attn_factor", f32_type, raw(0.5f));
    CHECK(parse(file.bytes()).rope_attention_factor == 0.5f);
    file.set("gpt-oss.rope.scaling.yarn_attn_factor", f32_type, raw(0.75f));
    CHECK(parse(file.bytes()).rope_attention_factor == 0.75f);
    const auto refused = [](const std::string& key, uint32_t type, const std::string& value,
                            std::initializer_list<std::string> words) {
        GgufFile file = tiny();
        file.set(key, type, value);
        check_bytes_refused(file.bytes(), words);
    };
    refused("gpt-oss.rope.scaling.attn_factor", f32_type, raw(-1.0f), {"attention factor is -1: expected"});
    refused("gpt-oss.rope.scaling.yarn_ext_factor", f32_type, raw(0.5f), {"yarn_ext_factor' is 0.5: expected 1"});
    refused("gpt-oss.rope.scaling.yarn_log_multiplier", f32_type, raw(0.1f),
            {"yarn_log_multiplier' is 0.1: expected 0"});
    refused("gpt-oss.rope.dimension_count", u32_type, raw(32u), {"rope.dimension_count' is 32: expected 64"});
    refused("gpt-oss.attention.value_length", u32_type, raw(128u), {"attention.value_length' is 128: expected 64"});
}

TEST_CASE("gguf: a missing, mistyped or absurd size is refused by its key") {
    auto refused = [](const std::string& key, uint32_t type, const std::string& value,
                      std::initializer_list<std::string> words) {
        CAPTURE(key);
        GgufFile file = tiny();
        file.set(key, type, value);
        check_bytes_refused(file.bytes(), words);
    };
    for (std::string key : {"block_count", "embedding_length", "attention.head_count", "attention.head_count_kv",
                            "expert_count", "expert_used_count", "attention.sliding_window", "context_length"}) {
        key = "gpt-oss." + key;
        refused(key, f32_type, raw(4.0f), {"m.gguf", key, "integer"});
        refused(key, string_type, gguf_string("4"), {"m.gguf", key, "integer"});
        refused(key, u64_type, raw(uint64_t{1} << 40), {"m.gguf", key, "too large"});
        refused(key, u32_type, raw(0u), {"m.gguf", "is 0: expected"});
        refused(key, u32_type, raw(UINT32_MAX), {"m.gguf", "is 4294967295: expected"});
        refused(key, i32_type, raw(int32_t{-4}), {"m.gguf", key, "-4: too small"});
        refused(key, array_type, raw(u32_type) + raw(uint64_t{2}) + raw(4u) + raw(5u), {"m.gguf", key, "layer"});
        refused(key, array_type, raw(f32_type) + raw(uint64_t{1}) + raw(4.0f), {"m.gguf", key, "missing"});
    }
    refused("gpt-oss.attention.key_length", u32_type, raw(80u), {"m.gguf", "head_dim is 80"});
    refused("general.architecture", string_type, gguf_string("llama"), {"m.gguf", "'llama'", "'gpt-oss'"});
    refused("general.architecture", u32_type, raw(1u), {"m.gguf", "general.architecture", "string"});
    for (const char* key :
         {"gpt-oss.attention.layer_norm_rms_epsilon", "gpt-oss.rope.freq_base", "gpt-oss.rope.scaling.factor"}) {
        for (float bad : {NAN, INFINITY, -INFINITY}) refused(key, f32_type, raw(bad), {"m.gguf", key, "finite"});
        for (float bad : {0.0f, -1.0f, 1e30f}) refused(key, f32_type, raw(bad), {"m.gguf", "expected"});
        refused(key, u32_type, raw(1u), {"m.gguf", key, "floating-point"});
    }
    refused("gpt-oss.rope.scaling.type", string_type, gguf_string("linear"),
            {"m.gguf", "rope.scaling.type", "'linear'"});
    for (uint32_t bad : {0u, 3u, 48u, 1u << 30})
        refused("general.alignment", u32_type, raw(bad), {"m.gguf", "general.alignment"});
    refused("general.alignment", string_type, gguf_string("32"), {"m.gguf", "general.alignment"});
}

TEST_CASE("gguf: damaged tensor entries are refused by the tensor's name") {
    auto refused = [](auto&& damage, std::initializer_list<std::string> words) {
        GgufFile file = tiny();
        damage(file.tensor("blk.1.attn_q.weight"));
        check_bytes_refused(file.bytes(), words);
    };
    const std::string name = "blk.1.attn_q.weight";
    refused([](auto& t) { t.dimensions = {96, 512, 1, 1, 1}; }, {"m.gguf", name, "5 dimensions"});
    refused([](auto& t) { t.dimensions = {uint64_t{1} << 32, uint64_t{1} << 32}; }, {"m.gguf", name, "overflow"});
    refused([](auto& t) { t.dimensions = {uint64_t{1} << 62}; }, {"m.gguf", name, "overflow"});
    refused([](auto& t) { t.dimensions = {96, uint64_t{1} << 50}; }, {"m.gguf: truncated", name});
    refused([](auto& t) { t.dimensions[1] += 16; }, {"m.gguf", "overlap", name});
    refused([](auto& t) { t.type = 8, t.dimensions = {48, 4}; }, {"m.gguf", name, "Q8_0", "multiple of 32"});
    refused([](auto& t) { t.type = 39, t.dimensions = {}; }, {"m.gguf", name, "MXFP4", "multiple of 32"});
    refused([](auto& t) { t.name = "blk.1.attn_k.weight"; }, {"m.gguf", "blk.1.attn_k.weight", "twice"});

    std::string bytes = tiny().bytes();
    const size_t at = bytes.find(name) + name.size() + 4 + 16 + 4;  // of the offset
    auto with_offset = [&](uint64_t offset) { return std::string(bytes).replace(at, 8, raw(offset)); };
    check_bytes_refused(with_offset(1), {"m.gguf", name, "not aligned"});
    check_bytes_refused(with_offset(UINT64_MAX - 31), {"m.gguf: truncated", name});
    check_bytes_refused(with_offset(bytes.size() / 32 * 32), {"m.gguf: truncated", name});
    check_bytes_refused(with_offset(0), {"m.gguf", "overlap", name});
}

TEST_CASE("gguf: a missing, mistyped or misshaped tensor is named, with what is expected and what is there") {
    for (const GgufFile::Tensor& t : tiny().tensors) {
        if (t.name.starts_with("blk.1.") || t.name.starts_with("blk.2.")) continue;
        CAPTURE(t.name);
        GgufFile file = tiny();
        file.tensor(t.name).name += "x";
        check_checkpoint_refused(file, {"/m.gguf", "'" + t.name + "'", "is missing"});
        file = tiny();
        file.tensor(t.name).type = 12;
        std::string shape;
        for (size_t i = t.dimensions.size(); i-- > 0;) shape += std::to_string(t.dimensions[i]) + (i ? ", " : ")");
        check_checkpoint_refused(
            file, {"/m.gguf", t.name, "expected", " of shape (" + shape + ", found Q4_K of shape (" + shape,
                   "ggml-org/gpt-oss-20b-GGUF"});
        file = tiny();
        file.tensor(t.name).dimensions.push_back(1);
        check_checkpoint_refused(file, {"/m.gguf", t.name});
        if (t.dimensions.size() < 2) continue;
        file = tiny();
        file.tensor(t.name).dimensions[1] /= 2;
        check_checkpoint_refused(file, {"/m.gguf", "expected", "found"});
    }
    GgufFile file = tiny();
    file.tensor("blk.0.attn_q.bias").type = 99;
    check_checkpoint_refused(file, {"'blk.0.attn_q.bias': expected F32, F16 or BF16 of shape (512), found type 99"});
}

TEST_CASE("gguf: a split model whose first file holds only metadata, by the name of any of its files") {
    GgufFile first = tiny(), second = first, third = first;
    first.tensors.clear();
    second.tensors.resize(20);
    third.tensors.erase(third.tensors.begin(), third.tensors.begin() + 20);
    TempDirectory directory;
    GgufFile* const files[] = {&first, &second, &third};
    std::vector<std::string> paths;
    for (uint16_t i = 0; i < 3; i++) {
        if (i > 0) files[i]->metadata.clear();
        files[i]->set("split.count", 2, raw(uint16_t{3}));
        files[i]->set("split.no", 2, raw(i));
        paths.push_back(directory.write("m-0000" + std::to_string(i + 1) + "-of-00003.gguf", files[i]->bytes()));
    }
    const Checkpoint expected(golden("tiny-bf16.gguf"));
    for (const std::string& path : paths) {
        CAPTURE(path);
        const Checkpoint split(path);
        CHECK(split.config.vocab == 512);
        CHECK(split.lm_head.read_f32() == expected.lm_head.read_f32());
        CHECK(split.tokenizer_path == paths[0]);
    }
    CHECK(Checkpoint(directory.path()).config.n_layers == 4);
    directory.write("m-00003-of-00003.gguf", second.bytes());
    check_refused([&] { Checkpoint checkpoint(paths[0]); }, {"m-00003-of-00003.gguf", "is file 2", "expected file 3"});
    std::filesystem::remove(paths[0]);
    check_refused([&] { Checkpoint checkpoint(paths[1]); }, {"m-00002-of-00003.gguf", "is file 2", "give the first"});
    const std::string renamed = directory.write("renamed.gguf", second.bytes());
    check_refused([&] { Checkpoint checkpoint(renamed); }, {"renamed.gguf", "is file 2", "give the first"});
}

TEST_CASE("gguf: a split model") {
    const GgufFile whole = tiny();
    GgufFile first = whole, second;
    second.tensors.assign(whole.tensors.begin() + 20, whole.tensors.end());
    first.tensors.resize(20);
    first.set("split.count", 2, raw(uint16_t{2}));
    first.set("split.no", 2, raw(uint16_t{0}));
    second.set("split.no", 2, raw(uint16_t{1}));
    TempDirectory directory;
    const std::string path = directory.write("m-00001-of-00002.gguf", first.bytes());
    check_refused([&] { Checkpoint checkpoint(path); }, {"/m-00002-of-00002.gguf: is missing", "2 files"});
    directory.write("m-00002-of-00002.gguf", second.bytes());
    const Checkpoint split(path), expected(golden("tiny-bf16.gguf"));
    CHECK(split.lm_head.read_f32() == expected.lm_head.read_f32());
    CHECK(split.layers[3].k.read_f32() == expected.layers[3].k.read_f32());

    second.tensors.push_back(whole.tensors[3]);
    directory.write("m-00002-of-00002.gguf", second.bytes());
    check_refused([&] { Checkpoint checkpoint(path); }, {"m-00002-of-00002.gguf", whole.tensors[3].name, "00001"});
    const std::string renamed = directory.write("m.gguf", first.bytes());
    check_refused([&] { Checkpoint checkpoint(renamed); }, {"/m.gguf", "2 files", "-00001-of-00002.gguf"});
    for (uint64_t count : {uint64_t{100000}, uint64_t{1} << 40, UINT64_MAX}) {
        first.set("split.count", u64_type, raw(count));
        directory.write("m-00001-of-00002.gguf", first.bytes());
        check_refused([&] { Checkpoint checkpoint(path); }, {"m-00001-of-00002.gguf", "split"});
    }
}
