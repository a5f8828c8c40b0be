#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/fail.h"

namespace gptoss {

namespace {

std::string reason(int error) { return std::generic_category().message(error); }

std::string reason_not_opened(const std::string& path, int error) {
    struct stat status {};
    if (error == ENOENT && ::lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode))
        return "is a link to a file that is not there";
    return reason(error);
}

}  // namespace

File::File(const std::string& path) : path_(path) {
    // O_NONBLOCK: a FIFO in a file's place is refused below instead of waited for.
    do fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd_ < 0 && errno == EINTR);
    if (fd_ < 0) fail(path, reason_not_opened(path, errno));
    struct stat status {};
    if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
        ::close(fd_);
        fail(path, S_ISDIR(status.st_mode) ? "is a directory, not a file" : "is not a regular file");
    }
    size_ = static_cast<uint64_t>(status.st_size);
#ifdef POSIX_FADV_SEQUENTIAL
    ::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);  // only advice: a larger read-ahead
#endif
    try {
        refuse_pointer();
    } catch (...) {
        ::close(fd_);
        throw;
    }
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

File::~File() {
    if (fd_ >= 0) ::close(fd_);
}

void File::read(uint64_t offset, std::byte* out, size_t size) const {
    if (offset > size_ || size > size_ - offset)
        fail(path_, "truncated: " + std::to_string(size) + " bytes wanted at offset " + std::to_string(offset) +
                        " of " + std::to_string(size_));
    if (fd_ < 0) {
        std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), size, out);
        return;
    }
    while (size > 0) {
        size_t piece = std::min<size_t>(size, size_t{1} << 30);  // Linux reads at most 2 GiB at once
        ssize_t n = ::pread(fd_, out, piece, static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail(path_, "reading at offset " + std::to_string(offset) + ": " + reason(errno));
        if (n == 0) fail(path_, "truncated while open: it now ends before offset " + std::to_string(offset));
        offset += static_cast<uint64_t>(n);
        out += n;
        size -= static_cast<size_t>(n);
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
