// The bits of one context's results, recorded by device, driver and version: what changes how a batch is put together,
// or where its data lies, changes none of them. After a change to the arithmetic of a kernel they are recorded anew:
// GPTOSS_RECORD_BITS=1 build/tests/test_model -tc='bits*'.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "base/hash.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

const char* const kModels[] = {"tiny", "tiny-q8.gguf", "many-experts"};

// Results depend on the driver's compiler and on the width of the processor's vectors, which a software device's name
// tells, and on the processor's approximations, which are its maker's.
std::string device_platform() {
    std::ifstream cpu("/proc/cpuinfo");
    std::string line, vendor;
    while (vendor.empty() && std::getline(cpu, line))
        if (line.starts_with("vendor_id")) vendor = line.substr(line.find(':') + 2);
    const vk::DeviceInfo device = vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE"));
    return device.name + ", " + device.driver + ", " + vendor;
}

template <typename T>
void add(Hash& hash, const std::vector<T>& values) {
    hash.add(values.data(), values.size() * sizeof(T));
}

void add_run(Hash& hash, model::Sequence& context, const model::SamplerSettings& settings) {
    model::GenerateRequest request{.settings = settings, .max_tokens = 16};
    uint64_t n = 0;
    context.generate(request, &n);
    add(hash, context.tokens());
    add(hash, logits_of(context));
}

// Logits after the golden prompt and a greedy answer, then after sampled answers to parts of the prompt.
uint64_t bits_of(const std::string& name) {
    const std::string directory = name.substr(0, name.find("-q8"));
    const auto tokens = read_array<uint32_t>(golden(directory + "/tokens.u32"));
    model::Sequence context(load(golden(name)), 0, 0);
    Hash hash;
    context.append(tokens);
    add(hash, logits_of(context));
    add_run(hash, context, {.temperature = 0});
    context.truncate(20);
    add_run(hash, context, {.temperature = 0.9f, .top_p = 0.95f, .seed = 7});
    context.truncate(0);
    context.append(std::span(tokens).first(30));
    add_run(hash, context, {.top_k = 30, .min_p = 0.01f, .repetition = 1.1f, .presence = 0.3f, .frequency = 0.2f});
    return hash.value();
}

}  // namespace

TEST_CASE("bits: one context's logits and tokens are those that were recorded") {
    const std::string path = golden("bits.txt");
    std::map<std::string, std::string> recorded;  // a line each: the bits, the model and the platform
    std::ifstream in(path);
    for (std::string bits, rest; in >> bits && in.get() && std::getline(in, rest);) recorded[rest] = bits;
    const bool record = std::getenv("GPTOSS_RECORD_BITS");
    for (const char* name : kModels) {
        const std::string key = std::string(name) + ": " + device_platform();
        if (!record && !recorded.contains(key)) {
            MESSAGE("nothing is recorded of " << key);
            continue;
        }
        char bits[17];
        std::snprintf(bits, sizeof bits, "%016" PRIx64, bits_of(name));
        if (record) recorded[key] = bits;
        CHECK_MESSAGE(recorded[key] == bits, key);
    }
    if (!record) return;
    std::ofstream out(path);
    for (const auto& [rest, bits] : recorded) out << bits << " " << rest << "\n";
    CHECK(out.flush());
}
