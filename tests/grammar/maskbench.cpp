// MaskBench (guidance-ai/jsonschemabench): maskbench FOLDER [NAME_PART], FOLDER being its maskbench/data. Every schema
// is compiled; every instance is fed token by token, each token checked against the mask of the whole vocabulary.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "text/grammar/grammar.h"

using namespace gptoss;
using Json = nlohmann::ordered_json;

// Of this thread's processor time, so that other programs on the machine do not count.
static double microseconds() {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}

// As Python's json.dumps writes it, with ensure_ascii=False.
static void write(const Json& json, std::string& out) {
    const char open = json.is_object() ? '{' : '[', close = json.is_object() ? '}' : ']';
    if (!json.is_structured()) {
        out += json.dump();
        return;
    }
    out += open;
    bool first = true;
    for (auto child = json.begin(); child != json.end(); ++child) {
        if (!first) out += ", ";
        first = false;
        if (json.is_object()) out += Json(child.key()).dump() + ": ";
        write(*child, out);
    }
    out += close;
}

struct Times {
    std::vector<double> all;
    void print(const char* name) {
        if (all.empty()) return;
        std::sort(all.begin(), all.end());
        const auto at = [&](double part) {
            return all[std::min(all.size() - 1, static_cast<size_t>(part * all.size()))];
        };
        double sum = 0;
        for (double time : all) sum += time;
        std::printf(
            "%s, us: average %.1f, p25 %.1f, p50 %.1f, p75 %.1f, p90 %.1f, p95 %.1f, p99 %.1f, p99.9 %.1f, max %.0f "
            "(%zu)\n",
            name, sum / all.size(), at(.25), at(.5), at(.75), at(.9), at(.95), at(.99), at(.999), all.back(),
            all.size());
    }
};

int main(int argc, char** argv) {
    if (argc < 2) return std::fprintf(stderr, "usage: maskbench FOLDER [NAME_PART]\n"), 2;
    const auto tokenizer = text::Tokenizer::o200k_harmony();
    const auto start = microseconds();
    const auto table = std::make_shared<const text::TokenTable>(tokenizer);
    std::printf("token table: %.0f ms\n", (microseconds() - start) / 1000);
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(argv[1]))
        if (entry.path().extension() == ".json" &&
            (argc < 3 || entry.path().filename().string().find(argv[2]) != std::string::npos))
            files.push_back(entry.path());
    std::sort(files.begin(), files.end());

    Times compile, masks;
    size_t passing = 0, refused = 0, validation = 0, invalidation = 0, broken = 0, tested = 0;
    std::map<std::string, size_t> reasons;
    std::vector<uint32_t> mask(table->mask_words());
    for (const auto& file : files) {
        std::ostringstream content;
        content << std::ifstream(file).rdbuf();
        const Json data = Json::parse(content.str());
        const std::string schema = data["schema"].dump(), name = file.filename().string();
        std::shared_ptr<const text::Grammar> grammar;
        const auto before = microseconds();
        try {
            grammar = text::Grammar::from_json_schema(table, schema);
        } catch (const std::exception& error) {
            ++refused;
            std::string what = error.what();
            if (const size_t at = what.find("': "); at != what.npos) what = what.substr(at + 3);
            ++reasons[what.substr(0, 60)];
            std::printf("%s: refused: %s\n", name.c_str(), error.what());
            continue;
        }
        compile.all.push_back((microseconds() - before));
        if (compile.all.back() > 100000)
            std::printf("%s: SLOW COMPILE %.0f ms\n", name.c_str(), compile.all.back() / 1000);
        bool passes = true;
        size_t index = 0;
        if (!data["tests"].empty()) ++tested;
        for (const Json& test : data["tests"]) {
            std::string instance;
            write(test["data"], instance);
            bool accepted = true;
            std::string done;
            try {
                text::GrammarState state(grammar);
                for (text::Token token : tokenizer->encode(instance, false)) {
                    const auto from = microseconds();
                    state.mask(mask);
                    const bool allowed = text::is_allowed(mask, token);
                    const bool advanced = state.advance(token);
                    masks.all.push_back((microseconds() - from));
                    if (masks.all.back() > 20000)
                        std::printf("%s: SLOW MASK %.0f us after %s\n", name.c_str(), masks.all.back(), done.c_str());
                    if (allowed != advanced) {
                        std::printf("%s: MASK AND STEP DISAGREE at %s\n", name.c_str(), done.c_str());
                        ++broken;
                    }
                    if (!advanced) {
                        accepted = false;
                        break;
                    }
                    done += tokenizer->decode(token);
                }
                accepted = accepted && state.accepts();
            } catch (const std::exception& error) {
                std::printf("%s: test %zu: ERROR %s\n", name.c_str(), index, error.what());
                ++broken;
                accepted = !test["valid"].get<bool>();
            }
            if (accepted != test["valid"].get<bool>()) {
                passes = false;
                ++(accepted ? invalidation : validation);
                std::printf("%s: test %zu: %s: %s [HERE] %s\n", name.c_str(), index,
                            accepted ? "WRONGLY ACCEPTED" : "wrongly rejected",
                            done.substr(done.size() > 150 ? done.size() - 150 : 0).c_str(),
                            instance.substr(std::min(done.size(), instance.size()), 60).c_str());
            }
            ++index;
        }
        passing += passes;
    }
    for (const auto& [reason, count] : reasons) std::printf("%5zu %s\n", count, reason.c_str());
    std::printf(
        "schemas %zu, passing %zu (%zu have instances), refused %zu, valid rejected %zu, invalid accepted %zu, "
        "errors %zu\n",
        files.size(), passing, tested, refused, validation, invalidation, broken);
    compile.print("compile");
    masks.print("mask");
    return invalidation + broken == 0 ? 0 : 1;
}
