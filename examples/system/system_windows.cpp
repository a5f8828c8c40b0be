#ifdef _WIN32

#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <shellapi.h>

#include <stdexcept>
#include <thread>
#include <vector>

#include "system.h"

namespace programs {

namespace {

std::string to_utf8(std::wstring_view wide) {
    const std::u8string text = std::filesystem::path(wide).u8string();
    return {text.begin(), text.end()};
}

void show_control_sequences(DWORD stream) {
    const HANDLE console = GetStdHandle(stream);
    if (DWORD mode; GetConsoleMode(console, &mode))
        SetConsoleMode(console, mode | ENABLE_PROCESSED_OUTPUT | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
}

std::runtime_error failure(const char* call) {
    return std::runtime_error(std::string(call) + ": Windows' error " + std::to_string(GetLastError()));
}

// A handle that is closed at the end of its scope.
struct Handle {
    HANDLE value = INVALID_HANDLE_VALUE;
    Handle() = default;
    Handle(const Handle&) = delete;
    ~Handle() { close(); }
    void close() {
        if (value != INVALID_HANDLE_VALUE) CloseHandle(value);
        value = INVALID_HANDLE_VALUE;
    }
};

}  // namespace

void begin(int& argc, char**& argv) {
    static std::vector<std::string> texts;
    static std::vector<char*> pointers;
    int count = 0;
    wchar_t** const wide = CommandLineToArgvW(GetCommandLineW(), &count);
    for (int i = 0; i < count; i++) texts.push_back(to_utf8(wide[i]));
    LocalFree(wide);
    for (std::string& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    argc = count;
    argv = pointers.data();
    for (std::FILE* file : {stdin, stdout, stderr}) _setmode(_fileno(file), _O_BINARY);
    SetConsoleOutputCP(CP_UTF8);
    for (const DWORD stream : {STD_OUTPUT_HANDLE, STD_ERROR_HANDLE}) show_control_sequences(stream);
}

// _isatty takes the null device for a terminal.
bool is_terminal(std::FILE* file) {
    DWORD mode;
    return GetConsoleMode(reinterpret_cast<HANDLE>(_get_osfhandle(_fileno(file))), &mode);
}

bool input_is_given() {
    const DWORD type = GetFileType(GetStdHandle(STD_INPUT_HANDLE));
    return type == FILE_TYPE_DISK || type == FILE_TYPE_PIPE;
}

std::filesystem::path program_file() {
    std::wstring path(32768, L'\0');  // the longest that there is
    path.resize(GetModuleFileNameW(nullptr, path.data(), static_cast<DWORD>(path.size())));
    return path;
}

std::string run_command(const std::string& command, const std::string& input) {
    SECURITY_ATTRIBUTES inherited{sizeof inherited, nullptr, TRUE};
    Handle in, give, take, out;
    if (!CreatePipe(&in.value, &give.value, &inherited, 0) || !CreatePipe(&take.value, &out.value, &inherited, 0))
        throw failure("CreatePipe");
    SetHandleInformation(give.value, HANDLE_FLAG_INHERIT, 0);
    SetHandleInformation(take.value, HANDLE_FLAG_INHERIT, 0);
    STARTUPINFOW start{};
    start.cb = sizeof start;
    start.dwFlags = STARTF_USESTDHANDLES;
    start.hStdInput = in.value;
    start.hStdOutput = out.value;
    start.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    // cmd takes off the outer quotes alone, whatever is between them
    const std::string text = "cmd /d /s /c \"" + command + "\"";
    std::wstring line = std::filesystem::path(std::u8string(text.begin(), text.end())).wstring();
    PROCESS_INFORMATION process{};
    if (!CreateProcessW(nullptr, line.data(), nullptr, nullptr, TRUE, 0, nullptr, nullptr, &start, &process))
        throw failure("CreateProcess");
    CloseHandle(process.hThread);
    Handle child;
    child.value = process.hProcess;
    in.close();
    out.close();
    // by a thread, so that neither side can wait for the other
    std::thread writer([&] {
        for (size_t at = 0; at < input.size();) {
            DWORD n = 0;
            if (!WriteFile(give.value, input.data() + at, static_cast<DWORD>(input.size() - at), &n, nullptr)) break;
            at += n;
        }
        give.close();
    });
    std::string result;
    char buffer[4096];
    for (DWORD n = 0; ReadFile(take.value, buffer, sizeof buffer, &n, nullptr) && n > 0;) result.append(buffer, n);
    writer.join();
    DWORD status = 0;
    WaitForSingleObject(child.value, INFINITE);
    GetExitCodeProcess(child.value, &status);
    std::erase(result, '\r');
    if (status != 0)
        throw std::runtime_error("the command ended with status " + std::to_string(status) +
                                 (result.empty() ? "" : ": " + result));
    return result;
}

namespace {

std::atomic<bool>* interrupted = nullptr;
void (*interrupt)() = nullptr;
HANDLE stop_requests = nullptr;  // a semaphore

// On a thread of the system's.
BOOL WINAPI on_control(DWORD event) {
    if (event != CTRL_C_EVENT && event != CTRL_BREAK_EVENT) return FALSE;
    *interrupted = true;
    interrupt();
    return TRUE;
}

BOOL WINAPI on_stop(DWORD event) {
    ReleaseSemaphore(stop_requests, 1, nullptr);
    // the process ends with the return where its window or its session does
    if (event != CTRL_C_EVENT && event != CTRL_BREAK_EVENT) Sleep(INFINITE);
    return TRUE;
}

}  // namespace

void on_interrupt(std::atomic<bool>& flag, void (*call)()) {
    interrupted = &flag;
    interrupt = call;
    SetConsoleCtrlHandler(on_control, TRUE);
}

StopRequests::StopRequests() {
    stop_requests = CreateSemaphoreW(nullptr, 0, 1000, nullptr);
    SetConsoleCtrlHandler(on_stop, TRUE);
}

bool StopRequests::wait(std::chrono::milliseconds time) const {
    return WaitForSingleObject(stop_requests, static_cast<DWORD>(time.count())) == WAIT_OBJECT_0;
}

}  // namespace programs

#endif
