// An adapter of golden/tiny: an adapter_config.json, a NUL and a safetensors header, or a GGUF file's header: refused,
// or every pair has a place in the model and its matrices lie within the file.
#include "io/adapter.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "io/gguf.h"
#include "io/safetensors.h"

using namespace gptoss;

namespace {

constexpr uint64_t kDataSize = 1 << 21;  // more than the seeds' tensors take

io::Config tiny() {
    io::Config c;
    c.n_layers = 4;
    c.hidden = 96;
    c.intermediate = 64;
    c.n_heads = 8;
    c.n_kv_heads = 2;
    c.n_experts = 8;
    return c;
}

void check(const std::vector<io::LoraTensors>& pairs, const io::Config& c, uint64_t file_size) {
    for (const io::LoraTensors& p : pairs) {
        if (p.layer >= c.n_layers || p.first_expert + p.n_experts > c.n_experts) abort();
        if (p.rank == 0 || p.rank > io::max_lora_rank || p.a.rows != uint64_t{p.n_experts} * p.rank) abort();
        if (p.b.rows * p.b.cols != uint64_t{p.n_experts} * p.rows * p.rank) abort();
        for (const io::Matrix* m : {&p.a, &p.b})
            if (m->bytes() > file_size || m->offset > file_size - m->bytes()) abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const io::Config config = tiny();
    const auto* text = reinterpret_cast<const char*>(data);
    try {
        if (size >= 4 && std::memcmp(data, "GGUF", 4) == 0) {
            const uint64_t file_size = size + kDataSize;
            const auto read = [&](uint64_t offset, std::byte* out, size_t n) {
                const size_t there = std::min<size_t>(n, size - std::min<uint64_t>(size, offset));
                if (there > 0) std::memcpy(out, data + offset, there);
                std::memset(out + there, 0, n - there);
            };
            const Gguf gguf = Gguf::parse(read, file_size, "fuzz", [](std::string_view) { return true; });
            const float alpha = gguf.number("adapter.lora.alpha").value_or(0);
            check(io::map_gguf_adapter(io::gguf_tensors(gguf), alpha, config, "fuzz"), config, file_size);
            return 0;
        }
        const size_t end = static_cast<size_t>(std::find(data, data + size, 0) - data);
        const io::PeftConfig peft(text, end, "fuzz");
        const size_t first = std::min(size, end + 1);
        const auto tensors = io::parse_safetensors_header(text + first, size - first, 8 + size, kDataSize, "fuzz");
        check(io::map_peft_adapter(tensors, peft, config, "fuzz"), config, 8 + size + kDataSize);
    } catch (const Error&) {
    }
    return 0;
}
