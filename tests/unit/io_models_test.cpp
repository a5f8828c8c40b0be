// Look-alikes of the files that people have. docs/models.md has a row for each, which must be what happens.
#include <sys/stat.h>

#include <functional>

#include "io/checkpoint.h"
#include "io_helpers.h"
#include "text/tokenizer/tokenizer.h"
#include "weights/tiles.h"

using namespace gptoss;
using namespace gptoss::io;
using namespace gptoss::io::test;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// Makes the files below a directory and gives the path that a user would.
using Maker = std::function<std::string(const TempDirectory&)>;

std::string copy(const TempDirectory& to, const std::string& from, const std::string& name) {
    const fs::path path = fs::path(to.path()) / name;
    fs::create_directories(path.parent_path());
    fs::copy(golden(from), path, fs::copy_options::recursive);
    return path.native();
}

// `tiny` in several files, in a directory m, which some are missing of.
std::string sharded(const TempDirectory& to, std::initializer_list<const char*> missing = {}) {
    const TempDirectory all;
    write_shards(all);
    for (const char* name : missing) fs::remove(fs::path(all.path()) / name);
    fs::copy(all.path(), to.path() + "/m");
    return to.path() + "/m";
}

std::string put(const TempDirectory& to, const std::string& name, const std::string& bytes) {
    fs::create_directories((fs::path(to.path()) / name).parent_path());
    return to.write(name, bytes);
}

json tiny_config() { return json::parse(read_bytes(golden("tiny/config.json"))); }

const std::string pointer =
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:46f9f1e2c2c7f5a5c8a3c8e2a3b4c5d6e7f8a9b0c1d2e3f4a5b6c7d8e9f0a1b2\nsize 4792272488\n";
const std::string metal_start = std::string("GPT-OSS v1.0") + std::string(20, '\0');

// tiny's directory with this config, and tensors renamed by f.
std::string changed(const TempDirectory& to, const json& config, const std::function<void(SafetensorsFile&)>& f) {
    put(to, "config.json", config.dump());
    SafetensorsFile file = SafetensorsFile::load(golden("tiny/model.safetensors"));
    f(file);
    put(to, "model.safetensors", file.bytes());
    return to.path();
}

std::string quantized_by(const TempDirectory& to, const json& quantization) {
    json config = tiny_config();
    config["quantization_config"] = quantization;
    return changed(to, config, [](SafetensorsFile&) {});
}

GgufFile tiny_gguf() { return GgufFile::load(golden("tiny-bf16.gguf")); }

std::string gguf_with(const TempDirectory& to, const std::string& name, const std::function<void(GgufFile&)>& f) {
    GgufFile file = tiny_gguf();
    f(file);
    return put(to, name, file.bytes());
}

void set_text(GgufFile& file, const std::string& key, const std::string& value) {
    file.set(key, 8, gguf_string(value));
}

// Three files, the first of which has no tensor.
std::string split_gguf(const TempDirectory& to, int named) {
    GgufFile files[3] = {tiny_gguf(), tiny_gguf(), tiny_gguf()};
    files[0].tensors.clear();
    files[1].tensors.resize(20);
    files[2].tensors.erase(files[2].tensors.begin(), files[2].tensors.begin() + 20);
    std::string paths[3];
    for (uint16_t i = 0; i < 3; i++) {
        files[i].set("split.count", 2, raw(uint16_t{3}));
        files[i].set("split.no", 2, raw(i));
        paths[i] = put(to, "gpt-oss-120b-mxfp4-0000" + std::to_string(i + 1) + "-of-00003.gguf", files[i].bytes());
    }
    return paths[named - 1];
}

// A directory as huggingface_hub lays it out: links in snapshots/, the bytes in blobs/.
std::string hub_model(const TempDirectory& to, const std::string& model) {
    const fs::path root = fs::path(to.path()) / model,
                   snapshot = root / "snapshots/6cee5e81ee83917806bbde320786a8fb61efebee";
    fs::create_directories(root / "blobs");
    fs::create_directories(root / "refs");
    fs::create_directories(snapshot);
    std::ofstream(root / "refs/main") << snapshot.filename().native();
    for (const char* name : {"config.json", "model.safetensors"}) {
        fs::copy_file(golden("tiny/") + name, root / "blobs" / (std::string("0123") + name));
        fs::create_symlink(fs::path("../../blobs") / (std::string("0123") + name), snapshot / name);
    }
    return root.native();
}

std::string adapter(const TempDirectory& to) {
    put(to, "adapter_config.json", R"({"peft_type":"LORA","base_model_name_or_path":"openai/gpt-oss-20b","r":8})");
    return put(to, "adapter_model.safetensors", SafetensorsFile{json::object(), ""}.bytes());
}

struct LookAlike {
    const char* name;  // the first column of the table
    Maker make;
};

const LookAlike look_alikes[] = {
    {"Hugging Face directory, openai/gpt-oss-20b",
     [](const TempDirectory& to) {
         const std::string path = copy(to, "tiny", "gpt-oss-20b");
         put(to, "gpt-oss-20b/generation_config.json", R"({"eos_token_id":[200002,199999,200012]})");
         return path;
     }},
    {"the same in several files with an index", [](const TempDirectory& to) { return sharded(to); }},
    {"its model.safetensors", [](const TempDirectory& to) { return copy(to, "tiny", "m") + "/model.safetensors"; }},
    {"one of its several .safetensors files",
     [](const TempDirectory& to) { return sharded(to) + "/" + shard_names[1]; }},
    {"its config.json", [](const TempDirectory& to) { return copy(to, "tiny", "m") + "/config.json"; }},
    {"original/", [](const TempDirectory& to) { return copy(to, "tiny-original", "original"); }},
    {"the directory around original/",
     [](const TempDirectory& to) { return copy(to, "tiny-original", "original"), to.path(); }},
    {"metal/", [](const TempDirectory& to) { return put(to, "metal/model.bin", metal_start), to.path() + "/metal"; }},
    {"the directory around metal/",
     [](const TempDirectory& to) { return put(to, "metal/model.bin", metal_start), to.path(); }},
    {"metal/model.bin", [](const TempDirectory& to) { return put(to, "metal/model.bin", metal_start); }},
    {"a model in Hugging Face's cache",
     [](const TempDirectory& to) { return hub_model(to, "models--openai--gpt-oss-20b"); }},
    {"Hugging Face's cache itself",
     [](const TempDirectory& to) { return hub_model(to, "hub/models--openai--gpt-oss-20b"), to.path() + "/hub"; }},
    {"GGUF, ggml-org/gpt-oss-20b-GGUF",
     [](const TempDirectory& to) { return copy(to, "tiny-bf16.gguf", "gpt-oss-20b-mxfp4.gguf"); }},
    {"GGUF in several files, ggml-org/gpt-oss-120b-GGUF", [](const TempDirectory& to) { return split_gguf(to, 1); }},
    {"another than the first of these files", [](const TempDirectory& to) { return split_gguf(to, 3); }},
    {"these files with one missing",
     [](const TempDirectory& to) {
         const std::string path = split_gguf(to, 1);
         fs::remove(to.path() + "/gpt-oss-120b-mxfp4-00002-of-00003.gguf");
         return path;
     }},
    {"GGUF with Q8_0 weights beside MXFP4 experts, unsloth's Q8_0",
     [](const TempDirectory& to) { return copy(to, "tiny-q8.gguf", "gpt-oss-20b-Q8_0.gguf"); }},
    {"GGUF with F16 weights beside MXFP4 experts, unsloth's F16",
     [](const TempDirectory& to) {
         return gguf_with(to, "gpt-oss-20b-F16.GGUF", [](GgufFile& file) {
             for (GgufFile::Tensor& t : file.tensors) {
                 if (t.type != 30) continue;
                 t.type = 1;
                 for (size_t i = 0; i < t.data.size(); i += 2) {
                     const float value = std::bit_cast<float>(uint32_t{static_cast<uint8_t>(t.data[i])} << 16 |
                                                              uint32_t{static_cast<uint8_t>(t.data[i + 1])} << 24);
                     t.data.replace(i, 2, raw(model::to_f16(value)));
                 }
             }
         });
     }},
    {"GGUF with K-quants, unsloth's Q4_K_M",
     [](const TempDirectory& to) {
         return gguf_with(to, "gpt-oss-20b-Q4_K_M.gguf", [](GgufFile& file) {
             file.tensor("token_embd.weight").type = 12;
             file.tensor("output.weight").type = 14;
         });
     }},
    {"GGUF with BF16 experts",
     [](const TempDirectory& to) {
         return gguf_with(to, "gpt-oss-20b-BF16.gguf", [](GgufFile& file) {
             for (GgufFile::Tensor& t : file.tensors)
                 if (t.type == 39)
                     t.type = 30, t.data.assign(t.dimensions[0] * t.dimensions[1] * t.dimensions[2] * 2, '\0');
         });
     }},
    {"LM Studio's directory with one GGUF",
     [](const TempDirectory& to) { return copy(to, "tiny-bf16.gguf", "gpt-oss-20b-MXFP4.gguf"), to.path(); }},
    {"a directory with several GGUF models",
     [](const TempDirectory& to) {
         copy(to, "tiny-bf16.gguf", "gpt-oss-20b-F16.gguf");
         return copy(to, "tiny-q8.gguf", "gpt-oss-20b-Q8_0.gguf"), to.path();
     }},
    {"Ollama's blob of a llama.cpp GGUF",
     [](const TempDirectory& to) { return copy(to, "tiny-bf16.gguf", "blobs/sha256-b112e727c6f1"); }},
    {"Ollama's blob of its own gpt-oss",
     [](const TempDirectory& to) {
         return gguf_with(to, "sha256-b112e727c6f1",
                          [](GgufFile& file) { set_text(file, "general.architecture", "gptoss"); });
     }},
    {"Ollama's store of models",
     [](const TempDirectory& to) {
         put(to, "blobs/sha256-b112e727c6f1", "x");
         fs::create_directory(to.path() + "/manifests");
         return to.path();
     }},
    {"GGUF of another model",
     [](const TempDirectory& to) {
         return gguf_with(to, "llama.gguf", [](GgufFile& file) { set_text(file, "general.architecture", "llama"); });
     }},
    {"LoRA adapter as GGUF",
     [](const TempDirectory& to) {
         return gguf_with(to, "adapter.gguf", [](GgufFile& file) { set_text(file, "general.type", "adapter"); });
     }},
    {"PEFT adapter", [](const TempDirectory& to) { return adapter(to), to.path(); }},
    {"PEFT adapter, its adapter_model.safetensors", [](const TempDirectory& to) { return adapter(to); }},
    {"unquantized, unsloth/gpt-oss-20b-BF16",
     [](const TempDirectory& to) {
         json config = tiny_config();
         config.erase("quantization_config");
         return changed(to, config, dequantize_experts);
     }},
    {"unquantized, with experts of another shape",
     [](const TempDirectory& to) {
         return changed(to, tiny_config(), [](SafetensorsFile& file) {
             dequantize_experts(file);
             auto& shape = file.header["model.layers.0.mlp.experts.gate_up_proj"]["shape"];
             std::swap(shape[1], shape[2]);
         });
     }},
    {"unquantized, a tensor for each expert",
     [](const TempDirectory& to) {
         return changed(to, tiny_config(), [](SafetensorsFile& file) {
             dequantize_experts(file);
             file.header["model.layers.0.mlp.experts.0.gate_proj.weight"] =
                 file.header["model.layers.0.mlp.experts.gate_up_proj"];
             file.header.erase("model.layers.0.mlp.experts.gate_up_proj");
         });
     }},
    {"no lm_head, with tie_word_embeddings",
     [](const TempDirectory& to) {
         json config = tiny_config();
         config["tie_word_embeddings"] = true;
         return changed(to, config, [](SafetensorsFile& file) { remove_tensor(file, "lm_head.weight"); });
     }},
    {"bitsandbytes 4-bit, unsloth/gpt-oss-20b-unsloth-bnb-4bit",
     [](const TempDirectory& to) {
         return quantized_by(to, {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}});
     }},
    {"GPTQ, AWQ, FP8 and the like",
     [](const TempDirectory& to) {
         return quantized_by(to, {{"quant_method", "gptq"}, {"bits", 4}});
     }},
    {"MLX, mlx-community/gpt-oss-20b-MXFP4-Q8",
     [](const TempDirectory& to) {
         json config = tiny_config();
         config["quantization"] = config["quantization_config"] = {{"group_size", 32}, {"bits", 4}, {"mode", "mxfp4"}};
         return changed(to, config, [](SafetensorsFile&) {});
     }},
    {"another architecture",
     [](const TempDirectory& to) {
         json config = tiny_config();
         config["model_type"] = "qwen3_moe";
         return changed(to, config, [](SafetensorsFile&) {});
     }},
    {"clone without git-lfs",
     [](const TempDirectory& to) {
         copy(to, "tiny/config.json", "gpt-oss-20b/config.json");
         return put(to, "gpt-oss-20b/model.safetensors", pointer), to.path() + "/gpt-oss-20b";
     }},
    {"git-lfs pointer of a GGUF", [](const TempDirectory& to) { return put(to, "gpt-oss-20b-mxfp4.gguf", pointer); }},
    {"one of several .safetensors files, alone",
     [](const TempDirectory& to) {
         return sharded(to, {"config.json", shard_index, shard_names[1]}) + "/" + shard_names[0];
     }},
    {"the directory of that file",
     [](const TempDirectory& to) {
         return sharded(to, {"config.json", shard_index, shard_names[1]});
     }},
    {"the same with config.json",
     [](const TempDirectory& to) {
         return sharded(to, {shard_index, shard_names[1]});
     }},
    {"the same with the index", [](const TempDirectory& to) { return sharded(to, {shard_names[1]}); }},
    {"only PyTorch's .bin",
     [](const TempDirectory& to) {
         copy(to, "tiny/config.json", "config.json");
         return put(to, "pytorch_model.bin", "PK\x03\x04"), to.path();
     }},
    {"PyTorch's .bin itself", [](const TempDirectory& to) { return put(to, "pytorch_model.bin", "PK\x03\x04...."); }},
    {"tokenizer.json is a link to nothing",
     [](const TempDirectory& to) {
         const std::string path = copy(to, "tiny", "m");
         fs::create_symlink("../blobs/0614fe83", path + "/tokenizer.json");
         return path;
     }},
    {"a web page in place of the download",
     [](const TempDirectory& to) { return put(to, "gpt-oss-20b-mxfp4.gguf", "<!DOCTYPE html><title>404</title>"); }},
    {"an empty file", [](const TempDirectory& to) { return put(to, "gpt-oss-20b-mxfp4.gguf", ""); }},
    {"an empty directory", [](const TempDirectory& to) { return to.path(); }},
    {"any other file", [](const TempDirectory& to) { return put(to, "README.md", "# gpt-oss\n"); }},
    {"a FIFO",
     [](const TempDirectory& to) {
         REQUIRE(::mkfifo((to.path() + "/m.gguf").c_str(), 0600) == 0);
         return to.path() + "/m.gguf";
     }},
};

// "loads", or the message with … for the directory.
std::string outcome(const std::string& path, const std::string& directory) {
    try {
        const Checkpoint checkpoint(path);
        CHECK(checkpoint.layers.size() == 4);
        CHECK(checkpoint.lm_head.read_f32().size() == 512 * 96);
        const auto tokenizer = text::Tokenizer::of_model(checkpoint.tokenizer_path);
        CHECK(tokenizer->num_text_tokens() > 0);
        return "loads";
    } catch (const Error& e) {
        CHECK(e.status() == Status::IoError);
        std::string message = e.what();
        for (size_t at; (at = message.find(directory)) != message.npos;) message.replace(at, directory.size(), "…");
        return "`" + message + "`";
    }
}

}  // namespace

TEST_CASE("docs/models.md says what becomes of the files that people have") {
    const std::string document = read_bytes(GPTOSS_SOURCE_DIR "/docs/models.md");
    std::string expected;  // the table's rows
    for (const LookAlike& look_alike : look_alikes) {
        CAPTURE(std::string(look_alike.name));
        const TempDirectory directory;
        const std::string path = look_alike.make(directory);
        const std::string row = "| " + std::string(look_alike.name) + " | " + outcome(path, directory.path()) + " |\n";
        CHECK_MESSAGE(document.find(row) != document.npos, "docs/models.md lacks: " << row);
        expected += row;
    }
    const size_t begin = document.find("|---|---|\n") + 10, end = document.find("\n\n", begin);
    CHECK_MESSAGE(document.substr(begin, end - begin + 1) == expected, expected);
}

TEST_CASE("a long path leaves room for the reason") {
    const TempDirectory directory;
    std::string path = directory.path();
    while (path.size() < 3000) path += "/" + std::string(200, 'd');
    check_refused([&] { Checkpoint checkpoint(path); }, {directory.path(), "...", "ddd: No such file or directory"});
    for (const std::string& text : {path, path + "\xE2\x82\xAC", std::string(4000, '\xC3')}) {
        std::string message;
        try {
            Checkpoint checkpoint(text);
        } catch (const Error& e) {
            message = e.what();
        }
        CHECK(message.size() < 400);
    }
}
