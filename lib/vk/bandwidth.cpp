#include "vk/bandwidth.h"

#include <algorithm>
#include <chrono>

#include "vk/commands.h"

namespace gptoss::vk {

double measure_copy_bandwidth(const DeviceInfo& info) {
    using Clock = std::chrono::steady_clock;
    constexpr uint64_t size = 256ull << 20;  // larger than caches
    const Device device(info);
    const Pipelines pipelines(device);
    const Buffer from(device, size, Memory::Device, "copy source"), to(device, size, Memory::Device, "copy target");
    Commands commands(device, pipelines);
    commands.begin();
    commands.zero(from);  // pages that were never written may not exist
    commands.zero(to);
    commands.end();
    commands.submit();
    constexpr int copies = 4;
    commands.begin();
    for (int i = 0; i < copies; i++) {
        commands.copy(from, 0, to, 0, size);
        commands.barrier();
    }
    commands.end();
    double best = 0;
    for (int run = 0; run < 4; run++) {
        const auto start = Clock::now();
        commands.submit();
        commands.wait();
        best = std::max(best, 2.0 * copies * size / std::chrono::duration<double>(Clock::now() - start).count());
    }
    return best;
}

}  // namespace gptoss::vk
