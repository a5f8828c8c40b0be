#include "io/gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/fail.h"

namespace gptoss::io {

namespace {

// Metadata types, by their number in the file.
enum class Type : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64 };
constexpr uint32_t type_sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

// Tensor types, by their number in the file; only what gpt-oss uses is more than a name.
struct Format {
    uint32_t id;
    const char* name;
    std::optional<DType> type;
};
constexpr Format formats[] = {
    {0, "F32", DType::F32},
    {1, "F16", DType::F16},
    {8, "Q8_0", DType::Q8_0},
    {30, "BF16", DType::BF16},
    {39, "MXFP4", DType::MXFP4},
    {2, "Q4_0", {}},
    {3, "Q4_1", {}},
    {6, "Q5_0", {}},
    {7, "Q5_1", {}},
    {10, "Q2_K", {}},
    {11, "Q3_K", {}},
    {12, "Q4_K", {}},
    {13, "Q5_K", {}},
    {14, "Q6_K", {}},
    {20, "IQ4_NL", {}},
    {23, "IQ4_XS", {}},
};

constexpr uint64_t max_metadata = 1 << 16;
constexpr uint64_t max_tensors = 1 << 16;
constexpr uint64_t max_name = 1 << 16;
constexpr uint32_t max_dimensions = 4;
constexpr int max_nesting = 4;

// Reads forward through the file, a window at a time.
class Reader {
  public:
    Reader(const ReadAt& read, uint64_t size, const std::string& source) : read_(read), size_(size), source_(source) {}

    uint64_t position() const { return position_; }
    uint64_t left() const { return size_ - position_; }

    void bytes(void* out, size_t n, const std::string& what) {
        need(n, what);
        auto* to = static_cast<std::byte*>(out);
        while (n > 0) {
            if (position_ < begin_ || position_ >= begin_ + window_.size()) refill();
            size_t from = static_cast<size_t>(position_ - begin_);
            size_t piece = std::min(n, window_.size() - from);
            std::memcpy(to, window_.data() + from, piece);
            position_ += piece;
            to += piece;
            n -= piece;
        }
    }
    template <typename T>
    T number(const std::string& what) {
        T value;
        bytes(&value, sizeof value, what);
        return value;
    }
    void skip(uint64_t n, const std::string& what) {
        need(n, what);
        position_ += n;
    }
    std::string string(const std::string& what) {
        uint64_t n = number<uint64_t>(what);
        need(n, what);
        if (n > max_name) fail(source_, what + " is a string of " + std::to_string(n) + " bytes: too long");
        std::string text(static_cast<size_t>(n), '\0');
        bytes(text.data(), text.size(), what);
        return text;
    }

  private:
    void need(uint64_t n, const std::string& what) const {
        if (n > left())
            fail(source_, "truncated: " + what + " at offset " + std::to_string(position_) + " needs " +
                              std::to_string(n) + " bytes, " + std::to_string(left()) + " are left");
    }
    void refill() {
        begin_ = position_;
        window_.resize(static_cast<size_t>(std::min<uint64_t>(left(), 1 << 16)));
        read_(begin_, window_.data(), window_.size());
    }

    const ReadAt& read_;
    uint64_t size_;
    const std::string& source_;
    uint64_t position_ = 0;
    uint64_t begin_ = 0;  // of the window
    std::vector<std::byte> window_;
};

Type read_type(Reader& in, const std::string& source, const std::string& what) {
    uint32_t type = in.number<uint32_t>(what);
    if (type > static_cast<uint32_t>(Type::F64)) fail(source, what + " has the unknown type " + std::to_string(type));
    return static_cast<Type>(type);
}

Gguf::Value read_scalar(Reader& in, Type type, const std::string& what) {
    switch (type) {
        case Type::U8:
            return uint64_t{in.number<uint8_t>(what)};
        case Type::I8:
            return int64_t{in.number<int8_t>(what)};
        case Type::U16:
            return uint64_t{in.number<uint16_t>(what)};
        case Type::I16:
            return int64_t{in.number<int16_t>(what)};
        case Type::U32:
            return uint64_t{in.number<uint32_t>(what)};
        case Type::I32:
            return int64_t{in.number<int32_t>(what)};
        case Type::F32:
            return double{in.number<float>(what)};
        case Type::Bool:
            return in.number<uint8_t>(what) != 0;
        case Type::U64:
            return in.number<uint64_t>(what);
        case Type::I64:
            return in.number<int64_t>(what);
        case Type::F64:
            return in.number<double>(what);
        default:
            return in.string(what);
    }
}

void skip_value(Reader& in, Type type, const std::string& source, const std::string& what, int nesting = 0) {
    if (type == Type::String) {
        in.skip(in.number<uint64_t>(what), what);
    } else if (type == Type::Array) {
        if (nesting == max_nesting)
            fail(source, what + ": arrays nested more than " + std::to_string(nesting) + " deep");
        Type element = read_type(in, source, what);
        uint64_t n = in.number<uint64_t>(what);
        // The least an element takes: a string its length, an array its type and length.
        uint32_t least = element == Type::String ? 8 : element == Type::Array ? 12 : type_sizes[uint32_t(element)];
        if (n > in.left() / least)
            fail(source, "truncated: " + what + " is an array of " + std::to_string(n) + " elements in the last " +
                             std::to_string(in.left()) + " bytes");
        if (element != Type::String && element != Type::Array) return in.skip(n * least, what);
        for (uint64_t i = 0; i < n; i++) skip_value(in, element, source, what, nesting + 1);
    } else {
        in.skip(type_sizes[static_cast<uint32_t>(type)], what);
    }
}

// The tokenizer's large arrays are none of this folder's business.
bool is_wanted(const std::string& key) {
    return key.starts_with("gpt-oss.") || key.starts_with("split.") || key == "general.architecture" ||
           key == "general.alignment" || key == "tokenizer.ggml.eos_token_id";
}

TensorInfo read_tensor_info(Reader& in, const std::string& source) {
    TensorInfo t;
    t.name = in.string("a tensor's name");
    const std::string what = "tensor " + quote(t.name);
    uint32_t n_dimensions = in.number<uint32_t>(what);
    if (n_dimensions > max_dimensions) fail(source, what + " has " + std::to_string(n_dimensions) + " dimensions");
    for (uint32_t i = 0; i < n_dimensions; i++) t.shape.push_back(in.number<uint64_t>(what));
    uint32_t id = in.number<uint32_t>(what);
    t.offset = in.number<uint64_t>(what);  // from the start of the data, as yet

    t.type_name = "type " + std::to_string(id);
    for (const Format& f : formats) {
        if (f.id != id) continue;
        t.type = f.type;
        t.type_name = f.name;
    }
    if (!t.type) return t;
    const bool in_blocks = t.type == DType::Q8_0 || t.type == DType::MXFP4;
    if (in_blocks && (t.shape.empty() || t.shape[0] % 32 != 0))
        fail(source, what + ": rows of " + t.type_name + " must be a multiple of 32 long");
    std::optional<uint64_t> n = element_count(t.shape);
    if (!n || *n > std::numeric_limits<uint64_t>::max() / 8) fail(source, what + ": shape overflows 64 bits");
    t.bytes = dtype_bytes(*t.type, *n);
    std::reverse(t.shape.begin(), t.shape.end());  // the file lists the innermost dimension first
    return t;
}

// Turns offsets from the start of the data into offsets in the file.
void place_tensors(Gguf& gguf, uint64_t header_size, uint64_t file_size, const std::string& source) {
    uint64_t alignment = 32;
    if (auto at = gguf.metadata.find("general.alignment"); at != gguf.metadata.end()) {
        const uint64_t* given = std::get_if<uint64_t>(&at->second);
        alignment = given ? *given : 0;
        if (alignment == 0 || alignment > (1 << 20) || (alignment & (alignment - 1)) != 0)
            fail(source, "general.alignment is not a power of two up to 2^20");
    }
    const uint64_t data = (header_size + alignment - 1) / alignment * alignment;
    const uint64_t data_size = file_size > data ? file_size - data : 0;
    for (TensorInfo& t : gguf.tensors) {
        const std::string what = "tensor " + quote(t.name);
        if (t.offset % alignment != 0)
            fail(source, what + " is not aligned to " + std::to_string(alignment) + " bytes");
        if (t.offset > data_size || t.bytes > data_size - t.offset)
            fail(source, "truncated: " + what + " has " + std::to_string(t.bytes) + " bytes from " +
                             std::to_string(t.offset) + " on, the data section only " + std::to_string(data_size));
        t.offset += data;
    }
}

}  // namespace

Gguf parse_gguf(const ReadAt& read, uint64_t file_size, const std::string& source) {
    Reader in(read, file_size, source);
    char magic[4];
    in.bytes(magic, sizeof magic, "the signature");
    if (std::memcmp(magic, "GGUF", 4) != 0) fail(source, "is not a GGUF file");
    uint32_t version = in.number<uint32_t>("the version");
    if (version != 2 && version != 3)
        fail(source, "GGUF version " + std::to_string(version) + ": only 2 and 3, little-endian, are supported");
    const uint64_t n_tensors = in.number<uint64_t>("the number of tensors");
    const uint64_t n_metadata = in.number<uint64_t>("the number of metadata entries");
    if (n_tensors > max_tensors) fail(source, std::to_string(n_tensors) + " tensors are too many");
    if (n_metadata > max_metadata) fail(source, std::to_string(n_metadata) + " metadata entries are too many");

    Gguf gguf;
    for (uint64_t i = 0; i < n_metadata; i++) {
        const std::string key = in.string("a metadata key");
        const std::string what = "metadata " + quote(key);
        Type type = read_type(in, source, what);
        if (!is_wanted(key) || type == Type::Array) {
            skip_value(in, type, source, what);
        } else if (!gguf.metadata.emplace(key, read_scalar(in, type, what)).second) {
            fail(source, what + " appears twice");
        }
    }
    for (uint64_t i = 0; i < n_tensors; i++) gguf.tensors.push_back(read_tensor_info(in, source));
    place_tensors(gguf, in.position(), file_size, source);
    check_disjoint(gguf.tensors, source);
    return gguf;
}

namespace {

class Metadata {
  public:
    Metadata(const Gguf& gguf, const std::string& source) : gguf_(gguf), source_(source) {}

    template <typename T>
    const T* find(const std::string& key, const char* expected) const {
        auto at = gguf_.metadata.find(key);
        if (at == gguf_.metadata.end()) return nullptr;
        const T* value = std::get_if<T>(&at->second);
        if (!value) fail(source_, "metadata " + quote(key) + " is not " + expected);
        return value;
    }
    uint32_t integer(const std::string& key) const {
        const uint64_t* value = find<uint64_t>(key, "an unsigned integer");
        if (!value) fail(source_, "metadata " + quote(key) + " is missing");
        if (*value > UINT32_MAX)
            fail(source_, "metadata " + quote(key) + " is " + std::to_string(*value) + ": too large");
        return static_cast<uint32_t>(*value);
    }
    uint32_t integer(const std::string& key, uint32_t otherwise) const {
        return gguf_.metadata.contains(key) ? integer(key) : otherwise;
    }
    float number(const std::string& key, float otherwise) const {
        const double* value = find<double>(key, "a floating-point number");
        if (!value) return otherwise;
        if (!(std::abs(*value) <= std::numeric_limits<float>::max()))
            fail(source_, "metadata " + quote(key) + " is not a finite float32");
        return static_cast<float>(*value);
    }
    std::string text(const std::string& key) const {
        const std::string* value = find<std::string>(key, "a string");
        return value ? *value : "";
    }

  private:
    const Gguf& gguf_;
    const std::string& source_;
};

}  // namespace

Config parse_gguf_config(const Gguf& gguf, const std::string& source) {
    const Metadata metadata(gguf, source);
    const std::string architecture = metadata.text("general.architecture");
    if (architecture != "gpt-oss")
        fail(source, "general.architecture is " + quote(architecture) + ": expected 'gpt-oss'");

    Config c;
    c.n_layers = metadata.integer("gpt-oss.block_count");
    c.hidden = metadata.integer("gpt-oss.embedding_length");
    c.intermediate = metadata.integer(gguf.metadata.contains("gpt-oss.expert_feed_forward_length")
                                          ? "gpt-oss.expert_feed_forward_length"
                                          : "gpt-oss.feed_forward_length");
    c.n_heads = metadata.integer("gpt-oss.attention.head_count");
    c.n_kv_heads = metadata.integer("gpt-oss.attention.head_count_kv");
    c.head_dim = metadata.integer("gpt-oss.attention.key_length", c.head_dim);
    c.n_experts = metadata.integer("gpt-oss.expert_count");
    c.n_active_experts = metadata.integer("gpt-oss.expert_used_count");
    c.window = metadata.integer("gpt-oss.attention.sliding_window");
    c.max_context = metadata.integer("gpt-oss.context_length");
    c.norm_eps = metadata.number("gpt-oss.attention.layer_norm_rms_epsilon", c.norm_eps);
    c.rope_theta = metadata.number("gpt-oss.rope.freq_base", c.rope_theta);
    c.eos_token = metadata.integer("tokenizer.ggml.eos_token_id", c.eos_token);

    const std::string scaling = metadata.text("gpt-oss.rope.scaling.type");
    if (scaling == "yarn") {
        c.rope_factor = metadata.number("gpt-oss.rope.scaling.factor", c.rope_factor);
        c.rope_original_context =
            metadata.integer("gpt-oss.rope.scaling.original_context_length", c.rope_original_context);
        c.rope_beta_fast = metadata.number("gpt-oss.rope.scaling.yarn_beta_fast", c.rope_beta_fast);
        c.rope_beta_slow = metadata.number("gpt-oss.rope.scaling.yarn_beta_slow", c.rope_beta_slow);
    } else if (scaling.empty() || scaling == "none") {
        c.rope_factor = 1;
    } else {
        fail(source, "rope.scaling.type is " + quote(scaling) + ": expected 'yarn' or 'none'");
    }

    for (const TensorInfo& t : gguf.tensors)
        if (t.name == "token_embd.weight" && t.shape.size() == 2)
            c.vocab = static_cast<uint32_t>(std::min<uint64_t>(t.shape[0], UINT32_MAX));
    if (c.vocab == 0) fail(source, "tensor 'token_embd.weight' is missing or no matrix");
    for (uint32_t i = 0; i < std::min(c.n_layers, 1u << 16); i++) c.sliding.push_back(i % 2 == 0);
    check_config(c, source);
    return c;
}

}  // namespace gptoss::io
