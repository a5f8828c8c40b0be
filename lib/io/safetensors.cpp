#include "io/safetensors.h"

#include "base/fail.h"
#include "io/json.h"

namespace gptoss::io {

using nlohmann::json;

namespace {

constexpr uint64_t max_header = 8 << 20;  // 120b's is about 100 kB

struct Format {
    const char* name;
    uint32_t bits;
    std::optional<DType> type;
};

constexpr Format formats[] = {
    {"F32", 32, DType::F32}, {"F16", 16, DType::F16}, {"BF16", 16, DType::BF16}, {"U8", 8, DType::U8},
    {"BOOL", 8, {}},         {"I8", 8, {}},           {"F8_E4M3", 8, {}},        {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},      {"I16", 16, {}},         {"U16", 16, {}},           {"I32", 32, {}},
    {"U32", 32, {}},         {"I64", 64, {}},         {"U64", 64, {}},           {"F64", 64, {}},
    {"C64", 64, {}},         {"F4", 4, {}},           {"F6_E2M3", 6, {}},        {"F6_E3M2", 6, {}},
};

using Node = JsonNode<json>;

std::vector<uint64_t> parse_sizes(const Node& list) {
    std::vector<uint64_t> sizes;
    for (const Node& n : list.elements()) sizes.push_back(n.size());
    return sizes;
}

TensorInfo parse_entry(const std::string& name, const json& entry, uint64_t data_offset, uint64_t data_size,
                       const std::string& source) {
    const std::string where = path_text(source) + ": tensor " + quote(name);
    const JsonOrigin origin{Status::IoError, where, where + ": "};
    const Node node(entry, origin);
    TensorInfo t;
    t.name = name;
    t.type_name = node.get("dtype").text();
    const Format* format = nullptr;
    for (const Format& f : formats)
        if (t.type_name == f.name) format = &f;
    if (!format) node.refuse("unknown dtype " + quote(t.type_name));
    t.type = format->type;
    t.shape = parse_sizes(node.get("shape"));

    const std::vector<uint64_t> span = parse_sizes(node.get("data_offsets"));
    if (span.size() != 2 || span[0] > span[1]) node.refuse("data_offsets is not [begin, end]");
    if (span[1] > data_size)
        node.refuse("lies beyond the end of the file: data_offsets ends at " + std::to_string(span[1]) +
                    ", the data at " + std::to_string(data_size));
    t.offset = data_offset + span[0];
    t.bytes = span[1] - span[0];

    std::optional<uint64_t> n = element_count(t.shape);
    uint64_t bits;
    if (!n || __builtin_mul_overflow(*n, uint64_t{format->bits}, &bits)) node.refuse("its shape overflows 64 bits");
    if (bits % 8 != 0 || bits / 8 != t.bytes)
        node.refuse("shape and dtype make " + std::to_string(bits / 8) + " bytes, data_offsets " +
                    std::to_string(t.bytes));
    return t;
}

}  // namespace

std::vector<TensorInfo> parse_safetensors_header(const char* text, size_t size, uint64_t data_offset,
                                                 uint64_t data_size, const std::string& source) {
    const JsonRoot<json> root = parse_json(text, size, source);
    std::vector<TensorInfo> tensors;
    for (const auto& [name, entry] : (*root).items())
        if (name != "__metadata__") tensors.push_back(parse_entry(name, entry, data_offset, data_size, source));
    check_disjoint(tensors, source);
    return tensors;
}

std::vector<TensorInfo> read_safetensors(const File& file) {
    if (file.size() < 8)
        fail(file.path(), "too short for a safetensors file: " + std::to_string(file.size()) + " bytes");
    std::byte raw[8];
    file.read(0, raw, sizeof raw);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | std::to_integer<uint64_t>(raw[i]);
    if (length > file.size() - 8)
        fail(file.path(), "truncated, or not a safetensors file: a header of " + std::to_string(length) +
                              " bytes in a file of " + std::to_string(file.size()));
    if (length > max_header)
        fail(file.path(), "a header of " + std::to_string(length) + " bytes is more than the " +
                              std::to_string(max_header) + " allowed");
    std::string header(static_cast<size_t>(length), '\0');
    file.read(8, reinterpret_cast<std::byte*>(header.data()), header.size());
    const uint64_t data_size = file.size() - 8 - length;
    auto tensors = parse_safetensors_header(header.data(), header.size(), 8 + length, data_size, file.path());
    // The format has no gaps; where there is one, the header is not the data's.
    uint64_t covered = 0;
    for (const TensorInfo& t : tensors) covered += t.bytes;
    if (covered != data_size)
        fail(file.path(), "its tensors take " + std::to_string(covered) + " bytes, but " + std::to_string(data_size) +
                              " follow the header");
    return tensors;
}

std::map<std::string, std::string> parse_safetensors_index(const char* text, size_t size, const std::string& source) {
    const JsonRoot<json> root = parse_json(text, size, source);
    const JsonOrigin origin = json_origin(source);
    std::map<std::string, std::string> files;
    for (const auto& [tensor, file] : Node(*root, origin).get("weight_map").members()) {
        const std::string& name = file.text();
        // Shards lie beside their index; a path would let a model name any file of the host.
        if (name.empty() || name == "." || name == ".." ||
            name.find_first_of(std::string_view("/\\\0", 3)) != name.npos)
            file.expected("the name of a file beside the index; it is no file name");
        files.emplace(tensor, name);
    }
    return files;
}

}  // namespace gptoss::io
