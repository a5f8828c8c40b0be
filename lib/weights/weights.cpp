#include "weights/weights.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "weights/plan.h"

namespace gptoss::model {

namespace {

// Runs the fills of a plan on a few threads: a fill writes straight into device memory where that is the host's own,
// else into its thread's staging buffer, which is then copied.
class Uploader {
  public:
    Uploader(const vk::Device& device, const vk::Pipelines& pipelines, const std::vector<Allocation>& allocations,
             const std::vector<vk::Buffer>& buffers)
        : device_(device), pipelines_(pipelines), buffers_(buffers) {
        for (size_t a = 0; a < allocations.size(); a++)
            for (const Fill& fill : allocations[a].fills) {
                jobs_.push_back({&fill, a, allocations[a].memory});
                total_ += fill.size;
                largest_ = std::max(largest_, fill.size);
            }
    }

    static unsigned thread_count() { return std::clamp(std::thread::hardware_concurrency(), 2u, 4u); }
    // Whether the host writes the device's memory as fast as its own.
    static bool shares_memory(const vk::DeviceInfo& device) {
        return device.type == VK_PHYSICAL_DEVICE_TYPE_CPU || device.type == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
    }

    void run(const std::function<int(uint64_t, uint64_t)>& progress) {
        const unsigned n_threads = thread_count();
        std::vector<std::thread> threads;
        try {
            for (unsigned i = 0; i < n_threads; i++) threads.emplace_back([this] { work(); });
            follow(progress);
        } catch (...) {
            stop_with(std::current_exception());
        }
        for (std::thread& thread : threads) thread.join();
        if (failure_) std::rethrow_exception(failure_);
    }

  private:
    struct Job {
        const Fill* fill;
        size_t buffer;
        vk::Memory memory;
    };

    void work() noexcept {
        try {
            const bool shared = shares_memory(device_.info());
            vk::Buffer staging;
            std::unique_ptr<vk::Commands> commands;
            for (size_t i; !stop_ && (i = next_++) < jobs_.size();) {
                const Fill& fill = *jobs_[i].fill;
                const vk::Buffer& to = buffers_[jobs_[i].buffer];
                if (to.data() && (shared || jobs_[i].memory == vk::Memory::Host)) {
                    fill.run(to.data() + fill.offset);
                } else {
                    if (!commands) {
                        staging = vk::Buffer(device_, largest_, vk::Memory::Upload, "staging");
                        commands = std::make_unique<vk::Commands>(device_, pipelines_);
                    }
                    commands->wait();
                    fill.run(staging.data());
                    commands->begin();
                    commands->copy(staging, 0, to, fill.offset, fill.size);
                    commands->end();
                    commands->submit();
                }
                done_ += fill.size;
                changed_.notify_one();
            }
            if (commands) commands->wait();
        } catch (...) {
            stop_with(std::current_exception());
        }
    }

    void stop_with(std::exception_ptr failure) {
        std::lock_guard lock(mutex_);
        if (!failure_) failure_ = failure;
        stop_ = true;
        changed_.notify_one();
    }

    // Reports progress from the caller's thread until all is done.
    void follow(const std::function<int(uint64_t, uint64_t)>& progress) {
        std::unique_lock lock(mutex_);
        while (true) {
            const uint64_t done = done_;
            if (stop_) return;
            if (progress) {
                lock.unlock();
                if (progress(done, total_))
                    throw Error(Status::Cancelled, "loading was cancelled by the progress callback");
                lock.lock();
            }
            if (done == total_) return;
            changed_.wait_for(lock, std::chrono::milliseconds(50), [&] { return stop_ || done_ == total_; });
        }
    }

    const vk::Device& device_;
    const vk::Pipelines& pipelines_;
    const std::vector<vk::Buffer>& buffers_;
    std::vector<Job> jobs_;
    uint64_t total_ = 0, largest_ = 0;
    std::atomic<size_t> next_{0};
    std::atomic<uint64_t> done_{0};
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
    std::exception_ptr failure_;
};

}  // namespace

Weights load_weights(const vk::Device& device, const vk::Pipelines& pipelines, const io::Checkpoint& checkpoint,
                     const LoadOptions& options, Room room) {
    const LoadPlan plan = plan_load(checkpoint, options.dense, device.info().max_allocation, room);
    Weights weights;
    weights.device_bytes = plan.footprint(vk::Memory::Device);
    weights.host_bytes = plan.footprint(vk::Memory::Host);
    for (const Allocation& allocation : plan.allocations) {
        weights.buffers.emplace_back(device, allocation.size, allocation.memory, allocation.what);
        for (const auto& binding : allocation.bindings)
            *binding.address = weights.buffers.back().address() + binding.offset;
    }
    Uploader(device, pipelines, plan.allocations, weights.buffers).run(options.progress);
    static_cast<WeightTable&>(weights) = std::move(*plan.table);

    const auto place = [&](const LoadPlan::Place& p) {
        return ExpertCache::Place{&weights.buffers[p.allocation], p.offset};
    };
    ExpertCache::Layout layout{&weights.buffers[plan.expert_table], &weights.buffers[plan.expert_uses],
                               plan.gate_up_bytes, plan.place_bytes};
    for (const LoadPlan::Place& home : plan.homes) {
        layout.homes.push_back(place(home));
        layout.pinned.push_back(plan.allocations[home.allocation].memory == vk::Memory::Device);
    }
    for (const LoadPlan::Place& slot : plan.slots) layout.slots.push_back(place(slot));
    if (std::count(layout.pinned.begin(), layout.pinned.end(), false) > 0)
        weights.experts = std::make_unique<ExpertCache>(device, pipelines, std::move(layout));
    return weights;
}

WeightsFootprint estimate_weights(const io::Checkpoint& checkpoint, const LoadOptions& options,
                                  const vk::DeviceInfo& device, Room room) {
    const LoadPlan plan = plan_load(checkpoint, options.dense, device.max_allocation, room);
    const uint64_t staging =
        Uploader::shares_memory(device) ? 0 : Uploader::thread_count() * vk::Buffer::footprint(plan.largest_fill());
    return {plan.footprint(vk::Memory::Device), plan.footprint(vk::Memory::Host), staging, plan.fill_bytes()};
}

}  // namespace gptoss::model
