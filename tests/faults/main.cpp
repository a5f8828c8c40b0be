// test_faults [COUNT [SEED]]: injects COUNT faults, one after another, and prints what came of them.
//
// A script is a row of calls that follows from its seed. It runs once without a fault; then each run has one. The call
// that fails must give a status that the fault may have and a message, and leave its context as it was, but for tokens
// that were handed over; it is then repeated, and from there everything must be as in the run without a fault. Of
// contexts that generate together each that fails goes on likewise, and the others have all of their tokens. Another
// context of the model must work on throughout, and no object of Vulkan may be left behind. Loads have faults too, in
// their calls and in the bytes of their files; so have the calls that deal with text, which must free every block of
// memory, and those that look for a device. Callbacks throw, cancel and call the library. The last line is "N passed,
// N failed", of kinds of faults.
#include <execinfo.h>
#include <gptoss.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "batch.h"
#include "inject.h"
#include "model/synthetic.h"
#include "script.h"
#include "start.h"
#include "table.h"
#include "text.h"

using namespace gptoss::test;
using inject::Kind;
namespace fs = std::filesystem;

namespace {

// self_test: also where its result is known.
gptoss_model_t load(const std::string& path, gptoss_status* status, gptoss_progress_callback_t progress = nullptr,
                    gptoss_log_callback_t log = nullptr, bool self_test = false) {
    gptoss_model_options options{};
    options.struct_size = sizeof options;
    options.device = std::getenv("GPTOSS_TEST_DEVICE");
    options.progress = progress;
    options.log = log;
    if (self_test) options.cache_directory = "";
    options.prefix_cache_bytes = 1;  // none: what it keeps would look as if it were left behind
    gptoss_model_t model = nullptr;
    *status = in_library([&] { return gptoss_model_create(path.c_str(), &options, &model); });
    return model;
}

bool allowed(gptoss_status status, Kind kind) {
    switch (kind) {
        case Kind::DeviceLost:
        case Kind::DeviceGone:
        case Kind::Timeout:
            return status == gptoss_status_device_lost;
        case Kind::Thread:
            return status == gptoss_status_insufficient_resources;
        case Kind::Read:
            return status == gptoss_status_io_error;
        default:
            return status == gptoss_status_insufficient_memory;
    }
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

bool begins_with(const std::vector<uint32_t>& whole, const std::vector<uint32_t>& start) {
    return whole.size() >= start.size() && std::equal(start.begin(), start.end(), whole.begin());
}

// A failed step left the context as it was, or with tokens that were handed over; makes it as it was.
void check_left(Row& r, Run& run, const Expected& e, size_t i) {
    const Step& step = e.script[i];
    const auto left = tokens_of(run.context());
    const std::vector<uint32_t> before = i > 0 ? e.tokens[i - 1] : std::vector<uint32_t>{};
    const bool generates = step.call == Call::Sample || step.call == Call::Generate;
    if (!begins_with(left, before) || (!generates && left.size() != before.size()) ||
        (generates && !begins_with(e.tokens[i], left)))
        wrong(r, Wrong::Tokens, "the failed call left other tokens");
    if (step.call == Call::Generate && left.size() != before.size() + callback.tokens.size())
        wrong(r, Wrong::Tokens, "the context does not hold what was handed over");
    if (left.size() > before.size()) must(gptoss_context_truncate(run.context(), before.size()), "truncate");
}

// A script in which one opportunity of one kind fails, or a callback does something; the fault comes once.
class OneFault {
  public:
    OneFault(gptoss_model_t model, gptoss_context_t other, const std::vector<uint32_t>& other_tokens)
        : model_(model), other_(other), other_tokens_(other_tokens) {}

    // may_fail: whether a status is one that the fault may give.
    void run(Row& r, const Expected& e, const std::function<bool()>& fired,
             const std::function<bool(gptoss_status)>& may_fail) {
        const int64_t live = inject::live_objects();
        bool failed = false;
        {
            Run run(model_);
            for (size_t i = 0; i < e.script.size(); i++) {
                std::vector<float> extra;
                gptoss_status status = run.call(e.script[i], extra);
                const std::string message = gptoss_last_error();
                if (status != gptoss_status_success) {
                    inject::disarm();
                    count_status(r, status);
                    if (failed || !fired()) wrong(r, Wrong::Other, "failed without a fault: " + message);
                    if (!may_fail(status))
                        wrong(r, Wrong::Other, std::string(gptoss_status_string(status)) + ": " + message);
                    failed = true;
                    check_left(r, run, e, i);
                    check_other(r);
                    extra.clear();
                    status = run.call(e.script[i], extra);
                    if (status != gptoss_status_success) {
                        wrong(r, Wrong::Tokens, std::string("failed again: ") + gptoss_last_error());
                        return;
                    }
                }
                if (tokens_of(run.context()) != e.tokens[i]) {
                    wrong(r, Wrong::Tokens,
                          std::string("other tokens after ") + call_names[static_cast<int>(e.script[i].call)]);
                    return;
                }
                if (!same(extra, e.extra[i])) wrong(r, Wrong::Tokens, "other logits");
            }
        }
        r.injected++;
        if (!fired()) wrong(r, Wrong::Other, "the fault did not come");
        if (!failed) r.absorbed++;
        if (inject::live_objects() != live) wrong(r, Wrong::Leak, "left behind: " + inject::live_objects_text());
    }

    // Another context of the model works on.
    void check_other(Row& r) {
        uint32_t token = 0;
        size_t n = 0;
        if (gptoss_context_sample(other_, 0, 0, 1, &token, &n) != gptoss_status_success || n != 1 ||
            token != other_tokens_.back())
            wrong(r, Wrong::Tokens, "another context no longer works");
        must(gptoss_context_truncate(other_, other_tokens_.size() - 1), "truncate");
    }

  private:
    gptoss_model_t model_;
    gptoss_context_t other_;
    const std::vector<uint32_t>& other_tokens_;
};

struct Named {
    Kind kind;
    const char* name;
};
const Named in_scripts[] = {{Kind::DeviceLost, "device lost"},
                            {Kind::DeviceMemory, "out of device memory"},
                            {Kind::HostMemory, "out of host memory (Vulkan)"},
                            {Kind::Timeout, "a wait times out"},
                            {Kind::Allocation, "allocation fails"},
                            {Kind::NoMemory, "memory runs out"}};
const Named in_loads[] = {{Kind::DeviceLost, "load: device lost"},
                          {Kind::DeviceMemory, "load: out of device memory"},
                          {Kind::HostMemory, "load: out of host memory (Vulkan)"},
                          {Kind::Allocation, "load: allocation fails"},
                          {Kind::NoMemory, "load: memory runs out"},
                          {Kind::Thread, "load: a thread cannot be made"},
                          {Kind::Read, "load: a read fails or ends early"}};

class Faults {
  public:
    Faults(const std::string& checkpoint, uint64_t seed) : path_(checkpoint), random_(seed) {
        gptoss_status status;
        model_ = load(path_, &status);
        must(status, "load");
        must(gptoss_context_create(model_, 0, 0, &other_), "create");
        const std::vector<uint32_t> prompt = {3, 1, 4, 1, 5, 9, 2, 6};
        must(gptoss_context_append_tokens(other_, prompt.size(), prompt.data()), "append");
        warm_up(prompt);
        uint32_t token = 0;
        size_t n = 0;
        must(gptoss_context_sample(other_, 0, 0, 1, &token, &n), "sample");
        other_tokens_ = tokens_of(other_);
        must(gptoss_context_truncate(other_, prompt.size()), "truncate");
    }
    ~Faults() {
        gptoss_context_release(other_);
        gptoss_model_release(model_);
    }

    // The model's engine records its steps, of each number of rows, as they first come, and keeps them. It has all of
    // them from here on, so that what is left behind later is a fault's.
    void warm_up(const std::vector<uint32_t>& prompt) {
        gptoss_context_t contexts[Batch::kMost];
        gptoss_generate_options options{};
        options.struct_size = sizeof options;
        options.max_tokens = 12;
        gptoss_generation generations[Batch::kMost]{};
        for (size_t i = 0; i < Batch::kMost; i++) {
            must(gptoss_context_create(model_, 0, 0, &contexts[i]), "create");
            must(gptoss_context_append_tokens(contexts[i], prompt.size(), prompt.data()), "append");
            generations[i].struct_size = sizeof(gptoss_generation);
            generations[i].context = contexts[i];
            generations[i].options = &options;
        }
        for (size_t n = Batch::kMost; n > 0; n--) must(gptoss_generate_together(generations, n), "generate_together");
        for (gptoss_context_t context : contexts) gptoss_context_release(context);
    }

    // n faults of each kind, each at an opportunity of its own while there are as many.
    void scripts(uint64_t n) {
        for (const Named& named : in_scripts)
            each(named.name, n, [&](Row& r, uint64_t seed, uint64_t most) {
                const Expected e = run_without_fault(model_, seed, named.kind);
                for (const uint64_t at : choose(e.opportunities, most)) {
                    describe(named.name, seed, at);
                    callback = {};
                    inject::arm(named.kind, at);
                    OneFault(model_, other_, other_tokens_).run(r, e, inject::fired, [&](gptoss_status s) {
                        return allowed(s, named.kind);
                    });
                    inject::disarm();
                }
            });
        callbacks(n, "a token callback throws", Callback::Throw, gptoss_status_internal_error);
        callbacks(n / 4 + 1, "a token callback throws a number", Callback::ThrowNumber, gptoss_status_internal_error);
        callbacks(n, "a token callback cancels", Callback::Cancel, gptoss_status_cancelled);
        callbacks(n, "a token callback calls the library", Callback::CallBack, gptoss_status_success);
    }

    // The same over contexts that generate together.
    void batches(uint64_t n) {
        for (const Named& named : in_scripts) {
            const std::string name = std::string("together: ") + named.name;
            each(name, n, [&](Row& r, uint64_t seed, uint64_t most) {
                const Batch batch(model_, seed, named.kind);
                std::vector<uint64_t> chosen = choose(batch.opportunities(), most);
                if (named.kind == Kind::Allocation && r.injected == 0) {  // each while the call sets its members up
                    chosen.resize(std::min<uint64_t>(batch.opportunities(), 64));
                    std::iota(chosen.begin(), chosen.end(), 1);
                }
                for (const uint64_t at : chosen) {
                    describe(name, seed, at);
                    inject::arm(named.kind, at);
                    batch.run(r, inject::fired, [&](gptoss_status s) { return allowed(s, named.kind); });
                    OneFault(model_, other_, other_tokens_).check_other(r);
                }
            });
        }
        for (const auto& [name, deed, expected] :
             {std::tuple("together: a token callback throws", Batch::Deed::Throw, gptoss_status_internal_error),
              {"together: a callback cancels another", Batch::Deed::CancelAnother, gptoss_status_cancelled}})
            each(name, std::min<uint64_t>(n, 200), [&](Row& r, uint64_t seed, uint64_t most) {
                const Batch batch(model_, seed, Kind::Timeout);
                for (const uint64_t at : choose(batch.callbacks(), most)) {
                    describe(name, seed, at);
                    batch.run(
                        r, inject::fired, [&](gptoss_status s) { return s == expected; }, deed, at);
                }
            });
    }

    void loads(uint64_t n) {
        gptoss_status status;
        for (const Named& named : in_loads) {
            inject::arm(named.kind, 0);
            gptoss_model_release(load(path_, &status));
            must(status, "load");
            const uint64_t opportunities = inject::disarm();
            if (opportunities == 0) wrong(row(named.name), Wrong::Other, "there is no opportunity");
            if (opportunities == 0) continue;
            for (uint64_t i = 0; i < n; i++) {
                Row& r = row(named.name);
                const uint64_t at = 1 + (i < opportunities && n >= opportunities ? i : random_() % opportunities);
                describe(named.name, 0, at);
                inject::arm(named.kind, at);
                one_load(r, path_, [&](gptoss_status s) { return allowed(s, named.kind); });
                inject::disarm();
            }
        }
        progress(n);
        log(n);
        damage(n);
    }

    // The device stays lost: every context of the model says so and keeps its tokens, and a new model works.
    void gone(uint64_t n) {
        Row& r = row("device lost for good");
        for (uint64_t i = 0; i < n; i++) {
            const uint64_t seed = random_();
            gptoss_status status;
            gptoss_model_t model = load(path_, &status);
            must(status, "load");
            gptoss_context_t bystander = nullptr;
            must(gptoss_context_create(model, 0, 0, &bystander), "create");
            const uint32_t token = 7;
            must(gptoss_context_append_tokens(bystander, 1, &token), "append");
            must(gptoss_context_process(bystander), "process");
            const Expected e = run_without_fault(model, seed, Kind::DeviceGone);
            const uint64_t at = 1 + random_() % e.opportunities;
            describe("device lost for good", seed, at);
            inject::arm(Kind::DeviceGone, at);
            until_gone(r, model, e, bystander);
            inject::disarm();
            in_library([&] { return gptoss_context_release(bystander); });
            in_library([&] { return gptoss_model_release(model); });
            model = load(path_, &status);
            must(status, "load");
            if (run_without_fault(model, seed, Kind::DeviceGone).tokens != e.tokens)
                wrong(r, Wrong::Tokens, "a new model differs");
            in_library([&] { return gptoss_model_release(model); });
        }
    }

  private:
    // Which of the opportunities 1 … n to take: each in turn, or as many as wanted at even distances.
    std::vector<uint64_t> choose(uint64_t n, uint64_t wanted) {
        std::vector<uint64_t> chosen;
        if (n == 0) return chosen;
        wanted = std::min(n, wanted);
        const uint64_t offset = random_() % n;
        for (uint64_t i = 0; i < wanted; i++) chosen.push_back(1 + (n == wanted ? i : (offset + i * n / wanted) % n));
        return chosen;
    }

    // Calls f(row, seed of a script, the most faults to inject in it) until there were n.
    template <typename F>
    void each(const std::string& name, uint64_t n, const F& f) {
        Row& r = row(name);
        while (r.injected + r.wrong < n) f(r, random_(), n - r.injected - r.wrong);
    }

    void callbacks(uint64_t n, const char* name, Callback::Deed deed, gptoss_status expected) {
        each(name, std::min<uint64_t>(n, 200), [&](Row& r, uint64_t seed, uint64_t most) {
            const Expected e = run_without_fault(model_, seed, Kind::Timeout);
            for (const uint64_t at : choose(e.callbacks, most)) {
                describe(name, seed, at);
                callback = {};
                callback.deed = deed;
                callback.at = at;
                callback.other = other_;
                // a cancel by the last token comes too late for its call: the next one takes it
                OneFault(model_, other_, other_tokens_)
                    .run(
                        r, e, [&] { return callback.calls >= at; }, [&](gptoss_status s) { return s == expected; });
                if (!callback.complaint.empty()) wrong(r, Wrong::Other, callback.complaint);
            }
        });
    }

    void one_load(Row& r, const std::string& path, const std::function<bool(gptoss_status)>& may_fail,
                  gptoss_progress_callback_t progress = nullptr, gptoss_log_callback_t log = nullptr,
                  bool self_test = false) {
        const int64_t live = inject::live_objects();
        gptoss_status status;
        gptoss_model_t model = load(path, &status, progress, log, self_test);
        r.injected++;
        if (status == gptoss_status_success) {
            r.absorbed++;
        } else {
            const std::string message = gptoss_last_error();
            count_status(r, status);
            if (!may_fail(status)) wrong(r, Wrong::Other, std::string(gptoss_status_string(status)) + ": " + message);
            if (model) wrong(r, Wrong::Other, "a failed load gave a model");
        }
        in_library([&] { return gptoss_model_release(model); });
        if (inject::live_objects() != live) wrong(r, Wrong::Leak, "left behind: " + inject::live_objects_text());
    }

    // Calls of the library that any callback may make while a model loads.
    static bool works(const std::string& path) {
        uint32_t count = 0, tokens = 0;
        gptoss_memory_estimate estimate{};
        estimate.struct_size = sizeof estimate;
        gptoss_sampler_t sampler = nullptr;
        const bool all =
            gptoss_device_count(&count) == gptoss_status_success && count > 0 &&
            gptoss_model_estimate_memory(path.c_str(), nullptr, 0, 0, &estimate) == gptoss_status_success &&
            gptoss_sampler_create(&sampler) == gptoss_status_success &&
            gptoss_tokenizer_get_num_tokens(nullptr, &tokens) == gptoss_status_invalid_argument;
        gptoss_sampler_release(sampler);
        return all;
    }

    void log(uint64_t n) {
        static uint64_t calls, at;
        static std::string path;
        static bool worked;
        path = path_;
        const auto none = [](gptoss_status) { return false; };
        for (uint64_t i = 0; i < std::min<uint64_t>(n, 20); i++) {
            describe("log", 0, i + 1);
            const bool self_test = i % 10 == 0;  // which takes long, and whose line comes first
            calls = 0, at = 1 + self_test * i % 2;
            one_load(
                row("load: the log callback throws"), path_,
                [](gptoss_status s) { return s == gptoss_status_internal_error; }, nullptr,
                [](void*, gptoss_log_level, const char*) {
                    if (++calls == at) throw std::string("a text");
                },
                self_test);
            calls = 0, worked = true;
            Row& r = row("load: the log callback calls the library");
            one_load(r, path_, none, nullptr, [](void*, gptoss_log_level, const char* line) {
                const inject::InTest scope;
                calls++;
                worked = worked && *line && works(path);
            });
            if (calls == 0 || !worked) wrong(r, Wrong::Other, "a call within the callback failed");
        }
    }

    void progress(uint64_t n) {
        static uint64_t calls, at;
        static std::string path;
        static bool worked;
        path = path_;
        for (uint64_t i = 0; i < std::min<uint64_t>(n, 20); i++) {
            describe("progress", 0, i + 1);
            calls = 0, at = 1 + i % 3;
            one_load(
                row("load: the progress callback cancels"), path_,
                [](gptoss_status s) { return s == gptoss_status_cancelled; },
                [](void*, uint64_t, uint64_t) { return int{++calls == at}; });
            calls = 0;
            one_load(
                row("load: the progress callback throws"), path_,
                [](gptoss_status s) { return s == gptoss_status_internal_error; },
                [](void*, uint64_t, uint64_t) -> int {
                    if (++calls == at) throw 42;
                    return 0;
                });
            calls = 0, worked = true;
            Row& r = row("load: the progress callback calls the library");
            one_load(
                r, path_, [](gptoss_status) { return false; },
                [](void*, uint64_t, uint64_t) {
                    const inject::InTest scope;
                    worked = worked && works(path);
                    return 0;
                });
            if (!worked) wrong(r, Wrong::Other, "a call within the callback failed");
        }
    }

    // Files with bytes that are others, or that end early: refused with a status, or a model that computes something.
    void damage(uint64_t n) {
        const std::string copy = (fs::temp_directory_path() / ("gptoss-damage-" + std::to_string(getpid()))).string();
        for (uint64_t i = 0; i < n; i++) {
            Row& r = row("load: a file is damaged");
            describe("damage", 0, i + 1);
            fs::remove_all(copy);
            fs::copy(path_, copy);
            std::vector<fs::path> files;
            for (const auto& file : fs::directory_iterator(copy)) files.push_back(file.path());
            std::sort(files.begin(), files.end());
            const fs::path& file = files[random_() % files.size()];
            const uint64_t size = fs::file_size(file);
            if (random_() % 4 == 0) {
                fs::resize_file(file, random_() % size);
            } else {
                std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
                for (uint64_t k = 1 + random_() % 4; k > 0; k--) {
                    // mostly in the header, which says where everything is
                    bytes.seekp(static_cast<std::streamoff>(random_() %
                                                            (random_() % 4 ? std::min<uint64_t>(size, 3000) : size)));
                    bytes.put(static_cast<char>(random_()));
                }
            }
            one_load(r, copy, [](gptoss_status s) {
                return s == gptoss_status_io_error || s == gptoss_status_unsupported_argument ||
                       s == gptoss_status_insufficient_memory || s == gptoss_status_insufficient_resources;
            });
        }
        fs::remove_all(copy);
    }

    void until_gone(Row& r, gptoss_model_t model, const Expected& e, gptoss_context_t bystander) {
        callback = {};
        Run run(model);
        for (size_t i = 0; i < e.script.size(); i++) {
            std::vector<float> extra;
            const gptoss_status status = run.call(e.script[i], extra);
            if (status == gptoss_status_success) continue;
            r.injected++;
            count_status(r, status);
            if (!allowed(status, Kind::DeviceGone)) wrong(r, Wrong::Other, gptoss_last_error());
            check_left(r, run, e, i);
            for (int again = 0; again < 2; again++)
                if (const gptoss_status now = run.call(e.script[i], extra); now != gptoss_status_device_lost)
                    wrong(
                        r, Wrong::Other,
                        std::string(call_names[static_cast<int>(e.script[i].call)]) + ": " + gptoss_status_string(now));
            const uint32_t token = 1;
            must(gptoss_context_append_tokens(bystander, 1, &token), "append");
            if (in_library([&] { return gptoss_context_process(bystander); }) != gptoss_status_device_lost)
                wrong(r, Wrong::Other, "another context of a lost device");
            if (tokens_of(bystander) != std::vector<uint32_t>{7, 1})
                wrong(r, Wrong::Tokens, "tokens of another context");
            return;
        }
        wrong(r, Wrong::Other, "the loss went unnoticed");
    }

    std::string path_;
    std::mt19937_64 random_;
    gptoss_model_t model_ = nullptr;
    gptoss_context_t other_ = nullptr;
    std::vector<uint32_t> other_tokens_;
};

}  // namespace

int main(int argc, char** argv) {
    const uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 300;
    const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device()();
    std::printf("%llu faults, seed %llu\n", static_cast<unsigned long long>(count),
                static_cast<unsigned long long>(seed));
    std::signal(SIGALRM, [](int) {
        constexpr char text[] = "a fault led to a hang\n";
        if (write(2, text, sizeof text - 1) < 0) _exit(2);
        _exit(2);
    });
    for (const int crash : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL})
        std::signal(crash, [](int signal) {
            std::printf("CRASH: %s\n", current.c_str());
            std::fflush(stdout);
            void* frames[50];
            backtrace_symbols_fd(frames, backtrace(frames, 50), 1);
            std::signal(signal, SIG_DFL);
            std::raise(signal);
        });
    const SyntheticCheckpoint checkpoint(Shape{.vocab = kVocabulary}, 1);
    start_faults(count / 40, checkpoint.path());
    text_faults(count / 5, seed);
    inject::install();
    {
        Faults faults(checkpoint.path(), seed);
        // eight parts in loads, six in calls and six in batches; a device that is lost for good takes a new model each
        // time
        faults.loads(std::max<uint64_t>(1, count / 4 / 8));
        faults.scripts(std::max<uint64_t>(1, count * 7 / 20 / 6));
        faults.batches(std::max<uint64_t>(1, count / 5 / 6));
        faults.gone(std::max<uint64_t>(1, count / 500));
    }
    alarm(0);
    return print_table();
}
