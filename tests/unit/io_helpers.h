// Checkpoint files that a test takes apart, damages and writes again.
#pragma once

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/gguf.h"
#include "posix.h"

namespace gptoss::io::test {

inline std::string golden(const std::string& name) { return GPTOSS_SOURCE_DIR "/tests/golden/" + name; }

// A directory that goes with the test.
class TempDirectory {
  public:
    TempDirectory() {
        std::string pattern = (std::filesystem::temp_directory_path() / "gptoss-test-XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        path_ = pattern;
    }
    ~TempDirectory() { std::filesystem::remove_all(path_); }
    TempDirectory(const TempDirectory&) = delete;
    TempDirectory& operator=(const TempDirectory&) = delete;

    const std::string& path() const { return path_; }
    std::string write(const std::string& name, const std::string& bytes) const {
        std::ofstream(path_ + "/" + name, std::ios::binary) << bytes;
        return path_ + "/" + name;
    }

  private:
    std::string path_;
};

inline std::string read_bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    REQUIRE(file);
    return {std::istreambuf_iterator<char>(file), {}};
}

// f is refused with an IoError whose message holds every one of these words.
template <typename F>
void check_refused(F&& f, std::initializer_list<std::string> words) {
    try {
        f();
        FAIL_CHECK("accepted; expected a refusal with '" << *words.begin() << "'");
    } catch (const Error& e) {
        const std::string message = e.what();
        CAPTURE(message);
        CHECK(e.status() == Status::IoError);
        for (const std::string& word : words) {
            CAPTURE(word);
            CHECK(message.find(word) != message.npos);
        }
    }
}

template <typename T>
std::string raw(T value) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
}

constexpr const char* shard_index = "model.safetensors.index.json";
constexpr const char* shard_names[2] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};

struct SafetensorsFile {
    nlohmann::json header;
    std::string data;

    static SafetensorsFile load(const std::string& path) {
        const std::string all = read_bytes(path);
        uint64_t length;
        std::memcpy(&length, all.data(), 8);
        return {nlohmann::json::parse(all.substr(8, length)), all.substr(8 + length)};
    }
    static std::string bytes(const std::string& header, const std::string& data) {
        return raw<uint64_t>(header.size()) + header + data;
    }
    std::string bytes() const { return bytes(header.dump(), data); }
};

// Puts a tensor's data behind the others', in place of another of its name.
inline void put_tensor(SafetensorsFile& file, const std::string& name, const std::string& type,
                       const std::vector<uint64_t>& shape, const std::string& bytes) {
    file.header[name] = {
        {"dtype", type}, {"shape", shape}, {"data_offsets", {file.data.size(), file.data.size() + bytes.size()}}};
    file.data += bytes;
}

// Moves the tensors together, as the format wants them.
inline void close_gaps(SafetensorsFile& file) {
    std::string data;
    for (auto& [name, entry] : file.header.items()) {
        if (name == "__metadata__") continue;
        const uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
        entry["data_offsets"] = {data.size(), data.size() + end - begin};
        data += file.data.substr(begin, end - begin);
    }
    file.data = data;
}

inline void remove_tensor(SafetensorsFile& file, const std::string& name) {
    file.header.erase(name);
    close_gaps(file);
}

inline std::string bf16_bytes(float value) { return raw(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16)); }

// Experts as transformers saves them when they are not quantized: (experts, cols, rows) in BF16. value(stored): what a
// weight becomes.
template <typename Value>
void replace_experts(SafetensorsFile& file, const Value& value) {
    static const float fp4[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    std::vector<std::string> names;
    for (const auto& [name, entry] : file.header.items())
        if (name.ends_with("_blocks")) names.push_back(name.substr(0, name.size() - 7));
    for (const std::string& name : names) {
        const auto shape = file.header[name + "_blocks"]["shape"].get<std::vector<uint64_t>>();
        const uint64_t experts = shape[0], rows = shape[1], cols = shape[2] * 32;
        const size_t blocks = file.header[name + "_blocks"]["data_offsets"][0],
                     scales = file.header[name + "_scales"]["data_offsets"][0];
        std::string bytes;
        for (uint64_t e = 0; e < experts; e++)
            for (uint64_t c = 0; c < cols; c++)
                for (uint64_t r = 0; r < rows; r++) {
                    const uint64_t at = (e * rows + r) * cols + c;
                    const uint8_t byte = static_cast<uint8_t>(file.data[blocks + at / 2]);
                    const uint8_t code = c % 2 ? byte >> 4 : byte & 15;
                    const float stored = std::ldexp(code & 8 ? -fp4[code & 7] : fp4[code & 7],
                                                    static_cast<uint8_t>(file.data[scales + at / 32]) - 127);
                    bytes += bf16_bytes(value(stored));
                }
        file.header.erase(name + "_blocks");
        file.header.erase(name + "_scales");
        put_tensor(file, name, "BF16", {experts, cols, rows}, bytes);
    }
    close_gaps(file);
}
inline void dequantize_experts(SafetensorsFile& file) {
    replace_experts(file, [](float stored) { return stored; });
}

// The golden model tiny in two files of safetensors with their index, as large models are published.
inline void write_shards(const TempDirectory& to) {
    const SafetensorsFile whole = SafetensorsFile::load(golden("tiny/model.safetensors"));
    SafetensorsFile shards[2] = {{nlohmann::json::object(), ""}, {nlohmann::json::object(), ""}};
    nlohmann::json index = {{"metadata", {{"total_size", whole.data.size()}}}};
    for (const auto& [name, tensor] : whole.header.items()) {
        if (name == "__metadata__") continue;
        const size_t begin = tensor["data_offsets"][0], end = tensor["data_offsets"][1];
        const bool is_last = begin >= whole.data.size() / 2;
        SafetensorsFile& shard = shards[is_last];
        nlohmann::json& entry = shard.header[name] = tensor;
        entry["data_offsets"] = {shard.data.size(), shard.data.size() + (end - begin)};
        shard.data += whole.data.substr(begin, end - begin);
        index["weight_map"][name] = shard_names[is_last];
    }
    for (int i = 0; i < 2; i++) to.write(shard_names[i], shards[i].bytes());
    to.write(shard_index, index.dump());
    to.write("config.json", read_bytes(golden("tiny/config.json")));
}

inline std::string gguf_string(const std::string& text) { return raw<uint64_t>(text.size()) + text; }

struct GgufFile {
    struct Tensor {
        std::string name;
        std::vector<uint64_t> dimensions;  // innermost first
        uint32_t type;
        std::string data;
    };
    uint32_t version = 3;
    std::vector<std::string> metadata;  // raw entries
    std::vector<Tensor> tensors;
    uint64_t alignment = 32;

    // Without the tokenizer, which nothing here reads.
    static GgufFile load(const std::string& path) {
        const std::string all = read_bytes(path);
        GgufFile file;
        const Gguf gguf = Gguf::read(File(path), is_model_key);
        for (const auto& [key, value] : gguf.metadata) {
            if (auto number = std::get_if<int64_t>(&value)) file.set(key, 4, raw(static_cast<uint32_t>(*number)));
            if (auto number = std::get_if<double>(&value)) file.set(key, 6, raw(static_cast<float>(*number)));
            if (auto text = std::get_if<std::string>(&value)) file.set(key, 8, gguf_string(*text));
        }
        for (const TensorInfo& t : gguf_tensors(gguf)) {
            const uint32_t type = *t.type == DType::F32    ? 0
                                  : *t.type == DType::Q8_0 ? 8
                                  : *t.type == DType::BF16 ? 30
                                                           : 39;
            file.tensors.push_back({t.name, {t.shape.rbegin(), t.shape.rend()}, type, all.substr(t.offset, t.bytes)});
        }
        return file;
    }

    // Adds a metadata entry or replaces the one of this key.
    void set(const std::string& key, uint32_t type, const std::string& value) {
        const std::string head = gguf_string(key);
        std::erase_if(metadata, [&](const std::string& entry) { return entry.starts_with(head); });
        metadata.push_back(head + raw(type) + value);
    }
    Tensor& tensor(const std::string& name) {
        for (Tensor& t : tensors)
            if (t.name == name) return t;
        throw std::out_of_range(name);
    }

    std::string bytes() const {
        std::string out = "GGUF" + raw(version) + raw<uint64_t>(tensors.size()) + raw<uint64_t>(metadata.size()), data;
        for (const std::string& entry : metadata) out += entry;
        for (const Tensor& t : tensors) {
            out += gguf_string(t.name) + raw<uint32_t>(t.dimensions.size());
            for (uint64_t d : t.dimensions) out += raw(d);
            out += raw(t.type) + raw<uint64_t>(data.size());
            data += t.data;
            data.resize((data.size() + alignment - 1) / alignment * alignment);
        }
        out.resize((out.size() + alignment - 1) / alignment * alignment);
        return out + data;
    }
};

}  // namespace gptoss::io::test
