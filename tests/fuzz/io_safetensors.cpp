// A safetensors header: refused, or every tensor lies within the file and is as long as its shape says.
#include "io/safetensors.h"

#include <cstdlib>

#include "base/error.h"

using namespace gptoss;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr uint64_t data_size = 1 << 21;  // more than the seeds' tensors take
    const uint64_t data_offset = 8 + size;
    try {
        const auto tensors =
            io::parse_safetensors_header(reinterpret_cast<const char*>(data), size, data_offset, data_size, "fuzz");
        for (const io::TensorInfo& t : tensors) {
            if (t.offset < data_offset || t.bytes > data_size || t.offset - data_offset > data_size - t.bytes) abort();
            if (t.type && io::dtype_bytes(*t.type, io::element_count(t.shape).value()) != t.bytes) abort();
        }
    } catch (const Error&) {
    }
    return 0;
}
