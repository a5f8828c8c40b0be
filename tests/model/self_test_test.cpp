// The self-test against devices that are right and devices that are made wrong, and what a load makes of its result.
#include "tuning/self_test.h"

#include <gptoss.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

#include "base/cache.h"
#include "base/error.h"
#include "spirv.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;
using model::Tuning;

namespace {

// Shapes that a GPU would get.
const Tuning kPlain{};
const Tuning kWide{
    .lanes = 64, .decode_splits = 4, .batch_splits = 2, .attention_workgroup = 128, .attention_splits = 32};
const Tuning kNarrow{.decode_splits = 8, .batch_splits = 2, .attention_workgroup = 128, .attention_splits = 32};

const io::Checkpoint& checkpoint() {
    static const SyntheticCheckpoint synthetic(Shape{.heads = 16, .experts = 32, .active = 4}, 70);
    static const io::Checkpoint checkpoint(synthetic.path());
    return checkpoint;
}

model::KernelNeeds needs(bool kv_f16 = true, uint32_t dense = UINT32_MAX) { return {checkpoint(), dense, kv_f16}; }

std::shared_ptr<vk::Gpu> open_gpu() {
    return std::make_shared<vk::Gpu>(vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE")), "");
}

// While it lives, a driver whose compiler makes some kernels wrong.
class FaultyCompiler {
  public:
    using Wanted = std::function<bool(const std::string& kernel, const std::vector<uint32_t>& constants)>;

    // wrong: which kernels; refuse: they fail to compile.
    explicit FaultyCompiler(Wanted wrong, bool refuse = false) {
        wanted() = std::move(wrong);
        refuses = refuse;
        modules().clear();
        keep_instance();
        get = vkGetDeviceProcAddr;
        vkGetDeviceProcAddr = [](VkDevice device, const char* name) -> PFN_vkVoidFunction {
            const PFN_vkVoidFunction real = get(device, name);
            if (std::string(name) == "vkCreateShaderModule") {
                create_module = reinterpret_cast<PFN_vkCreateShaderModule>(real);
                return reinterpret_cast<PFN_vkVoidFunction>(&on_create_module);
            }
            if (std::string(name) != "vkCreateComputePipelines") return real;
            create_pipeline = reinterpret_cast<PFN_vkCreateComputePipelines>(real);
            return reinterpret_cast<PFN_vkVoidFunction>(&on_create_pipeline);
        };
    }
    ~FaultyCompiler() { vkGetDeviceProcAddr = get; }

  private:
    const std::vector<vk::DeviceInfo> devices_ = vk::enumerate_devices();  // the instance stays, and its functions
    static VKAPI_ATTR VkResult VKAPI_CALL on_create_module(VkDevice device, const VkShaderModuleCreateInfo* info,
                                                           const VkAllocationCallbacks* callbacks,
                                                           VkShaderModule* module) {
        const VkResult result = create_module(device, info, callbacks, module);
        modules()[*module] = {info->pCode, info->codeSize / 4};
        return result;
    }

    static VKAPI_ATTR VkResult VKAPI_CALL on_create_pipeline(VkDevice device, VkPipelineCache cache, uint32_t count,
                                                             const VkComputePipelineCreateInfo* info,
                                                             const VkAllocationCallbacks* callbacks,
                                                             VkPipeline* pipeline) {
        const std::span<const uint32_t> code = modules()[info->stage.module];
        std::string name;
        for (const char* kernel : kKernels)
            if (spirv(kernel).data() == code.data()) name = kernel;
        const VkSpecializationInfo& s = *info->stage.pSpecializationInfo;
        const auto* constants = static_cast<const uint32_t*>(s.pData);
        if (!wanted()(name, {constants, constants + s.mapEntryCount}))
            return create_pipeline(device, cache, count, info, callbacks, pipeline);
        if (refuses) return VK_ERROR_UNKNOWN;
        const std::vector<uint32_t> wrong = mutate(name, code);
        VkShaderModuleCreateInfo module{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
        module.codeSize = wrong.size() * 4;
        module.pCode = wrong.data();
        VkComputePipelineCreateInfo changed = *info;
        REQUIRE(create_module(device, &module, callbacks, &changed.stage.module) == VK_SUCCESS);
        const VkResult result = create_pipeline(device, cache, count, &changed, callbacks, pipeline);
        reinterpret_cast<PFN_vkDestroyShaderModule>(get(device, "vkDestroyShaderModule"))(device, changed.stage.module,
                                                                                          callbacks);
        return result;
    }

    // The code with one kind of operation replaced by another of the same operands.
    static std::vector<uint32_t> mutate(const std::string& name, std::span<const uint32_t> code) {
        enum : uint32_t {
            FAdd = 129,
            FSub = 131,
            FMul = 133,
            FDiv = 136,
            FLess = 184,
            FGreater = 186,
            ExtInst = 12,
            SDot = 4450,
            SUDot = 4452
        };
        struct Change {
            uint32_t from, to;
        };
        std::vector<Change> changes = {{ExtInst, 0}, {FDiv, FMul}, {FMul, FAdd}};
        if (name == "sample") changes = {{FGreater, FLess}};
        if (name.ends_with("_integer")) changes = {{SDot, SUDot}};
        if (name == "sample_prepare") changes = {{FMul, FAdd}};
        for (const auto& [from, to] : changes) {
            std::vector<uint32_t> result(code.begin(), code.end());
            bool changed = false;
            for (size_t at = 5; at < result.size(); at += result[at] >> 16) {
                if ((result[at] & 0xffff) != from) continue;
                if (from == ExtInst) {
                    if (result[at + 4] != 50) continue;  // fma(a, b, c)
                    result[at + 4] = 46;                 // mix(a, b, c)
                } else {
                    result[at] = (result[at] & 0xffff0000) | to;
                }
                changed = true;
            }
            if (changed) return result;
        }
        FAIL("nothing in " << name << " to make wrong");
        return {};
    }

    static constexpr const char* kKernels[] = {"attn_attend",
                                               "attn_combine",
                                               "moe_down",
                                               "moe_down_slots",
                                               "dense_embed",
                                               "moe_gate_up",
                                               "moe_group",
                                               "dense_linear",
                                               "moe_merge",
                                               "attn_out",
                                               "attn_qkv",
                                               "sample",
                                               "moe_topk",
                                               "sample_prepare",
                                               "attn_qkv_coopmat",
                                               "attn_out_coopmat",
                                               "moe_gate_up_coopmat",
                                               "moe_down_coopmat",
                                               "dense_halve",
                                               "dense_round",
                                               "moe_gate_up_integer",
                                               "moe_down_integer"};
    static Wanted& wanted() {
        static Wanted wanted;
        return wanted;
    }
    static std::map<VkShaderModule, std::span<const uint32_t>>& modules() {
        static std::map<VkShaderModule, std::span<const uint32_t>> known;
        return known;
    }
    static inline bool refuses = false;
    static inline PFN_vkGetDeviceProcAddr get = nullptr;
    static inline PFN_vkCreateShaderModule create_module = nullptr;
    static inline PFN_vkCreateComputePipelines create_pipeline = nullptr;
};

}  // namespace

TEST_CASE("self-test: passes in every shape, with every type of weights") {
    const auto gpu = open_gpu();
    for (const char* pass : {"with", "without"}) {
        const std::clock_t start = std::clock();
        CHECK(self_test(gpu, needs(), kPlain) == "");
        MESSAGE("the self-test takes " << (std::clock() - start) * 1000.0 / CLOCKS_PER_SEC << " ms of processor time "
                                       << std::string(pass) << " building the pipelines");
    }
    CHECK(self_test(gpu, needs(false), kWide) == "");
    CHECK(self_test(gpu, needs(true, WEIGHT_Q8), kNarrow) == "");
    CHECK(self_test(gpu, needs(false, WEIGHT_F16), Tuning{.batch_tokens = 1}) == "");
    model::KernelNeeds f32 = needs();
    f32.embedding = f32.qkv = f32.out = f32.router = f32.lm_head = WEIGHT_F32;
    CHECK(self_test(gpu, f32, kPlain) == "");
}

// The kernels of cooperative matrices, where the device has any.
Tuning coopmat_tuning() {
    Tuning tuning = kPlain;
    model::use_coopmat(tuning, vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE")));
    return tuning;
}

TEST_CASE("self-test: cooperative matrices pass; one kernel of them that is wrong is found, and another tier taken") {
    Tuning coopmat = coopmat_tuning();
    if (!coopmat.coopmat()) return;
    coopmat.coopmat_tokens = 32;  // kernels for more take long to build
    CHECK(self_test(open_gpu(), needs(true, WEIGHT_Q8), coopmat) == "");
    for (const std::string kernel :
         {"attn_qkv_coopmat", "attn_out_coopmat", "moe_gate_up_coopmat", "moe_down_coopmat"}) {
        CAPTURE(kernel);
        const FaultyCompiler faulty([&](const std::string& name, const auto&) { return name == kernel; });
        const std::string found = self_test(open_gpu(), needs(), coopmat);
        MESSAGE(found);
        CHECK(found.find("_coopmat") != std::string::npos);
        CHECK(found.find(kernel.substr(0, kernel.rfind('_'))) != std::string::npos);
    }
    // wrong only in wider tiles, which few batches have
    coopmat.coopmat_tokens = 64;
    const FaultyCompiler faulty([](const std::string& name, const auto& constants) {
        return name == "attn_out_coopmat" && constants[2] == 64;
    });
    const SyntheticCheckpoint synthetic(Shape{}, 74);
    model::ModelOptions options;
    options.cache_directory = "";
    options.candidates = {coopmat, kPlain};
    const auto model = load(synthetic.path(), options);
    CHECK(model->tuning == kPlain);
    CHECK(model->left_out == 1);
}

TEST_CASE("self-test: integers pass; one kernel of them that is wrong is found") {
    Tuning integer = kWide;
    model::use_integer(integer, vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE")));
    if (!integer.integer()) return;
    CHECK(self_test(open_gpu(), needs(true, WEIGHT_Q8), integer) == "");
    for (const std::string kernel : {"dense_round", "moe_gate_up_integer", "moe_down_integer"}) {
        CAPTURE(kernel);
        const FaultyCompiler faulty([&](const std::string& name, const auto&) { return name == kernel; });
        const std::string found = self_test(open_gpu(), needs(), integer);
        MESSAGE(found);
        CHECK(found.find(kernel) != std::string::npos);
    }
}

TEST_CASE("tier: what a device lacks is refused, and integers are never taken by default") {
    vk::DeviceInfo device = vk::choose_device(std::getenv("GPTOSS_TEST_DEVICE"));
    device.name = "a device";
    device.integer_dot = true;
    for (const model::Tier tier : {model::Tier::Default, model::Tier::Exact})
        for (const Tuning& t : tuning_candidates(device, 8, tier)) CHECK(!t.integer());
    const std::vector<Tuning> candidates = tuning_candidates(device, 8, model::Tier::Integer);
    REQUIRE(candidates.size() == 1);
    CHECK(candidates[0].tier() == model::Tier::Integer);
    CHECK(candidates[0].text() != tuning_candidates(device, 8, model::Tier::Exact)[0].text());  // the cache's key
    device.integer_dot = false;
    device.coopmat = {};
    for (const model::Tier tier : {model::Tier::Integer, model::Tier::Coopmat}) {
        try {
            tuning_candidates(device, 8, tier);
            FAIL_CHECK("a tier that is not there was given");
        } catch (const Error& e) {
            CHECK(e.status() == Status::UnsupportedArgument);
            CHECK(std::string(e.what()).find("a device") != std::string::npos);
        }
    }
}

TEST_CASE("self-test: finds each kernel that is wrong, and names it") {
    for (const std::string kernel :
         {"dense_embed", "attn_qkv", "attn_attend", "attn_combine", "attn_out", "dense_linear", "moe_topk",
          "moe_gate_up", "moe_down", "moe_down_slots", "moe_merge", "sample_prepare", "sample"}) {
        CAPTURE(kernel);
        const FaultyCompiler faulty([&](const std::string& name, const auto&) { return name == kernel; });
        const std::string found = self_test(open_gpu(), needs(), kNarrow);
        MESSAGE(kernel << ": " << found);
        const std::string named = kernel == "sample_prepare" ? "sample"
                                  : kernel == "attn_combine" ? "attn_attend"
                                                             : kernel;
        CHECK(found.find(named) != std::string::npos);
    }
}

TEST_CASE("self-test: a variant that is wrong is left out, and the log says so") {
    // groups of 64 lanes are wrong, in one kernel
    const FaultyCompiler faulty(
        [](const std::string& name, const auto& constants) { return name == "attn_out" && constants[1] == 64; });
    const SyntheticCheckpoint synthetic(Shape{}, 71);
    std::vector<std::string> warnings;
    model::ModelOptions options;
    options.cache_directory = "";
    options.candidates = {kWide, kNarrow, kPlain};
    options.log = [&](int level, const std::string& message) {
        if (level == model::kLogWarning) warnings.push_back(message);
    };
    const auto model = load(synthetic.path(), options);
    CHECK(model->tuning == kNarrow);
    CHECK(model->left_out == 1);
    REQUIRE(warnings.size() == 1);
    MESSAGE(warnings[0]);
    CHECK(warnings[0].find(model->device.info().name) != std::string::npos);
    CHECK(warnings[0].find("attn_out") != std::string::npos);
    const auto tokens = random_tokens(40, 96, 71);
    CHECK(relative_l2(fresh_logits(model, tokens), fresh_logits(load(synthetic.path()), tokens)) < 1e-4);
}

TEST_CASE("self-test: its result is kept, until the cache is damaged") {
    const SyntheticCheckpoint synthetic(Shape{}, 73);
    const std::string directory = synthetic.path() + "/cache";
    int tests = 0, warnings = 0;
    model::ModelOptions options;
    options.cache_directory = directory;
    options.candidates = {kWide, kPlain};
    options.log = [&](int level, const std::string& message) {
        if (level == model::kLogWarning) warnings++;
        if (level == model::kLogInfo && message.find("self-test") != std::string::npos) tests++;
    };
    const auto load_once = [&] {
        const auto model = load(synthetic.path(), options);
        CHECK(model->tuning == kPlain);
        CHECK(model->left_out == 1);
        return fresh_logits(model, random_tokens(20, 96, 73));
    };
    std::vector<float> first;
    {
        const FaultyCompiler faulty(
            [](const auto&, const auto& constants) { return constants.size() > 3 && constants[1] == 64; });
        first = load_once();
    }
    CHECK(tests == 1);
    // remembered, and said again
    CHECK(load_once() == first);
    CHECK(tests == 1);
    CHECK(warnings == 2);
    // another model has kernels of its own
    options.kv_f16 = false;
    options.candidates = {kPlain};
    CHECK(load(synthetic.path(), options)->left_out == 0);
    CHECK(tests == 2);
    // as if a process had been killed, a disk had lost a block, another user had written there
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
        file.seekp(files++ % 2 ? 20 : static_cast<std::streamoff>(entry.file_size() - 1));
        file.put('\x7f');
    }
    CHECK(files >= 2);
    load(synthetic.path(), options);
    CHECK(tests == 3);
    load(synthetic.path(), options);
    CHECK(tests == 3);
}

TEST_CASE("self-test: what a cache makes a load say does nothing to a terminal") {
    const SyntheticCheckpoint synthetic(Shape{}, 74);
    const std::string directory = synthetic.path() + "/cache";
    std::string said;
    gptoss_model_options options{};
    options.struct_size = sizeof options;
    options.device = std::getenv("GPTOSS_TEST_DEVICE");
    options.cache_directory = directory.c_str();
    options.log = [](void* lines, gptoss_log_level, const char* line) {
        static_cast<std::string*>(lines)->append(line).append("\n");
    };
    options.log_user_data = &said;
    const auto load_once = [&] {
        gptoss_model_t model;
        said.clear();
        REQUIRE(gptoss_model_create(synthetic.path().c_str(), &options, &model) == gptoss_status_success);
        gptoss_model_release(model);
    };
    load_once();
    // another result in the place of this one: the first candidate is left out, for a reason that somebody made up
    const std::string result = "0\n";
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        std::ifstream file(entry.path(), std::ios::binary);
        const std::string bytes{std::istreambuf_iterator<char>(file), {}};
        const size_t begin = bytes.find("libgptoss "), end = bytes.size() - result.size();
        if (bytes.find("self-test\n") == bytes.npos || begin == bytes.npos || bytes.substr(end) != result) continue;
        std::ofstream(entry.path(), std::ios::binary)
            << make_cache_entry(bytes.substr(begin, end - begin), "1\n\x1b]0;owned\x07\n");
    }
    load_once();
    CHECK(said.find("\uFFFD]0;owned\uFFFD\n") != said.npos);
}

TEST_CASE("self-test: a device that gives wrong results in every variant is refused") {
    for (const bool refuse : {false, true}) {
        const FaultyCompiler faulty([](const std::string& name, const auto&) { return name == "attn_attend"; }, refuse);
        model::ModelOptions options;
        options.cache_directory = "";
        options.candidates = {kNarrow, kPlain};
        try {
            load(SyntheticCheckpoint(Shape{}, 72).path(), options);
            FAIL_CHECK("a wrong device was accepted");
        } catch (const Error& e) {
            MESSAGE(std::string(e.what()));
            CHECK(e.status() == Status::UnsupportedSystem);
            CHECK(std::string(e.what()).find(vk::choose_device(options.device).name) != std::string::npos);
            CHECK(std::string(e.what()).find("attn_attend") != std::string::npos);
        }
    }
}
