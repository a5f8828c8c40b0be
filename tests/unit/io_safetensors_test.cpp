// Damaged safetensors files, indexes and directories.
#include "io/safetensors.h"

#include "io_helpers.h"

using namespace gptoss;
using namespace gptoss::io;
using namespace gptoss::io::test;
using nlohmann::json;

namespace {

std::vector<TensorInfo> parse(const std::string& header, uint64_t data_size = 1 << 20) {
    return parse_safetensors_header(header.data(), header.size(), 8 + header.size(), data_size, "m.safetensors");
}

json entry(const char* dtype, const json& shape, uint64_t begin, uint64_t end) {
    return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, end}}};
}

// A copy of tiny whose header or data the test damages.
struct Tiny {
    TempDirectory directory;
    SafetensorsFile file = SafetensorsFile::load(golden("tiny/model.safetensors"));
    std::string config = read_bytes(golden("tiny/config.json"));

    void check_refused_with(std::initializer_list<std::string> words) {
        directory.write("config.json", config);
        directory.write("model.safetensors", file.bytes());
        check_refused([&] { Checkpoint checkpoint(directory.path()); }, words);
    }
};

const char* const some_tensors[] = {"model.embed_tokens.weight",
                                    "lm_head.weight",
                                    "model.norm.weight",
                                    "model.layers.0.input_layernorm.weight",
                                    "model.layers.1.self_attn.q_proj.weight",
                                    "model.layers.3.self_attn.v_proj.bias",
                                    "model.layers.2.self_attn.sinks",
                                    "model.layers.0.mlp.router.weight",
                                    "model.layers.3.mlp.experts.gate_up_proj_blocks",
                                    "model.layers.1.mlp.experts.gate_up_proj_scales",
                                    "model.layers.0.mlp.experts.down_proj_bias"};

}  // namespace

TEST_CASE("safetensors: a header's tensors, with offsets in the file") {
    const json header = {{"__metadata__", {{"format", "pt"}}},
                         {"a", entry("BF16", {2, 3}, 0, 12)},
                         {"b", entry("F64", json::array(), 12, 20)},
                         {"c", entry("F4", {4}, 20, 22)},
                         {"empty", entry("F32", {0, 7}, 5, 5)}};
    const std::vector<TensorInfo> tensors = parse(header.dump(), 22);
    REQUIRE(tensors.size() == 4);
    CHECK(tensors[0].type == DType::BF16);
    CHECK(tensors[0].shape == std::vector<uint64_t>{2, 3});
    CHECK(tensors[0].offset == 8 + header.dump().size());
    CHECK(tensors[0].bytes == 12);
    CHECK_FALSE(tensors[1].type);
}

TEST_CASE("safetensors: a damaged header is refused") {
    auto refused = [](const json& tensor, const char* word) {
        CAPTURE(tensor.dump());
        check_refused([&] { parse(json{{"the.tensor", tensor}}.dump()); }, {"m.safetensors", "the.tensor", word});
    };
    for (const json& value : {json(), json(1), json("BF16"), json::array()}) refused(value, "object");
    for (const char* field : {"dtype", "shape", "data_offsets"}) {
        json tensor = entry("BF16", {2}, 0, 4);
        tensor.erase(field);
        refused(tensor, field);
        for (const json& value : {json(), json(1), json(json::object()), json(true)}) {
            tensor[field] = value;
            refused(tensor, field);
        }
    }
    refused(entry("BF17", {2}, 0, 4), "unknown dtype 'BF17'");
    refused(entry("BF16", {3}, 0, 4), "make 6 bytes, data_offsets 4");
    refused(entry("BF16", {-2}, 0, 4), "shape");
    refused(entry("BF16", {2.0}, 0, 4), "shape");
    refused(entry("BF16", {{2}}, 0, 4), "shape");
    refused(entry("BF16", {2}, 4, 0), "data_offsets");
    refused(entry("F4", {3}, 0, 1), "make 1 bytes");
    refused(entry("BF16", {2}, (1 << 20) - 2, (1 << 20) + 2), "beyond the end");
    refused(entry("BF16", {2}, UINT64_MAX - 4, UINT64_MAX), "beyond the end");
    refused(entry("BF16", {uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0), "overflow");
    refused(entry("BF16", {uint64_t{1} << 63}, 0, 0), "overflow");
    refused(entry("BF16", {uint64_t{1} << 40, uint64_t{1} << 40, 0}, 0, 0), "overflow");
    for (const json& offsets : {json::array(), json::array({0}), json::array({0, 4, 4}), json::array({-4, 0}),
                                json::array({0, 4.5}), json::array({"0", "4"})}) {
        json tensor = entry("BF16", {2}, 0, 4);
        tensor["data_offsets"] = offsets;
        refused(tensor, "data_offsets");
    }
    check_refused([&] { parse("{\"a\":{},\"a\":{}}"); }, {"m.safetensors", "'a' appears twice"});
    check_refused(
        [&] {
            parse(json{{"a", entry("U8", {8}, 0, 8)}, {"b", entry("U8", {8}, 7, 15)}}.dump());
        },
        {"m.safetensors", "'a' and 'b' overlap"});
    check_refused(
        [&] {
            parse(json{{"a", entry("U8", {8}, 0, 8)}, {"b", entry("U8", {8}, 0, 8)}}.dump());
        },
        {"m.safetensors", "overlap"});
    check_refused([&] { parse("{\"a\x01\n\":"); }, {"m.safetensors: is not valid JSON"});
    check_refused([&] { parse(json{{std::string(5000, 'x') + "\n\x07", 1}}.dump()); }, {"m.safetensors", "xxx..."});
}

TEST_CASE("safetensors: a header cut anywhere is refused") {
    const std::string header = SafetensorsFile::load(golden("tiny/model.safetensors")).header.dump();
    parse(header, 1 << 21);
    for (size_t n = 0; n < header.size(); n++)
        check_refused([&] { parse(header.substr(0, n), 1 << 21); }, {"m.safetensors: is not valid JSON"});
}

TEST_CASE("safetensors: a file cut or with a false header length is refused") {
    TempDirectory directory;
    auto refused = [&](const std::string& bytes, const char* word) {
        CAPTURE(bytes.size());
        const std::string path = directory.write("model.safetensors", bytes);
        check_refused([&] { read_safetensors(File(path)); }, {"/model.safetensors: ", word});
    };
    refused("", "too short");
    refused("1234567", "too short");
    const std::string good = read_bytes(golden("tiny/model.safetensors"));
    uint64_t length;
    std::memcpy(&length, good.data(), 8);
    for (uint64_t n : {uint64_t{8}, uint64_t{9}, 7 + length}) refused(good.substr(0, n), "truncated");
    for (uint64_t n : {8 + length, 9 + length, good.size() - 100000, good.size() - 1})
        refused(good.substr(0, n), "beyond the end");
    for (uint64_t n : {uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7, uint64_t{good.size() - 7}})
        refused(raw(n) + good.substr(8), "a header of");
    refused(raw(uint64_t{0}) + good.substr(8), "JSON");
    refused(raw(length - 1) + good.substr(8), good[7 + length] == ' ' ? "follow the header" : "JSON");
    refused(good + "x", "follow the header");
    refused(raw(uint64_t{9} << 20) + std::string(10 << 20, ' '), "allowed");
    refused(std::string(1000, '\0'), "JSON");
    refused(std::string(1000, '\xff'), "header of 18446744073709551615 bytes");
}

TEST_CASE("safetensors: a missing, mistyped or misshaped tensor is named, with what is expected and what is there") {
    for (const char* name : some_tensors) {
        CAPTURE(name);
        {
            Tiny tiny;
            tiny.file.header[std::string(name) + "x"] = tiny.file.header[name];
            tiny.file.header.erase(name);
            tiny.check_refused_with({tiny.directory.path(), name, "is missing"});
        }
        {
            Tiny tiny;
            json& tensor = tiny.file.header[name];
            tensor["dtype"] = tensor["dtype"] == "U8" ? "I8" : "I16";
            tiny.check_refused_with({"/model.safetensors", name, "expected", "found I"});
        }
        {
            Tiny tiny;
            json& shape = tiny.file.header[name]["shape"];
            shape.push_back(1);
            tiny.check_refused_with({"/model.safetensors", name, "expected", "found", ", 1)"});
        }
        {
            Tiny tiny;
            json& tensor = tiny.file.header[name];
            const uint64_t begin = tensor["data_offsets"][0];
            tensor["shape"] = {4};
            const uint64_t end = tensor["data_offsets"][1], cut = begin + (tensor["dtype"] == "U8" ? 4 : 8);
            tensor["data_offsets"][1] = cut;
            tiny.file.header["the.rest"] = entry("U8", {end - cut}, cut, end);
            tiny.check_refused_with({"/model.safetensors", name, "expected", "of shape (4)"});
        }
    }
    Tiny tiny;  // transposed: the same number of values
    json& shape = tiny.file.header["model.layers.0.self_attn.q_proj.weight"]["shape"];
    std::swap(shape[0], shape[1]);
    tiny.check_refused_with(
        {"q_proj", "expected F32, F16, BF16 or Q8_0 of shape (512, 96)", "found BF16 of shape (96, 512)"});
}

TEST_CASE("safetensors: sizes of the config that are not those of the tensors are refused") {
    for (const char* field : {"hidden_size", "intermediate_size", "num_attention_heads", "num_local_experts",
                              "vocab_size", "num_hidden_layers"}) {
        CAPTURE(field);
        Tiny tiny;
        json config = json::parse(tiny.config);
        config[field] = 2 * config[field].get<int>();
        config.erase("layer_types");
        tiny.config = config.dump();
        tiny.check_refused_with({"expected"});
    }
}

TEST_CASE("safetensors: a directory that lacks a file, or has something else in its place") {
    TempDirectory directory;
    const std::string& path = directory.path();
    check_refused([&] { Checkpoint checkpoint(path + "/none"); }, {path + "/none: No such file or directory"});
    check_refused([&] { Checkpoint checkpoint(""); }, {"No such file or directory"});
    check_refused([&] { Checkpoint checkpoint(path); }, {path + ": holds no model"});
    directory.write("config.json", "");
    check_refused([&] { Checkpoint checkpoint(path); }, {path + "/config.json: is not valid JSON"});
    directory.write("config.json", std::string((1 << 20) + 1, ' '));
    check_refused([&] { Checkpoint checkpoint(path); }, {path + "/config.json: 1048577 bytes"});
    directory.write("config.json", read_bytes(golden("tiny/config.json")));
    check_refused([&] { Checkpoint checkpoint(path); }, {path + ": holds no .safetensors file"});
    directory.write("model.safetensors", "");
    check_refused([&] { Checkpoint checkpoint(path); }, {path + "/model.safetensors: too short"});
    std::filesystem::remove(path + "/model.safetensors");
    std::filesystem::create_directory(path + "/model.safetensors");
    check_refused([&] { Checkpoint checkpoint(path); }, {path + "/model.safetensors: is a directory"});
    check_refused([&] { Checkpoint checkpoint(path + "/config.json"); }, {path + "/model.safetensors: is a directory"});
    check_refused([&] { Checkpoint checkpoint("/dev/null"); }, {"/dev/null: is not a regular file"});
}

TEST_CASE("safetensors: an index and its shards") {
    TempDirectory directory;
    write_shards(directory);
    const std::string& path = directory.path();
    const std::string first = shard_names[0], second = shard_names[1], whole = read_bytes(path + "/" + second);
    const json index = json::parse(read_bytes(path + "/model.safetensors.index.json"));
    std::filesystem::remove(path + "/" + second);
    auto refused = [&](const json& changed, std::initializer_list<std::string> words) {
        directory.write("model.safetensors.index.json", changed.dump());
        check_refused([&] { Checkpoint checkpoint(path); }, words);
    };
    refused(index, {path + "/" + second + ": is missing", "index.json", "download"});
    directory.write(second, whole.substr(0, 50000));
    refused(index, {path + "/" + second, "beyond the end"});
    directory.write(second, whole);

    json changed = index;
    changed["weight_map"]["lm_head.weight"] = first;
    refused(changed, {path + "/" + first, "'lm_head.weight' is missing", "index"});
    changed["weight_map"]["lm_head.weight"] = 7;
    refused(changed, {"index.json", "lm_head.weight", "expected a string"});
    for (const char* name : {"", ".", "..", "../x.safetensors", "/etc/passwd", "a/b", "a\\b"}) {
        changed["weight_map"]["lm_head.weight"] = name;
        refused(changed, {"index.json", "lm_head.weight", "no file name"});
    }
    changed["weight_map"]["lm_head.weight"] = std::string("a\0b", 3);
    refused(changed, {"index.json", "lm_head.weight", "no file name"});
    changed.erase("weight_map");
    refused(changed, {"index.json", "weight_map"});
    changed["weight_map"] = json::array();
    refused(changed, {"index.json", "weight_map"});
    directory.write("model.safetensors.index.json", "{");
    check_refused([&] { Checkpoint checkpoint(path); }, {"index.json: is not valid JSON"});

    // A tensor that two shards hold.
    SafetensorsFile shard = SafetensorsFile::load(path + "/" + second);
    const std::string name = SafetensorsFile::load(path + "/" + first).header.begin().key();
    shard.header[name] = entry("U8", {0}, 0, 0);
    directory.write(second, shard.bytes());
    refused(index, {second, name, first});

    // Without an index all files count, as in the original/ directory of 120b.
    directory.write(second, whole);
    std::filesystem::remove(path + "/model.safetensors.index.json");
    CHECK(Checkpoint(path).layers.size() == 4);
    std::filesystem::remove(path + "/" + second);
    check_refused([&] { Checkpoint checkpoint(path); }, {path + ": holds 1 of its 2 .safetensors files", "download"});
    std::filesystem::rename(path + "/" + first, path + "/some.safetensors");
    check_refused([&] { Checkpoint checkpoint(path); }, {path + ": tensor", "is missing"});
}

TEST_CASE("safetensors: OpenAI's names are checked like Hugging Face's") {
    const SafetensorsFile good = SafetensorsFile::load(golden("tiny-original/model.safetensors"));
    TempDirectory directory;
    directory.write("config.json", read_bytes(golden("tiny-original/config.json")));
    for (const auto& [name, tensor] : good.header.items()) {
        if (name == "embedding.weight") continue;  // its name tells the layout
        CAPTURE(name);
        SafetensorsFile file = good;
        file.header[name + "x"] = tensor;
        file.header.erase(name);
        directory.write("model.safetensors", file.bytes());
        check_refused([&] { Checkpoint checkpoint(directory.path()); }, {name, "is missing"});
        file = good;
        file.header[name]["shape"].push_back(1);
        directory.write("model.safetensors", file.bytes());
        check_refused([&] { Checkpoint checkpoint(directory.path()); }, {name, "expected", ", 1)"});
    }
}
