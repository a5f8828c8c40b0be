#include "start.h"

#include <gptoss.h>
#include <sys/wait.h>
#include <unistd.h>
#include <volk.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <set>
#include <sstream>
#include <vector>

#include "inject.h"
#include "script.h"
#include "table.h"

namespace gptoss::test {

namespace {

using inject::Kind;

// What the machine looks like through the library; after a fault it must look as it does without.
class View {
  public:
    View(const std::string& checkpoint, bool loads) : checkpoint_(checkpoint), loads_(loads) {}

    // Calls report(call, status) for each call, the message being that of gptoss_last_error; returns what they gave.
    std::string look(const std::function<void(const char*, gptoss_status)>& report) const {
        std::ostringstream seen;
        uint32_t count = 0;
        report("count", in_library([&] { return gptoss_device_count(&count); }));
        seen << count << " devices";
        gptoss_device_info info{};
        info.struct_size = sizeof info;
        report("info", in_library([&] { return gptoss_device_get_info(0, &info); }));
        seen << ", " << info.name << ", " << info.driver << ", " << info.tier << ", " << info.subgroup_size;
        gptoss_memory_estimate estimate{};
        estimate.struct_size = sizeof estimate;
        report("estimate",
               in_library([&] { return gptoss_model_estimate_memory(checkpoint_.c_str(), nullptr, 0, 0, &estimate); }));
        seen << ", " << estimate.weight_bytes << " and " << estimate.cache_bytes << " bytes";
        if (loads_) seen << first_token(report);
        return seen.str();
    }

  private:
    std::string first_token(const std::function<void(const char*, gptoss_status)>& report) const {
        gptoss_model_t model = nullptr;
        const gptoss_status status =
            in_library([&] { return gptoss_model_create_from_file(checkpoint_.c_str(), &model); });
        report("load", status);
        if (status != gptoss_status_success) return model ? "a failed load gave a model" : "";
        gptoss_context_t context = nullptr;
        const uint32_t prompt[] = {1, 2, 3};
        uint32_t token = 0;
        size_t n = 0;
        must(gptoss_context_create(model, 0, 0, &context), "create");
        must(gptoss_context_append_tokens(context, 3, prompt), "append");
        must(gptoss_context_sample(context, 0, 0, 1, &token, &n), "sample");
        gptoss_context_release(context);
        gptoss_model_release(model);
        return ", token " + std::to_string(token);
    }

    const std::string& checkpoint_;
    bool loads_;
};

// Runs f in a child, which writes to its FILE; what it wrote, nullopt if it crashed or hung.
std::optional<std::string> in_child(Row& r, const std::function<void(FILE*)>& f) {
    std::fflush(stdout);
    int ends[2];
    if (pipe(ends) != 0) must(gptoss_status_internal_error, "pipe");
    const pid_t child = fork();
    if (child < 0) must(gptoss_status_internal_error, "fork");
    if (child == 0) {
        close(ends[0]);
        FILE* const out = fdopen(ends[1], "w");
        alarm(kSeconds / 3);
        f(out);
        std::fclose(out);
        std::fflush(stdout);
        _exit(0);
    }
    close(ends[1]);
    std::string said;
    char part[4096];
    for (ssize_t size; (size = read(ends[0], part, sizeof part)) > 0;) said.append(part, size);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return said;
    const bool hung = WIFEXITED(status) && WEXITSTATUS(status) == 2;
    wrong(r, hung ? Wrong::Hang : Wrong::Crash, "the process ended with status " + std::to_string(status));
    return std::nullopt;
}

// Injects what begin begins and end ends, and looks before and after end. may_fail: whether a call may give a status.
void one_fault(Row& r, const View& view, const std::string& expected, const std::function<void()>& begin,
               const std::function<bool()>& end,
               const std::function<bool(const std::string& call, gptoss_status)>& may_fail) {
    const auto said = in_child(r, [&](FILE* out) {
        begin();
        view.look([&](const char* call, gptoss_status status) {
            if (status == gptoss_status_success) return;
            std::fprintf(out, "S%d\n", status);
            const char* const message = gptoss_last_error();
            if (!*message) std::fprintf(out, "W%s: no message\n", call);
            if (!may_fail(call, status))
                std::fprintf(out, "W%s: %s: %s\n", call, gptoss_status_string(status), message);
        });
        if (!end()) std::fprintf(out, "Wthe fault did not come\n");
        const std::string after = view.look([&](const char* call, gptoss_status status) {
            if (status == gptoss_status_success) return;
            std::fprintf(out, "Wafterwards, %s: %s: %s\n", call, gptoss_status_string(status), gptoss_last_error());
        });
        if (after != expected) std::fprintf(out, "Tafterwards: %s, not: %s\n", after.c_str(), expected.c_str());
    });
    r.injected++;
    if (!said) return;
    std::istringstream lines(*said);
    bool failed = false;
    for (std::string line; std::getline(lines, line);) {
        if (line[0] == 'S') {
            failed = true;
            r.statuses[gptoss_status_string(static_cast<gptoss_status>(std::stoi(line.substr(1))))]++;
        } else {
            wrong(r, line[0] == 'T' ? Wrong::Tokens : Wrong::Other, line.substr(1));
        }
    }
    if (!failed) r.absorbed++;
}

// A function's result; the status that it comes to.
struct Result {
    const char* function;
    int result;
    gptoss_status status;  // success: it must do no harm
};
constexpr gptoss_status kNone = gptoss_status_unsupported_system;  // as where there is no device
const Result results[] = {
    {"vkEnumerateInstanceVersion", VK_ERROR_OUT_OF_HOST_MEMORY, gptoss_status_insufficient_memory},
    {"vkCreateInstance", VK_ERROR_OUT_OF_HOST_MEMORY, gptoss_status_insufficient_memory},
    {"vkCreateInstance", VK_ERROR_OUT_OF_DEVICE_MEMORY, gptoss_status_insufficient_memory},
    {"vkCreateInstance", VK_ERROR_INITIALIZATION_FAILED, kNone},
    {"vkCreateInstance", VK_ERROR_LAYER_NOT_PRESENT, kNone},
    {"vkCreateInstance", VK_ERROR_EXTENSION_NOT_PRESENT, kNone},
    {"vkCreateInstance", VK_ERROR_INCOMPATIBLE_DRIVER, kNone},
    {"vkEnumeratePhysicalDevices", VK_ERROR_OUT_OF_HOST_MEMORY, gptoss_status_insufficient_memory},
    {"vkEnumeratePhysicalDevices", VK_ERROR_OUT_OF_DEVICE_MEMORY, gptoss_status_insufficient_memory},
    {"vkEnumeratePhysicalDevices", VK_ERROR_INITIALIZATION_FAILED, kNone},
    {"vkEnumeratePhysicalDevices", VK_INCOMPLETE, gptoss_status_success},
    {"vkEnumeratePhysicalDevices", inject::kShrinks, kNone},
    {"vkEnumerateDeviceExtensionProperties", VK_ERROR_OUT_OF_HOST_MEMORY, gptoss_status_insufficient_memory},
    {"vkEnumerateDeviceExtensionProperties", VK_ERROR_OUT_OF_DEVICE_MEMORY, gptoss_status_insufficient_memory},
    {"vkEnumerateDeviceExtensionProperties", VK_ERROR_LAYER_NOT_PRESENT, kNone},
    {"vkEnumerateDeviceExtensionProperties", VK_INCOMPLETE, gptoss_status_success},
    {"vkEnumerateDeviceExtensionProperties", inject::kShrinks, gptoss_status_success},
    {"vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR", VK_ERROR_OUT_OF_HOST_MEMORY,
     gptoss_status_insufficient_memory},
    {"vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR", VK_INCOMPLETE, gptoss_status_success},
    {"vkCreateDevice", VK_ERROR_OUT_OF_HOST_MEMORY, gptoss_status_insufficient_memory},
    {"vkCreateDevice", VK_ERROR_OUT_OF_DEVICE_MEMORY, gptoss_status_insufficient_memory},
    {"vkCreateDevice", VK_ERROR_INITIALIZATION_FAILED, gptoss_status_unsupported_system},
    {"vkCreateDevice", VK_ERROR_EXTENSION_NOT_PRESENT, gptoss_status_unsupported_system},
    {"vkCreateDevice", VK_ERROR_FEATURE_NOT_PRESENT, gptoss_status_unsupported_system},
    {"vkCreateDevice", VK_ERROR_TOO_MANY_OBJECTS, gptoss_status_insufficient_resources},
    {"vkCreateDevice", VK_ERROR_DEVICE_LOST, gptoss_status_device_lost},
};

// Without a device there is no device 0 either.
bool is_none(const std::string& call, gptoss_status status) {
    return status == (call == "info" ? gptoss_status_invalid_argument : gptoss_status_unsupported_system);
}

// What a child without a fault sees, and the opportunities that begin counts.
struct Plain {
    uint64_t opportunities = 0;
    std::string seen;
};
Plain without_fault(Row& r, const View& view, const std::function<void()>& begin) {
    const auto said = in_child(r, [&](FILE* out) {
        begin();
        const std::string seen = view.look([&](const char* call, gptoss_status status) { must(status, call); });
        std::fprintf(out, "%llu %s", static_cast<unsigned long long>(inject::disarm()), seen.c_str());
    });
    Plain plain;
    if (said) {
        std::istringstream in(*said);
        in >> plain.opportunities;
        std::getline(in >> std::ws, plain.seen);
    }
    return plain;
}

// Variables by which the loader finds its drivers.
class Drivers {
  public:
    void hide() {
        for (size_t i = 0; i < 2; i++) {
            const char* const before = std::getenv(names_[i]);
            if (before) before_[i] = before;
            setenv(names_[i], "/no/such/driver.json", 1);
        }
    }
    void show() {
        for (size_t i = 0; i < 2; i++) before_[i] ? setenv(names_[i], before_[i]->c_str(), 1) : unsetenv(names_[i]);
    }

  private:
    static constexpr const char* names_[2] = {"VK_DRIVER_FILES", "VK_ICD_FILENAMES"};
    std::optional<std::string> before_[2];
};

void results_faults(uint64_t each, const std::string& checkpoint) {
    for (const Result& result : results) {
        const std::string function = result.function;
        const View view(checkpoint, function == "vkCreateDevice");
        describe("start: " + function + " gives " + std::to_string(result.result), 0, 0);
        const Plain plain = without_fault(row("start: no loader"), view, [&] {
            inject::install();
            inject::arm_result(result.function, result.result, 0);
        });
        if (plain.opportunities == 0 && function.ends_with("KHR")) continue;  // of an extension that is not there
        Row& r = row(("start: " + function).substr(0, 44));
        for (uint64_t i = 0; i < std::min(each, plain.opportunities); i++) {
            const uint64_t at = 1 + i * plain.opportunities / std::min(each, plain.opportunities);
            describe("start: " + function + " gives " + std::to_string(result.result), 0, at);
            one_fault(
                r, view, plain.seen,
                [&] {
                    inject::install();
                    inject::arm_result(result.function, result.result, at);
                },
                [] {
                    inject::disarm();
                    return inject::fired();
                },
                [&](const std::string& call, gptoss_status status) {
                    if (result.status == gptoss_status_unsupported_system && is_none(call, status)) return true;
                    return status == result.status;
                });
        }
    }
}

// The first of these are the instance's and the devices': each fails in turn. Most of the others read the checkpoint.
constexpr uint64_t kFirst = 64;

void allocation_faults(Kind kind, const char* name, uint64_t each, const std::string& checkpoint) {
    const View view(checkpoint, false);
    Row& r = row(name);
    describe(name, 0, 0);
    const Plain plain = without_fault(r, view, [&] {
        inject::install();
        inject::arm(kind, 0);
    });
    std::set<uint64_t> chosen;
    for (uint64_t i = 0; i < std::min(kFirst, plain.opportunities); i++) chosen.insert(1 + i);
    for (uint64_t i = 0; i < std::min(each, plain.opportunities); i++)
        chosen.insert(1 + i * plain.opportunities / std::min(each, plain.opportunities));
    for (const uint64_t at : chosen) {
        describe(name, 0, at);
        one_fault(
            r, view, plain.seen,
            [&] {
                inject::install();
                inject::arm(kind, at);
            },
            [] {
                inject::disarm();
                return inject::fired();
            },
            [](const std::string&, gptoss_status status) { return status == gptoss_status_insufficient_memory; });
    }
}

}  // namespace

void start_faults(uint64_t n, const std::string& checkpoint) {
    const View view(checkpoint, true);
    describe("start", 0, 0);
    const Plain plain = without_fault(row("start: no loader"), view, [] {});
    one_fault(
        row("start: no loader"), view, plain.seen, [] { inject::hide_loader(true); },
        [] {
            inject::hide_loader(false);
            return true;
        },
        is_none);
    Drivers drivers;
    one_fault(
        row("start: no driver"), view, plain.seen, [&] { drivers.hide(); },
        [&] {
            drivers.show();
            return true;
        },
        is_none);
    const uint64_t each = std::max<uint64_t>(1, n / std::size(results) * 3 / 4);
    results_faults(each, checkpoint);
    allocation_faults(Kind::Allocation, "start: allocation fails", std::max<uint64_t>(1, n / 8), checkpoint);
    allocation_faults(Kind::NoMemory, "start: memory runs out", std::max<uint64_t>(1, n / 8), checkpoint);
    alarm(0);
}

}  // namespace gptoss::test
