#include "vk/commands.h"

#include <algorithm>

namespace gptoss::vk {

namespace {
constexpr uint32_t kMaxTimed = 2048;  // dispatches of one profile
}  // namespace

Commands::Commands(const Device& device, const Pipelines& pipelines) : device_(device), layout_(pipelines.layout()) {
    try {
        VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
        pool.queueFamilyIndex = device.info().queue_family;
        check(device.vk.vkCreateCommandPool(device.handle(), &pool, nullptr, &pool_), "vkCreateCommandPool");
        VkCommandBufferAllocateInfo allocate{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
        allocate.commandPool = pool_;
        allocate.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
        allocate.commandBufferCount = 1;
        check(device.vk.vkAllocateCommandBuffers(device.handle(), &allocate, &commands_), "vkAllocateCommandBuffers");
        VkFenceCreateInfo fence{VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
        check(device.vk.vkCreateFence(device.handle(), &fence, nullptr, &fence_), "vkCreateFence");
    } catch (...) {
        release();
        throw;
    }
}

Commands::~Commands() { release(); }

void Commands::release() noexcept {
    if (running_) device_.vk.vkWaitForFences(device_.handle(), 1, &fence_, VK_TRUE, UINT64_MAX);
    device_.vk.vkDestroyQueryPool(device_.handle(), timestamps_, nullptr);
    device_.vk.vkDestroyFence(device_.handle(), fence_, nullptr);
    device_.vk.vkDestroyCommandPool(device_.handle(), pool_, nullptr);
}

void Commands::begin() {
    wait();
    check(device_.vk.vkResetCommandPool(device_.handle(), pool_, 0), "vkResetCommandPool");
    VkCommandBufferBeginInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    check(device_.vk.vkBeginCommandBuffer(commands_, &info), "vkBeginCommandBuffer");
    dispatches_ = barriers_ = 0;
    timed_.clear();
    if (timestamps_) device_.vk.vkCmdResetQueryPool(commands_, timestamps_, 0, 2 * kMaxTimed);
}

void Commands::dispatch_bytes(const Kernel& kernel, const void* args, uint32_t size, uint32_t x, uint32_t y,
                              uint32_t z) {
    device_.vk.vkCmdBindPipeline(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, kernel.pipeline);
    device_.vk.vkCmdPushConstants(commands_, layout_, VK_SHADER_STAGE_COMPUTE_BIT, 0, size, args);
    const bool timed = timestamps_ && timed_.size() < kMaxTimed;
    const auto stamp = [&](uint32_t query) {
        // without it dispatches overlap, and a time would begin or end with another's
        device_.vk.vkCmdPipelineBarrier(commands_, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                                        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, 0, 0, nullptr, 0, nullptr, 0, nullptr);
        device_.vk.vkCmdWriteTimestamp(commands_, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, timestamps_, query);
    };
    if (timed) stamp(2 * static_cast<uint32_t>(timed_.size()));
    device_.vk.vkCmdDispatch(commands_, x, y, z);
    if (timed) stamp(2 * static_cast<uint32_t>(timed_.size()) + 1);
    if (timed) timed_.push_back(&kernel);
    dispatches_++;
}

void Commands::enable_profile() {
    if (timestamps_ || device_.info().timestamp_period == 0) return;
    VkQueryPoolCreateInfo create{VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO};
    create.queryType = VK_QUERY_TYPE_TIMESTAMP;
    create.queryCount = 2 * kMaxTimed;
    check(device_.vk.vkCreateQueryPool(device_.handle(), &create, nullptr, &timestamps_), "vkCreateQueryPool");
}

std::vector<KernelTime> Commands::profile() const {
    std::vector<KernelTime> result;
    if (timed_.empty()) return result;
    std::vector<uint64_t> ticks(2 * timed_.size());
    check(device_.vk.vkGetQueryPoolResults(device_.handle(), timestamps_, 0, static_cast<uint32_t>(ticks.size()),
                                           ticks.size() * 8, ticks.data(), 8, VK_QUERY_RESULT_64_BIT),
          "vkGetQueryPoolResults");
    for (size_t i = 0; i < timed_.size(); i++) {
        auto at = std::find_if(result.begin(), result.end(), [&](const auto& t) { return t.name == timed_[i]->name; });
        if (at == result.end()) at = result.insert(result.end(), {timed_[i]->name, 0, 0});
        at->microseconds += double(ticks[2 * i + 1] - ticks[2 * i]) * device_.info().timestamp_period / 1000;
        at->dispatches++;
    }
    return result;
}

void Commands::barrier() {
    VkMemoryBarrier memory{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
    memory.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    memory.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT |
                           VK_ACCESS_TRANSFER_WRITE_BIT;
    const auto stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    device_.vk.vkCmdPipelineBarrier(commands_, stages, stages, 0, 1, &memory, 0, nullptr, 0, nullptr);
    barriers_++;
}

void Commands::copy(const Buffer& from, uint64_t from_offset, const Buffer& to, uint64_t to_offset, uint64_t size) {
    const VkBufferCopy region{from_offset, to_offset, size};
    device_.vk.vkCmdCopyBuffer(commands_, from.handle(), to.handle(), 1, &region);
}

void Commands::update(const Buffer& to, uint64_t offset, const void* data, uint64_t size) {
    constexpr uint64_t kMost = 65536;  // of one command
    for (uint64_t done = 0; done < size; done += kMost)
        device_.vk.vkCmdUpdateBuffer(commands_, to.handle(), offset + done, std::min(size - done, kMost),
                                     static_cast<const std::byte*>(data) + done);
}

void Commands::zero(const Buffer& buffer) {
    device_.vk.vkCmdFillBuffer(commands_, buffer.handle(), 0, VK_WHOLE_SIZE, 0);
}

void Commands::end() {
    // what kernels wrote is for the host to read
    VkMemoryBarrier memory{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
    memory.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    memory.dstAccessMask = VK_ACCESS_HOST_READ_BIT;
    device_.vk.vkCmdPipelineBarrier(commands_, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                                    VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &memory, 0, nullptr, 0, nullptr);
    check(device_.vk.vkEndCommandBuffer(commands_), "vkEndCommandBuffer");
}

void Commands::submit() {
    wait();
    check(device_.vk.vkResetFences(device_.handle(), 1, &fence_), "vkResetFences");
    device_.submit(commands_, fence_);
    running_ = true;
}

bool Commands::done() {
    if (running_ && device_.vk.vkGetFenceStatus(device_.handle(), fence_) == VK_NOT_READY) return false;
    wait();
    return true;
}

void Commands::finish() {
    end();
    submit();
    wait();
}

void Commands::wait() {
    if (!running_) return;
    const auto wait = [&] {
        const VkResult result = device_.vk.vkWaitForFences(device_.handle(), 1, &fence_, VK_TRUE, UINT64_MAX);
        running_ = result != VK_SUCCESS && result != VK_ERROR_DEVICE_LOST;
        return result;
    };
    const VkResult result = wait();
    // a wait that ran out of memory left the commands running, and with them what the caller is about to free
    if (running_) wait();
    if (result == VK_TIMEOUT) throw Error(Status::DeviceLost, "waiting for the device: it does not answer");
    check(result, "waiting for the device");
}

}  // namespace gptoss::vk
