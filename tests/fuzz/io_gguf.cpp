// A GGUF file's header, followed by zeros: refused, or every tensor lies within the file and the model can be run.
#include "io/gguf.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

using namespace gptoss;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const uint64_t file_size = size + (1 << 21);  // more than the seeds' tensors take
    auto read = [&](uint64_t offset, std::byte* out, size_t n) {
        if (offset > file_size || n > file_size - offset) abort();
        const size_t there = std::min<size_t>(n, size - std::min<uint64_t>(size, offset));
        if (there > 0) std::memcpy(out, data + offset, there);
        std::memset(out + there, 0, n - there);
    };
    try {
        const Gguf gguf = Gguf::parse(read, file_size, "fuzz", io::is_model_key);
        io::check_gguf_architecture(gguf);
        io::TensorTable table("fuzz");
        table.add(io::gguf_tensors(gguf), nullptr);
        for (const io::TensorInfo& t : io::gguf_tensors(gguf))
            if (t.bytes > file_size || t.offset > file_size - t.bytes) abort();
        const io::Config config = io::parse_gguf_config(gguf, table.find("token_embd.weight"));
        io::check_config(config, "fuzz");
    } catch (const Error&) {
    }
    return 0;
}
