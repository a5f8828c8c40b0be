#include "base/gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/fail.h"

namespace gptoss {

namespace {

// Metadata types, by their number in the file.
enum class Type : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64 };
constexpr uint32_t type_sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

constexpr char magic[4] = {'G', 'G', 'U', 'F'};
constexpr uint64_t max_metadata = 1 << 16;
constexpr uint64_t max_tensors = 1 << 16;
constexpr uint64_t max_text = 1 << 16;
constexpr uint64_t max_elements = 1 << 21;  // of an array that is kept
constexpr uint32_t max_dimensions = 4;
constexpr int max_nesting = 4;

// Reads forward through the file, a window at a time.
class Reader {
  public:
    Reader(const Gguf::ReadAt& read, uint64_t size, const std::string& source)
        : read_(read), size_(size), source_(source) {}

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
    std::string text(const std::string& what) {
        uint64_t n = number<uint64_t>(what);
        need(n, what);
        if (n > max_text)
            fail(what + " is a string of " + std::to_string(n) + " bytes: too long, expected at most " +
                 std::to_string(max_text));
        std::string text(static_cast<size_t>(n), '\0');
        bytes(text.data(), text.size(), what);
        return text;
    }
    Type type(const std::string& what) {
        const uint32_t type = number<uint32_t>(what);
        if (type > static_cast<uint32_t>(Type::F64)) fail(what + " has the unknown type " + std::to_string(type));
        return static_cast<Type>(type);
    }
    // An array's type and its number of elements, for which there is room in the file.
    std::pair<Type, uint64_t> array(const std::string& what) {
        const Type element = type(what);
        const uint64_t n = number<uint64_t>(what);
        if (n > left() / least_size(element))
            fail("truncated: " + what + " is an array of " + std::to_string(n) + " elements in the last " +
                 std::to_string(left()) + " bytes");
        return {element, n};
    }
    // Bytes of a value, or the least that one of any size takes: a string its length, an array its type and length.
    static uint32_t least_size(Type type) {
        return type == Type::String ? 8 : type == Type::Array ? 12 : type_sizes[static_cast<uint32_t>(type)];
    }
    [[noreturn]] void fail(const std::string& message) const { gptoss::fail(source_, message); }

  private:
    void need(uint64_t n, const std::string& what) const {
        if (n > left())
            fail("truncated: " + what + " at offset " + std::to_string(position_) + " needs " + std::to_string(n) +
                 " bytes, " + std::to_string(left()) + " are left");
    }
    void refill() {
        begin_ = position_;
        window_.resize(static_cast<size_t>(std::min<uint64_t>(left(), 1 << 16)));
        read_(begin_, window_.data(), window_.size());
    }

    const Gguf::ReadAt& read_;
    uint64_t size_;
    const std::string& source_;
    uint64_t position_ = 0;
    uint64_t begin_ = 0;  // of the window
    std::vector<std::byte> window_;
};

bool is_integer(Type type) { return type <= Type::I32 || type == Type::U64 || type == Type::I64; }

int64_t read_integer(Reader& in, Type type, const std::string& what) {
    switch (type) {
        case Type::U8:
            return in.number<uint8_t>(what);
        case Type::I8:
            return in.number<int8_t>(what);
        case Type::U16:
            return in.number<uint16_t>(what);
        case Type::I16:
            return in.number<int16_t>(what);
        case Type::U32:
            return in.number<uint32_t>(what);
        case Type::I32:
            return in.number<int32_t>(what);
        case Type::I64:
            return in.number<int64_t>(what);
        default: {
            const uint64_t value = in.number<uint64_t>(what);
            if (value > uint64_t{INT64_MAX}) in.fail(what + " is " + std::to_string(value) + ": too large");
            return static_cast<int64_t>(value);
        }
    }
}

void skip_elements(Reader& in, Type type, uint64_t n, const std::string& what, int nesting) {
    if (type != Type::String && type != Type::Array) return in.skip(n * Reader::least_size(type), what);
    for (uint64_t i = 0; i < n; i++) {
        if (type == Type::String) {
            in.skip(in.number<uint64_t>(what), what);
            continue;
        }
        if (nesting == max_nesting) in.fail(what + ": arrays nested more than " + std::to_string(nesting) + " deep");
        const auto [element, count] = in.array(what);
        skip_elements(in, element, count, what, nesting + 1);
    }
}

// An array's elements, if they are of a kind that is kept.
std::optional<Gguf::Value> read_array(Reader& in, const std::string& what) {
    const auto [element, n] = in.array(what);
    const bool integers = is_integer(element) || element == Type::Bool;
    if (!integers && element != Type::String) {
        skip_elements(in, element, n, what, 1);
        return std::nullopt;
    }
    if (n > max_elements)
        in.fail(what + " has " + std::to_string(n) + " elements: expected at most " + std::to_string(max_elements));
    if (element == Type::String) {
        std::vector<std::string> texts;
        texts.reserve(n);
        for (uint64_t i = 0; i < n; i++) texts.push_back(in.text(what));
        return texts;
    }
    std::vector<int64_t> values(n);
    for (int64_t& value : values)
        value = element == Type::Bool ? in.number<uint8_t>(what) != 0 : read_integer(in, element, what);
    return values;
}

std::optional<Gguf::Value> read_value(Reader& in, Type type, const std::string& what) {
    switch (type) {
        case Type::F32:
            return double{in.number<float>(what)};
        case Type::F64:
            return in.number<double>(what);
        case Type::Bool:
            return in.number<uint8_t>(what) != 0;
        case Type::String:
            return in.text(what);
        case Type::Array:
            return read_array(in, what);
        default:
            return read_integer(in, type, what);
    }
}

Gguf::Tensor read_tensor(Reader& in) {
    Gguf::Tensor t;
    t.name = in.text("a tensor's name");
    const std::string what = "tensor " + quote(t.name);
    const uint32_t n_dimensions = in.number<uint32_t>(what);
    if (n_dimensions > max_dimensions)
        in.fail(what + " has " + std::to_string(n_dimensions) + " dimensions: expected at most " +
                std::to_string(max_dimensions));
    for (uint32_t i = 0; i < n_dimensions; i++) t.shape.push_back(in.number<uint64_t>(what));
    std::reverse(t.shape.begin(), t.shape.end());  // the file lists the innermost dimension first
    t.type = in.number<uint32_t>(what);
    t.offset = in.number<uint64_t>(what);  // from the start of the data, as yet
    return t;
}

// Turns offsets from the start of the data into offsets in the file.
void place_tensors(Gguf& gguf, uint64_t header_size) {
    const std::string key = "general.alignment";
    const int64_t alignment = gguf.find(key) ? gguf.integer(key).value_or(0) : 32;
    if (alignment <= 0 || alignment > (1 << 20) || (alignment & (alignment - 1)) != 0)
        gguf.refuse(key, "is " + std::to_string(alignment) + ": expected a power of two up to 2^20");
    const uint64_t unit = static_cast<uint64_t>(alignment), data = (header_size + unit - 1) / unit * unit;
    const uint64_t data_size = gguf.file_size > data ? gguf.file_size - data : 0;
    for (Gguf::Tensor& t : gguf.tensors) {
        const std::string what = "tensor " + quote(t.name);
        if (t.offset % unit != 0) fail(gguf.source, what + " is not aligned to " + std::to_string(unit) + " bytes");
        if (t.offset > data_size)
            fail(gguf.source, "truncated: " + what + " begins at " + std::to_string(t.offset) +
                                  ", the data section has only " + std::to_string(data_size) + " bytes");
        t.offset += data;
    }
}

}  // namespace

Gguf Gguf::parse(const ReadAt& read, uint64_t file_size, const std::string& source, Wanted wanted) {
    Reader in(read, file_size, source);
    char found[sizeof magic];
    in.bytes(found, sizeof found, "the signature");
    if (std::memcmp(found, magic, sizeof magic) != 0) in.fail("is not a GGUF file");
    const uint32_t version = in.number<uint32_t>("the version");
    if (version != 2 && version != 3)
        in.fail("GGUF version " + std::to_string(version) + ": expected 2 or 3, little-endian");
    const uint64_t n_tensors = in.number<uint64_t>("the number of tensors");
    const uint64_t n_metadata = in.number<uint64_t>("the number of metadata entries");
    if (n_tensors > max_tensors) in.fail(std::to_string(n_tensors) + " tensors are too many");
    if (n_metadata > max_metadata) in.fail(std::to_string(n_metadata) + " metadata entries are too many");

    Gguf gguf;
    gguf.source = source;
    gguf.file_size = file_size;
    for (uint64_t i = 0; i < n_metadata; i++) {
        const std::string key = in.text("a metadata key");
        const std::string what = "metadata " + quote(key);
        const Type type = in.type(what);
        if (key != "general.alignment" && !wanted(key)) {
            skip_elements(in, type, 1, what, 0);
            continue;
        }
        std::optional<Value> value = read_value(in, type, what);
        if (value && !gguf.metadata.emplace(key, std::move(*value)).second) in.fail(what + " appears twice");
    }
    for (uint64_t i = 0; i < n_tensors; i++) gguf.tensors.push_back(read_tensor(in));
    place_tensors(gguf, in.position());
    return gguf;
}

Gguf Gguf::read(const File& file, Wanted wanted) {
    return parse([&](uint64_t offset, std::byte* out, size_t size) { file.read(offset, out, size); }, file.size(),
                 file.path(), wanted);
}

const Gguf::Value* Gguf::find(const std::string& key) const {
    const auto at = metadata.find(key);
    return at == metadata.end() ? nullptr : &at->second;
}

void Gguf::refuse(const std::string& key, const std::string& what) const {
    fail(source, "metadata " + quote(key) + " " + what);
}

template <typename T>
const T* Gguf::get(const std::string& key, const char* expected) const {
    const Value* value = find(key);
    if (!value) return nullptr;
    if (!std::holds_alternative<T>(*value)) refuse(key, "has another type: expected " + std::string(expected));
    return &std::get<T>(*value);
}

std::optional<uint32_t> Gguf::integer(const std::string& key) const {
    const Value* value = find(key);
    if (!value) return std::nullopt;
    int64_t integer;
    if (const auto* all = std::get_if<std::vector<int64_t>>(value)) {
        if (all->empty() || std::count(all->begin(), all->end(), all->front()) != static_cast<ptrdiff_t>(all->size()))
            refuse(key, "differs from layer to layer: expected one value for all");
        integer = all->front();
    } else {
        integer = *get<int64_t>(key, "an integer");
    }
    if (integer < 0 || integer > UINT32_MAX)
        refuse(key, "is " + std::to_string(integer) + (integer < 0 ? ": too small" : ": too large") +
                        ", expected an integer from 0 to 4294967295");
    return static_cast<uint32_t>(integer);
}

std::optional<float> Gguf::number(const std::string& key) const {
    const double* value = get<double>(key, "a floating-point number");
    if (!value) return std::nullopt;
    if (!(std::abs(*value) <= std::numeric_limits<float>::max())) refuse(key, "is not a finite float32");
    return static_cast<float>(*value);
}

std::optional<std::string> Gguf::text(const std::string& key) const {
    const std::string* value = get<std::string>(key, "a string");
    return value ? std::optional(*value) : std::nullopt;
}

const std::vector<int64_t>* Gguf::integers(const std::string& key) const {
    return get<std::vector<int64_t>>(key, "an array of integers");
}

const std::vector<std::string>* Gguf::texts(const std::string& key) const {
    return get<std::vector<std::string>>(key, "an array of strings");
}

bool is_gguf(const File& file) {
    char found[sizeof magic];
    if (file.size() < sizeof found) return false;
    file.read(0, reinterpret_cast<std::byte*>(found), sizeof found);
    return std::memcmp(found, magic, sizeof magic) == 0;
}

}  // namespace gptoss
