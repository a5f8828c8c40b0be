#include "base/file.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/fail.h"

namespace gptoss {

File::File(const std::string& path) : path_(path) {
    file_.emplace(path);
    size_ = file_->size();
    refuse_pointer();
}

// A clone made without git-lfs has small texts in the place of large files.
void File::refuse_pointer() const {
    constexpr std::string_view start = "version https://git-lfs.github.com/spec/";
    constexpr uint64_t longest = 1024;
    if (size_ < start.size() || size_ > longest) return;
    char found[start.size()];
    read(0, reinterpret_cast<std::byte*>(found), sizeof found);
    if (std::string_view(found, sizeof found) == start)
        fail(path_, "is a git-lfs pointer in place of the file: run 'git lfs pull' in its directory");
}

File::File(const std::string& name, std::vector<std::byte> bytes)
    : path_(name), size_(bytes.size()), bytes_(std::move(bytes)) {}

void File::read(uint64_t offset, std::byte* out, size_t size) const {
    if (offset > size_ || size > size_ - offset)
        fail(path_, "truncated: " + std::to_string(size) + " bytes wanted at offset " + std::to_string(offset) +
                        " of " + std::to_string(size_));
    if (!file_) {
        std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), size, out);
        return;
    }
    while (size > 0) {
        const size_t n = file_->read(offset, out, size);
        if (n == 0) fail(path_, "truncated while open: it now ends before offset " + std::to_string(offset));
        offset += n;
        out += n;
        size -= n;
    }
}

std::string File::read_all(size_t max_size) const {
    if (size_ > max_size)
        fail(path_, std::to_string(size_) + " bytes are more than the " + std::to_string(max_size) +
                        " that such a file may have");
    std::string text(static_cast<size_t>(size_), '\0');
    read(0, reinterpret_cast<std::byte*>(text.data()), text.size());
    return text;
}

}  // namespace gptoss
