#include "command_stream.h"

#include <execinfo.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <stdexcept>

#include "accesses.h"
#include "base/hash.h"
#include "spirv.h"
#include "support.h"

namespace gptoss::test {

namespace {

struct Command {
    bool barrier = false;
    bool for_host = false;  // a barrier that orders nothing on the device
    const void* site = nullptr;
    std::string name{};  // a kernel, or which transfer
    std::vector<uint32_t> constants{};
    std::vector<std::byte> args{};
    uint32_t x = 0, y = 0, z = 0;
    std::vector<Access> transfers{};  // what a transfer touches
    std::function<void(VkCommandBuffer)> play{};
};

struct Recording {
    std::vector<Command> commands{};
    VkPipeline pipeline = VK_NULL_HANDLE;
    VkPipelineLayout layout = VK_NULL_HANDLE;
    std::vector<std::byte> constants{};
    VkDevice device = VK_NULL_HANDLE;
    VkCommandPool pool = VK_NULL_HANDLE;
};

struct Kernel {
    std::string name{};
    std::vector<uint32_t> constants{};
};

struct Memory {
    uint64_t address = 0, size = 0;
    VkDeviceMemory allocation = VK_NULL_HANDLE;
};

// An access of a command that was played.
struct Touch {
    std::string by{};
    Access access{};
};

// What the host must leave alone until it has waited for a fence.
struct InFlight {
    Touch touch{};
    uint64_t hash = 0;
};

struct State {
    CommandStream::Order order = CommandStream::Order::Recorded;
    std::mt19937_64 random{};
    bool check_table = false;
    std::optional<size_t> omitted{};

    std::map<VkCommandBuffer, Recording> recordings{};
    std::map<VkShaderModule, std::string> modules{};
    std::map<VkPipeline, Kernel> pipelines{};
    std::map<VkBuffer, Memory> buffers{};
    std::map<VkDeviceMemory, std::byte*> mappings{};

    std::vector<CommandStream::Barrier> barriers{};
    std::vector<Touch> since{};   // the last barrier
    std::vector<Touch> before{};  // it, since the one before
    std::string last{};           // command
    std::map<VkFence, std::vector<InFlight>> in_flight{};
    std::vector<std::string> hazards{};
    std::set<std::string> kernels{};
};

std::recursive_mutex mutex;
State s;
PFN_vkGetDeviceProcAddr get;

struct Hook {
    PFN_vkVoidFunction hook;
    PFN_vkVoidFunction real;
};
std::map<std::string, Hook>& hooks();

template <typename F>
F real(const char* name) {
    return reinterpret_cast<F>(hooks().at(name).real);
}
#define REAL(name) real<PFN_##name>(#name)

using Guard = std::lock_guard<std::recursive_mutex>;

// -------------------------------------------------------------------------------------------------- what is recorded

VKAPI_ATTR VkResult VKAPI_CALL allocate(VkDevice device, const VkCommandBufferAllocateInfo* info,
                                        VkCommandBuffer* buffers) {
    const Guard lock(mutex);
    const VkResult result = REAL(vkAllocateCommandBuffers)(device, info, buffers);
    for (uint32_t i = 0; result == VK_SUCCESS && i < info->commandBufferCount; i++) {
        s.recordings[buffers[i]] = {};
        s.recordings[buffers[i]].device = device;
        s.recordings[buffers[i]].pool = info->commandPool;
    }
    return result;
}

Recording& of(VkCommandBuffer buffer) { return s.recordings.at(buffer); }

VKAPI_ATTR VkResult VKAPI_CALL begin(VkCommandBuffer buffer, const VkCommandBufferBeginInfo*) {
    const Guard lock(mutex);
    of(buffer).commands.clear();
    return VK_SUCCESS;
}
VKAPI_ATTR VkResult VKAPI_CALL end(VkCommandBuffer) { return VK_SUCCESS; }
VKAPI_ATTR VkResult VKAPI_CALL reset_pool(VkDevice, VkCommandPool, VkCommandPoolResetFlags) { return VK_SUCCESS; }

VKAPI_ATTR void VKAPI_CALL bind(VkCommandBuffer buffer, VkPipelineBindPoint, VkPipeline pipeline) {
    const Guard lock(mutex);
    of(buffer).pipeline = pipeline;
}

VKAPI_ATTR void VKAPI_CALL push(VkCommandBuffer buffer, VkPipelineLayout layout, VkShaderStageFlags, uint32_t,
                                uint32_t size, const void* values) {
    const Guard lock(mutex);
    of(buffer).layout = layout;
    const auto* bytes = static_cast<const std::byte*>(values);
    of(buffer).constants.assign(bytes, bytes + size);
}

VKAPI_ATTR void VKAPI_CALL dispatch(VkCommandBuffer buffer, uint32_t x, uint32_t y, uint32_t z) {
    const Guard lock(mutex);
    const Recording& now = of(buffer);
    const Kernel& kernel = s.pipelines.at(now.pipeline);
    const auto play = [=, pipeline = now.pipeline, layout = now.layout, args = now.constants](VkCommandBuffer to) {
        REAL(vkCmdBindPipeline)(to, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
        REAL(vkCmdPushConstants)
        (to, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, static_cast<uint32_t>(args.size()), args.data());
        REAL(vkCmdDispatch)(to, x, y, z);
    };
    of(buffer).commands.push_back({.name = kernel.name,
                                   .constants = kernel.constants,
                                   .args = now.constants,
                                   .x = x,
                                   .y = y,
                                   .z = z,
                                   .play = play});
}

Access in_buffer(const char* argument, VkBuffer buffer, uint64_t offset, uint64_t size, bool writes) {
    const Memory& memory = s.buffers.at(buffer);
    return {argument, memory.address + offset, size == VK_WHOLE_SIZE ? memory.size - offset : size, !writes, writes};
}

VKAPI_ATTR void VKAPI_CALL copy(VkCommandBuffer buffer, VkBuffer from, VkBuffer to, uint32_t n,
                                const VkBufferCopy* regions) {
    const Guard lock(mutex);
    Command command{.name = "copy"};
    for (uint32_t i = 0; i < n; i++) {
        command.transfers.push_back(in_buffer("source", from, regions[i].srcOffset, regions[i].size, false));
        command.transfers.push_back(in_buffer("destination", to, regions[i].dstOffset, regions[i].size, true));
    }
    command.play = [=, all = std::vector<VkBufferCopy>(regions, regions + n)](VkCommandBuffer at) {
        REAL(vkCmdCopyBuffer)(at, from, to, n, all.data());
    };
    of(buffer).commands.push_back(std::move(command));
}

VKAPI_ATTR void VKAPI_CALL fill(VkCommandBuffer buffer, VkBuffer to, VkDeviceSize offset, VkDeviceSize size,
                                uint32_t value) {
    const Guard lock(mutex);
    of(buffer).commands.push_back({.name = "fill",
                                   .transfers = {in_buffer("destination", to, offset, size, true)},
                                   .play = [=](VkCommandBuffer at) {
                                       REAL(vkCmdFillBuffer)(at, to, offset, size, value);
                                   }});
}

VKAPI_ATTR void VKAPI_CALL update(VkCommandBuffer buffer, VkBuffer to, VkDeviceSize offset, VkDeviceSize size,
                                  const void* data) {
    const Guard lock(mutex);
    const auto* bytes = static_cast<const std::byte*>(data);
    of(buffer).commands.push_back({.name = "update",
                                   .transfers = {in_buffer("destination", to, offset, size, true)},
                                   .play = [=, all = std::vector<std::byte>(bytes, bytes + size)](VkCommandBuffer at) {
                                       REAL(vkCmdUpdateBuffer)(at, to, offset, size, all.data());
                                   }});
}

VKAPI_ATTR void VKAPI_CALL barrier(VkCommandBuffer buffer, VkPipelineStageFlags from, VkPipelineStageFlags to,
                                   VkDependencyFlags, uint32_t, const VkMemoryBarrier* memory, uint32_t,
                                   const VkBufferMemoryBarrier*, uint32_t, const VkImageMemoryBarrier*) {
    const Guard lock(mutex);
    void* frames[3] = {};  // this function, that which records a barrier, and that which wants it
    backtrace(frames, 3);
    of(buffer).commands.push_back({.barrier = true,
                                   .for_host = to == VK_PIPELINE_STAGE_HOST_BIT,
                                   .site = frames[2],
                                   .play = [=, all = *memory](VkCommandBuffer at) {
                                       REAL(vkCmdPipelineBarrier)(at, from, to, 0, 1, &all, 0, nullptr, 0, nullptr);
                                   }});
}

VKAPI_ATTR VkResult VKAPI_CALL create_module(VkDevice device, const VkShaderModuleCreateInfo* info,
                                             const VkAllocationCallbacks* callbacks, VkShaderModule* out) {
    const Guard lock(mutex);
    const VkResult result = REAL(vkCreateShaderModule)(device, info, callbacks, out);
    for (const std::string_view kernel : spirv_names())
        if (spirv(kernel).data() == info->pCode) s.modules[*out] = kernel;
    return result;
}

VKAPI_ATTR VkResult VKAPI_CALL create_pipeline(VkDevice device, VkPipelineCache cache, uint32_t n,
                                               const VkComputePipelineCreateInfo* infos,
                                               const VkAllocationCallbacks* callbacks, VkPipeline* out) {
    const Guard lock(mutex);
    const VkResult result = REAL(vkCreateComputePipelines)(device, cache, n, infos, callbacks, out);
    for (uint32_t i = 0; i < n; i++) {
        Kernel kernel{s.modules[infos[i].stage.module], {}};
        if (const VkSpecializationInfo* given = infos[i].stage.pSpecializationInfo) {
            const auto* words = static_cast<const uint32_t*>(given->pData);
            kernel.constants.assign(words, words + given->dataSize / 4);
        }
        s.pipelines[out[i]] = kernel;
    }
    return result;
}

// ------------------------------------------------------------------------------------------------------------ memory

VKAPI_ATTR VkResult VKAPI_CALL create_buffer(VkDevice device, const VkBufferCreateInfo* info,
                                             const VkAllocationCallbacks* callbacks, VkBuffer* out) {
    const Guard lock(mutex);
    const VkResult result = REAL(vkCreateBuffer)(device, info, callbacks, out);
    if (result == VK_SUCCESS) s.buffers[*out] = {0, info->size, VK_NULL_HANDLE};
    return result;
}

VKAPI_ATTR VkResult VKAPI_CALL bind_memory(VkDevice device, VkBuffer buffer, VkDeviceMemory memory,
                                           VkDeviceSize offset) {
    const Guard lock(mutex);
    s.buffers.at(buffer).allocation = memory;
    return REAL(vkBindBufferMemory)(device, buffer, memory, offset);
}

VKAPI_ATTR VkDeviceAddress VKAPI_CALL get_address(VkDevice device, const VkBufferDeviceAddressInfo* info) {
    const Guard lock(mutex);
    return s.buffers.at(info->buffer).address = REAL(vkGetBufferDeviceAddress)(device, info);
}

VKAPI_ATTR VkResult VKAPI_CALL map_memory(VkDevice device, VkDeviceMemory memory, VkDeviceSize offset,
                                          VkDeviceSize size, VkMemoryMapFlags flags, void** out) {
    const Guard lock(mutex);
    const VkResult result = REAL(vkMapMemory)(device, memory, offset, size, flags, out);
    if (result == VK_SUCCESS) s.mappings[memory] = static_cast<std::byte*>(*out);
    return result;
}

bool overlap(const Access& a, uint64_t address, uint64_t bytes) {
    return a.address < address + bytes && address < a.address + a.bytes;
}

// Whoever gets the addresses next has nothing to do with what was there.
VKAPI_ATTR void VKAPI_CALL destroy_buffer(VkDevice device, VkBuffer buffer, const VkAllocationCallbacks* callbacks) {
    const Guard lock(mutex);
    if (const auto at = s.buffers.find(buffer); at != s.buffers.end()) {
        const Memory gone = at->second;
        for (std::vector<Touch>* all : {&s.since, &s.before})
            std::erase_if(*all, [&](const Touch& t) { return overlap(t.access, gone.address, gone.size); });
        for (auto& [fence, all] : s.in_flight)
            std::erase_if(all, [&](const InFlight& f) { return overlap(f.touch.access, gone.address, gone.size); });
        s.buffers.erase(at);
    }
    REAL(vkDestroyBuffer)(device, buffer, callbacks);
}

VKAPI_ATTR void VKAPI_CALL free_memory(VkDevice device, VkDeviceMemory memory, const VkAllocationCallbacks* callbacks) {
    const Guard lock(mutex);
    s.mappings.erase(memory);
    REAL(vkFreeMemory)(device, memory, callbacks);
}

std::byte* host_memory(uint64_t address, uint64_t bytes) {
    for (const auto& [buffer, memory] : s.buffers)
        if (address >= memory.address && address + bytes <= memory.address + memory.size) {
            const auto at = s.mappings.find(memory.allocation);
            return at == s.mappings.end() ? nullptr : at->second + (address - memory.address);
        }
    return nullptr;
}

uint64_t hash_of(const Access& access) {
    const std::byte* bytes = host_memory(access.address, access.bytes);
    return bytes ? hash_block(bytes, access.bytes, 0) : 0;
}

// ----------------------------------------------------------------------------------------------------------- hazards

std::string text(const Touch& touch) {
    const auto& [by, access] = touch;
    return by + (access.reads ? access.writes ? " updates " : " reads " : " writes ") + access.argument + " [" +
           std::to_string(access.address) + ", +" + std::to_string(access.bytes) + ")";
}

void object(const std::string& what) {
    if (std::find(s.hazards.begin(), s.hazards.end(), what) == s.hazards.end()) s.hazards.push_back(what);
}

const Touch* conflict(const std::vector<Touch>& all, const Touch& with) {
    for (const Touch& t : all)
        if ((t.access.writes || with.access.writes) && overlap(t.access, with.access.address, with.access.bytes))
            return &t;
    return nullptr;
}

// The command's accesses, which must not meet those since the last barrier.
std::vector<Access> note(const Command& command) {
    std::vector<Access> all = command.transfers;
    if (!command.args.empty())
        all =
            accesses_of({command.name, command.constants, command.args, command.x, command.y, command.z}, host_memory);
    std::vector<Touch> mine;
    for (const Access& access : all) {
        const Touch touch{command.name, access};
        if (const Touch* other = conflict(s.since, touch))
            object(text(touch) + " with no barrier after " + text(*other));
        if (!s.barriers.empty() && !s.barriers.back().guards && conflict(s.before, touch))
            s.barriers.back().guards = true;
        mine.push_back(touch);
        // what the device writes now is no longer the host's to have changed
        for (auto& [fence, flying] : s.in_flight)
            if (access.writes)
                std::erase_if(flying,
                              [&](const InFlight& f) { return overlap(f.touch.access, access.address, access.bytes); });
    }
    s.since.insert(s.since.end(), mine.begin(), mine.end());
    if (!command.args.empty()) s.kernels.insert(command.name);
    return all;
}

// -------------------------------------------------------------------------------------------------------------- play

class Player {
  public:
    Player(VkQueue queue, VkCommandBuffer buffer, VkFence fence) : queue_(queue), buffer_(buffer), fence_(fence) {}

    void play() {
        const Recording& recording = of(buffer_);
        std::vector<const Command*> since;
        bool first = true;
        for (const Command& command : recording.commands) {
            if (command.barrier && !command.for_host) {
                const bool inside = !first;
                flush(since);
                s.barriers.push_back({command.site, s.last, "", inside, false});
                name_next_ = s.barriers.size();
                if (s.omitted == s.barriers.size() - 1) continue;
                s.before = std::move(s.since);
                s.since.clear();
            }
            since.push_back(&command);
            first = false;
        }
        flush(since);
    }

    void keep_for_host() {
        for (const Touch& touch : touched_)
            if (host_memory(touch.access.address, touch.access.bytes))
                s.in_flight[fence_].push_back({touch, hash_of(touch.access)});
    }

  private:
    // Runs the commands up to a barrier, each of which gets its accesses from memory as it is before them all.
    void flush(std::vector<const Command*>& commands) {
        if (commands.empty()) return;
        std::vector<std::vector<Access>> accesses;
        for (const Command* command : commands) {
            accesses.push_back(command->barrier ? std::vector<Access>{} : note(*command));
            if (command->barrier) continue;
            for (const Access& access : accesses.back()) touched_.push_back({command->name, access});
            s.last = command->name;
            if (name_next_ > 0 && name_next_ <= s.barriers.size()) s.barriers[name_next_ - 1].after = s.last;
            name_next_ = 0;
        }
        // the barrier stays first
        const auto from = commands.begin() + (commands[0]->barrier ? 1 : 0);
        if (s.order == CommandStream::Order::Reversed) std::reverse(from, commands.end());
        if (s.order == CommandStream::Order::Random) std::shuffle(from, commands.end(), s.random);
        if (!s.check_table) {
            run(commands);
        } else {
            for (size_t i = 0; i < commands.size(); i++) check(*commands[i], accesses[i]);
        }
        commands.clear();
    }

    void run(std::span<const Command* const> commands) {
        const Recording& recording = of(buffer_);
        const VkCommandBufferBeginInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
        REQUIRE(REAL(vkResetCommandPool)(recording.device, recording.pool, 0) == VK_SUCCESS);  // of one buffer each
        REQUIRE(REAL(vkBeginCommandBuffer)(buffer_, &info) == VK_SUCCESS);
        for (const Command* command : commands) command->play(buffer_);
        REQUIRE(REAL(vkEndCommandBuffer)(buffer_) == VK_SUCCESS);
        VkSubmitInfo submit{VK_STRUCTURE_TYPE_SUBMIT_INFO};
        submit.commandBufferCount = 1;
        submit.pCommandBuffers = &buffer_;
        REQUIRE(REAL(vkQueueSubmit)(queue_, 1, &submit, VK_NULL_HANDLE) == VK_SUCCESS);
        REQUIRE(REAL(vkQueueWaitIdle)(queue_) == VK_SUCCESS);
    }

    using Snapshot = std::vector<std::pair<Memory, std::vector<std::byte>>>;

    static Snapshot snapshot() {
        Snapshot all;
        for (const auto& [buffer, memory] : s.buffers)
            if (const std::byte* bytes = host_memory(memory.address, memory.size))
                all.push_back({memory, {bytes, bytes + memory.size}});
        return all;
    }
    // Calls f(access, its bytes in the snapshot's copy and in memory, how many) for the accesses that lie in the
    // memory.
    template <typename F>
    static void for_parts(const std::vector<Access>& accesses, const Memory& memory, const F& f) {
        for (const Access& access : accesses)
            if (access.address >= memory.address && access.address < memory.address + memory.size)
                f(access, access.address - memory.address);
    }

    // Runs a command alone; a dispatch again without what it does not read.
    void check(const Command& command, const std::vector<Access>& accesses) {
        const Command* only[] = {&command};
        if (command.args.empty()) return run(only);
        constexpr uint8_t kPoison[4] = {0xa5, 0xa5, 0xc5, 0x7f};  // a NaN
        const Snapshot before = snapshot();
        run(only);
        const Snapshot after = snapshot();
        for (size_t i = 0; i < before.size(); i++) {
            const auto& [memory, was] = before[i];
            std::vector<bool> written(was.size());
            for_parts(accesses, memory, [&](const Access& a, uint64_t at) {
                if (a.writes) std::fill_n(written.begin() + static_cast<ptrdiff_t>(at), a.bytes, true);
            });
            std::byte* now = host_memory(memory.address, memory.size);
            for (size_t b = 0; b < was.size(); b++)
                if (!written[b] && was[b] != after[i].second[b]) {
                    object(command.name + " writes at " + std::to_string(memory.address + b) +
                           ", which the table lacks");
                    break;
                }
            for (size_t b = 0; b < was.size(); b++) now[b] = std::byte{kPoison[b % 4]};
            for_parts(accesses, memory, [&](const Access& a, uint64_t at) {
                if (a.reads) std::memcpy(now + at, was.data() + at, a.bytes);
            });
        }
        run(only);
        for (size_t i = 0; i < before.size(); i++) {
            const auto& [memory, was] = before[i];
            std::byte* now = host_memory(memory.address, memory.size);
            const std::vector<std::byte>& then = after[i].second;
            for_parts(accesses, memory, [&](const Access& a, uint64_t at) {
                for (uint64_t b = at; a.writes && b < at + a.bytes; b++) {
                    const bool untouched = then[b] == was[b] && now[b] == std::byte{kPoison[b % 4]};
                    if (now[b] == then[b] || (untouched && !a.reads)) continue;
                    object(command.name + " computes " + a.argument + " from memory that the table lacks, at byte " +
                           std::to_string(b - at));
                    break;
                }
            });
            std::memcpy(now, then.data(), then.size());
        }
    }

    const VkQueue queue_;
    const VkCommandBuffer buffer_;
    const VkFence fence_;
    size_t name_next_ = 0;
    std::vector<Touch> touched_{};
};

VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t n, const VkSubmitInfo* infos, VkFence fence) {
    const Guard lock(mutex);
    s.in_flight[fence].clear();
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t b = 0; b < infos[i].commandBufferCount; b++) {
            Player player(queue, infos[i].pCommandBuffers[b], fence);
            player.play();
            player.keep_for_host();
        }
    return REAL(vkQueueSubmit)(queue, 0, nullptr, fence);
}

void waited(VkFence fence) {
    for (const InFlight& f : s.in_flight[fence])
        if (hash_of(f.touch.access) != f.hash) object("the host wrote, before it waited, what " + text(f.touch));
    s.in_flight.erase(fence);
}

VKAPI_ATTR VkResult VKAPI_CALL wait(VkDevice device, uint32_t n, const VkFence* fences, VkBool32 all,
                                    uint64_t timeout) {
    const VkResult result = REAL(vkWaitForFences)(device, n, fences, all, timeout);
    const Guard lock(mutex);
    for (uint32_t i = 0; result == VK_SUCCESS && i < n; i++) waited(fences[i]);
    return result;
}

VKAPI_ATTR VkResult VKAPI_CALL fence_status(VkDevice device, VkFence fence) {
    const VkResult result = REAL(vkGetFenceStatus)(device, fence);
    const Guard lock(mutex);
    if (result == VK_SUCCESS) waited(fence);
    return result;
}

std::map<std::string, Hook>& hooks() {
    static const auto as = [](auto* function) { return Hook{reinterpret_cast<PFN_vkVoidFunction>(function), {}}; };
    static std::map<std::string, Hook> all = {{"vkAllocateCommandBuffers", as(&allocate)},
                                              {"vkBeginCommandBuffer", as(&begin)},
                                              {"vkEndCommandBuffer", as(&end)},
                                              {"vkCmdBindPipeline", as(&bind)},
                                              {"vkCmdPushConstants", as(&push)},
                                              {"vkCmdDispatch", as(&dispatch)},
                                              {"vkCmdCopyBuffer", as(&copy)},
                                              {"vkCmdFillBuffer", as(&fill)},
                                              {"vkCmdUpdateBuffer", as(&update)},
                                              {"vkCmdPipelineBarrier", as(&barrier)},
                                              {"vkResetCommandPool", as(&reset_pool)},
                                              {"vkCreateShaderModule", as(&create_module)},
                                              {"vkCreateComputePipelines", as(&create_pipeline)},
                                              {"vkCreateBuffer", as(&create_buffer)},
                                              {"vkBindBufferMemory", as(&bind_memory)},
                                              {"vkGetBufferDeviceAddress", as(&get_address)},
                                              {"vkMapMemory", as(&map_memory)},
                                              {"vkDestroyBuffer", as(&destroy_buffer)},
                                              {"vkFreeMemory", as(&free_memory)},
                                              {"vkWaitForFences", as(&wait)},
                                              {"vkGetFenceStatus", as(&fence_status)},
                                              {"vkQueueWaitIdle", Hook{}},
                                              {"vkQueueSubmit", as(&submit)}};
    return all;
}

}  // namespace

CommandStream::CommandStream(Order order, uint64_t seed) {
    keep_instance();
    s = {};
    s.order = order;
    s.random.seed(seed);
    get = vkGetDeviceProcAddr;
    vkGetDeviceProcAddr = [](VkDevice device, const char* name) -> PFN_vkVoidFunction {
        const PFN_vkVoidFunction real = get(device, name);
        const auto at = hooks().find(name);
        if (at == hooks().end()) return real;
        at->second.real = real;
        return at->second.hook ? at->second.hook : real;
    };
}

CommandStream::~CommandStream() { vkGetDeviceProcAddr = get; }

void CommandStream::reset() {
    s.barriers.clear();
    s.hazards.clear();
    s.kernels.clear();
    s.omitted.reset();
}
void CommandStream::omit(size_t n) { s.omitted = n; }
void CommandStream::check_table() { s.check_table = true; }
const std::vector<CommandStream::Barrier>& CommandStream::barriers() const { return s.barriers; }
std::string CommandStream::name(const void* site) {
    void* const address[] = {const_cast<void*>(site)};
    char** const names = backtrace_symbols(address, 1);
    const std::string name = names ? names[0] : "";
    std::free(names);
    return name;
}
const std::vector<std::string>& CommandStream::hazards() const { return s.hazards; }
std::vector<std::string> CommandStream::kernels() const { return {s.kernels.begin(), s.kernels.end()}; }

}  // namespace gptoss::test
