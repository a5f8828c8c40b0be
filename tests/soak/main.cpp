// test_soak [SECONDS [THREADS [SEED]]]: random calls on contexts of one model from several threads, and cancels from
// one more. Every thread knows what its contexts must hold, and compares their logits with those of fresh contexts now
// and then. Between rounds nothing may be left: what is allocated must not grow. The last line is "N passed, N failed",
// of rounds. Built with a sanitizer, it is what that watches.
//
// test_soak generations [COUNT [THREADS [SEED]]]: so many generate calls instead, on 64 threads, each compared.
#include <gptoss.h>
#include <malloc.h>
#include <unistd.h>
#include <volk.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "model/synthetic.h"
#include "soak.h"
#include "vk/device.h"

extern "C" size_t __sanitizer_get_current_allocated_bytes() __attribute__((weak));

using namespace gptoss::test;
using Clock = std::chrono::steady_clock;

namespace {

constexpr size_t kMostTokens = 1200;   // of a context: more than two segments of the cache
constexpr uint64_t kGrowth = 2 << 20;  // bytes that what is allocated may vary by between rounds

std::atomic<uint64_t> comparisons{0};

uint64_t allocated_bytes() {
    if (__sanitizer_get_current_allocated_bytes) return __sanitizer_get_current_allocated_bytes();
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

uint64_t resident_bytes() {
    std::ifstream statm("/proc/self/statm");
    uint64_t all = 0, resident = 0;
    statm >> all >> resident;
    return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// What a driver frees, another thread's allocation may get: the driver orders the two, in a way that ThreadSanitizer
// does not see. Here it does.
std::atomic<uint64_t> frees{0};
PFN_vkGetDeviceProcAddr get_device_proc_addr;
std::atomic<PFN_vkAllocateMemory> allocate_memory;  // all devices are of one driver, with the same functions
std::atomic<PFN_vkFreeMemory> free_memory;

VKAPI_ATTR VkResult VKAPI_CALL allocate_after_frees(VkDevice device, const VkMemoryAllocateInfo* info,
                                                    const VkAllocationCallbacks* callbacks, VkDeviceMemory* memory) {
    const VkResult result = allocate_memory.load()(device, info, callbacks, memory);
    frees.load(std::memory_order_acquire);
    return result;
}

VKAPI_ATTR void VKAPI_CALL free_before_allocations(VkDevice device, VkDeviceMemory memory,
                                                   const VkAllocationCallbacks* callbacks) {
    frees.fetch_add(1, std::memory_order_release);
    free_memory.load()(device, memory, callbacks);
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL ordered_device_proc_addr(VkDevice device, const char* name) {
    const PFN_vkVoidFunction function = get_device_proc_addr(device, name);
    if (std::strcmp(name, "vkAllocateMemory") == 0) {
        allocate_memory = reinterpret_cast<PFN_vkAllocateMemory>(function);
        return reinterpret_cast<PFN_vkVoidFunction>(allocate_after_frees);
    }
    if (std::strcmp(name, "vkFreeMemory") == 0) {
        free_memory = reinterpret_cast<PFN_vkFreeMemory>(function);
        return reinterpret_cast<PFN_vkVoidFunction>(free_before_allocations);
    }
    return function;
}

void order_allocations() {
    static const auto devices = gptoss::vk::enumerate_devices();  // the instance stays, and its functions
    get_device_proc_addr = vkGetDeviceProcAddr;
    vkGetDeviceProcAddr = ordered_device_proc_addr;
}

// prefix_bytes: 1 for a model whose contexts compute all that they are given.
gptoss_model_t load(const std::string& path, uint64_t prefix_bytes) {
    gptoss_model_options options{};
    options.prefix_cache_bytes = prefix_bytes;
    options.struct_size = sizeof options;
    options.device = std::getenv("GPTOSS_TEST_DEVICE");
    gptoss_model_t model = nullptr;
    must(gptoss_model_create(path.c_str(), &options, &model), "load");
    return model;
}

// A context and what it must hold.
struct Timeline {
    gptoss_context_t context = nullptr;
    std::vector<uint32_t> tokens;
};

int stop_at_count(void* left, uint32_t) { return --*static_cast<int*>(left) == 0; }

class Worker {
  public:
    Worker(gptoss_model_t model, gptoss_model_t plain, gptoss_tokenizer_t tokenizer, Targets& targets, size_t index,
           uint64_t seed)
        : model_(model), plain_(plain), tokenizer_(tokenizer), targets_(targets), index_(index), random_(seed) {}

    void run(Clock::time_point end) {
        while (Clock::now() < end) {
            if (timelines_.empty() || (timelines_.size() < 3 && below(10) == 0)) create();
            Timeline& t = timelines_[below(timelines_.size())];
            targets_.set(index_, t.context);
            one(t);
            check();
        }
        targets_.set(index_, nullptr);
        while (!timelines_.empty()) destroy(0);
    }

  private:
    size_t below(size_t n) { return random_() % n; }

    // A call that computes may have been cancelled; then again. f gets the status, and is over once that is another.
    template <typename F>
    void again(const char* what, const F& call) {
        for (;;) {
            const gptoss_status status = call();
            calls++;
            if (status == gptoss_status_cancelled) {
                cancelled++;
                continue;
            }
            if (status != gptoss_status_success) wrong(std::string(what) + ": " + gptoss_status_string(status));
            return;
        }
    }

    void create() {
        Timeline t;
        const size_t batches[] = {0, 7, 64};
        must(gptoss_context_create(model_, kMostTokens, batches[below(3)], &t.context), "create");
        timelines_.push_back(t);
    }

    void destroy(size_t i) {
        must(gptoss_context_release(timelines_[i].context), "release");
        timelines_.erase(timelines_.begin() + static_cast<ptrdiff_t>(i));
    }

    void one(Timeline& t) {
        switch (below(14)) {
            case 0:
            case 1:
            case 2:
                return append(t, 1 + below(below(4) == 0 ? 400 : 40));
            case 3:
                if (!t.tokens.empty()) again("process", [&] { return gptoss_context_process(t.context); });
                return;
            case 4:
            case 5:
                return sample(t);
            case 6:
                return generate(t);
            case 7: {
                const size_t n = below(t.tokens.size() + 1);
                must(gptoss_context_truncate(t.context, n), "truncate");
                t.tokens.resize(n);
                return;
            }
            case 8:
                must(gptoss_context_reset(t.context), "reset");
                t.tokens.clear();
                return;
            case 9:
                return save_or_restore(t);
            case 10:
                return fork(t);
            case 11:
                return compare(t);
            case 12:
                return text();
            default:
                targets_.set(index_, nullptr);
                destroy(static_cast<size_t>(&t - timelines_.data()));
                if (timelines_.empty()) create();
        }
    }

    void append(Timeline& t, size_t n) {
        n = std::min(n, kMostTokens - t.tokens.size());
        std::vector<uint32_t> tokens(n);
        for (uint32_t& token : tokens) token = static_cast<uint32_t>(below(kVocabulary));
        must(gptoss_context_append_tokens(t.context, n, tokens.data()), "append");
        t.tokens.insert(t.tokens.end(), tokens.begin(), tokens.end());
    }

    void sample(Timeline& t) {
        if (t.tokens.empty()) append(t, 1);
        uint32_t tokens[12];
        const size_t wanted = 1 + below(12);
        again("sample", [&] {
            size_t n = 0;
            const gptoss_status status =
                gptoss_context_sample(t.context, below(2) ? 0.0f : 0.9f, random_(), wanted, tokens, &n);
            t.tokens.insert(t.tokens.end(), tokens, tokens + n);  // also of a call that was cancelled
            return status;
        });
    }

    void generate(Timeline& t) {
        if (t.tokens.empty()) append(t, 1);
        gptoss_sampler_t sampler = nullptr;
        must(gptoss_sampler_create(&sampler), "sampler");
        must(gptoss_sampler_set_seed(sampler, random_()), "sampler");
        if (below(2)) must(gptoss_sampler_set_top_k(sampler, 20), "sampler");
        if (below(2)) must(gptoss_sampler_set_top_p(sampler, 0.9f), "sampler");
        if (below(2)) must(gptoss_sampler_set_min_p(sampler, 0.05f), "sampler");
        if (below(2)) must(gptoss_sampler_set_frequency_penalty(sampler, 0.5f), "sampler");
        again("generate", [&] {
            int left = static_cast<int>(1 + below(12));
            const uint32_t stop = static_cast<uint32_t>(below(kVocabulary));
            gptoss_generate_options options{};
            options.struct_size = sizeof options;
            options.stop_tokens = &stop;
            options.num_stop_tokens = 1;
            options.callback = stop_at_count;
            options.user_data = &left;
            size_t n = 0;
            const gptoss_status status = gptoss_context_generate(t.context, sampler, &options, &n, nullptr);
            const auto now = held(t);
            if (now.size() != t.tokens.size() + n) wrong("num_tokens_out");
            t.tokens.insert(t.tokens.end(), now.end() - static_cast<ptrdiff_t>(n), now.end());
            return status;
        });
        must(gptoss_sampler_release(sampler), "sampler");
    }

    void save_or_restore(Timeline& t) {
        if (saved_.empty() || below(2)) {
            size_t size = 0;
            must(gptoss_context_save(t.context, nullptr, 0, &size), "save");
            saved_.resize(size);
            must(gptoss_context_save(t.context, saved_.data(), size, &size), "save");
            saved_tokens_ = t.tokens;
            return;
        }
        if (below(4) == 0) {
            auto damaged = saved_;
            damaged[below(damaged.size())] ^= static_cast<unsigned char>(1 + below(255));
            if (gptoss_context_restore(t.context, damaged.data(), damaged.size()) == gptoss_status_success)
                wrong("a damaged state was taken");
            return;
        }
        must(gptoss_context_restore(t.context, saved_.data(), saved_.size()), "restore");
        t.tokens = saved_tokens_;
    }

    void fork(Timeline& t) {
        if (timelines_.size() == 4) return;
        Timeline copy;
        must(gptoss_context_fork(t.context, &copy.context), "fork");
        copy.tokens = t.tokens;
        timelines_.push_back(copy);  // t is another's now
    }

    // Bit for bit on the software device, where a token is computed alike in any batch.
    void compare(Timeline& t) {
        if (t.tokens.empty()) return;
        gptoss_context_t fresh = nullptr;
        must(gptoss_context_create(plain_, kMostTokens, 0, &fresh), "create");
        must(gptoss_context_append_tokens(fresh, t.tokens.size(), t.tokens.data()), "append");
        float got[kVocabulary], expected[kVocabulary];
        size_t n = 0;
        again("logits", [&] { return gptoss_context_get_logits(t.context, got, kVocabulary, &n); });
        must(gptoss_context_get_logits(fresh, expected, kVocabulary, &n), "logits");
        if (std::memcmp(got, expected, sizeof got) != 0)
            wrong("other logits after " + std::to_string(t.tokens.size()) + " tokens");
        uint32_t a[4], b[4];
        const size_t wanted = std::min<size_t>(4, kMostTokens - t.tokens.size()), before = t.tokens.size();
        if (wanted > 0) {
            again("sample", [&] {
                must(gptoss_context_truncate(t.context, before), "truncate");
                return gptoss_context_sample(t.context, 0, 0, wanted, a, &n);
            });
            must(gptoss_context_sample(fresh, 0, 0, wanted, b, &n), "sample");
            if (!std::equal(a, a + wanted, b)) wrong("other tokens");
            t.tokens.insert(t.tokens.end(), a, a + wanted);
        }
        must(gptoss_context_release(fresh), "release");
        comparisons++;
    }

    // The tokenizer is shared by all threads.
    void text() {
        static const char words[] = "Threads share a tokenizer: naïve, 日本語, 12345 \n\n <|start|>";
        const size_t length = 1 + below(sizeof words - 1);
        uint32_t tokens[100];
        size_t n = 0, size = 0;
        must(gptoss_tokenizer_encode(tokenizer_, words, length, 1, tokens, 100, &n), "encode");
        char back[200];
        must(gptoss_tokenizer_decode_tokens(tokenizer_, tokens, n, back, sizeof back, &size), "decode");
        if (size != length || std::memcmp(back, words, length) != 0) wrong("text came back as another");
        static const char conversation[] = R"({"messages": [{"role": "user", "content": "Hello"}]})";
        must(gptoss_harmony_render(tokenizer_, conversation, sizeof conversation - 1, tokens, 100, &n), "render");
        gptoss_harmony_parser_t parser = nullptr;
        must(gptoss_harmony_parser_create(tokenizer_, &parser), "parser");
        for (size_t i = 0; i < n; i++) must(gptoss_harmony_parser_process(parser, tokens[i]), "parser");
        must(gptoss_harmony_parser_release(parser), "parser");
    }

    std::vector<uint32_t> held(const Timeline& t) {
        size_t n = 0;
        must(gptoss_context_get_num_tokens(t.context, &n), "get_num_tokens");
        std::vector<uint32_t> tokens(n);
        must(gptoss_context_get_tokens(t.context, tokens.data(), n, &n), "get_tokens");
        return tokens;
    }

    void check() {
        for (const Timeline& t : timelines_)
            if (held(t) != t.tokens) wrong("a context holds other tokens");
    }

    gptoss_model_t model_, plain_;
    gptoss_tokenizer_t tokenizer_;
    Targets& targets_;
    size_t index_;
    std::mt19937_64 random_;
    std::vector<Timeline> timelines_;
    std::vector<unsigned char> saved_;
    std::vector<uint32_t> saved_tokens_;
};

// A context outlives its model's last reference but its own.
void use_a_model_of_its_own(const std::string& path) {
    gptoss_model_t model = load(path, 0);
    gptoss_context_t context = nullptr;
    must(gptoss_context_create(model, 100, 0, &context), "create");
    must(gptoss_model_release(model), "release");
    const uint32_t prompt[] = {1, 2, 3};
    must(gptoss_context_append_tokens(context, 3, prompt), "append");
    uint32_t tokens[4];
    size_t n = 0;
    must(gptoss_context_sample(context, 0, 0, 4, tokens, &n), "sample");
    must(gptoss_context_release(context), "release");
}

void run_round(gptoss_model_t model, gptoss_model_t plain, gptoss_tokenizer_t tokenizer, const std::string& path,
               size_t n_threads, uint64_t seed, double seconds) {
    const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    Targets targets;
    std::vector<std::thread> threads;
    for (size_t i = 0; i < n_threads; i++)
        threads.emplace_back([&, i] { Worker(model, plain, tokenizer, targets, i, seed + i).run(end); });
    threads.emplace_back([&] { use_a_model_of_its_own(path); });
    std::mt19937_64 random(seed);
    while (Clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(random() % 50));
        targets.cancel_one(random);
    }
    for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main(int argc, char** argv) {
    const bool generations = argc > 1 && std::strcmp(argv[1], "generations") == 0;
    if (generations) argc--, argv++;
    const double seconds = argc > 1 ? std::strtod(argv[1], nullptr) : 60;
    const uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 10000;
    const size_t n_threads = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : generations ? 64 : 4;
    const uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : std::random_device()();
    if (generations) std::printf("%llu generations, ", static_cast<unsigned long long>(count));
    if (!generations) std::printf("%.0f s, ", seconds);
    std::printf("%zu threads, seed %llu\n", n_threads, static_cast<unsigned long long>(seed));
    const SyntheticCheckpoint checkpoint(Shape{.vocab = kVocabulary}, 1);
    order_allocations();
    // a cache of prefixes that is full soon
    gptoss_model_t model = load(checkpoint.path(), 2 << 20), plain = load(checkpoint.path(), 1);
    if (generations) {
        many_generations(model, count, n_threads, seed);
        gptoss_model_release(model);
        gptoss_model_release(plain);
        std::printf("%d passed, %d failed\n", failures == 0, failures > 0);
        return failures > 0;
    }
    gptoss_tokenizer_t tokenizer = nullptr;
    must(gptoss_tokenizer_create(nullptr, &tokenizer), "tokenizer");
    int passed = 0, failed = 0;
    uint64_t most = 0;  // allocated after the first two rounds, in which everything is built once
    const int rounds = 6;
    for (int round = 0; round < rounds; round++) {
        const uint64_t failures_before = failures;
        run_round(model, plain, tokenizer, checkpoint.path(), n_threads, seed + 1000u * static_cast<unsigned>(round),
                  seconds / rounds);
        const uint64_t bytes = allocated_bytes();
        std::printf("round %d: %llu calls, %llu cancelled, %llu comparisons; allocated %.1f MB, resident %.1f MB\n",
                    round + 1, static_cast<unsigned long long>(calls), static_cast<unsigned long long>(cancelled),
                    static_cast<unsigned long long>(comparisons), static_cast<double>(bytes) / 1e6,
                    static_cast<double>(resident_bytes()) / 1e6);
        std::fflush(stdout);
        if (round < 2) most = std::max(most, bytes);
        if (bytes > most + kGrowth) wrong("memory grows");
        *(failures == failures_before ? &passed : &failed) += 1;
    }
    gptoss_tokenizer_release(tokenizer);
    gptoss_model_release(model);
    gptoss_model_release(plain);
    if (comparisons == 0) failed++;
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
