// A driver that refuses: every allocation in turn, and a device that is lost. Each is a status, and what was there
// before works on. The validation layer and LeakSanitizer see to it that nothing stays behind.
#include "base/error.h"
#include "engine/engine.h"
#include "support.h"

using namespace gptoss;
using namespace gptoss::test;

namespace {

// Lets a driver's functions fail while it lives.
class Faults {
  public:
    explicit Faults(VolkDeviceTable& vk) : vk_(vk), original_(vk) {
        real = vk;
        vk.vkAllocateMemory = [](VkDevice device, const VkMemoryAllocateInfo* info,
                                 const VkAllocationCallbacks* callbacks, VkDeviceMemory* memory) {
            allocations++;
            if (allocations_left > 0 && --allocations_left == 0) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
            return real.vkAllocateMemory(device, info, callbacks, memory);
        };
        vk.vkQueueSubmit = [](VkQueue queue, uint32_t n, const VkSubmitInfo* info, VkFence fence) {
            if (submits_left > 0 && --submits_left == 0) return VK_ERROR_DEVICE_LOST;
            return real.vkQueueSubmit(queue, n, info, fence);
        };
        allocations = allocations_left = submits_left = 0;
    }
    ~Faults() { vk_ = original_; }

    static inline int allocations = 0;
    static inline int allocations_left = 0;  // the one that makes it 0 fails
    static inline int submits_left = 0;

  private:
    static inline VolkDeviceTable real{};
    VolkDeviceTable& vk_;
    VolkDeviceTable original_;
};

template <typename F>
void check_throws(Status status, F&& f) {
    try {
        f();
        FAIL_CHECK("no error");
    } catch (const Error& e) {
        CHECK(e.status() == status);
        CHECK(std::string(e.what()).size() > 10);
    }
}

}  // namespace

TEST_CASE("faults: each allocation of the engine's workspace fails in turn") {
    const auto& model = small_model();
    const auto tokens = random_tokens(60, model->config.vocab, 50);
    const auto expected = fresh_logits(model, tokens);
    int n = 0;
    {
        const Faults faults(model->device.vk);
        model::Sequence sequence(model, 1000, 600);  // larger batches than before
        n = faults.allocations;
    }
    CHECK(n > 10);
    model::Sequence other(model, 1000, 600);
    other.append(tokens);
    for (int i = 1; i <= n; i++) {
        CAPTURE(i);
        Faults faults(model->device.vk);
        faults.allocations_left = i;
        check_throws(Status::InsufficientMemory, [&] { model::Sequence(model, 1000, 700); });
    }
    check_same(*model, logits_of(other), expected);  // has the room that it had
}

TEST_CASE("faults: memory runs out while the cache grows") {
    const auto& model = small_model();
    const auto tokens = random_tokens(1100, model->config.vocab, 51);
    const auto expected = fresh_logits(model, tokens);
    for (int i = 1; i <= 2; i++) {  // two segments more
        CAPTURE(i);
        model::Sequence context(model, 0, 64);
        context.append(std::span(tokens).first(400));
        const auto before = logits_of(context);
        context.append(std::span(tokens).subspan(400));
        {
            Faults faults(model->device.vk);
            faults.allocations_left = i;
            check_throws(Status::InsufficientMemory, [&] { context.process(); });
        }
        CHECK(context.tokens() == tokens);
        context.truncate(400);
        check_same(*model, logits_of(context), before);
        context.append(std::span(tokens).subspan(400));
        check_same(*model, logits_of(context), expected);
    }
    // a generation that must grow the cache keeps what it had
    model::Sequence context(model, 0, 64);
    context.append(std::span(tokens).first(480));
    context.process();
    model::GenerateRequest request{.max_tokens = 45};
    uint64_t n = 0;
    {
        Faults faults(model->device.vk);
        faults.allocations_left = 1;
        check_throws(Status::InsufficientMemory, [&] { context.generate(request, &n); });
    }
    CHECK(context.tokens().size() == 480 + n);
    CHECK(n > 0);
    check_same(*model, logits_of(context), fresh_logits(model, context.tokens()));
}

TEST_CASE("faults: what is kept for later makes room for what is needed now") {
    const auto& model = caching_model();
    const auto tokens = random_tokens(600, model->config.vocab, 58);
    {
        model::Sequence released(model, 0, 64);
        released.append(tokens);
        released.process();
    }
    const uint64_t kept = model->engine->prefixes().bytes();
    CHECK(kept > 0);
    const auto others = random_tokens(600, model->config.vocab, 59);
    model::Sequence context(model, 0, 64);
    context.append(others);
    {
        Faults faults(model->device.vk);
        faults.allocations_left = 1;
        CHECK_NOTHROW(context.process());
        CHECK(faults.allocations > 1);
    }
    check_same(*model, logits_of(context), fresh_logits(small_model(), others));
    // so it does for larger batches
    CHECK(model->engine->prefixes().bytes() > 0);
    {
        Faults faults(model->device.vk);
        faults.allocations_left = 3;
        CHECK_NOTHROW(model::Sequence(model, 0, 900));
    }
    check_same(*model, logits_of(context), fresh_logits(small_model(), others));
}

TEST_CASE("faults: too little memory for a copy of the window costs only the copy") {
    const auto& model = caching_model();
    const auto tokens = random_tokens(120, model->config.vocab, 52);
    model::Sequence context(model, 0, 64);
    context.append(std::span(tokens).first(1));
    context.process();
    context.append(std::span(tokens).subspan(1));
    {
        Faults faults(model->device.vk);
        faults.allocations_left = 1;
        CHECK_NOTHROW(context.process());
        CHECK(faults.allocations == 1);
    }
    check_same(*model, logits_of(context), fresh_logits(small_model(), tokens));
}

TEST_CASE("faults: the device is lost while another context works on") {
    const auto& model = small_model();
    const auto tokens = random_tokens(100, model->config.vocab, 53);
    const auto expected = fresh_logits(model, tokens);
    model::Sequence context(model, 0, 16), other(model, 0, 16);
    other.append(tokens);
    for (int i = 1; i <= 4; i++) {
        CAPTURE(i);
        context.truncate(0);
        context.append(random_tokens(100, model->config.vocab, 60 + static_cast<uint64_t>(i)));
        Faults faults(model->device.vk);
        faults.submits_left = i;
        check_throws(Status::DeviceLost, [&] { context.process(); });
    }
    uint64_t n = 0;
    model::GenerateRequest request{.max_tokens = 40};
    context.process();
    {
        Faults faults(model->device.vk);
        faults.submits_left = 9;
        check_throws(Status::DeviceLost, [&] { context.generate(request, &n); });
    }
    CHECK(n > 0);
    CHECK(context.tokens().size() == 100 + n);
    check_same(*model, logits_of(context), fresh_logits(model, context.tokens()));
    check_same(*model, logits_of(other), expected);
}

TEST_CASE("faults: each allocation of a load fails in turn") {
    // The device of a load is made inside it: the functions that it will find are replaced.
    static PFN_vkGetDeviceProcAddr get;
    static PFN_vkAllocateMemory allocate;
    static int allocations, left;
    const SyntheticCheckpoint synthetic(Shape{}, 54);
    load(synthetic.path());  // the instance is there
    get = vkGetDeviceProcAddr;
    vkGetDeviceProcAddr = [](VkDevice device, const char* name) -> PFN_vkVoidFunction {
        if (std::string(name) != "vkAllocateMemory") return get(device, name);
        allocate = reinterpret_cast<PFN_vkAllocateMemory>(get(device, name));
        const PFN_vkAllocateMemory counted = [](VkDevice d, const VkMemoryAllocateInfo* info,
                                                const VkAllocationCallbacks* callbacks, VkDeviceMemory* memory) {
            allocations++;
            if (left > 0 && --left == 0) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
            return allocate(d, info, callbacks, memory);
        };
        return reinterpret_cast<PFN_vkVoidFunction>(counted);
    };
    load(synthetic.path());
    const int n = allocations;
    CHECK(n > 10);
    for (int i = 1; i <= n; i++) {
        CAPTURE(i);
        left = i;
        check_throws(Status::InsufficientMemory, [&] { load(synthetic.path()); });
    }
    vkGetDeviceProcAddr = get;
    const auto model = load(synthetic.path());
    CHECK(fresh_logits(model, random_tokens(5, model->config.vocab, 1)).size() == model->config.vocab);
}

TEST_CASE("faults: a cancelled load") {
    const SyntheticCheckpoint synthetic(Shape{}, 55);
    model::ModelOptions options;
    uint64_t last = 0, total = 0;
    options.load.progress = [&](uint64_t done, uint64_t all) {
        CHECK(done >= last);
        last = done;
        total = all;
        return 0;
    };
    load(synthetic.path(), options);
    CHECK(last == total);
    CHECK(total > 0);
    options.load.progress = [](uint64_t, uint64_t) { return 1; };
    check_throws(Status::Cancelled, [&] { load(synthetic.path(), options); });
    options.load.progress = [](uint64_t, uint64_t) -> int { throw std::runtime_error("the callback's own"); };
    CHECK_THROWS_AS(load(synthetic.path(), options), std::runtime_error);
}
