#ifdef _WIN32

#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <algorithm>
#include <memory>
#include <system_error>

#include "base/fail.h"
#include "base/path.h"
#include "base/platform.h"

namespace gptoss::platform {

namespace fs = std::filesystem;

namespace {

// In English, whatever the user's language: as other systems have it.
std::string reason(DWORD error) {
    const std::error_condition known = std::system_category().default_error_condition(static_cast<int>(error));
    return known.category() == std::generic_category() ? known.message() : "Windows' error " + std::to_string(error);
}

HANDLE handle_of(intptr_t handle) { return reinterpret_cast<HANDLE>(handle); }

std::wstring wide_path(const std::string& path) { return to_path(path).wstring(); }

bool write_all(HANDLE file, std::string_view bytes) {
    while (!bytes.empty()) {
        DWORD n = 0;
        const auto piece = static_cast<DWORD>(std::min<size_t>(bytes.size(), size_t{1} << 30));
        if (!WriteFile(file, bytes.data(), piece, &n, nullptr) || n == 0) return false;
        bytes.remove_prefix(n);
    }
    return true;
}

}  // namespace

OpenFile::OpenFile(const std::string& path) : path_(path) {
    const std::wstring wide = wide_path(path);
    const HANDLE file = CreateFileW(wide.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                                    nullptr, OPEN_EXISTING, FILE_FLAG_SEQUENTIAL_SCAN, nullptr);
    if (file == INVALID_HANDLE_VALUE) {
        const DWORD error = GetLastError();
        const DWORD attributes = GetFileAttributesW(wide.c_str());  // of a link, not of what it leads to
        if (attributes == INVALID_FILE_ATTRIBUTES) fail(path, reason(error));
        if (attributes & FILE_ATTRIBUTE_DIRECTORY) fail(path, "is a directory, not a file");
        const bool leads_nowhere = attributes & FILE_ATTRIBUTE_REPARSE_POINT && error == ERROR_FILE_NOT_FOUND;
        fail(path, leads_nowhere ? "is a link to a file that is not there" : reason(error));
    }
    LARGE_INTEGER size{};
    if (GetFileType(file) != FILE_TYPE_DISK || !GetFileSizeEx(file, &size)) {
        CloseHandle(file);
        fail(path, "is not a regular file");
    }
    handle_ = reinterpret_cast<intptr_t>(file);
    size_ = static_cast<uint64_t>(size.QuadPart);
}

OpenFile::~OpenFile() { CloseHandle(handle_of(handle_)); }

size_t OpenFile::read(uint64_t offset, std::byte* out, size_t size) const {
    OVERLAPPED at{};  // the offset of this read alone: threads share the handle, and so its position
    at.Offset = static_cast<DWORD>(offset);
    at.OffsetHigh = static_cast<DWORD>(offset >> 32);
    DWORD n = 0;
    const auto piece = static_cast<DWORD>(std::min<size_t>(size, size_t{1} << 30));
    if (ReadFile(handle_of(handle_), out, piece, &n, &at)) return n;
    if (const DWORD error = GetLastError(); error != ERROR_HANDLE_EOF)
        fail(path_, "reading at offset " + std::to_string(offset) + ": " + reason(error));
    return 0;
}

std::vector<std::string> names_in(const std::string& directory) {
    struct Close {
        void operator()(void* search) const { FindClose(search); }
    };
    std::vector<std::string> names;
    WIN32_FIND_DATAW entry;
    const HANDLE found = FindFirstFileW(wide_path(directory + "/*").c_str(), &entry);
    if (found == INVALID_HANDLE_VALUE) fail(directory, reason(GetLastError()));
    const std::unique_ptr<void, Close> search(found);
    do names.push_back(to_utf8(entry.cFileName));
    while (FindNextFileW(found, &entry));
    if (const DWORD error = GetLastError(); error != ERROR_NO_MORE_FILES) fail(directory, reason(error));
    std::sort(names.begin(), names.end());
    return names;
}

// Within the user's own folder, whose access it inherits.
void make_private_directory(const fs::path& directory) noexcept { CreateDirectoryW(directory.c_str(), nullptr); }

bool replace_file(const std::string& path, const std::string& part, std::string_view bytes) {
    const std::wstring wide = wide_path(path), wide_part = wide_path(part);
    const HANDLE file =
        CreateFileW(wide_part.c_str(), GENERIC_WRITE, 0, nullptr, CREATE_NEW, FILE_ATTRIBUTE_NORMAL, nullptr);
    if (file == INVALID_HANDLE_VALUE) return false;
    const bool written = write_all(file, bytes);
    if (CloseHandle(file) && written && MoveFileExW(wide_part.c_str(), wide.c_str(), MOVEFILE_REPLACE_EXISTING))
        return true;
    DeleteFileW(wide_part.c_str());
    return false;
}

fs::path user_cache_directory() {
    std::wstring value(MAX_PATH, L'\0');
    // It returns the size with the zero where that is too large, else the length.
    const auto get = [&] {
        return GetEnvironmentVariableW(L"LOCALAPPDATA", value.data(), static_cast<DWORD>(value.size()));
    };
    DWORD length = get();
    if (length >= value.size()) value.resize(length), length = get();
    value.resize(std::min<size_t>(length, value.size()));
    const fs::path path(value);
    return path.is_absolute() ? path : fs::path();
}

uint64_t process_id() noexcept { return GetCurrentProcessId(); }

uint64_t memory_available() {
    MEMORYSTATUSEX memory{};
    memory.dwLength = sizeof memory;
    return GlobalMemoryStatusEx(&memory) ? memory.ullAvailPhys : UINT64_MAX;
}

int on_fork(void (*)()) noexcept { return 0; }  // no process is copied

void keep_loaded(void (*function)()) noexcept {
    HMODULE library;
    GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                       reinterpret_cast<LPCWSTR>(function), &library);
}

NoFileSizeSignal::NoFileSizeSignal() noexcept = default;  // there is no such limit
NoFileSizeSignal::~NoFileSizeSignal() = default;

namespace {

// Handles, and what threads of the process keep of this library, outlive a FreeLibrary.
[[maybe_unused]] const bool kept = (keep_loaded([] {}), true);

}  // namespace

}  // namespace gptoss::platform

#endif
