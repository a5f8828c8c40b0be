// Barriers: kernels reach memory by address, which no validation layer follows, and the software device runs dispatches
// one after the other, so that a missing barrier would pass every other test. Here the commands between two barriers
// run in the reverse order: the results must be the same, and must no longer be the same if any one barrier is left
// out.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "random_adapter.h"
#include "spirv.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

// While it lives, devices that are opened keep what is recorded in a command buffer, and play it when it is submitted:
// the commands between two barriers in the reverse order.
class ReversedCommands {
  public:
    ReversedCommands() {
        keep_instance();
        state() = {};
        get = vkGetDeviceProcAddr;
        vkGetDeviceProcAddr = [](VkDevice device, const char* name) -> PFN_vkVoidFunction {
            const PFN_vkVoidFunction real = get(device, name);
            const auto at = hooks().find(name);
            if (at == hooks().end()) return real;
            at->second.real = real;
            return at->second.hook;
        };
    }
    ~ReversedCommands() { vkGetDeviceProcAddr = get; }

    struct Barrier {
        VkCommandBuffer buffer = VK_NULL_HANDLE;
        size_t recording = 0;  // of the buffer's, since reset()
        size_t index = 0;
        std::string before{};  // which kernel or transfer
        bool operator==(const Barrier& other) const {
            return buffer == other.buffer && recording == other.recording && index == other.index;
        }
    };
    void reset() {
        state().barriers.clear();
        state().unguarded.clear();
        for (auto& [buffer, recording] : state().recordings) recording.number = 0;
    }
    // All that were submitted since then, but for those with nothing before them.
    std::vector<Barrier> barriers() const { return state().barriers; }
    // Leaves one out of what is submitted from now on.
    void omit(const Barrier& barrier) { state().omitted = barrier; }
    // What a command buffer began with that was no barrier, which whatever was submitted before it needs; or "".
    std::string unguarded() const { return state().unguarded; }

  private:
    struct Hook {
        PFN_vkVoidFunction hook;
        PFN_vkVoidFunction real;
    };
    struct Command {
        bool barrier = false;
        std::string kernel{};
        std::function<void(VkCommandBuffer)> play{};
    };
    struct Recording {
        std::vector<Command> commands{};
        size_t number = 0;
        VkPipeline pipeline = VK_NULL_HANDLE;
        VkPipelineLayout layout = VK_NULL_HANDLE;
        std::vector<std::byte> constants{};
        VkDevice device = VK_NULL_HANDLE;
        VkCommandPool pool = VK_NULL_HANDLE;
    };
    struct State {
        std::map<VkCommandBuffer, Recording> recordings{};
        std::map<VkShaderModule, std::string> modules{};
        std::map<VkPipeline, std::string> kernels{};
        std::vector<Barrier> barriers{};
        Barrier omitted{};
        std::string unguarded{};
    };

    static State& state() {
        static State state;
        return state;
    }
    static Recording& of(VkCommandBuffer buffer) { return state().recordings[buffer]; }
    template <typename F>
    static F real(const char* name) {
        return reinterpret_cast<F>(hooks().at(name).real);
    }

    static VKAPI_ATTR VkResult VKAPI_CALL allocate(VkDevice device, const VkCommandBufferAllocateInfo* info,
                                                   VkCommandBuffer* buffers) {
        const VkResult result = real<PFN_vkAllocateCommandBuffers>("vkAllocateCommandBuffers")(device, info, buffers);
        for (uint32_t i = 0; result == VK_SUCCESS && i < info->commandBufferCount; i++)
            of(buffers[i]) = {.device = device, .pool = info->commandPool};
        return result;
    }
    static VKAPI_ATTR VkResult VKAPI_CALL begin(VkCommandBuffer buffer, const VkCommandBufferBeginInfo*) {
        of(buffer).commands.clear();
        of(buffer).number++;
        return VK_SUCCESS;
    }
    static VKAPI_ATTR VkResult VKAPI_CALL end(VkCommandBuffer) { return VK_SUCCESS; }
    static VKAPI_ATTR void VKAPI_CALL bind(VkCommandBuffer buffer, VkPipelineBindPoint, VkPipeline pipeline) {
        of(buffer).pipeline = pipeline;
    }
    static VKAPI_ATTR void VKAPI_CALL push(VkCommandBuffer buffer, VkPipelineLayout layout, VkShaderStageFlags,
                                           uint32_t, uint32_t size, const void* values) {
        of(buffer).layout = layout;
        const auto* bytes = static_cast<const std::byte*>(values);
        of(buffer).constants.assign(bytes, bytes + size);
    }
    static void keep(VkCommandBuffer buffer, std::function<void(VkCommandBuffer)> play) {
        of(buffer).commands.push_back({.play = std::move(play)});
    }
    static VKAPI_ATTR void VKAPI_CALL dispatch(VkCommandBuffer buffer, uint32_t x, uint32_t y, uint32_t z) {
        const Recording& now = of(buffer);
        keep(buffer, [=, pipeline = now.pipeline, layout = now.layout, constants = now.constants](auto to) {
            real<PFN_vkCmdBindPipeline>("vkCmdBindPipeline")(to, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
            real<PFN_vkCmdPushConstants>("vkCmdPushConstants")(
                to, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, static_cast<uint32_t>(constants.size()), constants.data());
            real<PFN_vkCmdDispatch>("vkCmdDispatch")(to, x, y, z);
        });
        of(buffer).commands.back().kernel = state().kernels[now.pipeline];
    }
    static VKAPI_ATTR void VKAPI_CALL copy(VkCommandBuffer buffer, VkBuffer from, VkBuffer to, uint32_t n,
                                           const VkBufferCopy* regions) {
        keep(buffer, [=, all = std::vector<VkBufferCopy>(regions, regions + n)](auto at) {
            real<PFN_vkCmdCopyBuffer>("vkCmdCopyBuffer")(at, from, to, n, all.data());
        });
        of(buffer).commands.back().kernel = "copy";
    }
    static VKAPI_ATTR void VKAPI_CALL fill(VkCommandBuffer buffer, VkBuffer to, VkDeviceSize offset, VkDeviceSize size,
                                           uint32_t value) {
        keep(buffer, [=](auto at) { real<PFN_vkCmdFillBuffer>("vkCmdFillBuffer")(at, to, offset, size, value); });
        of(buffer).commands.back().kernel = "fill";
    }
    static VKAPI_ATTR void VKAPI_CALL update(VkCommandBuffer buffer, VkBuffer to, VkDeviceSize offset,
                                             VkDeviceSize size, const void* data) {
        const auto* bytes = static_cast<const std::byte*>(data);
        keep(buffer, [=, all = std::vector<std::byte>(bytes, bytes + size)](auto at) {
            real<PFN_vkCmdUpdateBuffer>("vkCmdUpdateBuffer")(at, to, offset, size, all.data());
        });
        of(buffer).commands.back().kernel = "update";
    }
    static VKAPI_ATTR void VKAPI_CALL barrier(VkCommandBuffer buffer, VkPipelineStageFlags from,
                                              VkPipelineStageFlags to, VkDependencyFlags, uint32_t,
                                              const VkMemoryBarrier* memory, uint32_t, const VkBufferMemoryBarrier*,
                                              uint32_t, const VkImageMemoryBarrier*) {
        of(buffer).commands.push_back({.barrier = true, .play = [=, all = *memory](auto at) {
                                           real<PFN_vkCmdPipelineBarrier>("vkCmdPipelineBarrier")(
                                               at, from, to, 0, 1, &all, 0, nullptr, 0, nullptr);
                                       }});
        // the last one is for the host, which waits in any case
        if (to == VK_PIPELINE_STAGE_HOST_BIT) of(buffer).commands.back().kernel = "host";
    }
    static VKAPI_ATTR VkResult VKAPI_CALL create_module(VkDevice device, const VkShaderModuleCreateInfo* info,
                                                        const VkAllocationCallbacks* callbacks, VkShaderModule* out) {
        const VkResult result = real<PFN_vkCreateShaderModule>("vkCreateShaderModule")(device, info, callbacks, out);
        for (const std::string_view kernel : spirv_names())
            if (spirv(kernel).data() == info->pCode) state().modules[*out] = kernel;
        return result;
    }
    static VKAPI_ATTR VkResult VKAPI_CALL create_pipeline(VkDevice device, VkPipelineCache cache, uint32_t n,
                                                          const VkComputePipelineCreateInfo* infos,
                                                          const VkAllocationCallbacks* callbacks, VkPipeline* out) {
        const VkResult result =
            real<PFN_vkCreateComputePipelines>("vkCreateComputePipelines")(device, cache, n, infos, callbacks, out);
        for (uint32_t i = 0; i < n; i++) state().kernels[out[i]] = state().modules[infos[i].stage.module];
        return result;
    }

    static void play(VkCommandBuffer buffer) {
        State& s = state();
        const VkCommandBufferBeginInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
        REQUIRE(real<PFN_vkBeginCommandBuffer>("vkBeginCommandBuffer")(buffer, &info) == VK_SUCCESS);
        const std::vector<Command>& commands = of(buffer).commands;
        std::vector<const Command*> since;
        size_t index = 0;
        const auto flush = [&] {
            for (auto c = since.rbegin(); c != since.rend(); ++c) (*c)->play(buffer);
            since.clear();
        };
        if (!commands.empty() && !commands[0].barrier) s.unguarded = commands[0].kernel;
        for (size_t i = 0; i < commands.size(); i++) {
            const Command& command = commands[i];
            if (!command.barrier) {
                since.push_back(&command);
                continue;
            }
            if (!since.empty() && command.kernel != "host") {
                const Barrier here{buffer, of(buffer).number, index++,
                                   i + 1 < commands.size() ? commands[i + 1].kernel : std::string("nothing")};
                if (s.omitted == here) continue;
                if (std::find(s.barriers.begin(), s.barriers.end(), here) == s.barriers.end())
                    s.barriers.push_back(here);
            }
            flush();
            command.play(buffer);
        }
        flush();
        REQUIRE(real<PFN_vkEndCommandBuffer>("vkEndCommandBuffer")(buffer) == VK_SUCCESS);
    }
    static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t n, const VkSubmitInfo* infos, VkFence fence) {
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t b = 0; b < infos[i].commandBufferCount; b++) {
                const VkCommandBuffer buffer = infos[i].pCommandBuffers[b];
                const auto reset = real<PFN_vkResetCommandPool>("vkResetCommandPool");
                REQUIRE(reset(of(buffer).device, of(buffer).pool, 0) == VK_SUCCESS);  // each has a pool of its own
                play(buffer);
            }
        return real<PFN_vkQueueSubmit>("vkQueueSubmit")(queue, n, infos, fence);
    }
    static VKAPI_ATTR VkResult VKAPI_CALL reset_pool(VkDevice, VkCommandPool, VkCommandPoolResetFlags) {
        return VK_SUCCESS;
    }

    static std::map<std::string, Hook>& hooks() {
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
                                                  {"vkQueueSubmit", as(&submit)}};
        return all;
    }

    static inline PFN_vkGetDeviceProcAddr get;
};

const Shape kShape{.heads = 16, .experts = 8, .active = 4};

void draw(model::Sequence& sequence, const model::SamplerSettings& settings) {
    model::GenerateRequest request;
    request.settings = settings;
    request.max_tokens = 5;
    uint64_t n = 0;
    sequence.generate(request, &n);
}

// The logits of a prompt, tokens that are drawn one by one, and those of another timeline that shares its pages.
std::vector<float> answer(const std::shared_ptr<const model::Model>& model, const model::Attachment& adapter,
                          uint32_t n_prompt, uint64_t seed = 80) {
    model::Sequence sequence(model, 0, 64);
    sequence.set_adapter(adapter);
    sequence.append(random_tokens(n_prompt, kShape.vocab, seed));
    std::vector<float> all = logits_of(sequence);
    draw(sequence, {.temperature = 0, .repetition = 1.1f});
    model::Sequence other(sequence);
    draw(other, {.temperature = 0.8f, .top_k = 20});
    for (model::Sequence* s : {&sequence, &other}) {
        const std::vector<float> logits = logits_of(*s);
        all.insert(all.end(), logits.begin(), logits.end());
        all.insert(all.end(), s->tokens().begin(), s->tokens().end());
    }
    return all;
}

void check_order(const model::ModelOptions& options, uint32_t n_prompt, bool adapted = false) {
    const SyntheticCheckpoint synthetic(kShape, 81);
    const RandomAdapter random(io::Checkpoint(synthetic.path()).config, AdapterForm::Fused, 82, true);
    const auto attach = [&](const std::shared_ptr<const model::Model>& model) {
        // scaled, so that what goes wrong in it changes what is drawn
        return adapted ? model::Attachment{model::open_adapter(model, random.path()), 6} : model::Attachment{};
    };
    std::vector<float> expected;
    {
        const auto model = load(synthetic.path(), options);
        expected = answer(model, attach(model), n_prompt);
    }
    ReversedCommands reversed;
    const auto model = load(synthetic.path(), options);
    const model::Attachment adapter = attach(model);
    answer(model, adapter, n_prompt);  // what is allocated at first is not zeroed again
    reversed.reset();
    CHECK((answer(model, adapter, n_prompt) == expected));
    CHECK(reversed.unguarded() == "");
    const std::vector<ReversedCommands::Barrier> barriers = reversed.barriers();
    REQUIRE(barriers.size() > 30);
    // A draw may have the same outcome from other logits, though not with every prompt.
    std::map<uint64_t, std::vector<float>> whole{{80, expected}};
    const auto differs = [&](const ReversedCommands::Barrier& barrier, uint64_t seed) {
        if (!whole.contains(seed)) whole[seed] = answer(model, adapter, n_prompt, seed);
        answer(model, adapter, n_prompt, seed + 1);  // so that what is read too early is another prompt's
        reversed.reset();
        reversed.omit(barrier);
        const std::vector<float> got = answer(model, adapter, n_prompt, seed);
        reversed.omit({});
        return got != whole[seed];
    };
    for (const auto& barrier : barriers)
        CHECK_MESSAGE((differs(barrier, 80) || differs(barrier, 82) || differs(barrier, 84) || differs(barrier, 86)),
                      "nothing differs without barrier " << barrier.index << ", before " << barrier.before);
}

model::ModelOptions only(model::Tier tier, const model::Tuning& candidate) {
    model::ModelOptions options;
    options.cache_directory = "";
    options.tier = tier;
    options.candidates = {candidate};
    return options;
}

}  // namespace

TEST_CASE("order: every barrier counts, and nothing else does: exact kernels") {
    const model::Tuning tuning{.lanes = 32, .decode_splits = 2, .batch_splits = 2, .attention_splits = 4};
    check_order(only(model::Tier::Exact, tuning), 1);
    check_order(only(model::Tier::Exact, tuning), 40);
}

TEST_CASE("order: every barrier counts, and nothing else does: adapters") {
    const model::Tuning tuning{.lanes = 32, .decode_splits = 2, .batch_splits = 2, .attention_splits = 4};
    check_order(only(model::Tier::Exact, tuning), 1, true);
    check_order(only(model::Tier::Exact, tuning), 40, true);
}

TEST_CASE("order: every barrier counts, and nothing else does: integers") {
    const vk::DeviceInfo device = vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE"));
    model::Tuning tuning = model::tuning_for_device(device);
    model::use_integer(tuning, device);
    if (!tuning.integer()) return;
    tuning.integer_batch = 16;
    check_order(only(model::Tier::Integer, tuning), 40);
}

TEST_CASE("order: every barrier counts, and nothing else does: cooperative matrices") {
    const vk::DeviceInfo device = vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE"));
    model::Tuning tuning = model::tuning_for_device(device);
    model::use_coopmat(tuning, device);
    if (!tuning.coopmat()) return;
    tuning.coopmat_batch = 16;
    check_order(only(model::Tier::Coopmat, tuning), 40);
}
