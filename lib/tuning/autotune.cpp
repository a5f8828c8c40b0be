#include "tuning/autotune.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "forward/kernels.h"
#include "weights/tiles.h"

namespace gptoss::model {

namespace {

constexpr uint32_t kDecodeRows = 4096, kBatchRows = 1024, kBatchTokens = 256;
constexpr int kRuns = 3;  // that count; one before them builds the pipeline and wakes the device
constexpr double kClearly = 0.95;
constexpr uint32_t kMaxSplits = 8;

// The tuning itself, then what else may be faster within the device's limits.
std::vector<Tuning> shapes(const vk::DeviceInfo& device, const Tuning& tuning, bool batch) {
    std::vector<Tuning> list = {tuning};
    const auto add = [&](uint32_t Tuning::*splits, uint32_t n, uint32_t tokens) {
        Tuning t = tuning;
        t.*splits = n;
        if (batch) t.batch_tokens = tokens;
        if (n <= kMaxSplits && t.batch_tokens <= tuning.batch_tokens && t.lanes * n <= device.max_workgroup &&
            std::find(list.begin(), list.end(), t) == list.end())
            list.push_back(t);
    };
    for (const uint32_t n : {1u, 2u, 4u, 8u})
        if (!batch) add(&Tuning::decode_splits, n, 0);
    if (batch && !tuning.coopmat())  // with them, only the smallest batches take these shapes
        for (const auto& [n, tokens] : {std::pair(1u, 8u), std::pair(2u, 8u), std::pair(4u, 8u), std::pair(2u, 4u)})
            add(&Tuning::batch_splits, n, tokens);
    return list;
}

size_t fastest(const std::vector<Tuning>& shapes, bool batch, const Stopwatch& stopwatch) {
    if (shapes.size() == 1) return 0;
    std::vector<double> times;
    for (const Tuning& t : shapes) times.push_back(stopwatch(t, batch));
    const auto best = static_cast<size_t>(std::min_element(times.begin(), times.end()) - times.begin());
    return times[best] < kClearly * times[0] ? best : 0;
}

// Two indices below these counts; none from anything else.
std::optional<std::pair<size_t, size_t>> parse_indices(const std::string& text, size_t first_count,
                                                       size_t second_count) {
    std::pair<size_t, size_t> indices;
    const char* end = text.data() + text.size();
    const auto first = std::from_chars(text.data(), end, indices.first);
    if (first.ec != std::errc() || first.ptr == end || *first.ptr != ' ') return {};
    const auto second = std::from_chars(first.ptr + 1, end, indices.second);
    if (second.ec != std::errc() || second.ptr != end || indices.first >= first_count || indices.second >= second_count)
        return {};
    return indices;
}

}  // namespace

Stopwatch device_stopwatch(const std::shared_ptr<vk::Gpu>& gpu, const KernelNeeds& needs) {
    struct Product {
        Product(vk::Gpu& gpu, uint32_t weight, uint32_t cols)
            : weights(gpu.device, tile_count(kDecodeRows) * tile_bytes(weight, cols), vk::Memory::Device, "a product"),
              x(gpu.device, uint64_t{kBatchTokens} * cols * 4, vk::Memory::Device, "a product"),
              y(gpu.device, uint64_t{kBatchTokens} * kBatchRows * 4, vk::Memory::Device, "a product"),
              commands(gpu.device, gpu.pipelines) {}
        vk::Buffer weights, x, y;
        vk::Commands commands;
    };
    const uint32_t cols = needs.config.hidden;
    const auto p = std::make_shared<Product>(*gpu, needs.qkv, cols);
    p->commands.begin();
    p->commands.zero(p->weights);
    p->commands.zero(p->x);
    p->commands.finish();
    p->commands.enable_profile();
    const auto kernels = std::make_shared<Kernels>(gpu->pipelines);
    return [gpu, kernels, p, weight = needs.qkv, cols](const Tuning& t, bool batch) {
        const uint32_t rows = batch ? kBatchRows : kDecodeRows, n = batch ? kBatchTokens : 1;
        const uint32_t tokens = batch ? t.batch_tokens : 1, splits = batch ? t.batch_splits : t.decode_splits;
        const vk::Kernel& kernel = kernels->linear({t.lanes * splits, t.lanes, tokens, weight});
        const args::LinearArgs product{
            {p->x.address(), 0, 0, cols, n, 0}, p->weights.address(), 0, p->y.address(), rows, rows, 0};
        std::vector<double> times;
        for (int run = 0; run <= kRuns; run++) {
            p->commands.begin();
            p->commands.dispatch(kernel, product, tile_count(rows), (n + tokens - 1) / tokens);
            p->commands.finish();
            if (run > 0) times.push_back(p->commands.profile()[0].microseconds);
        }
        std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
        return times[kRuns / 2];
    };
}

Tuning measured_tuning(vk::Gpu& gpu, const KernelNeeds& needs, const Tuning& tuning, const Stopwatch& stopwatch) {
    const std::vector<Tuning> decode = shapes(gpu.device.info(), tuning, false);
    const std::vector<Tuning> batch = shapes(gpu.device.info(), tuning, true);
    const std::string key = gpu.identity + "shapes\n" + std::to_string(needs.qkv) + " " +
                            std::to_string(needs.config.hidden) + "\n" + tuning.text();
    std::pair<size_t, size_t> best;
    const auto cached = gpu.cache.read(key);
    if (const auto known = cached ? parse_indices(*cached, decode.size(), batch.size()) : std::nullopt) {
        best = *known;
    } else {
        best = {fastest(decode, false, stopwatch), fastest(batch, true, stopwatch)};
        gpu.cache.write(key, std::to_string(best.first) + " " + std::to_string(best.second));
    }
    Tuning result = batch[best.second];
    result.decode_splits = decode[best.first].decode_splits;
    return result;
}

}  // namespace gptoss::model
